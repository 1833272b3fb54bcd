//! `stream-snippet` of an Ingress and of the ConfigMap: ports for TCP and UDP, from a closed list of nginx's stream
//! directives. A snippet that holds anything else is left out as a whole, and opens no port.
//!
//! Which of the ports are free, and whether their targets may be reached, is `compile/stream`'s matter.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::build::{rule, word};
use super::lex::{At, Fault, Statement, Word};
use super::settings::Rule;
use crate::policy::annotation::{parse_count, parse_duration, parse_on_off};

/// `server` blocks of one snippet.
const MAX_SERVERS: usize = 64;
/// `server` lines of one `upstream`.
const MAX_TARGETS: usize = 256;
/// Directives of a `server` that tune nginx itself.
const IDLE: &[&str] = &[
    "access_log",
    "error_log",
    "preread_buffer_size",
    "preread_timeout",
    "proxy_buffer_size",
    "proxy_half_close",
    "proxy_next_upstream",
    "proxy_next_upstream_timeout",
    "proxy_next_upstream_tries",
    "proxy_socket_keepalive",
    "tcp_nodelay",
];
/// Those of an `upstream`.
const IDLE_UPSTREAM: &[&str] = &["least_conn", "random", "zone"];

/// Where a session of a rule goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name to resolve, lower case, and a port.
    Name(Box<str>, u16),
}

/// One `server`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamRule {
    /// Ports that it listens on, each with its address if it names one; true for UDP.
    pub listens: BTreeMap<(bool, u16), Option<IpAddr>>,
    /// `proxy_pass`, in order and without doubles.
    pub targets: Vec<Target>,
    /// `listen … proxy_protocol`: clients send a PROXY header.
    pub accept_proxy: bool,
    /// `proxy_protocol on`: targets get one.
    pub send_proxy: bool,
    /// `proxy_timeout`.
    pub timeout: Option<Duration>,
    /// `proxy_connect_timeout`.
    pub connect_timeout: Option<Duration>,
    /// `proxy_responses`.
    pub responses: Option<u32>,
    /// `allow`, `deny`, in order.
    pub access: Vec<Rule>,
}

/// What was read, and which directives change nothing.
pub(super) type Read = (Arc<[StreamRule]>, Vec<(At, String)>);

/// Reads the statements of a snippet.
///
/// # Errors
/// [`Fault`] for what is not in the list, and for a server without port or target.
pub(super) fn read(tree: &[Statement]) -> Result<Read, Fault> {
    let mut notes = Vec::new();
    let mut groups = BTreeMap::new();
    for group in tree.iter().filter(|statement| statement.name() == "upstream") {
        let [name] = group.arguments() else { return Err(Fault::new(group.at, "upstream needs one name")) };
        groups.insert(name.text.as_str(), upstream(group, &mut notes)?);
    }
    let mut rules = Vec::new();
    for statement in tree {
        match statement.name() {
            "upstream" => {}
            "server" if rules.len() == MAX_SERVERS => {
                return Err(Fault::new(statement.at, format!("more than {MAX_SERVERS} servers")));
            }
            "server" if statement.arguments().is_empty() => {
                rules.push(server(statement, &groups, &mut notes)?);
            }
            other => return Err(unknown(statement, other)),
        }
    }
    Ok((rules.into(), notes))
}

fn unknown(statement: &Statement, name: &str) -> Fault {
    Fault::new(statement.at, format!("{name} is not known in a stream-snippet"))
}

fn block(statement: &Statement) -> Result<&[Statement], Fault> {
    let missing = || Fault::new(statement.at, format!("{} needs a block", statement.name()));
    statement.block.as_deref().ok_or_else(missing)
}

fn upstream(group: &Statement, notes: &mut Vec<(At, String)>) -> Result<Vec<Target>, Fault> {
    let mut targets = Vec::new();
    for statement in block(group)? {
        let name = statement.name();
        match (name, statement.arguments()) {
            ("server", [address, rest @ ..]) => {
                if let Some(word) = rest.iter().find(|word| matches!(word.text.as_str(), "backup")) {
                    return Err(Fault::new(word.at, "backup is not known"));
                }
                if targets.len() == MAX_TARGETS {
                    return Err(Fault::new(statement.at, format!("more than {MAX_TARGETS} servers")));
                }
                if rest.iter().all(|word| word.text != "down") {
                    push(&mut targets, target(address)?);
                }
                if let Some(word) = rest.first() {
                    notes.push((word.at, format!("{} changes nothing here", word.text)));
                }
            }
            _ if IDLE_UPSTREAM.contains(&name) => {
                notes.push((statement.at, format!("{name}: sessions take turns")))
            }
            _ => return Err(unknown(statement, name)),
        }
    }
    if targets.is_empty() { Err(Fault::new(group.at, "upstream has no server")) } else { Ok(targets) }
}

fn server(
    statement: &Statement,
    groups: &BTreeMap<&str, Vec<Target>>,
    notes: &mut Vec<(At, String)>,
) -> Result<StreamRule, Fault> {
    let mut made = StreamRule::default();
    for line in block(statement)? {
        let name = line.name();
        let arguments = line.arguments();
        let first = arguments.first().ok_or_else(|| Fault::new(line.at, format!("{name} needs a value")))?;
        let alone = arguments.len() == 1;
        match name {
            "listen" => listen(first, arguments.get(1..).unwrap_or_default(), &mut made)?,
            "proxy_pass" if alone && made.targets.is_empty() => match groups.get(first.text.as_str()) {
                Some(targets) => made.targets.clone_from(targets),
                None => push(&mut made.targets, target(first)?),
            },
            "proxy_protocol" if alone => made.send_proxy = word(first, parse_on_off)?,
            "proxy_timeout" if alone => made.timeout = Some(word(first, parse_duration)?),
            "proxy_connect_timeout" if alone => made.connect_timeout = Some(word(first, parse_duration)?),
            "proxy_responses" if alone => made.responses = Some(word(first, parse_count)?),
            "allow" | "deny" if alone => made.access.push(rule(name == "allow", first)?),
            _ if IDLE.contains(&name) => notes.push((line.at, format!("{name} tunes nginx itself"))),
            "proxy_pass"
            | "proxy_protocol"
            | "proxy_timeout"
            | "proxy_connect_timeout"
            | "proxy_responses"
            | "allow"
            | "deny" => {
                return Err(Fault::new(
                    line.at,
                    format!("{name} has the wrong number of values or stands twice"),
                ));
            }
            _ => return Err(unknown(line, name)),
        }
    }
    if made.listens.is_empty() {
        return Err(Fault::new(statement.at, "the server listens on no port"));
    }
    if made.targets.is_empty() {
        return Err(Fault::new(statement.at, "the server has no proxy_pass"));
    }
    let udp = made.listens.keys().any(|(udp, _)| *udp);
    if udp && (made.accept_proxy || made.send_proxy) {
        return Err(Fault::new(statement.at, "PROXY headers exist for TCP only"));
    }
    Ok(made)
}

/// `listen [address:]port [udp] [proxy_protocol] …`. The same port of two addresses is open on all of them.
fn listen(first: &Word, rest: &[Word], made: &mut StreamRule) -> Result<(), Fault> {
    let text = first.text.as_str();
    let (address, port) = match text.rsplit_once(':') {
        None => (None, text),
        Some(("*", port)) => (None, port),
        Some((address, port)) => {
            let bare = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
            let known = bare.parse::<IpAddr>();
            (Some(known.map_err(|_| Fault::new(first.at, format!("{address} is no address")))?), port)
        }
    };
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| Fault::new(first.at, format!("{text} holds no port from 1 to 65535")))?;
    let mut udp = false;
    for word in rest {
        match word.text.as_str() {
            "udp" => udp = true,
            "proxy_protocol" => made.accept_proxy = true,
            "reuseport" | "so_keepalive=on" | "so_keepalive=off" | "ipv6only=on" | "ipv6only=off" => {}
            other if other.starts_with("backlog=") => {}
            other => return Err(Fault::new(word.at, format!("{other} is not known"))),
        }
    }
    let address = address.filter(|address| !address.is_unspecified());
    match made.listens.get(&(udp, port)) {
        Some(before) if *before != address => made.listens.insert((udp, port), None),
        _ => made.listens.insert((udp, port), address),
    };
    Ok(())
}

fn push(targets: &mut Vec<Target>, target: Target) {
    if !targets.contains(&target) {
        targets.push(target);
    }
}

fn target(word: &Word) -> Result<Target, Fault> {
    let text = word.text.as_str();
    let fault = |reason: &str| Fault::new(word.at, format!("{text} {reason}"));
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 { Err(fault("has no port")) } else { Ok(Target::Address(address)) };
    }
    let (name, port) = text.rsplit_once(':').ok_or_else(|| fault("is no address or name with a port"))?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| fault("has no port"))?;
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let label = |label: &str| {
        let good = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        good && (1..=63).contains(&label.len())
    };
    let this_machine = name == "localhost" || name.ends_with(".localhost");
    if name.len() > 253 || !name.split('.').all(label) || this_machine || name.parse::<IpAddr>().is_ok() {
        return Err(fault("is no name of another machine"));
    }
    Ok(Target::Name(name.into(), port))
}

#[cfg(test)]
mod tests {
    use super::super::lex;
    use super::*;

    fn rules(text: &str) -> Result<Vec<StreamRule>, String> {
        let tree = lex::parse(text, lex::MAX_TEXT).map_err(|fault| fault.to_string())?;
        read(&tree).map(|(rules, _)| rules.to_vec()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn the_servers_of_upstreams_tests_are_read() {
        let rules = rules("server {listen 8000; proxy_pass 127.0.0.1:80;}").unwrap();
        let expect = StreamRule {
            listens: [((false, 8000), None)].into(),
            targets: vec![Target::Address("127.0.0.1:80".parse().unwrap())],
            ..StreamRule::default()
        };
        assert_eq!(rules, [expect]);
    }

    #[test]
    fn all_that_is_known_is_read() {
        let text = "upstream db { least_conn; server 10.0.0.1:5432 weight=5; server db.prod.svc:5432; server 10.0.0.2:1 down; }
            server { listen 10.1.1.1:5432 so_keepalive=on proxy_protocol; listen [::]:5433; proxy_pass db;
                     proxy_protocol on; proxy_timeout 10m; proxy_connect_timeout 1s; allow 10.0.0.0/8; deny all; }
            server { listen 53 udp; proxy_pass [2001:db8::1]:53; proxy_responses 0; }";
        let rules = rules(text).unwrap();
        let [tcp, udp] = &rules[..] else { panic!("{rules:?}") };
        let at = "10.1.1.1".parse().unwrap();
        assert_eq!(tcp.listens, [((false, 5432), Some(at)), ((false, 5433), None)].into());
        assert_eq!(
            tcp.targets,
            [Target::Address("10.0.0.1:5432".parse().unwrap()), Target::Name("db.prod.svc".into(), 5432)]
        );
        assert_eq!((tcp.accept_proxy, tcp.send_proxy, tcp.access.len()), (true, true, 2));
        let seconds = Duration::from_secs;
        assert_eq!((tcp.timeout, tcp.connect_timeout), (Some(seconds(600)), Some(seconds(1))));
        assert_eq!((udp.listens.keys().next(), udp.responses), (Some(&(true, 53)), Some(0)));
    }

    #[test]
    fn anything_else_is_a_fault_with_its_place() {
        for (text, reason) in [
            ("server { proxy_pass 10.0.0.1:1; }", "listens on no port"),
            ("server { listen 1; }", "no proxy_pass"),
            ("server { listen 0; proxy_pass 10.0.0.1:1; }", "no port from 1"),
            ("server { listen 65536; proxy_pass 10.0.0.1:1; }", "no port from 1"),
            ("server { listen unix:/run/x.sock; proxy_pass 10.0.0.1:1; }", "is no address"),
            ("server { listen 1 ssl; proxy_pass 10.0.0.1:1; }", "line 1, column 19: ssl is not known"),
            ("server { listen 1; proxy_pass unix:/run/x.sock; }", "has no port"),
            ("server { listen 1; proxy_pass localhost:80; }", "another machine"),
            ("server { listen 1; proxy_pass $name:80; }", "another machine"),
            ("server { listen 1; proxy_pass nobody; }", "with a port"),
            ("server { listen 1; proxy_pass 10.0.0.1:1; proxy_pass 10.0.0.2:1; }", "stands twice"),
            ("server { listen 1 udp; proxy_pass 10.0.0.1:1; proxy_protocol on; }", "TCP only"),
            ("server { listen 1; proxy_pass 10.0.0.1:1; ssl_preread on; }", "ssl_preread is not known"),
            ("map $a $b { default 1; }", "map is not known"),
            ("upstream x { }", "no server"),
            ("upstream x { server 10.0.0.1:1 backup; }", "backup is not known"),
            ("server {", "not closed"),
        ] {
            let said = rules(text).unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }
}
