//! Facts about the process, read from `/proc` when somebody asks.

use std::fs;

/// What the kernel says about this process. Zero where it says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Process {
    /// User and system time, seconds.
    pub(super) cpu_seconds: f64,
    /// Seconds since 1970.
    pub(super) start_time: f64,
    pub(super) resident: u64,
    pub(super) virtual_size: u64,
    pub(super) threads: u64,
    pub(super) read_bytes: u64,
    pub(super) write_bytes: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: u64,
}

impl Process {
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let mut process = Self::parse(&stat, &io, &boot, rustix::param::clock_ticks_per_second());
        process.resident = process.resident.saturating_mul(rustix::param::page_size() as u64);
        process.open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        process.max_fds = limit.current.unwrap_or(u64::MAX);
        process
    }

    /// `resident` is in pages.
    fn parse(stat: &str, io: &str, boot: &str, ticks: u64) -> Self {
        // The command may hold spaces and parentheses; the numbers begin after the last one. Field 3 is the first.
        let numbers: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let field = |number: usize| -> u64 {
            number
                .checked_sub(3)
                .and_then(|at| numbers.get(at))
                .and_then(|text| text.parse().ok())
                .unwrap_or(0)
        };
        let line = |text: &str, key: &str| -> u64 {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|value| value.trim().parse().ok())
                .unwrap_or(0)
        };
        let ticks = ticks.max(1) as f64;
        Self {
            cpu_seconds: (field(14) + field(15)) as f64 / ticks,
            start_time: line(boot, "btime ") as f64 + field(22) as f64 / ticks,
            threads: field(20),
            virtual_size: field(23),
            resident: field(24),
            read_bytes: line(io, "read_bytes:"),
            write_bytes: line(io, "write_bytes:"),
            open_fds: 0,
            max_fds: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_name_cannot_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 12 0 1000 8192 77 0";
        let process =
            Process::parse(stat, "rchar: 1\nread_bytes: 4096\nwrite_bytes: 8\n", "cpu 1\nbtime 100\n", 100);
        let expect = Process {
            cpu_seconds: 2.0,
            start_time: 110.0,
            resident: 77,
            virtual_size: 8192,
            threads: 12,
            read_bytes: 4096,
            write_bytes: 8,
            open_fds: 0,
            max_fds: 0,
        };
        assert_eq!(process, expect);
        assert_eq!(Process::parse("", "", "", 0), Process::default());
    }

    #[test]
    fn this_process_has_threads_memory_and_files() {
        let process = Process::read();
        assert!(process.threads > 0 && process.resident > 0 && process.virtual_size > process.resident);
        assert!(process.open_fds > 0 && process.max_fds >= process.open_fds && process.start_time > 0.0);
    }
}
