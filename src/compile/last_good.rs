//! What the keys of the controller's ConfigMap said when they could last be read: a typing error in one of them must not
//! take a setting away that is in force. The compiler itself remembers none of it: whoever calls it keeps one of these and
//! gives it the texts with the flags ([`Options::kept_keys`]). Forgotten with the process, as are keys that are removed.

use std::collections::BTreeMap;

use super::Options;
use crate::model::World;
use crate::policy::global::Globals;

/// Last good texts by key.
#[derive(Debug, Default)]
pub struct LastGood {
    texts: BTreeMap<String, String>,
}

impl LastGood {
    /// Looks at the ConfigMap of this world. Keys that cannot be read now get their last good texts in `options`.
    pub fn follow(&mut self, world: &World, options: &mut Options) {
        let main = options.config_map.as_ref().and_then(|key| world.config_maps.get(key));
        let Some(main) = main else { return };
        let unread = Globals::unread(main, &world.config_maps);
        self.texts.retain(|key, _| main.data.contains_key(key));
        for (key, text) in main.data.iter().filter(|(key, _)| !unread.contains(&key.as_str())) {
            if self.texts.get(key) != Some(text) {
                self.texts.insert(key.clone(), text.clone());
            }
        }
        let broken = |key: &&'static str| Some(((*key).to_owned(), self.texts.get(*key)?.clone()));
        options.kept_keys = unread.iter().filter_map(broken).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::compile::{Inputs, compile};
    use crate::model::{CertCatalog, ConfigMap, Meta, ObjectKey};

    /// `proxy-body-size` and `hsts` in force after each of these ConfigMaps, and the hints of what is told.
    fn after(versions: &[&[(&str, &str)]]) -> (Option<u64>, bool, Vec<String>) {
        let key = ObjectKey::new("edge", "config");
        let (mut memory, mut world) = (LastGood::default(), World::default());
        let mut options = Options { config_map: Some(key.clone()), ..Options::default() };
        for version in versions {
            let data = version.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
            let map = ConfigMap { meta: Meta::named(key.clone()), data };
            world.config_maps.insert(key.clone(), Arc::new(map));
            memory.follow(&world, &mut options);
        }
        let certificates = CertCatalog::default();
        let compiled = compile(&Inputs { world: &world, certificates: &certificates, options: &options });
        let globals = &compiled.table.globals;
        let hints = compiled.diagnostics.iter().map(|found| found.hint.clone()).collect();
        (globals.proxy_body_size, globals.hsts.is_some(), hints)
    }

    #[test]
    fn a_key_that_cannot_be_read_keeps_what_it_said_and_the_others_change() {
        let good = [("proxy-body-size", "8k"), ("hsts", "true")];
        let broken = [("proxy-body-size", "8 apples"), ("hsts", "false")];
        let (size, hsts, hints) = after(&[&good, &broken, &broken]);
        assert_eq!((size, hsts), (Some(8192), false));
        assert_eq!(hints, ["until it is mended its last good value counts: 8k"]);
    }

    #[test]
    fn a_key_that_was_never_good_or_was_removed_has_its_default() {
        let (default, ..) = after(&[&[]]);
        let (good, broken) = ([("proxy-body-size", "8k")], [("proxy-body-size", "8 apples")]);
        for versions in [&[&broken[..]][..], &[&good, &[], &broken]] {
            let (size, _, hints) = after(versions);
            assert_eq!((size, hints.len()), (default, 1));
            assert!(hints[0].starts_with("until it is mended the default counts: "), "{hints:?}");
        }
    }

    #[test]
    fn what_is_mended_counts() {
        let (good, broken) = ([("proxy-body-size", "8k")], [("proxy-body-size", "8 apples")]);
        assert_eq!(after(&[&good, &broken, &[("proxy-body-size", "2k")]]), (Some(2048), true, Vec::new()));
    }
}
