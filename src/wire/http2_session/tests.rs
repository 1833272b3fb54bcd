//! The session fed with bytes, as a client's socket would.

use super::frame::{CONTINUATION, END_HEADERS, END_STREAM, HAS_PRIORITY, MAX_WINDOW, PADDED};
use super::*;
use bytes::Bytes;

/// `GET http://a.test/`, by the static table and one literal.
const GET: &[u8] = b"\x82\x86\x84\x41\x06a.test";
const POST: &[u8] = b"\x83\x86\x84\x41\x06a.test";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { length: payload.len(), kind, flags, stream };
    [&header.bytes()[..], payload].concat()
}

fn limits() -> Limits {
    Limits {
        streams: 4,
        header_list: 32 * 1024,
        window: 64 * 1024,
        head: HeadLimits::default(),
        frames: FrameLimits::default(),
        provoked_resets: 10,
    }
}

/// What the session says, frame by frame.
fn said(session: &mut Session) -> Vec<(FrameHeader, Vec<u8>)> {
    let mut bytes = Vec::new();
    while !session.output.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let used = session.output.slices(&mut slices);
        let part: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
        session.wrote(part.len());
        bytes.extend(part);
    }
    let mut frames = Vec::new();
    let mut rest = &bytes[..];
    while let Some(header) = FrameHeader::read(rest) {
        let (payload, after) = rest[HEADER..].split_at(header.length);
        frames.push((header, payload.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    frames
}

/// A session behind both prefaces, whose words so far are taken.
fn begun() -> Session {
    let mut session = Session::new(limits());
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[])].concat();
    assert!(session.next(&mut &hello[..], 0).unwrap().is_none());
    let _ours = said(&mut session);
    session
}

/// Feeds frames; words for what happened, ended by the error.
fn feed(session: &mut Session, bytes: &[u8]) -> Vec<String> {
    let mut rest = bytes;
    let mut words = Vec::new();
    loop {
        words.push(match session.next(&mut rest, 0) {
            Ok(None) => break,
            Ok(Some(Event::Request { place, head, ended, refused, length })) => {
                let refused = refused.map(|reject| reject.status.as_u16());
                format!("request {place} {} {ended} {refused:?} {length:?}", head.method)
            }
            Ok(Some(Event::Data { place, data, ended })) => format!("data {place} {} {ended}", data.len()),
            Ok(Some(Event::Trailers { place, fields })) => format!("trailers {place} {}", fields.len()),
            Ok(Some(Event::Reset { place })) => format!("reset {place}"),
            Ok(Some(Event::Room { place })) => format!("room {place}"),
            Ok(Some(Event::RoomForAll)) => "room".to_owned(),
            Err(fatal) => {
                words.push(format!("fatal {}", fatal.code.0));
                break;
            }
        });
    }
    words
}

fn check(bytes: &[Vec<u8>], expect: &[&str]) {
    assert_eq!(feed(&mut begun(), &bytes.concat()), expect, "{bytes:?}");
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, GET)
}

fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, POST)
}

/// The code of the first reset or farewell that was said.
fn code_of(session: &mut Session) -> Option<(u8, u32)> {
    said(session).iter().find_map(|(header, payload)| match header.kind {
        RST_STREAM => Some((RST_STREAM, number(payload)?)),
        GOAWAY => Some((GOAWAY, number(payload.get(4..)?)?)),
        _ => None,
    })
}

#[test]
fn a_connection_begins_with_the_preface_and_settings() {
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &get(1)].concat();
    for cut in 0..hello.len() {
        let mut session = Session::new(limits());
        let mut rest = &hello[..cut];
        assert!(session.next(&mut rest, 0).unwrap().is_none(), "{cut}");
        let left = [rest, &hello[cut..]].concat();
        assert_eq!(feed(&mut session, &left), ["request 0 GET true None None"], "{cut}");
    }
    for bad in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nXX"] {
        assert_eq!(feed(&mut Session::new(limits()), bad), ["fatal 1"]);
    }
    let ping = [PREFACE, &frame(PING, 0, 0, &[0; 8])].concat();
    let fatal = Session::new(limits()).next(&mut &ping[..], 0).unwrap_err();
    assert_eq!(fatal, Fatal { code: Code::PROTOCOL_ERROR, flood: Some(Flood::Malformed) });
}

#[test]
fn requests_bodies_and_trailers_arrive_whatever_pads_or_splits_them() {
    check(&[get(1), get(3)], &["request 0 GET true None None", "request 1 GET true None None"]);
    let padded = [&[3][..], GET, &[0; 3]].concat();
    let flags = END_HEADERS | END_STREAM | PADDED;
    check(&[frame(HEADERS, flags, 1, &padded)], &["request 0 GET true None None"]);
    let prioritised = [&[0, 0, 0, 3, 9][..], GET].concat();
    let flags = END_HEADERS | END_STREAM | HAS_PRIORITY;
    check(&[frame(HEADERS, flags, 1, &prioritised)], &["request 0 GET true None None"]);
    let (one, two) = GET.split_at(4);
    check(
        &[
            frame(HEADERS, END_STREAM, 1, one),
            frame(CONTINUATION, 0, 1, &[]),
            frame(CONTINUATION, END_HEADERS, 1, two),
        ],
        &["request 0 GET true None None"],
    );
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x01x\x01y");
    check(
        &[post(1), frame(DATA, PADDED, 1, b"\x02abc\0\0"), trailers],
        &["request 0 POST false None None", "data 0 3 false", "trailers 0 1"],
    );
    check(&[post(1), frame(DATA, END_STREAM, 1, b"")], &["request 0 POST false None None", "data 0 0 true"]);
}

#[test]
fn violations_cost_the_connection() {
    let request = "request 0 POST false None None";
    let check = |bytes: Vec<u8>, code: u32| {
        let mut session = begun();
        let words = feed(&mut session, &[post(1), bytes.clone()].concat());
        assert_eq!(words, [request, &format!("fatal {code}")], "{bytes:?}");
        assert_eq!(code_of(&mut session), Some((GOAWAY, code)), "{bytes:?}");
    };
    check(frame(DATA, 0, 0, b"x"), 1);
    check(frame(DATA, 0, 3, b"x"), 1);
    check(frame(DATA, PADDED, 1, b"\x04abc"), 1);
    check(frame(HEADERS, END_HEADERS, 0, GET), 1);
    check(frame(HEADERS, END_HEADERS, 2, GET), 1);
    check(frame(HEADERS, END_HEADERS, 3, b"\xff\xff\xff\xff\xff\xff"), 9);
    check(frame(PRIORITY, 0, 0, &[0; 5]), 1);
    check(frame(RST_STREAM, 0, 0, &[0; 4]), 1);
    check(frame(RST_STREAM, 0, 3, &[0; 4]), 1);
    check(frame(RST_STREAM, 0, 1, &[0; 3]), 6);
    check(frame(SETTINGS, 0, 1, &[]), 1);
    check(frame(SETTINGS, ACK, 0, &[0; 6]), 6);
    check(frame(SETTINGS, 0, 0, &[0; 5]), 6);
    check(frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), 1);
    check(frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]), 3);
    check(frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff]), 1);
    check(frame(SETTINGS, 0, 0, &[0, 8, 0, 0, 0, 2]), 1);
    check(frame(SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0]), 1);
    check(frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4]), 1);
    check(frame(PING, 0, 1, &[0; 8]), 1);
    check(frame(PING, 0, 0, &[0; 7]), 6);
    check(frame(GOAWAY, 0, 1, &[0; 8]), 1);
    check(frame(GOAWAY, 0, 0, &[0; 7]), 6);
    check(frame(WINDOW_UPDATE, 0, 0, &[0; 4]), 1);
    check(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), 3);
    check(frame(WINDOW_UPDATE, 0, 1, &[0; 3]), 6);
    check(frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1]), 1);
    check(frame(CONTINUATION, END_HEADERS, 1, GET), 1);
    check([frame(HEADERS, 0, 3, GET), frame(PING, 0, 0, &[0; 8])].concat(), 1);
    check([frame(HEADERS, 0, 3, GET), frame(CONTINUATION, 0, 1, b"")].concat(), 1);
    check(frame(0x42, 0, 0, &[0; MAX_PAYLOAD + 1]), 6);
}

#[test]
fn violations_of_a_stream_cost_the_stream() {
    let check = |bytes: Vec<u8>, code: u32| {
        let mut session = begun();
        let words = feed(&mut session, &[post(1), bytes.clone(), get(5)].concat());
        assert_eq!(words[0], "request 0 POST false None None");
        assert_eq!(words.last().unwrap(), "request 0 GET true None None", "{bytes:?}: {words:?}");
        assert_eq!(code_of(&mut session), Some((RST_STREAM, code)), "{bytes:?}");
    };
    check(frame(WINDOW_UPDATE, 0, 1, &[0; 4]), 1);
    check(frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]), 3);
    check(frame(PRIORITY, 0, 1, &[0; 4]), 6);
    check(frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]), 1);
    check(frame(HEADERS, END_HEADERS, 1, b"\x00\x01x\x01y"), 1);
    check(frame(DATA, 0, 1, &[0; MAX_PAYLOAD]).repeat(5), 3);
    let ended = [frame(DATA, END_STREAM, 1, b""), frame(DATA, 0, 1, b"x")].concat();
    check(ended, 5);
}

#[test]
fn malformed_heads_open_no_stream() {
    for head in
        [&b"\x82\x86"[..], b"\x82\x86\x84\x84\x41\x06a.test", b"\x82\x86\x84\x41\x06a.test\x00\x01X\x01y"]
    {
        let mut session = begun();
        assert_eq!(feed(&mut session, &frame(HEADERS, END_HEADERS | END_STREAM, 1, head)), [""; 0]);
        assert_eq!((code_of(&mut session), session.open()), (Some((RST_STREAM, 1)), 0), "{head:?}");
    }
    let depends = [&[0, 0, 0, 1, 9][..], GET].concat();
    let mut session = begun();
    let flags = END_HEADERS | END_STREAM | HAS_PRIORITY;
    assert_eq!(feed(&mut session, &frame(HEADERS, flags, 1, &depends)), [""; 0]);
    assert_eq!(code_of(&mut session), Some((RST_STREAM, 1)));
}

#[test]
fn a_body_adds_up_to_its_length() {
    let head = [POST, b"\x0f\x0d\x015"].concat();
    let head = frame(HEADERS, END_HEADERS, 1, &head);
    let request = "request 0 POST false None Some(5)";
    check(&[head.clone(), frame(DATA, END_STREAM, 1, b"12345")], &[request, "data 0 5 true"]);
    check(&[head.clone(), frame(DATA, END_STREAM, 1, b"1234")], &[request, "reset 0"]);
    check(&[head.clone(), frame(DATA, 0, 1, b"123456")], &[request, "reset 0"]);
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x01x\x01y");
    check(&[head, trailers], &[request, "reset 0"]);
    let none = [GET, b"\x0f\x0d\x015"].concat();
    check(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &none)], &[]);
}

#[test]
fn streams_that_are_over_take_no_frames_unless_we_ended_them() {
    let mut session = begun();
    assert_eq!(feed(&mut session, &post(1)).len(), 1);
    session.reset(0, Code::CANCEL);
    let late = [
        frame(DATA, END_STREAM, 1, b"x"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x01x\x01y"),
        frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        frame(RST_STREAM, 0, 1, &[0; 4]),
    ];
    assert_eq!(feed(&mut session, &late.concat()), [""; 0]);
    assert_eq!(code_of(&mut session), Some((RST_STREAM, 8)), "and no other");
    assert_eq!(feed(&mut session, &get(3)).len(), 1);
    session.answer(0, 200, &Fields::new(), true);
    assert!(!session.is_open(0));
    let _answer = said(&mut session);
    assert_eq!(feed(&mut session, &frame(DATA, 0, 3, b"x")), [""; 0]);
    assert_eq!(code_of(&mut session), Some((RST_STREAM, 5)));
    assert_eq!(feed(&mut session, &get(3)), [""; 0], "it was reset meanwhile");
    assert_eq!(feed(&mut session, &get(5)).len(), 1);
    session.answer(0, 200, &Fields::new(), true);
    assert_eq!(feed(&mut session, &get(5)), ["fatal 5"]);
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_others_go_on() {
    let mut session = begun();
    let all: Vec<u8> = (0..6).flat_map(|n| post(2 * n + 1)).collect();
    assert_eq!(feed(&mut session, &all).len(), 4);
    let refused: Vec<_> = said(&mut session).iter().map(|(header, _)| (header.kind, header.stream)).collect();
    assert_eq!(refused, [(RST_STREAM, 9), (RST_STREAM, 11)]);
    session.reset(2, Code::CANCEL);
    assert_eq!(feed(&mut session, &get(13)), ["request 2 GET true None None"]);
}

#[test]
fn windows_bound_what_is_sent_and_are_opened_by_the_peer() {
    let mut session = begun();
    let small = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]);
    assert_eq!(feed(&mut session, &[small, get(1)].concat()).len(), 1);
    assert_eq!(session.room(0), 10);
    session.answer(0, 200, &Fields::new(), false);
    session.send(0, Bytes::from_static(b"0123456789"), false);
    assert_eq!(session.room(0), 0);
    session.wait(0);
    assert_eq!(feed(&mut session, &frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 5])), ["room 0"]);
    assert_eq!(session.room(0), 5);
    assert_eq!(feed(&mut session, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])), [""; 0]);
    assert_eq!(session.room(0), 0, "it is below nothing");
    assert_eq!(feed(&mut session, &frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])), ["room"]);
    assert_eq!(session.room(0), MAX_PAYLOAD);
    session.send(0, Bytes::from(vec![0; 16_000]), false);
    session.send(0, Bytes::from(vec![0; 16_000]), false);
    session.send(0, Bytes::from(vec![0; 16_000]), false);
    session.send(0, Bytes::from(vec![0; 16_000]), false);
    assert_eq!(session.room(0), 65_535 - 64_010, "the window of the connection");
    let most = u32::try_from(MAX_WINDOW).unwrap().to_be_bytes();
    assert_eq!(feed(&mut session, &frame(WINDOW_UPDATE, 0, 1, &most)), ["reset 0"]);
}

#[test]
fn what_was_read_is_given_back_in_large_steps() {
    let mut session = begun();
    let body: Vec<u8> = frame(DATA, 0, 1, &[0; 10_000]).repeat(4);
    assert_eq!(feed(&mut session, &[post(1), body].concat()).len(), 5);
    session.consumed(0, 10_000);
    assert_eq!(said(&mut session).len(), 0);
    session.consumed(0, 30_000);
    assert_eq!(
        said(&mut session),
        [(
            FrameHeader { length: 4, kind: WINDOW_UPDATE, flags: 0, stream: 1 },
            40_000_u32.to_be_bytes().to_vec()
        )]
    );
    session.consumed_by_all(CONNECTION_WINDOW / 2);
    assert_eq!(said(&mut session).len(), 1);
}

#[test]
fn floods_end_the_connection_by_their_names() {
    let check = |bytes: Vec<u8>, expect: Option<Flood>| {
        let mut session = begun();
        let mut rest = &bytes[..];
        let ended = loop {
            match session.next(&mut rest, 0) {
                Ok(None) => break None,
                Ok(Some(Event::Request { place, .. })) => session.reset(place, Code::NO_ERROR),
                Ok(Some(_)) => {}
                Err(fatal) => break fatal.flood,
            }
        };
        assert_eq!(ended, expect);
    };
    for idle in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[]), frame(0x42, 0, 0, b"x")] {
        check(idle.repeat(999), None);
        check(idle.repeat(1_001), Some(Flood::Idle));
    }
    let padding = frame(DATA, PADDED, 1, b"\0");
    check([post(1), padding.repeat(999)].concat(), None);
    check([post(1), padding.repeat(1_001)].concat(), Some(Flood::Idle));
    check([post(1), frame(DATA, PADDED, 1, b"\0x").repeat(1_001)].concat(), None);
    let useful: Vec<u8> = (0..200).flat_map(|n| get(2 * n + 1)).collect();
    check([useful, frame(PING, 0, 0, &[0; 8]).repeat(1_900)].concat(), None);
    let reset = |n: u32| [post(2 * n + 1), frame(RST_STREAM, 0, 2 * n + 1, &[0; 4])].concat();
    check((0..100).flat_map(reset).collect(), None);
    check((0..101).flat_map(reset).collect(), Some(Flood::Resets));
    check([frame(HEADERS, 0, 1, GET), frame(CONTINUATION, 0, 1, b"").repeat(8)].concat(), None);
    check(
        [frame(HEADERS, 0, 1, GET), frame(CONTINUATION, 0, 1, b"").repeat(9)].concat(),
        Some(Flood::HeaderBlock),
    );
    let long = frame(CONTINUATION, 0, 1, &[0; MAX_PAYLOAD]).repeat(5);
    check([frame(HEADERS, 0, 1, GET), long].concat(), Some(Flood::HeaderBlock));
}

#[test]
fn resets_that_the_peer_provokes_are_bounded() {
    let mut session = begun();
    let provoke = |n: u32| [post(2 * n + 1), frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])].concat();
    let words = feed(&mut session, &(0..11).flat_map(provoke).collect::<Vec<_>>());
    assert_eq!(words.iter().filter(|word| *word == "reset 0").count(), 10);
    assert_eq!(words.last().unwrap(), "fatal 11");
}

#[test]
fn a_graceful_end_loses_no_stream() {
    let mut session = begun();
    session.retire();
    assert_eq!(feed(&mut session, &get(1)), ["request 0 GET true None None"]);
    let words = said(&mut session);
    assert_eq!(words[0].1, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let pong = frame(PING, ACK, 0, &words[1].1);
    assert_eq!(feed(&mut session, &[pong, get(3)].concat()), [""; 0], "what comes later is left out");
    assert_eq!(said(&mut session)[0].1, [0, 0, 0, 1, 0, 0, 0, 0]);
    assert!(!session.is_done());
    session.answer(0, 200, &Fields::new(), true);
    assert!(session.is_done());
}

#[test]
fn long_heads_are_cut_into_frames() {
    let mut session = begun();
    assert_eq!(feed(&mut session, &get(1)).len(), 1);
    let mut fields = Fields::new();
    fields.append("x-long", &[b'\x7e'; 40_000]).unwrap();
    session.answer(0, 200, &fields, true);
    let frames = said(&mut session);
    let kinds: Vec<_> = frames.iter().map(|(header, _)| (header.kind, header.flags)).collect();
    assert_eq!(kinds.first(), Some(&(HEADERS, END_STREAM)));
    assert_eq!(kinds.last(), Some(&(CONTINUATION, END_HEADERS)));
    assert!(frames.iter().all(|(header, _)| header.length <= MAX_PAYLOAD));
}

#[test]
fn an_idle_stream_that_is_reset_is_over() {
    let mut session = begun();
    assert_eq!(feed(&mut session, &[frame(PRIORITY, 0, 1, &[0; 4]), get(1)].concat()), [""; 0]);
    assert_eq!(code_of(&mut session), Some((RST_STREAM, 6)));
}

#[test]
fn no_farewell_names_a_higher_stream_than_the_one_before() {
    let mut session = begun();
    session.retire();
    let pong = frame(PING, ACK, 0, &said(&mut session)[1].1);
    assert_eq!(feed(&mut session, &[pong, get(7), frame(PING, 0, 1, &[0; 8])].concat()), ["fatal 1"]);
    let last: Vec<_> = said(&mut session).iter().map(|(_, payload)| number(payload)).collect();
    assert_eq!(last, [Some(0), Some(0)]);
}
