//! Asks the compiler what an Ingress would come to beside all others. Remembers the last question, so that the next one
//! costs what changed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::verdict::{Verdict, verdict};
use crate::compile::class::{self, Classes};
use crate::compile::{Compiled, Compiler, Inputs};
use crate::control::{Settings, Sources};
use crate::diagnostic::Diagnostic;
use crate::model::{Ingress, Kind, World};

/// Judges one Ingress after the other.
#[derive(Debug)]
pub struct Judge {
    settings: Settings,
    compiler: Compiler,
}

impl Judge {
    /// A judge who has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self { settings, compiler: Compiler::new() }
    }

    /// Looks at what is served, so that the next question is answered at once.
    pub fn follow(&mut self, sources: &Sources) {
        self.compile(&sources.world, sources);
    }

    /// What an Ingress would come to in place of the one of its name, or beside all others. `found` are findings of
    /// reading it.
    pub fn judge(&mut self, ingress: &Arc<Ingress>, found: Vec<Diagnostic>, sources: &Sources) -> Verdict {
        if !self.is_ours(ingress, sources) {
            return Verdict::Allow { warnings: Vec::new() };
        }
        let mut world = sources.world.clone();
        let mut candidate = Arc::clone(ingress);
        if !world.ingresses.contains_key(&ingress.meta.key) {
            // What is new takes nothing from what is there, also when both are of the same second.
            Arc::make_mut(&mut candidate).meta.created = None;
        }
        world.ingresses.insert(ingress.meta.key.clone(), candidate);
        let Some(compiled) = self.compile(&world, sources) else {
            return Verdict::Refuse {
                message: "the compiler fails on this Ingress; please report it".to_owned(),
                warnings: Vec::new(),
            };
        };
        let about = |one: &Diagnostic| one.object.kind == Kind::Ingress && one.object.key == ingress.meta.key;
        let found: Vec<Diagnostic> =
            found.into_iter().chain(compiled.diagnostics.into_iter().filter(about)).collect();
        verdict(ingress, &found, &world, &sources.options, &compiled.table.globals)
    }

    fn is_ours(&self, ingress: &Arc<Ingress>, sources: &Sources) -> bool {
        let mut alone = World { namespaces: sources.world.namespaces.clone(), ..World::default() };
        alone.ingresses.insert(ingress.meta.key.clone(), Arc::clone(ingress));
        self.settings.restrict(&mut alone);
        // A default backend that flags forbid makes an Ingress nobody's, and is to be refused.
        let mut options = sources.options.clone();
        options.disable_catch_all = false;
        let verdict = Classes::new(&sources.world, &options).judge(ingress, &options);
        !alone.ingresses.is_empty() && matches!(verdict, class::Verdict::Ours(_))
    }

    fn compile(&mut self, world: &World, sources: &Sources) -> Option<Compiled> {
        let Sources { certificates, options, .. } = sources;
        let inputs = Inputs { world, certificates, options };
        let compiler = &mut self.compiler;
        // A compiler that failed is thrown away below.
        let compiled = catch_unwind(AssertUnwindSafe(|| compiler.compile(&inputs)));
        if compiled.is_err() {
            self.compiler = Compiler::new();
        }
        compiled.ok()
    }
}

#[cfg(test)]
mod tests;
