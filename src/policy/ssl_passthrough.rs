//! `ssl-passthrough`: TLS connections of a host go to its backend unopened, by the server name they ask for. Where the
//! host has a rule for `/`, its backend takes them; what else the Ingress says counts for clear text only, but for
//! address lists, which are asked when the connection comes. Needs `--enable-ssl-passthrough`.

use super::RoutePolicies;
use super::annotation::{Fidelity, Reader, Risk, Scope, Spec};
use super::backend_protocol::BackendProtocol;
use super::global::Globals;
use super::ip_access::contains;
use std::net::IpAddr;

const PASSTHROUGH: Spec = Spec::new("ssl-passthrough", Scope::Server, Risk::Low)
    .values("false", "true")
    .fidelity(Fidelity::Equivalent(
        "wildcard hosts count too, a greeting may come in any number of pieces, connections go to endpoints rather \
         than to the address of the Service, address lists hold, and only the namespace that has had the host \
         longest may ask",
    ))
    .doc("TLS connections of the host go to the backend of `/` unopened; needs --enable-ssl-passthrough.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[PASSTHROUGH];

/// Reads the annotation.
pub fn read(reader: &mut Reader<'_>) -> bool {
    reader.bool(&PASSTHROUGH).or(false)
}

/// Requests in clear text for a host that hands TLS through go to its backend by TLS, as ingress-nginx sends them.
pub fn backend_protocol(protocol: BackendProtocol) -> BackendProtocol {
    match protocol {
        BackendProtocol::Http | BackendProtocol::Https | BackendProtocol::AutoHttp => BackendProtocol::Https,
        BackendProtocol::Grpc | BackendProtocol::Grpcs => BackendProtocol::Grpcs,
        BackendProtocol::Fcgi => BackendProtocol::Fcgi,
    }
}

/// True when a client may not connect: it is blocked everywhere or for the host's `/`, or that is shut.
pub fn refuses(policies: &RoutePolicies, globals: &Globals, client: IpAddr) -> bool {
    policies.denied.is_some()
        || contains(&globals.block_cidrs, client)
        || policies.ip_access.as_ref().is_some_and(|access| access.decide(client).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{diagnostics, read};
    use crate::policy::ip_access::IpAccess;

    #[test]
    fn the_annotation_is_a_switch_that_is_off_unless_it_says_so() {
        assert!(!read(&[], super::read));
        for (text, expect) in
            [("true", true), ("T", true), ("1", true), ("false", false), ("yes", false), ("", false)]
        {
            assert_eq!(read(&[("ssl-passthrough", text)], super::read), expect, "{text:?}");
        }
        assert_eq!(diagnostics(&[("ssl-passthrough", "yes")], super::read).len(), 1);
    }

    #[test]
    fn clear_text_requests_go_to_the_backend_by_tls() {
        assert_eq!(backend_protocol(BackendProtocol::Http), BackendProtocol::Https);
        assert_eq!(backend_protocol(BackendProtocol::Grpc), BackendProtocol::Grpcs);
    }

    #[test]
    fn address_lists_and_refused_routes_keep_clients_out() {
        let globals = Globals { block_cidrs: ["10.9.0.0/16".parse().unwrap()].into(), ..Globals::default() };
        let open = RoutePolicies::defaults(&globals);
        let refused =
            |policies: &RoutePolicies, client: &str| refuses(policies, &globals, client.parse().unwrap());
        assert!(!refused(&open, "10.1.0.1"));
        assert!(refused(&open, "10.9.0.1"));
        let shut = RoutePolicies { denied: Some("InvalidAnnotation"), ..open.clone() };
        assert!(refused(&shut, "10.1.0.1"));
        let listed = IpAccess { deny: [].into(), allow: ["10.2.0.0/16".parse().unwrap()].into() };
        let listed = RoutePolicies { ip_access: Some(listed), ..open };
        assert!(refused(&listed, "10.1.0.1") && !refused(&listed, "10.2.0.1"));
    }
}
