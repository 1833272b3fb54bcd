//! Directories as writers leave them: half written, replaced, linked, gone. Real files, real notifications; waiting is
//! bounded and ends with the condition, never with a time.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

/// Far beyond what any notification takes; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{k: '{value}'}}\n")
}

fn values(world: &World) -> Vec<(String, String)> {
    world.config_maps.values().map(|map| (map.meta.key.name.to_string(), map.data["k"].clone())).collect()
}

fn pairs(expect: &[(&str, &str)]) -> Vec<(String, String)> {
    expect.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn notice(stir: Stir, path: PathBuf) -> Notice {
    Notice { stir, paths: vec![path] }
}

/// A directory under watch, as the control loop drives it.
struct Followed {
    directory: Directory,
    watch: Watch,
    changes: Receiver<Notice>,
}

impl Followed {
    fn new(root: &Path) -> Self {
        let (sender, changes) = mpsc::channel();
        let mut followed =
            Self { directory: Directory::new(root), watch: Watch::new(sender, |notice| notice), changes };
        followed.read();
        assert_eq!(followed.watch.health(), &WatchHealth::Notified);
        followed
    }

    fn read(&mut self) -> Option<World> {
        loop {
            let reading = self.directory.read(Instant::now()).ok()?;
            if !self.watch.follow(self.directory.listing()) {
                return Some(reading.world);
            }
        }
    }

    /// Follows notifications, and nothing else, until the objects are these.
    #[track_caller]
    fn expect(&mut self, expect: &[(&str, &str)]) {
        let end = Instant::now() + PATIENCE;
        let mut seen = None;
        while let Ok(notice) = self.changes.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if self.directory.notice(&notice, Instant::now()) {
                self.watch.doubt(&notice.paths);
                seen = self.read().map(|world| values(&world));
                if seen.as_deref() == Some(&pairs(expect)) {
                    return;
                }
            }
        }
        panic!("expected {expect:?}, but the last reading gave {seen:?}");
    }
}

#[test]
fn every_manifest_below_the_directory_is_read_and_nothing_else() {
    let root = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("a.yaml", &map("a", "1"));
    write("sub/deep/b.yml", &map("b", "1"));
    write(
        "c.json",
        "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"c\"}, \"data\": {\"k\": \"1\"}}",
    );
    write("d.txt", &map("d", "1"));
    write(".hidden.yaml", &map("e", "1"));
    write(".git/f.yaml", &map("f", "1"));
    symlink(root.path(), root.path().join("sub/loop")).unwrap();
    let mut directory = Directory::new(root.path());
    let reading = directory.read(Instant::now()).unwrap();
    assert_eq!(values(&reading.world), pairs(&[("a", "1"), ("b", "1"), ("c", "1")]));
    assert_eq!((reading.parsed, reading.diagnostics.len()), (3, 0));
}

#[test]
fn an_empty_directory_is_fine_and_a_missing_one_is_told() {
    let root = TempDir::new().unwrap();
    let reading = Directory::new(root.path()).read(Instant::now()).unwrap();
    assert_eq!(reading.world, World::default());
    let missing = root.path().join("none");
    let error = Directory::new(&missing).read(Instant::now()).unwrap_err();
    assert_eq!(error.to_string(), format!("the directory {} does not exist", missing.display()));
    let file = root.path().join("file.yaml");
    fs::write(&file, "").unwrap();
    assert!(matches!(Directory::new(&file).read(Instant::now()), Err(ScanError::NoDirectory(_))));
}

#[test]
fn a_file_that_does_not_parse_keeps_its_last_good_content() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("a.yaml");
    fs::write(&file, map("a", "1")).unwrap();
    let mut directory = Directory::new(root.path());
    directory.read(Instant::now()).unwrap();
    fs::write(&file, "{[").unwrap();
    let reading = directory.read(Instant::now()).unwrap();
    assert_eq!(values(&reading.world), pairs(&[("a", "1")]));
    let codes: Vec<_> = reading.diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["InvalidYaml", "LastGoodContent"]);
    fs::write(&file, map("a", "2")).unwrap();
    assert_eq!(values(&directory.read(Instant::now()).unwrap().world), pairs(&[("a", "2")]));
    fs::remove_file(&file).unwrap();
    let reading = directory.read(Instant::now()).unwrap();
    assert_eq!((values(&reading.world), reading.gone), (vec![], 1));
}

#[test]
fn a_file_that_is_empty_without_notice_keeps_its_content_until_it_is_looked_at_again() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("a.yaml");
    fs::write(&file, map("a", "1")).unwrap();
    let mut directory = Directory::new(root.path());
    let start = Instant::now();
    let mut at = |millis: u64| {
        let now = start + Duration::from_millis(millis);
        let reading = directory.read(now).unwrap();
        (values(&reading.world), directory.overdue(now).map(|due| due - start))
    };
    assert_eq!(at(0), (pairs(&[("a", "1")]), None));
    fs::write(&file, "").unwrap();
    assert_eq!(at(10), (pairs(&[("a", "1")]), Some(Duration::from_millis(210))));
    fs::write(&file, map("a", "2")).unwrap();
    assert_eq!(at(210), (pairs(&[("a", "2")]), None));
    // Emptied on purpose: it is empty in the end.
    fs::write(&file, "").unwrap();
    assert_eq!(at(300).0, pairs(&[("a", "2")]));
    assert_eq!(at(500), (pairs(&[]), None));
}

#[test]
fn half_a_file_that_is_being_written_takes_nothing_away() {
    let root = TempDir::new().unwrap();
    let (file, other) = (root.path().join("a.yaml"), root.path().join("b.yaml"));
    let whole = map("a", "1") + "---\n" + &map("b", "1");
    fs::write(&file, &whole).unwrap();
    let mut directory = Directory::new(root.path());
    let start = Instant::now();
    let mut at = |millis: u64, told: &[(Stir, &PathBuf)]| {
        let now = start + Duration::from_millis(millis);
        for (stir, path) in told {
            assert!(directory.notice(&notice(*stir, (*path).clone()), now));
        }
        let reading = directory.read(now).unwrap();
        (values(&reading.world), directory.overdue(now).map(|due| due - start))
    };
    let (both, overdue) = (pairs(&[("a", "1"), ("b", "1")]), Some(Duration::from_millis(200)));
    assert_eq!(at(0, &[]), (both.clone(), None));
    // Truncated; then half of it, which is sound YAML.
    fs::write(&file, "").unwrap();
    assert_eq!(at(0, &[(Stir::Write, &file)]), (both.clone(), overdue));
    fs::write(&file, map("a", "2")).unwrap();
    assert_eq!(at(60, &[(Stir::Write, &file)]), (both, overdue));
    // Another file does not wait for it.
    fs::write(&other, map("c", "1")).unwrap();
    let news = [(Stir::Write, &other), (Stir::Settle, &other)];
    assert_eq!(at(120, &news), (pairs(&[("a", "1"), ("b", "1"), ("c", "1")]), overdue));
    fs::write(&file, map("a", "2") + "---\n" + &map("b", "2")).unwrap();
    let done = [(Stir::Write, &file), (Stir::Settle, &file)];
    assert_eq!(at(130, &done), (pairs(&[("a", "2"), ("b", "2"), ("c", "1")]), None));
    // Nobody waits for ever: what stands there counts in the end.
    fs::write(&file, map("a", "3")).unwrap();
    assert_eq!(at(500, &[(Stir::Write, &file)]).0, pairs(&[("a", "2"), ("b", "2"), ("c", "1")]));
    assert_eq!(at(700, &[]), (pairs(&[("a", "3"), ("c", "1")]), None));
}

#[test]
fn unchanged_objects_keep_their_address_and_unchanged_files_are_not_parsed() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("a.yaml"), map("a", "1")).unwrap();
    fs::write(root.path().join("b.yaml"), map("b", "1")).unwrap();
    let mut directory = Directory::new(root.path());
    let first = directory.read(Instant::now()).unwrap();
    fs::write(root.path().join("b.yaml"), map("b", "2")).unwrap();
    let second = directory.read(Instant::now()).unwrap();
    assert_eq!(second.parsed, 1);
    let key = ObjectKey::new("default", "a");
    assert!(Arc::ptr_eq(&first.world.config_maps[&key], &second.world.config_maps[&key]));
    directory.distrust();
    let third = directory.read(Instant::now()).unwrap();
    assert_eq!(third.parsed, 0);
    assert!(Arc::ptr_eq(&first.world.config_maps[&key], &third.world.config_maps[&key]));
}

#[test]
fn two_writes_of_equal_length_within_one_tick_of_the_clock_are_both_seen() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("a.yaml");
    let mut directory = Directory::new(root.path());
    for round in 10..99 {
        fs::write(&file, map("a", &round.to_string())).unwrap();
        assert_eq!(
            values(&directory.read(Instant::now()).unwrap().world),
            pairs(&[("a", &round.to_string())])
        );
    }
}

#[test]
fn files_that_appear_change_and_vanish_are_noticed() {
    let root = TempDir::new().unwrap();
    let mut followed = Followed::new(root.path());
    fs::write(root.path().join("a.yaml"), map("a", "1")).unwrap();
    followed.expect(&[("a", "1")]);
    fs::write(root.path().join("new"), map("a", "2")).unwrap();
    fs::rename(root.path().join("new"), root.path().join("a.yaml")).unwrap();
    followed.expect(&[("a", "2")]);
    fs::create_dir(root.path().join("sub")).unwrap();
    fs::write(root.path().join("sub/b.yaml"), map("b", "1")).unwrap();
    followed.expect(&[("a", "2"), ("b", "1")]);
    fs::write(root.path().join("sub/b.yaml"), map("b", "2")).unwrap();
    followed.expect(&[("a", "2"), ("b", "2")]);
    fs::remove_dir_all(root.path().join("sub")).unwrap();
    followed.expect(&[("a", "2")]);
    fs::create_dir(root.path().join("sub")).unwrap();
    fs::write(root.path().join("sub/b.yaml"), map("b", "3")).unwrap();
    followed.expect(&[("a", "2"), ("b", "3")]);
    fs::write(root.path().join("sub/b.yaml"), map("b", "4")).unwrap();
    followed.expect(&[("a", "2"), ("b", "4")]);
}

#[test]
fn a_mounted_config_map_that_is_swapped_by_its_data_link_is_noticed() {
    let root = TempDir::new().unwrap();
    let version = |name: &str, value: &str| {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("a.yaml"), map("a", value)).unwrap();
    };
    version("..2024_1", "1");
    symlink("..2024_1", root.path().join("..data")).unwrap();
    symlink("..data/a.yaml", root.path().join("a.yaml")).unwrap();
    let mut followed = Followed::new(root.path());
    for round in 2..6 {
        let name = format!("..2024_{round}");
        version(&name, &round.to_string());
        symlink(&name, root.path().join("..data_tmp")).unwrap();
        fs::rename(root.path().join("..data_tmp"), root.path().join("..data")).unwrap();
        fs::remove_dir_all(root.path().join(format!("..2024_{}", round - 1))).unwrap();
        followed.expect(&[("a", &round.to_string())]);
    }
}

#[test]
fn a_directory_that_is_a_link_is_followed_when_the_link_is_swapped() {
    let root = TempDir::new().unwrap();
    for version in ["1", "2", "3"] {
        fs::create_dir(root.path().join(version)).unwrap();
        fs::write(root.path().join(version).join("a.yaml"), map("a", version)).unwrap();
    }
    let current = root.path().join("current");
    symlink("1", &current).unwrap();
    let mut followed = Followed::new(&current);
    for version in ["2", "3"] {
        symlink(version, root.path().join("next")).unwrap();
        fs::rename(root.path().join("next"), &current).unwrap();
        followed.expect(&[("a", version)]);
    }
    // The new target itself is under watch too.
    fs::write(root.path().join("3/a.yaml"), map("a", "4")).unwrap();
    followed.expect(&[("a", "4")]);
}

#[test]
fn a_directory_that_is_replaced_by_another_is_followed() {
    let root = TempDir::new().unwrap();
    let manifests = root.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("a.yaml"), map("a", "1")).unwrap();
    let mut followed = Followed::new(&manifests);
    for round in 2..5 {
        let next = root.path().join("next");
        fs::create_dir(&next).unwrap();
        fs::write(next.join("a.yaml"), map("a", &round.to_string())).unwrap();
        fs::rename(&manifests, root.path().join(format!("old-{round}"))).unwrap();
        fs::rename(&next, &manifests).unwrap();
        followed.expect(&[("a", &round.to_string())]);
        fs::write(manifests.join("a.yaml"), map("a", &format!("{round}b"))).unwrap();
        followed.expect(&[("a", &format!("{round}b"))]);
    }
}

#[test]
fn what_happens_beside_the_directory_is_nobodys_business() {
    let root = TempDir::new().unwrap();
    let manifests = root.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    let mut directory = Directory::new(&manifests);
    directory.read(Instant::now()).unwrap();
    let mut beside =
        |name: &str| directory.notice(&notice(Stir::Write, root.path().join(name)), Instant::now());
    assert!(!beside("other") && !beside("other/manifests"));
    assert!(beside("manifests") && beside("manifests/a.yaml"));
    assert!(directory.notice(&Notice { stir: Stir::Lost, paths: Vec::new() }, Instant::now()));
}

#[test]
fn a_world_without_classes_gets_the_usual_one_and_serves_ingresses_without_class() {
    let check = |classes: &[&str], given: Option<bool>| {
        let mut world = World::default();
        for name in classes {
            let key = ObjectKey::new("", *name);
            let class =
                IngressClass { meta: Meta::named(key.clone()), controller: "x".into(), parameters: None };
            world.classes.insert(key, Arc::new(class));
        }
        let mut options = Options::default();
        complete(&mut world, &mut options, given);
        let names: Vec<_> =
            world.classes.iter().map(|(key, class)| format!("{key} {}", class.controller)).collect();
        (names, options.without_class)
    };
    assert_eq!(check(&[], None), (vec!["nginx k8s.io/ingress-nginx".to_owned()], true));
    assert_eq!(check(&[], Some(false)), (vec!["nginx k8s.io/ingress-nginx".to_owned()], false));
    assert_eq!(check(&["other"], None), (vec!["other x".to_owned()], false));
    assert!(check(&["other"], Some(true)).1);
}
