//! Who the client is and how it came: trust in `X-Forwarded-*`, real-IP walk, PROXY protocol (`HF-4`, `HF-5`).

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::global::Globals;
use super::ip_access::contains;
use crate::request::{Forwarded, Host, RequestView, Scheme};
use crate::wire::Fields;

/// Elements of `X-Forwarded-For` that are looked at (`HF-5`).
const MAX_ELEMENTS: usize = 64;
/// Bytes of `X-Forwarded-For` that are looked at.
const MAX_BYTES: usize = 8 * 1024;

/// What the connection itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The TCP peer.
    pub peer: SocketAddr,
    /// Port of the listener the client reached.
    pub listen_port: u16,
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// Source and destination of an accepted PROXY header.
    pub proxy: Option<ProxyFacts>,
}

/// An accepted PROXY protocol header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyFacts {
    /// Client as the balancer in front saw it.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

impl Connection {
    /// Address whose word about the client is judged: the source of a PROXY header if the balancer that sent it may be
    /// trusted, else the peer.
    pub fn source(&self, globals: &Globals) -> IpAddr {
        self.accepted(globals).map_or_else(|| self.peer.ip(), |proxy| proxy.source.ip()).to_canonical()
    }

    /// True when `X-Forwarded-*` fields of this connection count.
    pub fn is_trusted(&self, globals: &Globals) -> bool {
        globals.use_forwarded_headers
            && (globals.compat_trust_forwarded_any
                || contains(&globals.proxy_real_ip_cidr, self.source(globals)))
    }

    fn accepted(&self, globals: &Globals) -> Option<ProxyFacts> {
        let believed = globals.use_proxy_protocol && contains(&globals.proxy_real_ip_cidr, self.peer.ip());
        self.proxy.filter(|_| believed)
    }
}

/// Who may tell the client's address, and in which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealIp {
    from: Vec<IpNet>,
    header: Arc<str>,
    recursive: bool,
}

impl RealIp {
    /// What snippets say over the ConfigMap: networks of the `http-snippet` stand beside the template's, those of a
    /// server or a location (`own`) in place of both. Where the old template writes nothing, nginx's own defaults hold.
    pub fn over(
        globals: &Globals,
        http: Vec<IpNet>,
        own: Vec<IpNet>,
        header: Option<Arc<str>>,
        recursive: Option<bool>,
    ) -> Self {
        let templated = globals.use_forwarded_headers || globals.enable_real_ip;
        let inherits = own.is_empty();
        let mut from = if own.is_empty() { http } else { own };
        if templated && inherits {
            from.extend(globals.proxy_real_ip_cidr.iter().copied());
        }
        let named =
            || if templated { Arc::clone(&globals.forwarded_for_header) } else { Arc::from("x-real-ip") };
        Self { from, header: header.unwrap_or_else(named), recursive: recursive.unwrap_or(templated) }
    }

    /// The client of a request; `None` where nobody who may tell it does.
    pub fn client(&self, view: &RequestView<'_>) -> Option<IpAddr> {
        let source = view.forwarded.source;
        if !contains(&self.from, source) {
            return None;
        }
        if *self.header == *"proxy_protocol" {
            return view.forwarded.proxied;
        }
        let list = joined(view.fields, &self.header).filter(|list| list.len() <= MAX_BYTES)?;
        let last = address(list.rsplit(',').next().unwrap_or_default().trim())?;
        Some(if self.recursive { walk(&list, source, &self.from) } else { last })
    }
}

/// The request with another client; `None` where that changes nothing.
pub fn with_client<'r>(view: &RequestView<'r>, client: IpAddr) -> Option<Box<RequestView<'r>>> {
    if client == view.forwarded.client {
        return None;
    }
    let mut view = Box::new(view.clone());
    view.forwarded.client = client;
    // What came with the peer does not change by who the client is.
    if view.forwarded.alone {
        view.forwarded.chain = Cow::Owned(address_text(client));
    }
    Some(view)
}

/// Judges who the client is and how it came. `fields` are the client's, less hop-by-hop ones.
pub fn resolve<'r>(
    fields: &'r Fields,
    connection: &Connection,
    host: &Host<'r>,
    globals: &Globals,
) -> Forwarded<'r> {
    let source = connection.source(globals);
    let trusted = connection.is_trusted(globals);
    let said = |name: &str| said(fields, name, trusted);

    let walks = (globals.use_forwarded_headers || globals.enable_real_ip)
        && contains(&globals.proxy_real_ip_cidr, source);
    let list = if walks { joined(fields, &globals.forwarded_for_header) } else { None };
    let list = list.filter(|list| list.len() <= MAX_BYTES);
    let client = list.map_or(source, |list| walk(&list, source, &globals.proxy_real_ip_cidr));

    let alone = stands_alone(connection, globals);
    Forwarded {
        client,
        source,
        proxied: connection.proxy.map(|proxy| proxy.source.ip().to_canonical()),
        scheme: scheme(said("x-forwarded-proto"), connection, globals),
        port: port(said("x-forwarded-port"), connection, globals),
        host: match said("x-forwarded-host") {
            Some(list) => Cow::Borrowed(list.split(',').next().unwrap_or_default()),
            None => host.raw.clone(),
        },
        chain: if alone { Cow::Owned(address_text(client)) } else { chain(fields, connection, globals) },
        alone,
    }
}

/// The port to report, as [`resolve`] judges it.
pub fn told_port<'r>(fields: &'r Fields, connection: &Connection, globals: &Globals) -> Cow<'r, str> {
    let trusted = connection.is_trusted(globals);
    port(said(fields, "x-forwarded-port", trusted), connection, globals)
}

/// What a field says, where it counts.
fn said<'r>(fields: &'r Fields, name: &str, trusted: bool) -> Option<&'r str> {
    if trusted { fields.get_str(name).filter(|value| !value.is_empty()) } else { None }
}

fn scheme<'r>(said: Option<&'r str>, connection: &Connection, globals: &Globals) -> Cow<'r, str> {
    // A balancer that ends TLS and speaks PROXY tells so by the port its client came to.
    if connection.accepted(globals).is_some_and(|proxy| proxy.destination.port() == 443) {
        return Cow::Borrowed("https");
    }
    Cow::Borrowed(said.unwrap_or_else(|| connection.scheme.as_str()))
}

fn port<'r>(said: Option<&'r str>, connection: &Connection, globals: &Globals) -> Cow<'r, str> {
    if let Some(port) = said {
        return Cow::Borrowed(port);
    }
    if let Some(proxy) = connection.accepted(globals) {
        return Cow::Owned(proxy.destination.port().to_string());
    }
    match (connection.scheme, connection.listen_port) {
        (Scheme::Https, _) => Cow::Borrowed("443"),
        (Scheme::Http, 80) => Cow::Borrowed("80"),
        (Scheme::Http, port) => Cow::Owned(port.to_string()),
    }
}

/// Whether `X-Forwarded-For` to the backend is the client and nothing else.
fn stands_alone(connection: &Connection, globals: &Globals) -> bool {
    !(globals.compute_full_forwarded_for && connection.is_trusted(globals))
}

/// `X-Forwarded-For` to the backend where it is more than the client: what came with the peer appended
/// (`compute-full-forwarded-for`).
fn chain<'r>(fields: &Fields, connection: &Connection, globals: &Globals) -> Cow<'r, str> {
    let peer = address_text(connection.source(globals));
    match joined(fields, "x-forwarded-for") {
        Some(came) => Cow::Owned(format!("{came}, {peer}")),
        None => Cow::Owned(peer),
    }
}

/// An address as text. Written by hand for IPv4: each request needs it, and the standard way costs ten times as much.
pub fn address_text(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity(15);
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        let digit = |value: u8| char::from(b'0' + value % 10);
        if octet >= 100 {
            text.push(digit(octet / 100));
        }
        if octet >= 10 {
            text.push(digit(octet / 10));
        }
        text.push(digit(octet));
    }
    text
}

/// From the right over trusted addresses to the first that is not, as nginx with `real_ip_recursive on`: the sender of
/// each element is the one to its right. An element that is no address ends the walk.
fn walk(list: &str, source: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = source;
    for element in list.rsplit(',').take(MAX_ELEMENTS) {
        if !contains(trusted, client) {
            break;
        }
        match address(element.trim()) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// An address, with or without port; IPv6 in brackets where a port follows.
fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse::<IpAddr>().ok();
    plain
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address| address.to_canonical())
}

/// All lines as one list. A line that is no UTF-8 stays in it, as elements that are no addresses: left out, it would take
/// what a balancer appended to it along, and leave what the client wrote in a line before.
fn joined<'f>(fields: &'f Fields, name: &'f str) -> Option<Cow<'f, str>> {
    let mut lines = fields.get_all(name).map(String::from_utf8_lossy).filter(|line| !line.is_empty());
    let mut all = lines.next()?;
    for line in lines {
        let all = all.to_mut();
        all.push_str(", ");
        all.push_str(&line);
    }
    Some(all)
}

#[cfg(test)]
mod tests;
