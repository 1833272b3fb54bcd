//! What a record looks up only when a log format asks for it: fields of heads, the place of the client, the
//! port it came to.

use std::net::IpAddr;

use super::Exchange;
use crate::message::Framed;
use crate::places::Databases;
use crate::policy::basic_auth::credentials;
use crate::policy::forwarded;
use crate::policy::template::Places;
use crate::telemetry::{FieldLookup, ForwardedLookup, PlaceLookup};
use crate::wire::{Fields, RequestHead};

/// The name in basic credentials, whoever asked for them.
pub(super) fn claimed_user(fields: &Fields) -> Option<Vec<u8>> {
    credentials(fields.get("authorization")?).map(|found| found.user)
}

/// The client and who knows where it is.
pub(super) struct Placed<'p> {
    /// The databases.
    pub(super) places: &'p Databases,
    /// The client.
    pub(super) client: IpAddr,
}

impl PlaceLookup for Placed<'_> {
    fn place(&self, name: &str) -> Option<String> {
        self.places.value(name, self.client)
    }
}

impl ForwardedLookup for Exchange {
    fn port(&self) -> String {
        let came = self.connection.forwarded();
        forwarded::told_port(&self.head.fields, &came, &self.snapshot.table.globals).into_owned()
    }
}

/// Fields of a request's head as a record finds them.
pub(super) struct Asked<'h>(pub(super) &'h RequestHead, pub(super) Option<&'h str>);

impl FieldLookup for Asked<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        if let Some(protocol) = self.1.filter(|_| name == "upgrade") {
            visit(protocol.as_bytes());
            return;
        }
        // HTTP/2 names the host in `:authority`; nginx shows it as `Host`.
        match self.0.authority.as_deref().filter(|_| name == "host" && !self.0.fields.contains("host")) {
            Some(authority) => visit(authority.as_bytes()),
            None => self.0.fields.get_all(name).for_each(visit),
        }
    }
}

/// Fields of an answer as a record finds them, with those that the connection writes itself.
pub(super) struct Sent<'f> {
    /// Fields, where they were kept.
    pub(super) fields: Option<&'f Fields>,
    /// How the client was told where the body ends, once it was.
    pub(super) framed: Option<Framed>,
}

impl FieldLookup for Sent<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        match (name, self.framed) {
            ("content-length", Some(framed)) => {
                framed.length.into_iter().for_each(|length| visit(length.to_string().as_bytes()));
            }
            ("transfer-encoding", Some(framed)) if framed.chunked => visit(b"chunked"),
            ("connection", Some(framed)) => visit(framed.connection.as_bytes()),
            _ => OptionalLookup(self.fields).each(name, visit),
        }
    }
}

/// Fields of a head that was kept, or none.
pub(super) struct OptionalLookup<'f>(pub(super) Option<&'f Fields>);

impl FieldLookup for OptionalLookup<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0.into_iter().flat_map(|fields| fields.get_all(name)).for_each(visit);
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::wire::Version;

    fn shown(fields: &dyn FieldLookup, name: &str) -> Vec<String> {
        let mut seen = Vec::new();
        fields.each(name, &mut |value| seen.push(String::from_utf8_lossy(value).into_owned()));
        seen
    }

    #[test]
    fn the_authority_of_http_2_is_the_host_with_its_port() {
        let check = |authority: Option<&str>, host: Option<&str>, expect: &[&str]| {
            let mut fields = Fields::default();
            if let Some(host) = host {
                fields.append("Host", host.as_bytes()).unwrap();
            }
            let head = RequestHead {
                method: Method::GET,
                target: b"/".to_vec(),
                version: Version::Http2,
                authority: authority.map(str::to_owned),
                protocol: None,
                fields,
            };
            assert_eq!(shown(&Asked(&head, None), "host"), expect, "{authority:?} {host:?}");
            assert!(shown(&Asked(&head, None), "accept").is_empty());
            assert_eq!(shown(&Asked(&head, Some("websocket")), "upgrade").len(), 1);
        };
        check(Some("H.test:8443"), None, &["H.test:8443"]);
        check(Some("h.test:8443"), Some("h.test"), &["h.test"]);
        check(None, Some("h.test:1"), &["h.test:1"]);
        check(None, None, &[]);
    }

    #[test]
    fn fields_that_the_connection_writes_stand_for_those_of_the_answer() {
        let mut fields = Fields::default();
        fields.append("Content-Length", b"9").unwrap();
        let check = |framed: Option<Framed>, expect: [&[&str]; 3]| {
            let sent = Sent { fields: Some(&fields), framed };
            let names = ["content-length", "transfer-encoding", "connection"];
            assert_eq!(names.map(|name| shown(&sent, name)), expect.map(<[&str]>::to_vec), "{framed:?}");
        };
        let framed = Framed { length: None, chunked: true, connection: "close" };
        check(Some(framed), [&[], &["chunked"], &["close"]]);
        check(Some(Framed { length: Some(3), chunked: false, ..framed }), [&["3"], &[], &["close"]]);
        check(None, [&["9"], &[], &[]]);
    }
}
