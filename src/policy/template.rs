//! Text with nginx variables (`$scheme`, `${http_x}`), parsed once and expanded per request. Only the closed list of
//! variables of this file exists; unknown ones are refused when parsed.

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
