//! `from-to-www-redirect`: the twin host (`www.x` for `x` and the other way round) that only redirects.

use super::annotation::{Reader, Risk, Scope, Spec};
use super::global::Globals;
use super::redirect::without_trailing_slash;
use crate::reply::{LocalReply, RedirectCause};
use crate::request::RequestView;

const FROM_TO_WWW: Spec =
    Spec::new("from-to-www-redirect", Scope::Server, Risk::Low).values("false", "true").doc(
        "Requests for `www.host` are redirected to `host`, or the other way round for a rule of `www.host`.",
    );

/// Annotations of this family.
pub const SPECS: &[Spec] = &[FROM_TO_WWW];

/// Reads the annotation.
pub fn read(reader: &mut Reader<'_>) -> bool {
    reader.bool(&FROM_TO_WWW).or(false)
}

/// The other name of a host; `None` for the catch-all and wildcards, which have none.
pub fn twin(host: &str) -> Option<String> {
    if host.is_empty() || host == "_" || host.starts_with('*') || host.starts_with('~') {
        return None;
    }
    Some(host.strip_prefix("www.").map_or_else(|| format!("www.{host}"), str::to_owned))
}

/// Value of `Location`: `<scheme>://<host>:<port><target>`, the port always there, one trailing slash of the target
/// removed.
pub fn location(view: &RequestView<'_>, host: &str) -> String {
    let target = String::from_utf8_lossy(without_trailing_slash(view.target));
    format!("{}://{host}:{}{target}", view.forwarded.scheme, view.forwarded.port)
}

/// The answer of a twin host.
pub fn decide(view: &RequestView<'_>, host: &str, globals: &Globals) -> LocalReply {
    LocalReply::Redirect {
        status: globals.http_redirect_code,
        location: location(view, host),
        cause: RedirectCause::FromToWww,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{fields, view};

    #[test]
    fn the_twin_adds_or_removes_www() {
        assert_eq!(twin("h.test").as_deref(), Some("www.h.test"));
        assert_eq!(twin("www.h.test").as_deref(), Some("h.test"));
        assert_eq!(twin("*.h.test"), None);
        assert_eq!(twin("_"), None);
    }

    #[test]
    fn the_location_carries_the_port_and_the_forwarded_scheme() {
        let fields = fields(&[]);
        let mut view = view("/x/?q=/", &fields);
        assert_eq!(location(&view, "h.test"), "http://h.test:80/x/?q=");
        view.forwarded.scheme = "https".into();
        view.forwarded.port = "443".into();
        assert_eq!(location(&view, "h.test"), "https://h.test:443/x/?q=");
    }
}
