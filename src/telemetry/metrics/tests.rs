//! Names, labels, buckets and bounds, read from the text that a scrape gets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use super::names::{Kind, NGINX, OWN};
use super::series::RETIRE_AFTER;
use super::*;
use crate::telemetry::record::{
    HostLabel, LocalReason, NoFields, Record, RequestLine, RouteLabels, UpstreamTry,
};

mod bounds;
mod control;
mod requests;
mod scrape;

fn config() -> MetricsConfig {
    MetricsConfig {
        controller_namespace: "ingress".to_owned(),
        controller_pod: "pod-1".to_owned(),
        ..MetricsConfig::default()
    }
}

fn route<'a>() -> RouteLabels<'a> {
    RouteLabels {
        identity: 1,
        generation: 0,
        host: HostLabel::Configured("foo.bar"),
        namespace: "default",
        ingress: "web",
        service: "echo",
        service_port: "80",
        path: "/foo",
    }
}

fn record<'a>(route: RouteLabels<'a>) -> Record<'a> {
    Record {
        time: SystemTime::UNIX_EPOCH,
        client: IpAddr::from([192, 0, 2, 1]),
        peer: SocketAddr::from(([192, 0, 2, 9], 4711)),
        listener: SocketAddr::from(([192, 0, 2, 80], 443)),
        proxy_protocol: None,
        remote_user: None,
        line: RequestLine::Parsed { method: "GET", target: b"/foo", protocol: "HTTP/1.1" },
        scheme: "http",
        host: "foo.bar",
        best_host: "foo.bar",
        forwarded: None,
        uri: b"/foo",
        args: None,
        request_fields: &NoFields,
        response_fields: &NoFields,
        upstream_fields: &NoFields,
        handshake: None,
        completed: true,
        request_id: "",
        connection: 1,
        connection_requests: 1,
        request_length: 55,
        request_time: Duration::from_millis(20),
        status: 200,
        bytes_sent: 1234,
        body_bytes_sent: 1000,
        tls_protocol: None,
        tls_cipher: None,
        tls_server_name: None,
        upstream_name: "default-echo-80",
        alternative_upstream_name: "",
        own: None,
        tries: &[],
        route,
        place: None,
        trace: None,
        local: None,
    }
}

fn unmatched(host: &str) -> RouteLabels<'_> {
    RouteLabels { host: HostLabel::Undefined(host), ..RouteLabels::NONE }
}

fn one_try(response: u64) -> UpstreamTry {
    UpstreamTry {
        address: None,
        status: Some(200),
        connect_time: Some(Duration::from_millis(1)),
        header_time: Some(Duration::from_millis(response)),
        response_time: Some(Duration::from_millis(response)),
        response_length: 1,
        bytes_sent: 1,
        bytes_received: 1,
        starts_group: false,
    }
}

/// Samples of `name`, by label text.
fn samples(text: &str, name: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, labels) = series.split_once('{').unwrap_or((series, "}"));
            (found == name).then(|| (labels.trim_end_matches('}').to_owned(), value.parse().unwrap()))
        })
        .collect()
}

fn lines(text: &str) -> usize {
    text.lines()
        .filter(|line| line.starts_with("nginx_ingress_controller_re") && !line.contains("reload"))
        .count()
}

const REQUESTS: &str = "nginx_ingress_controller_requests";
const LABELS: &str = "canary=\"\",controller_class=\"k8s.io/ingress-nginx\",controller_namespace=\"ingress\",\
    controller_pod=\"pod-1\",host=\"foo.bar\",ingress=\"web\",method=\"GET\",namespace=\"default\",path=\"/foo\",\
    service=\"echo\",status=\"200\"";
