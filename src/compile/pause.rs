//! What is called between one object and the next, so that a long compilation can let others go first. What that means
//! is for who compiles to say: the compiler knows no threads and no clock.

/// Values that are only looked at between two pauses.
const LIGHT: usize = 64;

/// Called once for each host or Ingress that is looked at. By default nothing happens.
#[derive(Debug, Clone, Copy)]
pub struct Pause(fn());

impl Pause {
    /// Calls this function.
    pub const fn with(function: fn()) -> Self {
        Self(function)
    }

    /// Between two objects.
    pub(super) fn between(self) {
        (self.0)();
    }

    /// The same values, with a pause after each.
    pub(super) fn among<I: IntoIterator>(self, values: I) -> impl Iterator<Item = I::Item> {
        values.into_iter().inspect(move |_| self.between())
    }

    /// The same for values that are only looked at, of which many take no longer than the pause itself.
    pub(super) fn among_light<I: IntoIterator>(self, values: I) -> impl Iterator<Item = I::Item> {
        values.into_iter().enumerate().map(move |(at, value)| {
            if at % LIGHT == 0 {
                self.between();
            }
            value
        })
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self(|| {})
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::compile::{Compiler, Inputs, Options};
    use crate::model::{CertCatalog, Ingress, Meta, ObjectKey, World};

    thread_local!(static PAUSES: Cell<usize> = const { Cell::new(0) });

    #[test]
    fn a_compiler_pauses_for_each_object_also_when_everything_is_made_anew() {
        let mut world = World::default();
        for number in 0..100 {
            let key = ObjectKey::new("default", format!("i{number}").as_str());
            let ingress = Ingress {
                meta: Meta::named(key.clone()),
                class_name: None,
                default_backend: None,
                rules: Vec::new(),
                tls: Vec::new(),
            };
            world.ingresses.insert(key, Arc::new(ingress));
        }
        let mut compiler = Compiler::new().pausing(Pause::with(|| PAUSES.set(PAUSES.get() + 1)));
        let mut compile = |https_port| {
            PAUSES.set(0);
            let options = Options { https_port, ..Options::default() };
            compiler.compile(&Inputs {
                world: &world,
                certificates: &CertCatalog::default(),
                options: &options,
            });
            PAUSES.get()
        };
        assert!(compile(443) >= 100);
        assert!(compile(8443) >= 200, "what is forgotten is freed in pieces too");
    }
}
