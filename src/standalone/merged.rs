//! The objects of all files as one world, kept from reading to reading: what a changed file held is exchanged for what it
//! holds, and nothing else is touched. Only an object that is declared twice is a matter of all files: as long as there
//! is one, they are laid together anew. Called by [`super::Directory`]; reads no file.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::manifest::{self, Manifest, Object};
use crate::model::{ObjectRef, World};

/// A file that came, changed or went.
#[derive(Debug)]
pub(super) struct Changed {
    /// What counted of it.
    pub(super) before: Option<Arc<Manifest>>,
    /// What counts of it now.
    pub(super) now: Option<Arc<Manifest>>,
}

/// The world of a directory.
#[derive(Debug, Default)]
pub(super) struct Merged {
    world: World,
    duplicates: Vec<Diagnostic>,
}

/// Some object is declared in two places.
#[derive(Debug)]
struct Twice;

impl Merged {
    /// Objects of all files.
    pub(super) const fn world(&self) -> &World {
        &self.world
    }

    /// Findings about objects that are declared twice.
    pub(super) fn duplicates(&self) -> &[Diagnostic] {
        &self.duplicates
    }

    /// Takes in what became of some files; `all` are the manifests of all of them now, in the order of their paths.
    pub(super) fn follow<'m>(&mut self, changes: &[Changed], all: impl IntoIterator<Item = &'m Manifest>) {
        if changes.is_empty() {
            return;
        }
        if !self.duplicates.is_empty() || self.exchange(changes).is_err() {
            (self.world, self.duplicates) = manifest::world(all);
        }
    }

    /// Leaves the world half done where it fails.
    fn exchange(&mut self, changes: &[Changed]) -> Result<(), Twice> {
        let objects = |manifest: &'_ Option<Arc<Manifest>>| {
            manifest.iter().flat_map(|one| one.objects.clone()).collect::<Vec<_>>()
        };
        let before = changes.iter().flat_map(|change| objects(&change.before));
        let mut before: BTreeMap<ObjectRef, Object> =
            before.map(|object| (object.reference(), object)).collect();
        for object in changes.iter().flat_map(|change| objects(&change.now)) {
            let reference = object.reference();
            match before.remove(&reference) {
                Some(known) if known.is(&object) => {}
                None if self.world.contains(&reference) => return Err(Twice),
                Some(_) | None => object.insert_into(&mut self.world),
            }
        }
        for reference in before.keys() {
            self.world.remove(reference);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file and the names and values of its objects.
    type File<'f> = (&'f str, &'f [(&'f str, &'f str)]);

    fn file(path: &str, objects: &[(&str, &str)]) -> Arc<Manifest> {
        let text: Vec<String> = objects
            .iter()
            .map(|(name, value)| {
                format!(
                    "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: '{value}'}}\n"
                )
            })
            .collect();
        Arc::new(manifest::read(path, text.join("---\n").as_bytes()))
    }

    /// Every step changes files; after each the world is what laying all files together gives, and what stayed the same
    /// keeps its address.
    fn check(steps: &[&[File<'_>]]) {
        let (mut merged, mut files): (Merged, BTreeMap<String, Arc<Manifest>>) = Default::default();
        for step in steps {
            let mut changes = Vec::new();
            for (path, objects) in *step {
                let before = files.remove(*path);
                let now = (!objects.is_empty()).then(|| file(path, objects));
                let now = now.map(|now| match &before {
                    Some(before) => Arc::new(Manifest::clone(&now).keeping(before)),
                    None => now,
                });
                files.extend(now.clone().map(|now| ((*path).to_owned(), now)));
                changes.push(Changed { before, now });
            }
            let all = || files.values().map(|file| &**file);
            merged.follow(&changes, all());
            let (world, duplicates) = manifest::world(all());
            assert_eq!((merged.world(), merged.duplicates()), (&world, &*duplicates), "{step:?}");
            let same =
                world.config_maps.iter().all(|(key, map)| Arc::ptr_eq(map, &merged.world().config_maps[key]));
            assert!(same, "{step:?}");
        }
    }

    #[test]
    fn it_is_what_laying_all_files_together_gives() {
        let (one, two): (&[_], &[_]) = (&[("a", "1"), ("b", "1")], &[("c", "1")]);
        // Files come, change, lose objects and go.
        check(&[
            &[("f", one), ("g", two)],
            &[("f", &[("a", "2"), ("b", "1")])],
            &[("f", &[("b", "1")])],
            &[("g", &[])],
        ]);
        // An object moves from one file to another, both ways.
        check(&[
            &[("f", one), ("g", two)],
            &[("f", &[("a", "1")]), ("g", &[("b", "1"), ("c", "1")])],
            &[("f", one), ("g", two)],
        ]);
        // Nothing changes.
        check(&[&[("f", one)], &[("f", one)], &[]]);
    }

    #[test]
    fn of_an_object_that_is_declared_twice_the_first_counts_for_as_long_as_it_is() {
        let one: &[_] = &[("a", "1"), ("b", "1")];
        check(&[&[("f", one)], &[("g", &[("a", "2")])], &[("f", &[("b", "1")])], &[("g", &[("a", "3")])]]);
        check(&[&[("g", one)], &[("f", &[("a", "2")])], &[("f", &[])]]);
        check(&[&[("f", &[("a", "1"), ("a", "2")])], &[("f", &[("a", "2")])]]);
        check(&[&[("f", one), ("g", one)], &[("f", &[])], &[("f", one)]]);
    }
}
