//! Text with nginx variables (`$scheme`, `${http_x}`), parsed once and expanded per request. Only the closed list of
//! variables of this file exists; unknown ones are refused when parsed.

use super::basic_auth::credentials;
use crate::request::RequestView;

/// One piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text.
    Literal(Box<str>),
    /// A variable.
    Variable(Variable),
}

/// The variables there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Variable {
    /// `$arg_name`.
    Arg(Box<str>),
    /// `$args`, `$query_string`.
    Args,
    /// `$best_http_host`.
    BestHttpHost,
    /// `$cookie_name`.
    Cookie(Box<str>),
    /// `$escaped_request_uri`.
    EscapedRequestUri,
    /// `$host`.
    Host,
    /// `$http_name`; also `$content_type`, `$content_length`. Name with dashes.
    Http(Box<str>),
    /// `$http_host`: the host as sent, over HTTP/2 too.
    HttpHost,
    /// `$ingress_name`.
    IngressName,
    /// `$is_args`.
    IsArgs,
    /// `$location_path`.
    LocationPath,
    /// `$namespace`.
    Namespace,
    /// `$pass_access_scheme`.
    PassAccessScheme,
    /// `$pass_port`, `$pass_server_port`.
    PassPort,
    /// `$proxy_add_x_forwarded_for`.
    ProxyAddXForwardedFor,
    /// `$proxy_upstream_name`.
    ProxyUpstreamName,
    /// `$remote_addr`, `$the_real_ip`; `$binary_remote_addr` too, since it is only ever a key.
    RemoteAddr,
    /// `$remote_port`.
    RemotePort,
    /// `$remote_user`: the name in basic credentials.
    RemoteUser,
    /// `$request_id`, `$req_id`.
    RequestId,
    /// `$request_method`.
    RequestMethod,
    /// `$request_uri`.
    RequestUri,
    /// `$scheme`.
    Scheme,
    /// `$server_name`.
    ServerName,
    /// `$server_port`.
    ServerPort,
    /// `$server_protocol`.
    ServerProtocol,
    /// `$service_name`.
    ServiceName,
    /// `$service_port`.
    ServicePort,
    /// `$uri`, `$document_uri`.
    Uri,
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub(crate) text: Box<str>,
    pub(crate) parts: Box<[Part]>,
}

/// What a template may know beyond the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteFacts<'r> {
    /// Id of this request.
    pub request_id: &'r str,
    /// Namespace of the Ingress.
    pub namespace: &'r str,
    /// Name of the Ingress.
    pub ingress: &'r str,
    /// Service of the matched rule.
    pub service: &'r str,
    /// Its port as written.
    pub service_port: &'r str,
    /// Path of the matched rule.
    pub location_path: &'r str,
    /// `<namespace>-<service>-<port>`.
    pub upstream_name: &'r str,
    /// Name of the virtual host.
    pub server_name: &'r str,
}

/// A request and the route it took: what a template is expanded with.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'r> {
    /// The request.
    pub view: &'r RequestView<'r>,
    /// The route.
    pub route: RouteFacts<'r>,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A variable that does not exist here.
    #[error("the variable ${0} is not known")]
    Unknown(String),
    /// `$` without a name, or `${` without `}`.
    #[error("a $ is not followed by a variable")]
    Broken,
    /// Over 4 KiB.
    #[error("the text is too long")]
    TooLong,
}

/// Bytes of text of one template.
const MAX_TEXT: usize = 4096;

impl Template {
    /// Parses text with variables.
    ///
    /// # Errors
    /// [`TemplateError`] for unknown variables, broken `$` and size.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEXT {
            return Err(TemplateError::TooLong);
        }
        let mut parts = Vec::new();
        let mut pieces = text.split('$');
        literal(&mut parts, pieces.next().unwrap_or_default());
        for piece in pieces {
            let (name, rest) = match piece.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or(TemplateError::Broken)?,
                None => {
                    let end = |byte: u8| !byte.is_ascii_alphanumeric() && byte != b'_';
                    piece.split_at(piece.bytes().position(end).unwrap_or(piece.len()))
                }
            };
            if name.is_empty() {
                return Err(TemplateError::Broken);
            }
            parts
                .push(Part::Variable(variable(name).ok_or_else(|| TemplateError::Unknown(name.to_owned()))?));
            literal(&mut parts, rest);
        }
        Ok(Self { text: text.into(), parts: parts.into() })
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text if it holds no variable.
    pub fn constant(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Fills in the variables. Absent ones are empty; bytes that are no UTF-8 are replaced.
    pub fn expand(&self, facts: &Facts<'_>) -> String {
        let mut out = Vec::with_capacity(self.text.len() + 32);
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => variable.write(facts, &mut out),
            }
        }
        String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

fn literal(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Literal(text.into()));
    }
}

fn variable(name: &str) -> Option<Variable> {
    let dashed = |name: &str| name.to_ascii_lowercase().replace('_', "-").into_boxed_str();
    Some(match name {
        "args" | "query_string" => Variable::Args,
        "best_http_host" => Variable::BestHttpHost,
        "binary_remote_addr" | "remote_addr" | "the_real_ip" => Variable::RemoteAddr,
        "content_length" | "content_type" => Variable::Http(dashed(name)),
        "document_uri" | "uri" => Variable::Uri,
        "escaped_request_uri" => Variable::EscapedRequestUri,
        "host" => Variable::Host,
        "http_host" => Variable::HttpHost,
        "ingress_name" => Variable::IngressName,
        "is_args" => Variable::IsArgs,
        "location_path" => Variable::LocationPath,
        "namespace" => Variable::Namespace,
        "pass_access_scheme" => Variable::PassAccessScheme,
        "pass_port" | "pass_server_port" => Variable::PassPort,
        "proxy_add_x_forwarded_for" => Variable::ProxyAddXForwardedFor,
        "proxy_host" | "proxy_upstream_name" => Variable::ProxyUpstreamName,
        "remote_port" => Variable::RemotePort,
        "remote_user" => Variable::RemoteUser,
        "req_id" | "request_id" => Variable::RequestId,
        "request_method" => Variable::RequestMethod,
        "request_uri" => Variable::RequestUri,
        "scheme" => Variable::Scheme,
        "server_name" => Variable::ServerName,
        "server_port" => Variable::ServerPort,
        "server_protocol" => Variable::ServerProtocol,
        "service_name" => Variable::ServiceName,
        "service_port" => Variable::ServicePort,
        _ => match name.split_once('_')? {
            (_, "") => return None,
            ("arg", name) => Variable::Arg(name.into()),
            ("cookie", name) => Variable::Cookie(name.into()),
            ("http", name) => Variable::Http(dashed(name)),
            _ => return None,
        },
    })
}

impl Variable {
    fn write(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        let (view, route) = (facts.view, &facts.route);
        let mut text = |text: &str| out.extend_from_slice(text.as_bytes());
        match self {
            Self::Args => out.extend_from_slice(view.query.unwrap_or_default()),
            Self::Arg(name) => out.extend_from_slice(argument(view.query.unwrap_or_default(), name)),
            Self::BestHttpHost => text(&view.forwarded.host),
            Self::Cookie(name) => text(view.cookie(name).unwrap_or_default()),
            Self::EscapedRequestUri => escape(view.target, out),
            Self::Host => text(&view.host.name),
            Self::Http(name) => out.extend_from_slice(view.fields.get(name).unwrap_or_default()),
            Self::HttpHost => text(&view.host.raw),
            Self::IngressName => text(route.ingress),
            Self::IsArgs => text(if view.query.is_some_and(|query| !query.is_empty()) { "?" } else { "" }),
            Self::LocationPath => text(route.location_path),
            Self::Namespace => text(route.namespace),
            Self::PassAccessScheme => text(&view.forwarded.scheme),
            Self::PassPort => text(&view.forwarded.port),
            Self::ProxyAddXForwardedFor => {
                for line in view.fields.get_all("x-forwarded-for") {
                    out.extend_from_slice(line);
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(view.forwarded.client.to_string().as_bytes());
            }
            Self::ProxyUpstreamName => text(route.upstream_name),
            Self::RemoteAddr => text(&view.forwarded.client.to_string()),
            Self::RemotePort => text(&view.peer.port().to_string()),
            Self::RemoteUser => {
                let given = view.fields.get("authorization").and_then(credentials);
                out.extend_from_slice(&given.map(|given| given.user).unwrap_or_default());
            }
            Self::RequestId => text(route.request_id),
            Self::RequestMethod => text(view.method.as_str()),
            Self::RequestUri => out.extend_from_slice(view.target),
            Self::Scheme => text(view.scheme.as_str()),
            Self::ServerName => text(route.server_name),
            Self::ServerPort => text(&view.listen_port.to_string()),
            Self::ServerProtocol => text(view.version.as_str()),
            Self::ServiceName => text(route.service),
            Self::ServicePort => text(route.service_port),
            Self::Uri => out.extend_from_slice(view.path.as_bytes()),
        }
    }
}

/// Raw value of the first query argument called `name`, ASCII case-insensitively as nginx does.
fn argument<'q>(query: &'q [u8], name: &str) -> &'q [u8] {
    query
        .split(|byte| *byte == b'&')
        .find_map(|pair| {
            let (key, value) = pair.split_at_checked(name.len())?;
            key.eq_ignore_ascii_case(name.as_bytes()).then(|| value.strip_prefix(b"=")).flatten()
        })
        .unwrap_or_default()
}

/// Encodes everything but unreserved characters, as `ngx.escape_uri`.
pub(super) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~!*'()".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::annotation::sample::{fields, view};

    fn check(text: &str, expect: &str) {
        let fields = fields(&[
            ("X-User", "ann"),
            ("Cookie", "a=1; sid=s7"),
            ("Content-Type", "text/plain"),
            ("X-Forwarded-For", "9.9.9.9"),
        ]);
        let view = view("/a%20b/c?x=1&Name=v+w&y", &fields);
        let route = RouteFacts { namespace: "ns", ingress: "ing", request_id: "r1", ..RouteFacts::default() };
        let expanded = Template::parse(text).unwrap().expand(&Facts { view: &view, route });
        assert_eq!(expanded, expect, "{text}");
    }

    #[test]
    fn variables_are_filled_in() {
        check("", "");
        check("plain", "plain");
        check("$scheme://$host$request_uri", "http://host.test/a%20b/c?x=1&Name=v+w&y");
        check("${http_x_user}/$cookie_sid-$arg_name", "ann/s7-v+w");
        check("$uri$is_args$args", "/a b/c?x=1&Name=v+w&y");
        check("$namespace.$ingress_name:$req_id", "ns.ing:r1");
        check("$content_type|$http_absent|$arg_y|$arg_absent", "text/plain|||");
        check("$proxy_add_x_forwarded_for", "9.9.9.9, 10.1.2.3");
        check("$best_http_host $pass_port $remote_addr $request_method", "Host.Test:8080 80 10.1.2.3 GET");
        check("$http_host|$remote_user", "Host.Test:8080|");
        check("$escaped_request_uri", "%2Fa%2520b%2Fc%3Fx%3D1%26Name%3Dv%2Bw%26y");
    }

    #[test]
    fn unknown_and_broken_variables_are_refused() {
        let error = |text: &str| Template::parse(text).unwrap_err();
        assert_eq!(error("$document_root"), TemplateError::Unknown("document_root".into()));
        assert_eq!(error("a$"), TemplateError::Broken);
        assert_eq!(error("${host"), TemplateError::Broken);
        assert_eq!(error("$http_"), TemplateError::Unknown("http_".into()));
        assert_eq!(error(&"x".repeat(5000)), TemplateError::TooLong);
    }
}
