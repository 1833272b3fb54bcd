//! `app-root`: where `/` of a host is sent.

use std::sync::Arc;

use http::StatusCode;

use super::annotation::{Reader, Risk, Scope, Spec};
use crate::reply::{LocalReply, RedirectCause};
use crate::request::RequestView;

const APP_ROOT: Spec = Spec::new("app-root", Scope::Server, Risk::Medium)
    .values("none", "/dashboard")
    .doc("Requests for exactly `/` are redirected (302) to this path, before everything else.");

/// Annotations of this family.
pub const SPECS: &[Spec] = &[APP_ROOT];

/// Reads the annotation: an absolute path.
pub fn read(reader: &mut Reader<'_>) -> Option<Arc<str>> {
    reader
        .read(&APP_ROOT, |text| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:$".contains(&byte);
            match text.bytes().find(|byte| !allowed(*byte)) {
                Some(byte) => Err(format!("{:?} may not stand in a path", char::from(byte))),
                None if text.contains('$') => Err("variables are not expanded here".into()),
                None if !text.starts_with('/') => Err("must be an absolute path".into()),
                None => Ok(Arc::from(text)),
            }
        })
        .ok()
}

/// The redirect for a request of a host that has an `app-root`, if it asks for `/`. Query and `X-Forwarded-*` are
/// ignored; scheme and host are those of the connection.
pub fn decide(root: &str, view: &RequestView<'_>) -> Option<LocalReply> {
    if view.path.as_bytes() != b"/" {
        return None;
    }
    let location = match &*view.host.raw {
        // Nothing stands before it: two slashes would name a host.
        "" => format!("/{}", root.trim_start_matches('/')),
        host => format!("{}://{host}{root}", view.scheme.as_str()),
    };
    Some(LocalReply::Redirect { status: StatusCode::FOUND, location, cause: RedirectCause::AppRoot })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{fields, read as read_with, view};

    fn location(target: &str) -> Option<String> {
        let fields = fields(&[]);
        match decide("/app", &view(target, &fields)) {
            Some(LocalReply::Redirect { status: StatusCode::FOUND, location, .. }) => Some(location),
            _ => None,
        }
    }

    #[test]
    fn only_the_root_is_redirected_and_the_query_is_dropped() {
        assert_eq!(location("/").as_deref(), Some("http://Host.Test:8080/app"));
        assert_eq!(location("/?a=1").as_deref(), Some("http://Host.Test:8080/app"));
        assert_eq!(location("/x/..").as_deref(), Some("http://Host.Test:8080/app"));
        assert_eq!(location("/x"), None);
    }

    #[test]
    fn two_slashes_name_no_host() {
        let fields = fields(&[]);
        let location = |raw: &str| {
            let mut view = view("/", &fields);
            view.host.raw = raw.to_owned().into();
            match decide("//evil.test", &view) {
                Some(LocalReply::Redirect { location, .. }) => location,
                _ => String::new(),
            }
        };
        assert_eq!(location("h.test"), "http://h.test//evil.test");
        assert_eq!(location(""), "/evil.test");
    }

    #[test]
    fn only_absolute_paths_are_taken() {
        let root = |text| read_with(&[("app-root", text)], read);
        assert_eq!(root("/app").as_deref(), Some("/app"));
        assert_eq!(root("//app").as_deref(), Some("//app"), "a path behind the host");
        for bad in ["app", "/a b", "https://evil.test/", "/$host", "/a#b"] {
            assert_eq!(root(bad), None, "{bad}");
        }
    }
}
