//! The running proxy between bytes by chance and a peer that is strict: seeds of the corpora, changed, the same every time.
//! A moment for each target here; `make fuzz-proxy ARGS=600` takes ten minutes for each. Parsers alone are fuzzed in
//! `fuzz/`, where a run costs microseconds instead of a connection.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end where its set-up fails")]
#![allow(clippy::print_stdout, reason = "what was measured")]

mod support;

#[allow(dead_code, unreachable_pub, reason = "made for another package too")]
#[path = "../fuzz/src/mutate.rs"]
mod mutate;

#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mutate::{Chance, mutated, seeds};
use narthex::admission::{self, Verdict};
use narthex::cert::{Keeper, self_signed};
use narthex::model::{Meta, ObjectKey, Secret, SecretBytes, SharedMap};
use support::TestProxy;
use support::backend::Backend;
use support::client::{Raw, get};
use support::frames;
use support::manifests::{annotated, config_map, simple};

/// Longest input.
const LONGEST: usize = 4096;

/// Calls `target` with seeds and then with changed ones until its time is over; says how often.
fn run(name: &str, own: &[&[u8]], mut target: impl FnMut(&[u8])) {
    let seconds =
        std::env::var("NARTHEX_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let mut all: Vec<Vec<u8>> = own.iter().map(|seed| seed.to_vec()).collect();
    all.extend(seeds());
    let (mut chance, begin, mut runs) = (Chance(0x9e37_79b9_7f4a_7c15), Instant::now(), 0);
    while begin.elapsed() < Duration::from_secs_f64(seconds) {
        let mut input = all.get(runs).cloned().unwrap_or_else(|| mutated(&all, &mut chance));
        input.truncate(LONGEST);
        let shown = input.escape_ascii().to_string();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&input)));
        assert!(checked.is_ok(), "{name}: input {runs}: {shown}");
        runs += 1;
    }
    println!("measured: {name}: {runs} inputs");
}

/// Writes bytes, ends the sending side, and takes everything until the end; a proxy that does not end fails.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    // The proxy may have had enough before all is written.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut all = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return all,
            Ok(count) => all.extend_from_slice(&part[..count]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                panic!("the connection does not end: {}", all.escape_ascii())
            }
            Err(_) => return all,
        }
    }
}

/// What a strict server made of the bytes of all connections.
#[derive(Default)]
struct View {
    whole: usize,
    faults: Vec<String>,
}

/// A backend that takes requests apart by the letter of RFC 9112 and answers the whole ones with a mark.
fn strict() -> (Backend, Arc<Mutex<View>>) {
    let view = Arc::new(Mutex::new(View::default()));
    let kept = Arc::clone(&view);
    let backend = Backend::script(move |mut stream, _| {
        let mut bytes = Vec::new();
        let mut part = [0; 16 * 1024];
        loop {
            match strict_request(&bytes) {
                Ok(Some(end)) => {
                    bytes.drain(..end);
                    kept.lock().unwrap().whole += 1;
                    let answer = b"HTTP/1.1 200 OK\r\nX-Strict: seen\r\nContent-Length: 2\r\n\r\nok";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                    continue;
                }
                Ok(None) => {}
                Err(fault) => {
                    kept.lock().unwrap().faults.push(format!("{fault}: {}", bytes.escape_ascii()));
                    return;
                }
            }
            match stream.read(&mut part) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&part[..count]),
                _ => return,
            }
        }
    });
    (backend, view)
}

/// Where the first request ends; `None` when it is not all there.
fn strict_request(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = &bytes[..head];
    if text.iter().any(|byte| *byte == 0 || (*byte < 0x20 && !b"\r\n\t".contains(byte)) || *byte == 0x7f) {
        return Err("a control byte");
    }
    let lines: Vec<&[u8]> =
        text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    if text.iter().filter(|byte| **byte == b'\n').count()
        != text.windows(2).filter(|pair| pair == b"\r\n").count()
        || lines.iter().any(|line| line.contains(&b'\r'))
    {
        return Err("a bare line end");
    }
    let words: Vec<&[u8]> = lines[0].split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return Err("a request line") };
    let is_token = |name: &[u8]| {
        !name.is_empty()
            && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    };
    if !is_token(method) || !target.starts_with(b"/") || !version.starts_with(b"HTTP/1.") {
        return Err("a request line");
    }
    let mut fields: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for line in &lines[1..] {
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a line without a colon")?;
        if !is_token(&line[..colon]) {
            return Err("a field name");
        }
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        fields.entry(name).or_default().push(line[colon + 1..].trim_ascii().to_vec());
    }
    let only = |name: &str| match fields.get(name).map(Vec::as_slice) {
        None => Ok(None),
        Some([value]) => Ok(Some(value.clone())),
        Some(_) => Err("a field twice"),
    };
    if only("host")?.is_none() {
        return Err("no host");
    }
    let at = head + 4;
    match (only("content-length")?, only("transfer-encoding")?) {
        (None, None) => Ok(Some(at)),
        (Some(_), Some(_)) => Err("both framings"),
        (Some(length), None) => {
            let length: usize =
                std::str::from_utf8(&length).ok().and_then(|text| text.parse().ok()).ok_or("a length")?;
            Ok((bytes.len() >= at + length).then_some(at + length))
        }
        (None, Some(coding)) if coding == b"chunked" => strict_chunks(bytes, at),
        (None, Some(_)) => Err("a coding"),
    }
}

fn strict_chunks(bytes: &[u8], mut at: usize) -> Result<Option<usize>, &'static str> {
    loop {
        let Some(length) = bytes[at..].windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&bytes[at..at + length]).map_err(|_| "a chunk line")?;
        let size = usize::from_str_radix(line, 16).map_err(|_| "a chunk line")?;
        at += length + 2;
        if bytes.len() < at + size + 2 {
            return Ok(None);
        }
        // After the last chunk no trailer goes to an HTTP/1 backend.
        if &bytes[at + size..at + size + 2] != b"\r\n" {
            return Err("the end of a chunk");
        }
        at += size + 2;
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

fn count(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).filter(|window| *window == text).count()
}

/// The proxy under test, of one worker.
fn proxy(backend: &Backend) -> TestProxy {
    let annotations = [("proxy-read-timeout", "2"), ("proxy-connect-timeout", "2")];
    TestProxy::start(&annotated(backend.address(), &annotations), &["--workers=1"])
}

fn is_alive(proxy: &TestProxy) {
    assert_eq!(get(proxy.http(), "h.test", "/alive").status, 200);
}

#[test]
fn a_strict_backend_sees_whole_requests_and_nothing_else_whatever_clients_send() {
    let (backend, view) = strict();
    let proxy = proxy(&backend);
    let own: [&[u8]; 3] = [
        b"GET / HTTP/1.1\r\nHost: h.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: h.test\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: h.test\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h.test\r\nContent-Length: 3\r\nConnection: x, close\r\nExpect: 100-continue\r\n\r\nabc",
    ];
    run("h1_upstream_view", &own, |data| {
        let before = view.lock().unwrap().whole;
        // Corpora speak of hosts of their own: all of them lead here.
        let text = String::from_utf8_lossy(data);
        let data = if text.contains("h.test") {
            data.to_vec()
        } else {
            replaced(data, b"Host: ", b"Host: h.test\r\nX-")
        };
        let answered = count(&exchange(proxy.http(), &data), b"X-Strict: seen");
        let view = view.lock().unwrap();
        assert!(view.faults.is_empty(), "{:?}", view.faults);
        let seen = view.whole - before;
        assert!(answered <= seen, "{answered} answers for {seen} requests");
    });
    is_alive(&proxy);
}

/// `data` with the first `from` replaced.
fn replaced(data: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let Some(at) = data.windows(from.len()).position(|window| window == from) else { return data.to_vec() };
    [&data[..at], to, &data[at + from.len()..]].concat()
}

#[test]
fn a_strict_backend_sees_whole_requests_whatever_frames_come() {
    let (backend, view) = strict();
    let proxy = proxy(&backend);
    let post = [(":method", "POST"), (":scheme", "http"), (":path", "/p"), (":authority", "h.test")];
    let upload = [
        frames::frame(frames::HEADERS, frames::END_HEADERS, 1, &frames::literals(&post)),
        frames::frame(frames::DATA, frames::END_STREAM, 1, b"hello"),
        frames::get(3, "/g"),
    ]
    .concat();
    let settings = frames::frame(frames::SETTINGS, 0, 0, &[]);
    let own: [&[u8]; 2] = [&upload, &settings];
    run("h2_frames", &own, |data| {
        exchange(proxy.http(), &[frames::PREFACE, &settings, data].concat());
        let view = view.lock().unwrap();
        assert!(view.faults.is_empty(), "{:?}", view.faults);
    });
    is_alive(&proxy);
}

#[test]
fn a_client_sees_one_answer_or_a_cut_or_502_whatever_a_backend_sends() {
    let script = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&script);
    let backend = Backend::script(move |mut stream, _| {
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut part) {
            let text = String::from_utf8_lossy(&part[..count]).into_owned();
            let Some(token) = text.strip_prefix("GET /token/").and_then(|rest| rest.split(' ').next()) else {
                let bytes = said.lock().unwrap().clone();
                let _ = stream.write_all(&bytes);
                if bytes.len() % 2 == 0 {
                    return;
                }
                continue;
            };
            let length = token.len();
            let _ = stream
                .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{token}").as_bytes());
        }
    });
    let proxy = TestProxy::start(
        &(simple(backend.address())
            + &config_map(&[("proxy-read-timeout", "1"), ("disable-access-log", "true")])),
        &["--workers=1", "--configmap=default/config", "--passive-health=off"],
    );
    let own: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
    ];
    let mut number = 0;
    run("upstream_response", &own, |data| {
        *script.lock().unwrap() = data.to_vec();
        let mut raw = Raw::connect(proxy.http());
        raw.send("GET /fuzzed HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n");
        let answer = raw.answer_to("GET").expect("an answer");
        assert!((200..600).contains(&answer.status), "{}", answer.status);
        assert!(raw.is_closed() || !answer.whole, "something comes after the answer");
        number += 1;
        let next = get(proxy.http(), "h.test", &format!("/token/{number}-mine"));
        // A connection may die of what lies on it; another's answer is never given.
        assert!(
            next.status == 502 || next.status == 504 || next.text() == format!("{number}-mine"),
            "{}",
            next.text()
        );
    });
}

#[test]
fn bytes_pass_a_tunnel_as_they_are() {
    let script = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let said = Arc::clone(&script);
    let backend = Backend::script(move |mut stream, _| {
        let mut head = Vec::new();
        let mut one = [0; 1];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut one) {
                Ok(1) => head.push(one[0]),
                _ => return,
            }
        }
        let (expected, answer) = said.lock().unwrap().clone();
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
        let _ = stream.write_all(&[&switch[..], &answer].concat());
        let mut got = vec![0; expected.len()];
        let same = stream.read_exact(&mut got).is_ok() && got == expected;
        let _ = stream.write_all(if same { b"SAME" } else { b"OTHER" });
    });
    let proxy = proxy(&backend);
    run("upgrade_tunnel", &[], |data| {
        let (up, down) = data.split_at(data.len() / 2);
        *script.lock().unwrap() = (up.to_vec(), down.to_vec());
        let mut raw = Raw::connect(proxy.http());
        raw.send(
            [&b"GET /t HTTP/1.1\r\nHost: h.test\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"[..], up]
                .concat(),
        );
        assert_eq!(raw.answer_to("GET").map(|answer| answer.status), Some(101));
        assert_eq!(raw.exactly(down.len()), down);
        assert_eq!(raw.exactly(4), b"SAME");
    });
}

#[test]
fn a_tls_port_ends_or_answers_whatever_comes_first() {
    let backend = Backend::echo("b");
    let text = annotated(backend.address(), &[("ssl-passthrough", "true")]);
    for flags in [&["--workers=1"][..], &["--workers=1", "--enable-ssl-passthrough"]] {
        let proxy = TestProxy::start(&text, flags);
        run("client_hello_peek", &[], |data| {
            exchange(proxy.https(), data);
        });
        is_alive_on(&proxy);
    }
}

fn is_alive_on(proxy: &TestProxy) {
    assert_eq!(get(proxy.admin(), "admin", "/healthz").status, 200);
}

/// `admission_review`: whatever comes is told to be no review, or answered in JSON with its own uid; what is read is
/// compiled and judged as the webhook does it.
#[test]
fn reviews_of_any_bytes_get_an_answer_or_are_none() {
    let review = |annotation: &str, path: &str| {
        serde_json::json!({"kind": "AdmissionReview", "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "default", "kind": {"kind": "Ingress"},
            "object": {
                "kind": "Ingress", "metadata": {"name": "a", "annotations": {"nginx.ingress.kubernetes.io/auth-url": annotation}},
                "spec": {"ingressClassName": "nginx", "rules": [{"host": "a.test", "http": {"paths": [
                    {"path": path, "pathType": "Prefix", "backend": {"service": {"name": "b", "port": {"number": 80}}}},
                ]}}]},
            },
        }})
        .to_string()
    };
    let seeds = [review("http://auth.test/$host", "/"), review("x\r\ny", "/../..;#{}"), review("", "(")];
    let own: Vec<&[u8]> = seeds.iter().map(|seed| seed.as_bytes()).collect();
    let mut judged = 0;
    run("admission_review", &own, |data| {
        let Ok(review) = admission::read(data) else { return };
        let verdict = match review.subject {
            admission::Subject::Ingress(ingress, found) => {
                let mut scene = world::Scene::default();
                scene.world.ingresses.insert(ingress.meta.key.clone(), Arc::clone(&ingress));
                let compiled = narthex::compile::compile(&scene.inputs());
                let found: Vec<_> = found.into_iter().chain(compiled.diagnostics).collect();
                judged += 1;
                admission::verdict(&ingress, &found, &scene.world, &scene.options, &compiled.table.globals)
            }
            admission::Subject::Unreadable(message) => Verdict::Refuse { message, warnings: Vec::new() },
            admission::Subject::Nothing => Verdict::Allow { warnings: Vec::new() },
        };
        let answer: serde_json::Value =
            serde_json::from_slice(&admission::answer(&review.uid, &verdict)).expect("an answer is JSON");
        assert_eq!(answer["response"]["uid"], review.uid.as_str());
        assert_eq!(answer["response"]["allowed"], matches!(verdict, Verdict::Allow { .. }));
        for warning in answer["response"]["warnings"].as_array().into_iter().flatten() {
            assert!(
                warning.as_str().is_some_and(|text| text.len() <= 256 && !text.contains(char::is_control))
            );
        }
    });
    assert!(judged > 0, "some are read");
}

#[test]
fn secrets_of_any_bytes_are_taken_or_refused_alone() {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let (chain, private) = (made.cert.pem(), made.signing_key.serialize_pem());
    let good = |name: &str, chain: &[u8], private: &[u8]| {
        let data = [("tls.crt", chain), ("tls.key", private)];
        let data = data.map(|(name, bytes)| (name.to_owned(), SecretBytes::new(bytes))).into_iter().collect();
        let meta = Meta::named(ObjectKey::new("default", name));
        Arc::new(Secret { meta, secret_type: "kubernetes.io/tls".into(), data })
    };
    let mut keeper = Keeper::new(self_signed(1_700_000_000).unwrap());
    let neighbour = ObjectKey::new("default", "neighbour");
    run("pem_bundle", &[chain.as_bytes(), private.as_bytes()], |data| {
        let secrets = SharedMap::from_iter([
            (neighbour.clone(), good("neighbour", chain.as_bytes(), private.as_bytes())),
            (ObjectKey::new("default", "one"), good("one", data, private.as_bytes())),
            (ObjectKey::new("default", "two"), good("two", chain.as_bytes(), data)),
            (ObjectKey::new("default", "both"), good("both", data, data)),
        ]);
        let judged = keeper.judge(&secrets, None, 1_800_000_000);
        assert!(judged.store.pairs.contains_key(&neighbour), "a neighbour lost its pair");
        assert!(judged.catalog[&neighbour].is_ok());
    });
}
