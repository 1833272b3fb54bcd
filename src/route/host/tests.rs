use super::*;
use crate::pattern::{Anchor, Case};
use crate::route::path::PathIndex;

fn server(name: &str) -> Arc<Server> {
    Arc::new(Server {
        name: Arc::from(name),
        redirect_to: None,
        app_root: None,
        client_certificates: None,
        handshakes: crate::policy::server_tls::ServerTls::default(),
        snippet: None,
        regex_mode: false,
        slash_redirects: false,
        locations: Vec::new(),
        index: PathIndex::default(),
        passthrough: None,
        fingerprint: Default::default(),
    })
}

fn index() -> HostIndex {
    let mut index = HostIndex::default();
    for name in ["h.test", "e.wild.test", "b.w.test"] {
        index.set_exact(&Arc::from(name), &server(name));
    }
    for suffix in ["w.test", "b.w.test", "wild.test"] {
        index.set_wildcard(suffix, &server(&format!("*.{suffix}")));
    }
    let pattern = |text: &str| Arc::new(Pattern::compile(text, Case::Insensitive, Anchor::None).unwrap());
    index.set_aliases(AliasNames {
        suffixes: BTreeMap::from([
            (Arc::from("wild.test"), server("suffix")),
            (Arc::from("deep.wild.test"), server("deeper")),
        ]),
        prefixes: BTreeMap::from([
            (Arc::from("mail"), server("prefix")),
            (Arc::from("mail.eu"), server("longer")),
        ]),
        expressions: vec![
            (pattern("^re[0-9]+\\.test$"), server("expression")),
            (pattern("^x\\.w\\.test$"), server("zzz")),
            (pattern("^re7"), server("later")),
        ],
    });
    index
}

fn check(host: &str, expected: &str) {
    let index = index();
    let found = index.find(host).map_or("", |server| &*server.name);
    assert_eq!(found, expected, "{host}");
    let first = index.candidates(host).first().map_or("", |(_, _, server)| &*server.name).to_owned();
    assert_eq!(first, expected, "explained: {host}");
}

#[test]
fn a_whole_name_goes_before_all_patterns() {
    check("h.test", "h.test");
    check("e.wild.test", "e.wild.test");
    check("b.w.test", "b.w.test");
}

#[test]
fn an_ingress_wildcard_takes_exactly_one_label() {
    check("x.b.w.test", "*.b.w.test");
    check("y.w.test", "*.w.test");
    check("a_b-1.w.test", "*.w.test");
    check("w.test", "");
    check("x.y.w.test", "");
    check(".w.test", "");
    check("é.w.test", "");
}

#[test]
fn alias_wildcards_take_any_number_of_labels_and_the_longest_wins() {
    check("x.wild.test", "suffix");
    check("a.b.wild.test", "suffix");
    check("a.deep.wild.test", "deeper");
    check("deep.wild.test", "suffix");
    check("wild.test", "");
    check("mail.example", "prefix");
    check("mail.example.org", "prefix");
    check("mail.eu.org", "longer");
    check("mail", "");
}

#[test]
fn expressions_come_last_in_order_of_their_servers() {
    check("re12.test", "expression");
    check("re7.test", "expression");
    check("re7.other", "later");
    // The Ingress wildcard is an expression of a server that sorts before.
    check("x.w.test", "*.w.test");
    check("rex.test", "");
    check("", "");
}

#[test]
fn every_name_that_takes_a_host_is_a_candidate_in_order_of_precedence() {
    let index = index();
    let check = |host: &str, expected: &[&str]| {
        let found: Vec<String> = index.candidates(host).into_iter().map(|(_, name, _)| name).collect();
        assert_eq!(found, expected, "{host}");
    };
    check("e.wild.test", &["e.wild.test", "*.wild.test", "*.wild.test"]);
    check("a.deep.wild.test", &["*.deep.wild.test", "*.wild.test"]);
    check("mail.eu.org", &["mail.eu.*", "mail.*"]);
    check("x.w.test", &["*.w.test", "~^x\\.w\\.test$"]);
    check("re7.test", &["~^re[0-9]+\\.test$", "~^re7"]);
    check("nobody.example", &[]);
    let kinds: Vec<NameKind> = index.candidates("e.wild.test").into_iter().map(|(kind, _, _)| kind).collect();
    assert_eq!(kinds, [NameKind::Exact, NameKind::AliasSuffix, NameKind::Expression]);
}

#[test]
fn an_index_is_freed_in_pieces_and_whole() {
    let index = index();
    let server = Arc::downgrade(index.find("h.test").unwrap());
    thread_local!(static PAUSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
    index.free(|| PAUSES.set(PAUSES.get() + 1));
    assert!(server.upgrade().is_none());
    assert!(PAUSES.get() >= SHARDS, "{}", PAUSES.get());
}

#[test]
fn a_changed_copy_leaves_the_original_as_it_was() {
    let before = index();
    let mut after = before.clone();
    after.remove_exact("h.test");
    after.remove_wildcard("w.test");
    after.set_exact(&Arc::from("new.test"), &server("new.test"));
    assert!(before.find("h.test").is_some() && before.find("new.test").is_none());
    assert!(after.find("h.test").is_none() && after.find("y.w.test").is_none());
    assert_eq!(after.find("new.test").map(|server| &*server.name), Some("new.test"));
}
