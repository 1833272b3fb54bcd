//! Bytes of a manifest file to objects of the model, and findings about everything that could not be read.
//!
//! The only place that knows the shape of Kubernetes objects. No I/O: `standalone` and `cli` hand in bytes, `controller`
//! JSON; the path only appears in messages. A broken document or object never hurts its neighbours.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{
    ConfigMap, EndpointSlice, FieldLines, Ingress, IngressClass, Kind, Meta, Namespace, ObjectKey, ObjectRef,
    Origin, Secret, Service, World,
};

mod api;
mod config_map;
mod cursor;
mod ingress;
mod kind;
mod meta;
mod node;
mod secret;
mod service;
mod yaml;

pub use api::{Decoded, decode};
use cursor::{At, Finding, Findings};
use kind::Recognized;
use node::Node;
pub use yaml::{MAX_ALIAS_BYTES, MAX_DEPTH, MAX_FILE_BYTES};

/// Most field lines that one object's [`Origin`] holds.
const MAX_FIELD_LINES: usize = 4096;
/// How many objects before one are looked at for one that is written alike.
const LIKE: usize = 8;

/// One object, shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// v1 ConfigMap.
    ConfigMap(Arc<ConfigMap>),
    /// discovery.k8s.io/v1 EndpointSlice, or a subset of v1 Endpoints.
    EndpointSlice(Arc<EndpointSlice>),
    /// networking.k8s.io/v1 Ingress.
    Ingress(Arc<Ingress>),
    /// networking.k8s.io/v1 IngressClass.
    IngressClass(Arc<IngressClass>),
    /// v1 Namespace.
    Namespace(Arc<Namespace>),
    /// v1 Secret.
    Secret(Arc<Secret>),
    /// v1 Service.
    Service(Arc<Service>),
}

impl Object {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ConfigMap(_) => Kind::ConfigMap,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Ingress(_) => Kind::Ingress,
            Self::IngressClass(_) => Kind::IngressClass,
            Self::Namespace(_) => Kind::Namespace,
            Self::Secret(_) => Kind::Secret,
            Self::Service(_) => Kind::Service,
        }
    }

    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::ConfigMap(object) => &object.meta,
            Self::EndpointSlice(object) => &object.meta,
            Self::Ingress(object) => &object.meta,
            Self::IngressClass(object) => &object.meta,
            Self::Namespace(object) => &object.meta,
            Self::Secret(object) => &object.meta,
            Self::Service(object) => &object.meta,
        }
    }

    /// Kind and key.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef { kind: self.kind(), key: self.meta().key.clone() }
    }

    /// True when both are one and the same value.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::ConfigMap(one), Self::ConfigMap(other)) => Arc::ptr_eq(one, other),
            (Self::EndpointSlice(one), Self::EndpointSlice(other)) => Arc::ptr_eq(one, other),
            (Self::Ingress(one), Self::Ingress(other)) => Arc::ptr_eq(one, other),
            (Self::IngressClass(one), Self::IngressClass(other)) => Arc::ptr_eq(one, other),
            (Self::Namespace(one), Self::Namespace(other)) => Arc::ptr_eq(one, other),
            (Self::Secret(one), Self::Secret(other)) => Arc::ptr_eq(one, other),
            (Self::Service(one), Self::Service(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Puts the object into a world, over what was there.
    pub fn insert_into(self, world: &mut World) {
        let key = self.meta().key.clone();
        match self {
            Self::ConfigMap(object) => drop(world.config_maps.insert(key, object)),
            Self::EndpointSlice(object) => drop(world.slices.insert(key, object)),
            Self::Ingress(object) => drop(world.ingresses.insert(key, object)),
            Self::IngressClass(object) => drop(world.classes.insert(key, object)),
            Self::Namespace(object) => drop(world.namespaces.insert(key, object)),
            Self::Secret(object) => drop(world.secrets.insert(key, object)),
            Self::Service(object) => drop(world.services.insert(key, object)),
        }
    }
}

/// What one file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Path as the user wrote it.
    pub path: Arc<str>,
    /// Objects in the order written.
    pub objects: Vec<Object>,
    /// Objects that are there but cannot be used: their last good version stays.
    pub refused: BTreeSet<ObjectRef>,
    /// True when a document could not be parsed, so that it is unknown which objects are missing.
    pub torn: bool,
    /// Findings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a file of one or more YAML documents, or JSON. Never fails: what cannot be read becomes a diagnostic.
pub fn read(path: &str, bytes: &[u8]) -> Manifest {
    let mut manifest = Manifest::empty(path);
    let mut ignored = BTreeSet::new();
    for document in yaml::documents(bytes) {
        match document {
            Ok(node) => manifest.add(&node, None, &mut ignored),
            Err(broken) => {
                manifest.torn = true;
                manifest.tell(broken.line, "InvalidYaml", Severity::Error, broken.reason, broken.hint);
            }
        }
    }
    manifest
}

/// A file that the system does not hand out, for this reason.
pub fn unreadable(path: &str, reason: &str) -> Manifest {
    let mut manifest = Manifest { torn: true, ..Manifest::empty(path) };
    manifest.tell(None, "UnreadableFile", Severity::Error, format!("cannot be read: {reason}"), "");
    manifest
}

/// All objects of several files, given in the order of their paths: of an object that is declared twice the first
/// counts, and the later one gets a diagnostic `DuplicateObject`.
pub fn world<'m>(manifests: impl IntoIterator<Item = &'m Manifest>) -> (World, Vec<Diagnostic>) {
    let mut world = World::default();
    let mut diagnostics = Vec::new();
    let mut seen: BTreeMap<ObjectRef, Arc<Origin>> = BTreeMap::new();
    for object in manifests.into_iter().flat_map(|manifest| &manifest.objects) {
        match seen.entry(object.reference()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Arc::clone(&object.meta().origin));
                object.clone().insert_into(&mut world);
            }
            Entry::Occupied(first) => diagnostics.push(duplicate(object, first.get())),
        }
    }
    (world, diagnostics)
}

fn duplicate(object: &Object, first: &Origin) -> Diagnostic {
    let file = first.file.as_deref().unwrap_or("elsewhere");
    let line = first.line.map_or_else(String::new, |line| format!(":{line}"));
    Diagnostic {
        object: object.reference(),
        code: "DuplicateObject",
        severity: Severity::Error,
        field: "metadata.name".into(),
        value: object.meta().key.name.to_string(),
        reason: format!("the same object is declared in {file}{line}, which counts"),
        hint: "remove one of them".into(),
        origin: Arc::clone(&object.meta().origin),
    }
}

impl Manifest {
    fn empty(path: &str) -> Self {
        Self {
            path: path.into(),
            objects: Vec::new(),
            refused: BTreeSet::new(),
            torn: false,
            diagnostics: Vec::new(),
        }
    }

    /// This content over an earlier one of the same file: objects that cannot be read now stay as they were. After a
    /// document that does not parse, that is every object which is not there now. Objects that did not change keep
    /// their address, which is what incremental compilation looks at.
    #[must_use]
    pub fn keeping(mut self, last: &Self) -> Self {
        let known: BTreeMap<ObjectRef, &Object> =
            last.objects.iter().map(|object| (object.reference(), object)).collect();
        for object in &mut self.objects {
            if let Some(before) = known.get(&object.reference())
                && *before == object
            {
                *object = (*before).clone();
            }
        }
        if !self.torn && self.refused.is_empty() {
            return self;
        }
        let present: BTreeSet<ObjectRef> = self.objects.iter().map(Object::reference).collect();
        let mut kept = 0_usize;
        for object in &last.objects {
            let reference = object.reference();
            if !present.contains(&reference) && (self.torn || self.refused.contains(&reference)) {
                self.objects.push(object.clone());
                kept += 1;
            }
        }
        if kept > 0 {
            let reason = format!("{kept} objects that cannot be read now stay as they were");
            self.tell(None, "LastGoodContent", Severity::Warning, reason, "");
        }
        self
    }

    /// Adds the objects of one document or one item of a list. `inherited` is the kind that a typed list gives to
    /// items without one.
    fn add(&mut self, node: &Node, inherited: Option<Recognized>, ignored: &mut BTreeSet<String>) {
        let recognized = match inherited {
            Some(recognized) if node.field("kind").is_none() => recognized,
            _ => kind::recognize(node),
        };
        match recognized {
            Recognized::List(item) => self.add_items(node, item, ignored),
            Recognized::Known(known) => self.add_object(node, known),
            Recognized::Removed { kind, replacement } => self.refuse_version(node, kind, replacement),
            Recognized::Foreign(name) => {
                if ignored.insert(name.clone()) {
                    let reason = format!("objects of kind {name} are not read");
                    self.tell(Some(node.line), "IgnoredKind", Severity::Info, reason, "");
                }
            }
            Recognized::NoObject => {
                let hint = "a manifest starts with apiVersion and kind";
                self.tell(
                    Some(node.line),
                    "NoObject",
                    Severity::Warning,
                    "no Kubernetes object, ignored".into(),
                    hint,
                );
            }
            Recognized::Incomplete(field) => {
                let reason = format!("`{field}` is missing or no string");
                let hint = "an object needs apiVersion and kind, both as strings";
                self.tell(Some(node.line), "MissingField", Severity::Error, reason, hint);
            }
        }
    }

    fn add_items(&mut self, node: &Node, item: Option<kind::Known>, ignored: &mut BTreeSet<String>) {
        let findings = Findings::default();
        let at = At::root(node, &findings);
        if let Some(list) = at.mapping(&["apiVersion", "kind", "metadata", "items"])
            && let Some(items) = list.field("items")
        {
            for item_at in items.items() {
                self.add(item_at.node(), item.map(Recognized::Known), ignored);
            }
        }
        let object = self.reference();
        self.report(findings.into_items(), &object, node, BTreeMap::new());
    }

    fn add_object(&mut self, node: &Node, known: kind::Known) {
        let findings = Findings::default();
        let read = known.read(At::root(node, &findings));
        let refuse = findings.refuse();
        let items = findings.into_items();
        let mut lines = BTreeMap::new();
        if known.keeps_field_lines() {
            lines = cursor::lines(node, MAX_FIELD_LINES);
        }
        let Some((meta_key, objects)) = read else {
            let object = self.reference();
            self.report(items, &object, node, lines);
            return;
        };
        let reference = ObjectRef { kind: known.kind(), key: meta_key };
        let origin = self.report(items, &reference, node, lines);
        if refuse {
            self.refused.insert(reference);
            self.refused.extend(objects.iter().map(Object::reference));
        } else {
            self.objects.extend(objects.into_iter().map(|object| object.with_origin(&origin)));
        }
    }

    fn refuse_version(&mut self, node: &Node, kind: Kind, replacement: &'static str) {
        let written = node.field("apiVersion").and_then(Node::text).unwrap_or_default().to_owned();
        let findings = Findings::default();
        let at = At::root(node, &findings);
        let meta = node.field("metadata").and_then(|_| kind::meta_of(&at, kind));
        let object = meta.map_or_else(|| self.reference(), |meta| ObjectRef { kind, key: meta.key });
        if object.kind != Kind::Manifest {
            self.refused.insert(object.clone());
        }
        self.diagnostics.push(Diagnostic {
            object,
            code: "RemovedVersion",
            severity: Severity::Error,
            field: "apiVersion".into(),
            value: Diagnostic::shorten(&written),
            reason: "this version was removed from Kubernetes".into(),
            hint: replacement.into(),
            origin: self.origin(node.line, BTreeMap::new()),
        });
    }

    /// Turns findings into diagnostics and gives back the origin that they share with the object.
    fn report(
        &mut self,
        findings: Vec<Finding>,
        object: &ObjectRef,
        node: &Node,
        mut lines: BTreeMap<String, u32>,
    ) -> Arc<Origin> {
        for finding in &findings {
            lines.entry(finding.field.clone()).or_insert(finding.line);
        }
        let origin = self.origin(node.line, lines);
        self.diagnostics.extend(findings.into_iter().map(|finding| Diagnostic {
            object: object.clone(),
            code: finding.code,
            severity: finding.severity,
            field: finding.field,
            value: finding.value,
            reason: finding.reason,
            hint: finding.hint,
            origin: Arc::clone(&origin),
        }));
        origin
    }

    fn origin(&self, line: u32, fields: BTreeMap<String, u32>) -> Arc<Origin> {
        let before = self.objects.iter().rev().take(LIKE).map(|object| &object.meta().origin.fields);
        let fields = FieldLines::from(fields).sharing(before);
        Arc::new(Origin { file: Some(Arc::clone(&self.path)), line: Some(line), fields })
    }

    /// The file itself, where no object can be named.
    fn reference(&self) -> ObjectRef {
        ObjectRef { kind: Kind::Manifest, key: ObjectKey::new("", Arc::clone(&self.path)) }
    }

    fn tell(
        &mut self,
        line: Option<u32>,
        code: &'static str,
        severity: Severity,
        reason: String,
        hint: &str,
    ) {
        let origin = Origin { file: Some(Arc::clone(&self.path)), line, fields: FieldLines::default() };
        self.diagnostics.push(Diagnostic {
            object: self.reference(),
            code,
            severity,
            field: String::new(),
            value: String::new(),
            reason,
            hint: hint.into(),
            origin: Arc::new(origin),
        });
    }
}

impl Object {
    fn with_origin(mut self, origin: &Arc<Origin>) -> Self {
        let origin = Arc::clone(origin);
        // Fresh from the reader, so nobody else holds it and `make_mut` copies nothing.
        match &mut self {
            Self::ConfigMap(object) => Arc::make_mut(object).meta.origin = origin,
            Self::EndpointSlice(object) => Arc::make_mut(object).meta.origin = origin,
            Self::Ingress(object) => Arc::make_mut(object).meta.origin = origin,
            Self::IngressClass(object) => Arc::make_mut(object).meta.origin = origin,
            Self::Namespace(object) => Arc::make_mut(object).meta.origin = origin,
            Self::Secret(object) => Arc::make_mut(object).meta.origin = origin,
            Self::Service(object) => Arc::make_mut(object).meta.origin = origin,
        }
        self
    }
}

#[cfg(test)]
mod tests;
