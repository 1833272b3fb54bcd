//! The head a client sees, from the backend's (`HF-6`), and the fields that every answer of ours carries too.

use super::global::Globals;
use super::hsts;
use crate::request::Scheme;
use crate::wire::Fields;
use crate::wire::fields::{FieldLine, NameSet, tokens};

/// What kind of answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 101: `Connection` and `Upgrade` are the point of it.
    SwitchingProtocols,
    /// Any other.
    Ordinary,
}

/// What becomes of `Content-Length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// It tells of a body that is not sent: an answer to HEAD, or 304.
    Keep,
    /// The writer tells the length itself.
    Drop,
}

/// Turns a backend's fields into those for the client: hop-by-hop and nominated names go, `Server` and hidden names go,
/// then ours are set. `Location` stays as it is (proxy_redirect off). Framing is the writer's.
pub fn apply(fields: &mut Fields, kind: Kind, length: Length, scheme: Scheme, globals: &Globals) {
    let drop_length = length == Length::Drop;
    let nominated = nominated(fields);
    let switching = kind == Kind::SwitchingProtocols;
    let any_name = !nominated.is_empty() || !globals.hide_headers.is_empty();
    // As in ingress-nginx, which clears the field of every answer unless there is to be one at all.
    let passes_server = globals.server_tokens && globals.allow_backend_server_header;
    fields.retain_lines(|line| {
        if !any_name && !line.may_be_one_of(&CONCERNED) {
            return !is_internal(line.name_bytes());
        }
        let name = line.name();
        let same = |other: &str| other.eq_ignore_ascii_case(name);
        let upgrade = switching && (same("connection") || same("upgrade"));
        let hop = HOP_BY_HOP.contains(name) || nominated.iter().any(|nominated| same(nominated));
        let hidden = (drop_length && same("content-length"))
            || (same("server") && !passes_server)
            || is_internal(name.as_bytes())
            || globals.hide_headers.iter().any(|hidden| same(hidden));
        upgrade || !(hop || hidden)
    });
    if !passes_server {
        set_server(fields, globals);
    }
    set_shared(fields, scheme, globals);
}

/// Sets the fields that every answer of a location carries, local ones too: those of every answer, and HSTS on TLS.
pub fn set_ours(fields: &mut Fields, scheme: Scheme, globals: &Globals) {
    set_server(fields, globals);
    set_shared(fields, scheme, globals);
}

fn set_server(fields: &mut Fields, globals: &Globals) {
    if globals.server_tokens && !fields.contains("server") {
        let _ = fields.set("Server", b"narthex");
    }
}

fn set_shared(fields: &mut Fields, scheme: Scheme, globals: &Globals) {
    set_configured(fields, globals);
    if let Some(value) = hsts::field(globals, scheme) {
        let _ = if fields.contains(hsts::NAME) {
            fields.set(hsts::NAME, value.as_bytes())
        } else {
            fields.append_own(&hsts::OWN, value.as_bytes())
        };
    }
}

/// Sets the fields that every answer carries: `Server` where it is wanted, `add-headers`.
pub fn set_added(fields: &mut Fields, globals: &Globals) {
    set_server(fields, globals);
    set_configured(fields, globals);
}

fn set_configured(fields: &mut Fields, globals: &Globals) {
    // Values were judged when the ConfigMap was read; a section that is full keeps what it has.
    for (name, value) in globals.add_headers.iter() {
        if value.is_empty() {
            fields.remove(name);
        } else {
            let _ = fields.set(name, value.as_bytes());
        }
    }
}

/// Names that `Connection` nominates, less those that frame the message.
fn nominated(fields: &Fields) -> Vec<Box<str>> {
    const CONNECTION: NameSet = NameSet::new(&["connection"]);
    let telling = |line: &FieldLine<'_>| line.is_one_of(&CONNECTION) && !is_usual(line.value());
    if !fields.may_hold(&CONNECTION) || !fields.lines().any(|line| telling(&line)) {
        return Vec::new();
    }
    let lines = fields.lines().filter(telling);
    lines.flat_map(|line| tokens(line.value())).filter(|name| !is_framing(name)).map(Into::into).collect()
}

fn is_framing(name: &str) -> bool {
    name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
}

const HOP_BY_HOP: NameSet = NameSet::new(&[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
]);

/// All names that [`apply`] may take away, but those that somebody lists and [`is_internal`] ones.
const CONCERNED: NameSet = NameSet::new(&[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "content-length",
    "server",
]);

/// What nearly every `Connection` says: it nominates nothing that would not go anyway.
fn is_usual(line: &[u8]) -> bool {
    line == b"keep-alive" || line.eq_ignore_ascii_case(b"keep-alive")
}

/// `X-Accel-*` speaks to nginx, not to clients.
fn is_internal(name: &[u8]) -> bool {
    // Most names that begin with `x-` are told apart by the next letter.
    matches!(name, [b'x' | b'X', b'-', b'a' | b'A' | b'p' | b'P', ..])
        && (name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"x-accel-"))
            || name.eq_ignore_ascii_case(b"x-pad"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::fields;

    fn applied(lines: &[(&str, &str)], kind: Kind, scheme: Scheme, globals: &Globals) -> Vec<String> {
        let mut fields = fields(lines);
        apply(&mut fields, kind, Length::Keep, scheme, globals);
        fields.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
    }

    const ANSWER: [(&str, &str); 9] = [
        ("Server", "backend/1"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Upgrade", "websocket"),
        ("Location", "http://backend:8080/x"),
        ("Set-Cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("X-Accel-Redirect", "/internal"),
    ];

    #[test]
    fn hop_by_hop_fields_and_the_server_go_and_the_rest_stays() {
        let lines = applied(&ANSWER, Kind::Ordinary, Scheme::Http, &Globals::default());
        assert_eq!(lines, ["Location: http://backend:8080/x", "Set-Cookie: a=1", "set-cookie: b=2"]);
    }

    #[test]
    fn a_switch_of_protocols_keeps_its_two_fields() {
        let lines = applied(&ANSWER[1..5], Kind::SwitchingProtocols, Scheme::Http, &Globals::default());
        assert_eq!(lines, ["Connection: keep-alive, X-Hop", "Upgrade: websocket"]);
    }

    #[test]
    fn hsts_replaces_the_backends_on_tls_only() {
        let lines = [("strict-transport-security", "max-age=1")];
        let globals = Globals::default();
        assert_eq!(
            applied(&lines, Kind::Ordinary, Scheme::Https, &globals),
            ["Strict-Transport-Security: max-age=31536000; includeSubDomains"],
        );
        assert_eq!(
            applied(&lines, Kind::Ordinary, Scheme::Http, &globals),
            ["strict-transport-security: max-age=1"]
        );
    }

    #[test]
    fn config_map_lists_hide_and_add() {
        let globals = Globals {
            hide_headers: ["x-powered-by".into()].into(),
            add_headers: [("X-A".into(), "new".into())].into(),
            ..Globals::default()
        };
        let lines = [("Server", "b"), ("X-Powered-By", "php"), ("x-a", "old")];
        assert_eq!(applied(&lines, Kind::Ordinary, Scheme::Http, &globals), ["X-A: new"]);
    }

    #[test]
    fn the_server_is_told_where_tokens_are_wanted_and_is_the_backends_where_that_is_allowed() {
        let sent = [("Server", "b")];
        for (server_tokens, allow_backend_server_header, of_backend, shown) in [
            (false, false, &sent[..], &[][..]),
            (false, true, &sent, &[]),
            (true, false, &sent, &["Server: narthex"]),
            (true, false, &[], &["Server: narthex"]),
            (true, true, &sent, &["Server: b"]),
            // nginx passes the lack of it on, too.
            (true, true, &[], &[]),
        ] {
            let globals = Globals { server_tokens, allow_backend_server_header, ..Globals::default() };
            let told = applied(of_backend, Kind::Ordinary, Scheme::Http, &globals);
            assert_eq!(told, shown, "{server_tokens} {allow_backend_server_header} {of_backend:?}");
            let mut own = Fields::new();
            set_ours(&mut own, Scheme::Http, &globals);
            assert_eq!(own.contains("server"), server_tokens, "an answer of ours");
        }
    }
}
