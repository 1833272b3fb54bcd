//! For the tests of families: reads single annotations of an Ingress called `default/app`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::Method;

use super::Reader;
use crate::model::{Ingress, Meta, ObjectKey};
use crate::request::{Forwarded, Host, RequestView, Scheme, normalize, split_target};
use crate::wire::{Fields, Version};

pub(crate) const PREFIX: &str = "nginx.ingress.kubernetes.io";

/// An Ingress with these annotations (names without prefix).
pub(crate) fn ingress(annotations: &[(&str, &str)]) -> Ingress {
    let mut meta = Meta::named(ObjectKey::new("default", "app"));
    let full = |name: &str| if name.contains('/') { name.to_owned() } else { format!("{PREFIX}/{name}") };
    meta.annotations = annotations.iter().map(|(name, value)| (full(name), (*value).to_owned())).collect();
    Ingress { meta, class_name: None, default_backend: None, rules: Vec::new(), tls: Vec::new() }
}

/// What `read` makes of the annotations.
pub(crate) fn read<T>(annotations: &[(&str, &str)], read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
    read(&mut Reader::new(&ingress(annotations), PREFIX, true))
}

/// Codes of the diagnostics that `read` makes.
pub(crate) fn diagnostics<T>(
    annotations: &[(&str, &str)],
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> Vec<&'static str> {
    let ingress = ingress(annotations);
    let mut reader = Reader::new(&ingress, PREFIX, true);
    read(&mut reader);
    reader.finish().0.into_iter().map(|diagnostic| diagnostic.code).collect()
}

/// Code that shuts the routes after `read`.
pub(crate) fn denied<T>(
    annotations: &[(&str, &str)],
    read: impl FnOnce(&mut Reader<'_>) -> T,
) -> Option<&'static str> {
    let ingress = ingress(annotations);
    let mut reader = Reader::new(&ingress, PREFIX, true);
    read(&mut reader);
    reader.denied()
}

/// Field lines.
pub(crate) fn fields(lines: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in lines {
        fields.append(name, value.as_bytes()).unwrap();
    }
    fields
}

/// `GET http://Host.Test:8080<target>` over HTTP/1.1 from 10.1.2.3, nothing forwarded.
pub(crate) fn view<'r>(target: &'r str, fields: &'r Fields) -> RequestView<'r> {
    let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)), 40000);
    RequestView {
        method: &Method::GET,
        version: Version::Http11,
        scheme: Scheme::Http,
        host: Host { raw: "Host.Test:8080".into(), name: "host.test".into() },
        target: target.as_bytes(),
        path: normalize(target.as_bytes()).unwrap(),
        query: split_target(target.as_bytes()).1,
        fields,
        peer,
        listen_port: 80,
        forwarded: Forwarded {
            client: peer.ip(),
            source: peer.ip(),
            proxied: None,
            scheme: "http".into(),
            port: "80".into(),
            host: "Host.Test:8080".into(),
            chain: "10.1.2.3".into(),
            alone: false,
        },
        roll: 0,
        handshake: None,
    }
}
