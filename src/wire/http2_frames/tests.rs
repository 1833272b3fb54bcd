//! Floods are seen, ordinary traffic is not, at any segmentation.

use super::*;

const PREFACE_BYTES: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
    let length = u32::try_from(payload).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.resize(HEADER + payload, 0xaa);
    bytes
}

/// The preface with its SETTINGS, and `frames`.
fn stream_of(frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let start = [PREFACE_BYTES, &frame(SETTINGS, 0, 0, 0)].concat();
    frames.into_iter().fold(start, |mut all, frame| {
        all.extend(frame);
        all
    })
}

/// The verdict on `bytes`, the same for one piece and for pieces of any size tried.
fn check(bytes: &[u8], expect: Result<(), Flood>) {
    for size in [usize::MAX, 1, 7, 9, 10, 4096] {
        let mut counter = FrameCounter::new(FrameLimits::default());
        let mut bytes = bytes.to_vec();
        let length = bytes.len();
        let seen = bytes.chunks_mut(size.min(length)).try_for_each(|piece| counter.received(piece, 5));
        assert_eq!(seen, expect, "pieces of {size}");
    }
}

#[test]
fn frame_headers_are_found_at_any_cut() {
    let bytes = stream_of([frame(1, 5, 1, 30), frame(0, 1, 0x8000_0001, 0)]);
    let expect = [(0, 4, 0, 0), (30, 1, 5, 1), (0, 0, 1, 1)];
    for cut in 0..bytes.len() {
        let mut walker = FrameWalker::of_client();
        let mut seen = Vec::new();
        for mut piece in [&bytes[..cut], &bytes[cut..]] {
            while let Some(header) = walker.next(&mut piece) {
                seen.push((header.length, header.kind, header.flags, header.stream));
            }
        }
        assert_eq!(seen, expect, "{cut}");
        assert!(walker.at_boundary());
    }
}

#[test]
fn frames_that_ask_for_nothing_are_a_flood_above_a_thousand() {
    for (kind, payload) in [(6, 8), (4, 0), (2, 5), (8, 4), (0x20, 3), (0, 0)] {
        check(&stream_of((0..1_000).map(|_| frame(kind, 0, 0, payload))), Ok(()));
        check(&stream_of((0..1_001).map(|_| frame(kind, 0, 0, payload))), Err(Flood::Idle));
    }
}

#[test]
fn useful_frames_and_downloads_excuse_idle_ones() {
    let mixed = (0..20_000_u32).map(|n| if n % 5 == 0 { frame(0, 0, 1, 100) } else { frame(6, 0, 0, 8) });
    check(&stream_of(mixed), Ok(()));
    let mut counter = FrameCounter::new(FrameLimits::default());
    counter.received(&mut stream_of([]), 0).unwrap();
    for _ in 0..5_000 {
        counter.sent(16 * 1024);
        counter.received(&mut frame(8, 0, 1, 4), 0).unwrap();
    }
}

#[test]
fn counting_starts_anew_with_each_window() {
    let mut counter = FrameCounter::new(FrameLimits::default());
    counter.received(&mut stream_of([]), 0).unwrap();
    for window in 0..5 {
        for _ in 0..1_000 {
            counter.received(&mut frame(6, 0, 0, 8), window * WINDOW).unwrap();
        }
    }
    assert_eq!(counter.received(&mut frame(6, 0, 0, 8), 4 * WINDOW), Err(Flood::Idle));
}

#[test]
fn opening_and_resetting_streams_is_a_flood_and_some_cancelled_downloads_are_not() {
    let rapid = (0..101).flat_map(|n| [frame(1, 4, 2 * n + 1, 10), frame(3, 0, 2 * n + 1, 4)]);
    check(&stream_of(rapid), Err(Flood::Resets));
    let some = (0..1_000_u32).flat_map(|n| {
        let reset = (n % 3 == 0).then(|| frame(3, 0, 2 * n + 1, 4));
        [Some(frame(1, 5, 2 * n + 1, 10)), reset].into_iter().flatten()
    });
    check(&stream_of(some), Ok(()));
}

#[test]
fn a_header_block_has_an_end() {
    let blocks = |count: usize, payload: usize| {
        let middle = (0..count).map(move |_| frame(9, 0, 1, payload));
        stream_of([frame(1, 0, 1, 10)].into_iter().chain(middle).chain([frame(9, 4, 1, payload)]))
    };
    check(&blocks(8, 10), Ok(()));
    check(&blocks(9, 10), Err(Flood::HeaderBlock));
    check(&blocks(4, 16_000), Err(Flood::HeaderBlock));
    check(&blocks(3, 16_000), Ok(()));
}

#[test]
fn the_last_stream_is_the_highest_opened() {
    let mut counter = FrameCounter::new(FrameLimits::default());
    let mut bytes = stream_of([frame(1, 4, 7, 1), frame(1, 5, 3, 1), frame(0, 0, 9, 1)]);
    counter.received(&mut bytes, 0).unwrap();
    assert_eq!(counter.last_stream(), 7);
}

#[test]
fn a_connection_begins_with_settings() {
    for (kind, expect) in [
        (SETTINGS, Ok(())),
        (1, Err(Flood::Malformed)),
        (6, Err(Flood::Malformed)),
        (0x20, Err(Flood::Malformed)),
    ] {
        check(&[PREFACE_BYTES, &frame(kind, 0, 1, 8)].concat(), expect);
    }
    assert_eq!((Flood::Malformed.code(), Flood::Idle.code()), (1, 0xb));
}

/// A frame with this payload.
fn with(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame(kind, flags, stream, payload.len());
    bytes[HEADER..].copy_from_slice(payload);
    bytes
}

#[test]
fn a_fragment_is_found_behind_padding_and_priority_and_in_continuations() {
    let path = b"\x04\x04/a#b";
    let cases: [Vec<Vec<u8>>; 5] = [
        vec![with(HEADERS, 5, 1, path)],
        vec![with(HEADERS, 5 | PADDED, 1, &[b"\x03", &path[..], b"###"].concat())],
        vec![with(HEADERS, 5 | PRIORITY, 1, &[b"####\x23", &path[..]].concat())],
        vec![with(HEADERS, 5 | PADDED | PRIORITY, 1, &[b"\x01####\x23", &path[..], b"#"].concat())],
        vec![with(HEADERS, 1, 1, &path[..4]), with(CONTINUATION, 4, 1, &path[4..])],
    ];
    for frames in cases {
        let bytes = stream_of(frames.into_iter().chain([with(0, 1, 1, path)]));
        for size in [usize::MAX, 1, 2, 3, 13] {
            let mut counter = FrameCounter::new(FrameLimits::default());
            let mut seen = bytes.clone();
            for piece in seen.chunks_mut(size.min(bytes.len())) {
                counter.received(piece, 0).unwrap();
            }
            let changed: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != seen[*at]).collect();
            let [changed] = changed[..] else { panic!("{changed:?} in pieces of {size}") };
            assert_eq!((bytes[changed], seen[changed], bytes[changed + 1]), (b'#', b'>', b'b'));
        }
    }
}

#[test]
fn trailers_hold_no_pseudo_fields() {
    let trailers =
        |block: &[u8]| stream_of([frame(HEADERS, 4, 1, 0), frame(0, 0, 1, 5), with(HEADERS, 5, 1, block)]);
    check(&trailers(b"\x00\x01x\x01y"), Ok(()));
    check(&trailers(b"\x00\x01x\x01y\x04\x01/"), Err(Flood::Malformed));
    check(&trailers(b"\x88"), Err(Flood::Malformed));
}
