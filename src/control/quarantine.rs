//! A compiler that may panic, made safe: the object it fails on is found and left out, the rest is compiled
//! (`spec F-5`). Compilation never should panic; this is for the day it does.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::compile::{Compiled, Compiler, Inputs, Options, Pause};
use crate::limit::priority::breathe;
use crate::manifest::Object;
use crate::model::{CertCatalog, Kind, ObjectRef, World};
use crate::route::{EndpointMap, Table};

/// Most objects that are left out at once; a compiler that fails on more fails as a whole.
const MOST: usize = 8;

/// What compiles worlds.
pub trait Compile {
    /// A compiler that remembers nothing.
    fn fresh() -> Self;
    /// Compiles a world; may remember it.
    fn compile(&mut self, inputs: &Inputs<'_>) -> Compiled;
    /// What changed in Services and EndpointSlices only, for the table compiled last.
    fn endpoints(&mut self, inputs: &Inputs<'_>, _table: &Table) -> Arc<EndpointMap> {
        self.compile(inputs).endpoints
    }
}

impl Compile for Compiler {
    fn fresh() -> Self {
        Self::new().pausing(Pause::with(breathe))
    }

    fn compile(&mut self, inputs: &Inputs<'_>) -> Compiled {
        Self::compile(self, inputs)
    }

    fn endpoints(&mut self, inputs: &Inputs<'_>, table: &Table) -> Arc<EndpointMap> {
        self.endpoints_only(inputs, table)
    }
}

/// A compiler and the objects that it fails on.
#[derive(Debug)]
pub(super) struct Quarantine<C> {
    compiler: C,
    /// With the content that it failed on: a changed object is tried again.
    held: BTreeMap<ObjectRef, Object>,
    panics: u64,
}

impl<C: Compile> Quarantine<C> {
    pub(super) fn new() -> Self {
        Self { compiler: C::fresh(), held: BTreeMap::new(), panics: 0 }
    }

    /// Panics since start.
    pub(super) const fn panics(&self) -> u64 {
        self.panics
    }

    /// Endpoints of a world for the table compiled last. `None` when that takes a whole compilation: objects are held
    /// back, or the compiler fails.
    pub(super) fn endpoints(&mut self, inputs: &Inputs<'_>, table: &Table) -> Option<Arc<EndpointMap>> {
        if !self.held.is_empty() {
            return None;
        }
        let compiler = &mut self.compiler;
        // As in `attempt`.
        let endpoints = catch_unwind(AssertUnwindSafe(|| compiler.endpoints(inputs, table)));
        if endpoints.is_err() {
            self.panics += 1;
            self.compiler = C::fresh();
        }
        endpoints.ok()
    }

    /// Compiles a world less the objects that the compiler fails on, and names those. `None` when it fails on more than
    /// a few, or without any object.
    pub(super) fn compile(
        &mut self,
        world: &World,
        certificates: &CertCatalog,
        options: &Options,
    ) -> Option<(Compiled, BTreeSet<ObjectRef>)> {
        self.held.retain(|reference, object| find(world, reference).as_ref() == Some(object));
        loop {
            let mut rest = world.clone();
            for reference in self.held.keys() {
                rest.remove(reference);
            }
            if let Some(compiled) = self.attempt(&rest, certificates, options) {
                return Some((compiled, self.held.keys().cloned().collect()));
            }
            if self.held.len() >= MOST {
                return None;
            }
            let culprit = self.culprit(&rest, certificates, options)?;
            let object = find(&rest, &culprit)?;
            self.held.insert(culprit, object);
        }
    }

    fn attempt(&mut self, world: &World, certificates: &CertCatalog, options: &Options) -> Option<Compiled> {
        let inputs = Inputs { world, certificates, options };
        let compiler = &mut self.compiler;
        // The compiler is thrown away when it panics, so nobody sees what it left half done.
        let compiled = catch_unwind(AssertUnwindSafe(|| compiler.compile(&inputs)));
        if compiled.is_err() {
            self.panics += 1;
            self.compiler = C::fresh();
        }
        compiled.ok()
    }

    /// The last object of the shortest run of objects, in the order of their names, that makes the compiler fail.
    fn culprit(&mut self, world: &World, certificates: &CertCatalog, options: &Options) -> Option<ObjectRef> {
        let suspects = suspects(world);
        let (mut works, mut fails) = (0, suspects.len());
        while works + 1 < fails {
            let middle = works.midpoint(fails);
            let mut part = world.clone();
            for reference in suspects.iter().skip(middle) {
                part.remove(reference);
            }
            if self.attempt(&part, certificates, options).is_some() {
                works = middle;
            } else {
                fails = middle;
            }
        }
        fails.checked_sub(1).and_then(|last| suspects.get(last)).cloned()
    }
}

/// Objects that a compiler may fail on.
fn suspects(world: &World) -> Vec<ObjectRef> {
    let of = |kind, key: &crate::model::ObjectKey| ObjectRef { kind, key: key.clone() };
    let mut all: Vec<ObjectRef> = world.config_maps.keys().map(|key| of(Kind::ConfigMap, key)).collect();
    all.extend(world.classes.keys().map(|key| of(Kind::IngressClass, key)));
    all.extend(world.services.keys().map(|key| of(Kind::Service, key)));
    all.extend(world.slices.keys().map(|key| of(Kind::EndpointSlice, key)));
    all.extend(world.secrets.keys().map(|key| of(Kind::Secret, key)));
    all.extend(world.ingresses.keys().map(|key| of(Kind::Ingress, key)));
    all
}

pub(super) fn find(world: &World, reference: &ObjectRef) -> Option<Object> {
    let key = &reference.key;
    match reference.kind {
        Kind::ConfigMap => world.config_maps.get(key).cloned().map(Object::ConfigMap),
        Kind::EndpointSlice => world.slices.get(key).cloned().map(Object::EndpointSlice),
        Kind::Ingress => world.ingresses.get(key).cloned().map(Object::Ingress),
        Kind::IngressClass => world.classes.get(key).cloned().map(Object::IngressClass),
        Kind::Namespace => world.namespaces.get(key).cloned().map(Object::Namespace),
        Kind::Secret => world.secrets.get(key).cloned().map(Object::Secret),
        Kind::Service => world.services.get(key).cloned().map(Object::Service),
        Kind::Manifest | Kind::Node | Kind::Pod => None,
    }
}
