//! Order, bounds, failing destinations, rotation.

use std::fs;
use std::io::Read;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn in_file(bounds: Bounds) -> (tempfile::TempDir, PathBuf, LineWriter) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let writer = LineWriter::start(&Destination::File(path.clone()), bounds).unwrap();
    (folder, path, writer)
}

#[test]
fn lines_of_every_lane_arrive_whole_and_in_order_per_lane() {
    let (_folder, path, writer) = in_file(Bounds::for_lanes(4));
    let producers: Vec<_> = (0..4)
        .map(|number| {
            let lane = writer.lane();
            thread::spawn(move || {
                for line in 0..1_000 {
                    assert!(lane.append(|out| out.extend_from_slice(format!("{number} {line}").as_bytes())));
                }
            })
        })
        .collect();
    for producer in producers {
        producer.join().unwrap();
    }
    assert!(writer.close(PATIENCE));
    assert_eq!((writer.written(), writer.dropped(), writer.errors()), (4_000, 0, 0));
    let text = fs::read_to_string(path).unwrap();
    for number in 0..4 {
        let prefix = format!("{number} ");
        let seen: Vec<u32> =
            text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(|n| n.parse().unwrap()).collect();
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    }
}

#[test]
fn a_line_written_after_an_idle_time_wakes_the_thread() {
    let (_folder, path, writer) = in_file(Bounds::for_lanes(1));
    let lane = writer.lane();
    for round in 1..=20 {
        assert!(lane.append(|out| out.push(b'x')));
        let end = Instant::now() + PATIENCE;
        while writer.written() < round {
            assert!(Instant::now() < end, "line {round} was never written");
            thread::yield_now();
        }
        assert!(writer.flush(PATIENCE));
    }
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 20);
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(
        LineWriter::start(&Destination::File(path), Bounds { lanes: 1, lines: 10, bytes: 1024 }).is_err()
    );
}

#[test]
fn a_reader_that_stalls_costs_lines_and_never_blocks_the_producer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    // Both ends open: the writer's open does not wait, and nobody reads.
    let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let bounds = Bounds { lanes: 1, lines: 1_000, bytes: 64 * 1024 };
    let writer = LineWriter::start(&Destination::File(path), bounds).unwrap();
    let lane = writer.lane();
    let append = || u64::from(lane.append(|out| out.extend_from_slice(&[b'y'; 99])));
    let (mut accepted, mut asked) = (0, 0);
    // More than the pipe holds, so that the thread must hang; lines go on being accepted as long as it does not.
    while accepted * 100 <= 64 * 1024 {
        accepted += append();
        asked += 1;
        thread::yield_now();
    }
    for _ in 0..20_000 {
        accepted += append();
        asked += 1;
    }
    assert_eq!(writer.dropped() + accepted, asked);
    assert!(writer.dropped() > 0, "a stalled reader must cost lines");
    assert!(!writer.flush(Duration::from_millis(1)), "the thread hangs in its write");
    // Once someone reads, all accepted lines come out.
    let mut seen = 0;
    let mut buffer = [0; 64 * 1024];
    while seen < accepted * 100 {
        seen += reader.read(&mut buffer).unwrap() as u64;
    }
    assert!(writer.close(PATIENCE));
    assert_eq!(writer.written(), accepted);
}

#[test]
fn a_destination_that_fails_is_counted_and_the_next_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let writer = LineWriter::start(&Destination::File("/dev/full".into()), Bounds::for_lanes(1)).unwrap();
    let lane = writer.lane();
    assert!(lane.append(|out| out.extend_from_slice(b"lost")));
    assert!(writer.flush(PATIENCE));
    assert_eq!((writer.written(), writer.dropped(), writer.errors()), (0, 1, 1));
    let path = folder.path().join("second.log");
    writer.reopen(&Destination::File(path.clone())).unwrap();
    assert!(lane.append(|out| out.extend_from_slice(b"kept")));
    assert!(writer.close(PATIENCE));
    assert_eq!(fs::read_to_string(path).unwrap(), "kept\n");
}

#[test]
fn a_rotated_file_is_written_anew_after_reopen() {
    let (folder, path, writer) = in_file(Bounds::for_lanes(1));
    let lane = writer.lane();
    lane.append(|out| out.extend_from_slice(b"one"));
    assert!(writer.flush(PATIENCE));
    let rotated = folder.path().join("access.log.1");
    fs::rename(&path, &rotated).unwrap();
    writer.reopen(&Destination::File(path.clone())).unwrap();
    lane.append(|out| out.extend_from_slice(b"two"));
    assert!(writer.close(PATIENCE));
    assert_eq!(fs::read_to_string(rotated).unwrap(), "one\n");
    assert_eq!(fs::read_to_string(path).unwrap(), "two\n");
}

#[test]
fn a_file_in_a_missing_folder_is_an_error_that_names_it() {
    let error =
        LineWriter::start(&Destination::File("/nonexistent/x.log".into()), Bounds::for_lanes(1)).unwrap_err();
    let reason = "No such file or directory (os error 2)";
    assert_eq!(error.to_string(), format!("cannot open log /nonexistent/x.log: {reason}"));
}

#[test]
fn well_known_paths_stand_for_the_standard_streams() {
    for (path, expect) in [
        ("/var/log/nginx/access.log", Destination::Stdout),
        ("/dev/stdout", Destination::Stdout),
        ("", Destination::Stdout),
        ("/var/log/nginx/error.log", Destination::Stderr),
        ("/logs/a.log", Destination::File("/logs/a.log".into())),
    ] {
        assert_eq!(Destination::from_path(path), expect, "{path}");
    }
}
