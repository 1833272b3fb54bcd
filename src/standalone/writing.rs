//! Files that somebody is writing right now: half of a manifest is often sound YAML, and read too early it would take the
//! other half's objects away. Pure; notices and time are handed in. Knows nothing of contents, and holds nothing up for long.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::watch::{Notice, Stir};

/// How long a file that is being written keeps its last content, from its first change on. With the pause after the last
/// change (`control/pace`) a writer that keeps its file open is followed within a quarter of a second.
const PATIENCE: Duration = Duration::from_millis(200);

/// The files whose last change was a write and whose writer has not closed them.
#[derive(Debug, Default)]
pub(super) struct Writing {
    open: BTreeMap<PathBuf, Instant>,
    /// Those that were found empty, and when.
    doubted: BTreeMap<PathBuf, Instant>,
}

impl Writing {
    /// Takes note of a change.
    pub(super) fn note(&mut self, notice: &Notice, now: Instant) {
        match notice.stir {
            Stir::Write => {
                for path in &notice.paths {
                    self.open.entry(path.clone()).or_insert(now);
                }
            }
            Stir::Settle => self.open.retain(|path, _| !notice.paths.contains(path)),
            Stir::Other => {}
            Stir::Lost => self.open.clear(),
        }
    }

    /// True when a file that was found empty keeps its last content for now: most writers empty a file before they write
    /// it anew, and the notice of that may be on its way. The second time its emptiness counts.
    pub(super) fn doubts(&mut self, path: &Path, is_empty: bool, now: Instant) -> bool {
        if self.doubted.remove(path).is_some() || !is_empty {
            return false;
        }
        self.doubted.insert(path.to_owned(), now);
        true
    }

    /// The files that must not be read yet.
    pub(super) fn held(&self, now: Instant) -> BTreeSet<&Path> {
        let young = self.open.iter().chain(&self.doubted).filter(|(_, since)| now < **since + PATIENCE);
        young.map(|(path, _)| path.as_path()).collect()
    }

    /// When the next of them is read although nobody closed it.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.open
            .values()
            .chain(self.doubted.values())
            .map(|since| *since + PATIENCE)
            .filter(|due| *due > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(stir: Stir, paths: &[&str]) -> Notice {
        Notice { stir, paths: paths.iter().map(PathBuf::from).collect() }
    }

    fn check(steps: &[(u64, Stir, &[&str])], at: u64, held: &[&str], due: Option<u64>) {
        let start = Instant::now();
        let after = |millis: u64| start + Duration::from_millis(millis);
        let mut writing = Writing::default();
        for (millis, stir, paths) in steps {
            writing.note(&notice(*stir, paths), after(*millis));
        }
        let now = after(at);
        assert_eq!(writing.held(now), held.iter().map(Path::new).collect(), "{steps:?}");
        assert_eq!(writing.due(now), due.map(after), "{steps:?}");
    }

    #[test]
    fn a_file_is_held_from_its_first_write_until_it_is_closed() {
        check(&[], 0, &[], None);
        check(&[(0, Stir::Write, &["/a"])], 0, &["/a"], Some(200));
        check(&[(0, Stir::Write, &["/a"]), (1, Stir::Settle, &["/a"])], 2, &[], None);
        check(&[(0, Stir::Write, &["/a", "/b"]), (1, Stir::Settle, &["/a"])], 2, &["/b"], Some(200));
        check(&[(0, Stir::Other, &["/a"])], 0, &[], None);
        check(&[(0, Stir::Write, &["/a"]), (1, Stir::Other, &["/a"])], 2, &["/a"], Some(200));
    }

    #[test]
    fn a_writer_that_does_not_close_is_waited_for_once() {
        let open: &[(u64, Stir, &[&str])] = &[(0, Stir::Write, &["/a"]), (150, Stir::Write, &["/a"])];
        check(open, 199, &["/a"], Some(200));
        check(open, 200, &[], None);
        let longer = [open, &[(250, Stir::Write, &["/a"] as &[&str])]].concat();
        check(&longer, 260, &[], None);
        let anew = [open, &[(250, Stir::Settle, &["/a"] as &[&str]), (300, Stir::Write, &["/a"])]].concat();
        check(&anew, 310, &["/a"], Some(500));
    }

    #[test]
    fn an_empty_file_is_doubted_once() {
        let (mut writing, now) = (Writing::default(), Instant::now());
        assert!(!writing.doubts(Path::new("/a"), false, now));
        assert!(writing.doubts(Path::new("/a"), true, now));
        assert_eq!(writing.due(now), Some(now + PATIENCE));
        assert!(!writing.doubts(Path::new("/a"), true, now + PATIENCE));
        assert_eq!(writing.due(now), None);
    }

    #[test]
    fn lost_notices_hold_nothing() {
        check(&[(0, Stir::Write, &["/a"]), (1, Stir::Lost, &[])], 2, &[], None);
    }
}
