//! Digest authentication over real sockets.

use md5::{Digest, Md5};

use crate::support::TestProxy;
use crate::support::backend::Backend;
use crate::support::client::{Answer, Raw, get};
use crate::support::manifests::annotated;

fn md5(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn world(backend: &Backend) -> String {
    let file = format!("ann:place:{}\\n", md5("ann:place:secret"));
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: users, namespace: default}}\ntype: Opaque\nstringData: {{auth: \"{file}\"}}\n"
    );
    let annotations = [("auth-type", "digest"), ("auth-secret", "users"), ("auth-realm", "place")];
    annotated(backend.address(), &annotations) + &secret
}

/// The nonce of a 401, and whether it says that the last one was stale.
fn challenge(answer: &Answer) -> (String, bool) {
    assert_eq!(answer.status, 401);
    let text = answer.field("www-authenticate").unwrap();
    assert!(text.starts_with("Digest realm=\"place\", nonce=\""), "{text}");
    assert!(text.contains(", algorithm=MD5, qop=\"auth\""), "{text}");
    (text.split('"').nth(3).unwrap().to_owned(), text.ends_with(", stale=true"))
}

struct Client<'p> {
    proxy: &'p TestProxy,
    nonce: String,
    user: &'static str,
    password: &'static str,
}

impl Client<'_> {
    /// `GET target` with a response made for `uri`.
    fn ask(&self, target: &str, uri: &str, count: u32) -> Answer {
        let Client { nonce, user, .. } = self;
        let hash = md5(&format!("{user}:place:{}", self.password));
        let request = md5(&format!("GET:{uri}"));
        let response = md5(&format!("{hash}:{nonce}:{count:08x}:c1:auth:{request}"));
        let mut raw = Raw::connect(self.proxy.http());
        raw.send(format!(
            "GET {target} HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\nAuthorization: Digest username=\"{user}\", realm=\"place\", nonce=\"{nonce}\", uri=\"{uri}\", qop=auth, nc={count:08x}, cnonce=\"c1\", response=\"{response}\", algorithm=MD5\r\n\r\n"
        ));
        raw.answer()
    }
}

#[test]
fn a_right_response_is_good_once_and_for_its_request_only() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&world(&backend), &["--workers=2"]);
    let (nonce, stale) = challenge(&get(proxy.http(), "h.test", "/x?y=1"));
    assert!(!stale);
    let ann = Client { proxy: &proxy, nonce, user: "ann", password: "secret" };
    for count in 1..=6 {
        assert_eq!(ann.ask("/x?y=1", "/x?y=1", count).status, 200, "{count}");
    }
    let seen = backend.requests();
    assert!(seen.iter().all(|request| request.field("authorization").is_none()));
    let (fresh, stale) = challenge(&ann.ask("/x?y=1", "/x?y=1", 3));
    assert!(stale, "what was sent once is not good again");
    assert_ne!(fresh, ann.nonce);
    let ann = Client { nonce: fresh, ..ann };
    assert!(!challenge(&ann.ask("/other", "/x?y=1", 1)).1);
    assert_eq!(ann.ask("/other", "/other", 2).status, 200);
    assert_eq!(backend.requests().len(), 7);
}

#[test]
fn strangers_and_made_up_nonces_are_asked_again() {
    let backend = Backend::echo("b");
    let proxy = TestProxy::start(&world(&backend), &[]);
    let (nonce, _) = challenge(&get(proxy.http(), "h.test", "/"));
    for (user, password) in [("ann", "wrong"), ("bob", "secret"), ("", "")] {
        let stranger = Client { proxy: &proxy, nonce: nonce.clone(), user, password };
        assert!(!challenge(&stranger.ask("/", "/", 1)).1, "{user}");
    }
    let made_up = Client { proxy: &proxy, nonce: "0".repeat(64), user: "ann", password: "secret" };
    assert!(challenge(&made_up.ask("/", "/", 1)).1, "who knows the password need not be asked for it again");
    for line in ["Basic YW5uOnNlY3JldA==", "Digest", "Digest username=\"ann\"", "Digest x=\"", "digest ,,,"] {
        let mut raw = Raw::connect(proxy.http());
        raw.send(format!(
            "GET / HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\nAuthorization: {line}\r\n\r\n"
        ));
        challenge(&raw.answer());
    }
    assert!(backend.requests().is_empty());
}
