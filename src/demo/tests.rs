//! The example holds what its introduction promises. That it is served right is tested end to end.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

fn demo(directory: Option<PathBuf>) -> (Config, Demo) {
    prepare(Config::without_flags(Source::Demo(directory)).unwrap()).unwrap()
}

#[test]
fn a_temporary_directory_goes_away_with_the_demo() {
    let (config, demo) = demo(None);
    let path = demo.directory().to_owned();
    assert_eq!(config.source, Source::Directory(path.clone()));
    assert!(path.join("shop.yaml").exists());
    assert!(path.join("ca.crt").exists());
    drop(demo);
    assert!(!path.exists());
}

#[test]
fn edited_manifests_are_kept_and_addresses_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("example");
    drop(demo(Some(path.clone())));
    std::fs::write(path.join("shop.yaml"), "edited").unwrap();
    std::fs::write(path.join("backends.yaml"), "edited").unwrap();
    drop(demo(Some(path.clone())));
    assert_eq!(std::fs::read_to_string(path.join("shop.yaml")).unwrap(), "edited");
    assert!(std::fs::read_to_string(path.join("backends.yaml")).unwrap().contains("EndpointSlice"));
}

#[test]
fn addresses_are_loopback_unless_given() {
    let (config, _demo) = demo(None);
    for address in [config.http, config.https, config.admin] {
        assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
    }
    let mut given = Config::without_flags(Source::Demo(None)).unwrap();
    given.http = "127.0.0.2:9090".parse().unwrap();
    given.given.http = true;
    let (config, _demo) = prepare(given).unwrap();
    assert_eq!(config.http, "127.0.0.2:9090".parse().unwrap());
}

#[test]
fn redirects_name_the_port_and_no_placeholder_is_left() {
    let (config, demo) = demo(None);
    let old = std::fs::read_to_string(demo.directory().join("old.yaml")).unwrap();
    assert!(old.contains(&format!("https://shop.localhost:{}/", config.https.port())), "{old}");
    let introduction = demo.introduction(config.http, config.https, config.admin);
    for place in ["{http}", "{https}", "{ca}", "HTTPS_PORT"] {
        assert!(!introduction.contains(place) && !old.contains(place), "{place}");
    }
    assert!(introduction.contains("  curl --cacert "), "{introduction}");
    assert!(introduction.contains(&demo.directory().display().to_string()));
}

#[test]
fn every_service_of_an_ingress_has_a_backend() {
    let (_config, demo) = demo(None);
    let backends = std::fs::read_to_string(demo.directory().join("backends.yaml")).unwrap();
    let mut named = 0;
    for entry in std::fs::read_dir(demo.directory()).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for (_, rest) in text.match_indices("service:\n").map(|(at, found)| (at, &text[at + found.len()..])) {
            let name = rest.trim_start().strip_prefix("name: ").and_then(|rest| rest.lines().next()).unwrap();
            assert!(backends.contains(&format!("kubernetes.io/service-name: {name}\n")), "{name}");
            named += 1;
        }
    }
    assert!(named > 5, "the manifests were not read");
}

#[test]
fn a_backend_says_what_it_received() {
    let (_config, demo) = demo(None);
    let ask = |name: &str, request: &str| {
        let mut stream = TcpStream::connect(demo._backends.address(name).unwrap()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let request =
        "POST /a?b HTTP/1.1\r\nHost: x\r\nX-Kept: yes\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
    let answer = ask("api", request);
    for part in ["api received:", "POST /a?b", "x-kept: yes", "\nbody\n", "x-served-by: api"] {
        assert!(answer.contains(part), "{part:?} in {answer}");
    }
    let page = ask("chat", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(page.contains("text/html") && page.contains("WebSocket"), "{page}");
}
