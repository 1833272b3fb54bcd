//! The memory that the control group grants (`D-5`).

use std::fs;
use std::path::Path;

/// Bytes granted by the control group of this process or one above it; `None` without a limit.
pub fn memory_limit() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit_below(Path::new("/sys/fs/cgroup"), &membership)
}

/// The smallest limit on the way from the process' group to the root. Version 2 first; version 1 where it is in use.
fn limit_below(root: &Path, membership: &str) -> Option<u64> {
    let mut smallest: Option<u64> = None;
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (top, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // Inside a container the path is often that of the host; then only the mounted root can be read.
        let relative = Path::new(path.trim_start_matches('/'));
        for group in relative.ancestors() {
            let found = fs::read_to_string(top.join(group).join(file)).ok().and_then(|text| parse(&text));
            smallest = match (smallest, found) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
    }
    smallest
}

/// `max` (version 2) and the page-rounded largest number (version 1) mean none.
fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < (1 << 62))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], membership: &str, expect: Option<u64>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(limit_below(root.path(), membership), expect, "{files:?} {membership:?}");
    }

    #[test]
    fn the_smallest_limit_of_all_groups_above_counts() {
        check(&[("a/b/memory.max", "2000\n"), ("a/memory.max", "1000\n")], "0::/a/b\n", Some(1000));
        check(&[("a/b/memory.max", "500\n"), ("a/memory.max", "max\n")], "0::/a/b\n", Some(500));
    }

    #[test]
    fn no_limit_is_none() {
        check(&[("a/memory.max", "max\n")], "0::/a\n", None);
        check(&[], "0::/a\n", None);
        check(&[("a/memory.max", "many\n")], "0::/a\n", None);
        check(&[("a/memory.max", "5\n")], "nonsense\n", None);
        check(&[("memory/a/memory.limit_in_bytes", "9223372036854771712\n")], "4:memory:/a\n", None);
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        check(&[("memory.max", "700\n")], "0::/kubepods/pod1/abc\n", Some(700));
        check(&[("memory.max", "700\n")], "0::/\n", Some(700));
    }

    #[test]
    fn version_one_is_understood() {
        check(&[("memory/a/memory.limit_in_bytes", "4096\n")], "5:cpu:/x\n4:memory:/a\n", Some(4096));
    }
}
