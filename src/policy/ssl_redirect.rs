//! `ssl-redirect`, `force-ssl-redirect`, `preserve-trailing-slash`: from http to https.

use super::annotation::{Reader, Risk, Scope, Spec};
use super::global::Globals;
use super::redirect::{RedirectStyle, without_trailing_slash};
use crate::reply::{LocalReply, RedirectCause};
use crate::request::RequestView;

const ON: Spec = Spec::new("ssl-redirect", Scope::Location, Risk::Low)
    .values("ConfigMap ssl-redirect (true)", "false")
    .doc("Send http requests to https where the host has a certificate.");
const FORCE: Spec = Spec::new("force-ssl-redirect", Scope::Location, Risk::Medium)
    .values("ConfigMap force-ssl-redirect (false)", "true")
    .doc("Send http requests to https even where the host has no certificate (TLS ends before this proxy).");
const PRESERVE: Spec = Spec::new("preserve-trailing-slash", Scope::Location, Risk::Medium)
    .values("ConfigMap preserve-trailing-slash (false)", "true")
    .doc("Keep the trailing slash that the redirect to https otherwise cuts off.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[ON, FORCE, PRESERVE];

/// When and how clear-text requests are sent to https.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SslRedirect {
    /// Redirect where the host has a certificate entry.
    pub on: bool,
    /// Redirect always.
    pub force: bool,
    /// Keep a trailing slash of the target.
    pub preserve_trailing_slash: bool,
}

/// What the redirect depends on beyond the request.
#[derive(Debug, Clone, Copy)]
pub struct Place<'l> {
    /// Text of the matched location's path.
    pub location_path: &'l str,
    /// The request's host has an entry in the certificate table (`routing.md` 5.4).
    pub has_certificate: bool,
    /// Port written with `use-port-in-redirects`.
    pub https_port: u16,
}

impl SslRedirect {
    /// Reads the family over the ConfigMap's values.
    pub fn read(reader: &mut Reader<'_>, globals: &Globals) -> Self {
        Self {
            on: reader.bool(&ON).or(globals.ssl_redirect),
            force: reader.bool(&FORCE).or(globals.force_ssl_redirect),
            preserve_trailing_slash: reader.bool(&PRESERVE).or(globals.preserve_trailing_slash),
        }
    }

    /// False where [`SslRedirect::decide`] says nothing wherever the request is for.
    pub fn may_redirect(self, view: &RequestView<'_>) -> bool {
        (self.force || self.on) && view.forwarded.scheme == "http"
    }

    /// The redirect to https, if the request came by http and the location asks for it (`routing.md` 5.4).
    pub fn decide(
        self,
        view: &RequestView<'_>,
        place: Place<'_>,
        style: RedirectStyle,
        globals: &Globals,
    ) -> Option<LocalReply> {
        let wanted = self.force || (self.on && place.has_certificate);
        let exempt = || {
            globals.no_tls_redirect_locations.iter().any(|prefix| place.location_path.starts_with(&**prefix))
        };
        if !wanted || view.forwarded.scheme != "http" || exempt() {
            return None;
        }
        let target =
            if self.preserve_trailing_slash { view.target } else { without_trailing_slash(view.target) };
        let port = if style.with_port { format!(":{}", place.https_port) } else { String::new() };
        Some(LocalReply::Redirect {
            status: globals.http_redirect_code,
            location: format!("https://{}{port}{}", host(view), String::from_utf8_lossy(target)),
            cause: RedirectCause::Ssl,
        })
    }
}

/// The host to report, cut before its port; `_` for HTTP/1.0 without Host (vector `hostless-http10-quirk`).
fn host<'v>(view: &'v RequestView<'_>) -> &'v str {
    let host = &*view.forwarded.host;
    let end = match host.find(']') {
        Some(bracket) if host.starts_with('[') => bracket + 1,
        _ => host.find(':').unwrap_or(host.len()),
    };
    match host.get(..end) {
        None | Some("") => "_",
        Some(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{fields, read, view};

    const PLACE: Place<'_> = Place { location_path: "/", has_certificate: true, https_port: 443 };

    fn location(annotations: &[(&str, &str)], view: &RequestView<'_>, place: Place<'_>) -> Option<String> {
        let globals = Globals::default();
        let policy = read(annotations, |reader| SslRedirect::read(reader, &globals));
        let style = read(annotations, |reader| RedirectStyle::read(reader, &globals));
        let reply = policy.decide(view, place, style, &globals)?;
        assert!(policy.may_redirect(view), "{annotations:?}");
        match reply {
            LocalReply::Redirect { location, status, .. } if status == 308 => Some(location),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_host_with_certificate_redirects_and_loses_port_and_one_slash() {
        let fields = fields(&[]);
        let at = |target: &str| location(&[], &view(target, &fields), PLACE).unwrap();
        assert_eq!(at("/"), "https://Host.Test");
        assert_eq!(at("/foo/"), "https://Host.Test/foo");
        assert_eq!(at("/foo//"), "https://Host.Test/foo/");
        assert_eq!(at("/foo/?a=b/"), "https://Host.Test/foo/?a=b");
        assert_eq!(at("/a%20b?c"), "https://Host.Test/a%20b?c");
    }

    #[test]
    fn preserve_trailing_slash_keeps_it() {
        let fields = fields(&[]);
        let kept = location(&[("preserve-trailing-slash", "true")], &view("/", &fields), PLACE);
        assert_eq!(kept.as_deref(), Some("https://Host.Test/"));
    }

    #[test]
    fn without_certificate_only_force_redirects() {
        let fields = fields(&[]);
        let bare = Place { has_certificate: false, ..PLACE };
        assert_eq!(location(&[], &view("/x", &fields), bare), None);
        assert!(location(&[("force-ssl-redirect", "true")], &view("/x", &fields), bare).is_some());
        assert_eq!(location(&[("ssl-redirect", "false")], &view("/x", &fields), PLACE), None);
        assert!(location(&[("ssl-redirect", "no")], &view("/x", &fields), PLACE).is_some());
    }

    #[test]
    fn only_the_exact_scheme_http_is_redirected() {
        let fields = fields(&[]);
        for (scheme, redirects) in [("http", true), ("https", false), ("HTTP", false), ("https,http", false)]
        {
            let mut view = view("/x", &fields);
            view.forwarded.scheme = scheme.into();
            assert_eq!(location(&[], &view, PLACE).is_some(), redirects, "{scheme}");
        }
    }

    #[test]
    fn locations_below_the_acme_path_are_exempt() {
        let fields = fields(&[]);
        let acme = Place { location_path: "/.well-known/acme-challenge/x", ..PLACE };
        assert_eq!(location(&[], &view("/.well-known/acme-challenge/x", &fields), acme), None);
        assert!(location(&[], &view("/.well-known/acme-challenge/x", &fields), PLACE).is_some());
    }

    #[test]
    fn ports_hosts_and_absence_are_written_as_nginx_does() {
        let fields = fields(&[]);
        let mut view = view("/x", &fields);
        let with_port = Place { https_port: 8443, ..PLACE };
        let at =
            |view: &RequestView<'_>| location(&[("use-port-in-redirects", "true")], view, with_port).unwrap();
        assert_eq!(at(&view), "https://Host.Test:8443/x");
        view.forwarded.host = "".into();
        assert_eq!(location(&[], &view, PLACE).unwrap(), "https://_/x");
        view.forwarded.host = "[::1]:80".into();
        assert_eq!(location(&[], &view, PLACE).unwrap(), "https://[::1]/x");
    }
}
