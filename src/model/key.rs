//! Names of objects and what every object has.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The kinds of objects this product reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// v1 ConfigMap.
    ConfigMap,
    /// discovery.k8s.io/v1 EndpointSlice (v1 Endpoints are read into it).
    EndpointSlice,
    /// networking.k8s.io/v1 Ingress.
    Ingress,
    /// networking.k8s.io/v1 IngressClass.
    IngressClass,
    /// A file or a document of it, for findings where no object can be named; its key is the file's path.
    Manifest,
    /// v1 Namespace.
    Namespace,
    /// v1 Node; never part of a world.
    Node,
    /// v1 Pod; never part of a world.
    Pod,
    /// v1 Secret.
    Secret,
    /// v1 Service.
    Service,
}

impl Kind {
    /// The word that Kubernetes uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::EndpointSlice => "EndpointSlice",
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Manifest => "Manifest",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Secret => "Secret",
            Self::Service => "Service",
        }
    }
}

/// Namespace and name. Always a pair, never a joined text: `a-b/c` and `a/b-c` are different (CVE-2020-8553).
/// The namespace of a cluster-scoped object is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// A key from its two parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Reads `namespace/name`; `None` when there is not exactly one slash or a part is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let sound = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
        sound.then(|| Self::new(namespace, name))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Kind and key: enough to find an object and to name it in a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub key: ObjectKey,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.key)
    }
}

/// Seconds since 1970 UTC; `metadata.creationTimestamp` has this resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Where an object was read, for messages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Origin {
    /// File path as the user wrote it; `None` when the object came from an API server.
    pub file: Option<Arc<str>>,
    /// Line (from 1) where the object's document starts in that file.
    pub line: Option<u32>,
    /// Lines (from 1) of single fields, by path, such as `metadata.annotations[nginx.ingress.kubernetes.io/app-root]`
    /// or `spec.rules[0].http.paths[1].path`. Filled as far as the reader knows them.
    pub fields: BTreeMap<String, u32>,
}

/// What every object has, less what nobody here reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`; empty in files.
    pub uid: Arc<str>,
    /// `metadata.generation`; 0 in files.
    pub generation: i64,
    /// `metadata.creationTimestamp`. `None` counts as younger than every object that has one.
    pub created: Option<Timestamp>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations as written.
    pub annotations: BTreeMap<String, String>,
    /// Where it was read.
    pub origin: Arc<Origin>,
}

impl Meta {
    /// Metadata of an object that has a name and nothing else.
    pub fn named(key: ObjectKey) -> Self {
        Self {
            key,
            uid: Arc::from(""),
            generation: 0,
            created: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            origin: Arc::default(),
        }
    }
}
