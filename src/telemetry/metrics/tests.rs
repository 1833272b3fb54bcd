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

#[test]
fn a_request_is_counted_under_the_labels_of_ingress_nginx() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    let tries = [one_try(2_000), one_try(7)];
    worker.observe(&Record { tries: &tries, ..record(route()) }.counted());
    let text = metrics.render(Instant::now());
    assert_eq!(samples(&text, REQUESTS), BTreeMap::from([(LABELS.to_owned(), 1.0)]));
    for (name, bound, sum) in [
        ("request_duration_seconds", "0.025", 0.02),
        ("response_duration_seconds", "0.01", 0.007),
        ("header_duration_seconds", "0.01", 0.007),
        ("connect_duration_seconds", "0.005", 0.001),
        ("request_size", "60", 55.0),
        ("bytes_sent", "10000", 1234.0),
        ("response_size", "+Inf", 1234.0),
    ] {
        let name = format!("nginx_ingress_controller_{name}");
        let buckets = samples(&text, &format!("{name}_bucket"));
        assert_eq!(buckets.get(&format!("{LABELS},le=\"{bound}\"")), Some(&1.0), "{name} {buckets:?}");
        assert_eq!(samples(&text, &format!("{name}_sum")).get(LABELS), Some(&sum), "{name}");
        assert_eq!(samples(&text, &format!("{name}_count")).get(LABELS), Some(&1.0), "{name}");
    }
    let latency = samples(&text, "nginx_ingress_controller_ingress_upstream_latency_seconds_sum");
    let [(labels, time)] = &latency.into_iter().collect::<Vec<_>>()[..] else { panic!("one series") };
    assert!(labels.starts_with("canary=\"\","), "Flagger asks for the canary's: {labels}");
    assert_eq!(*time, 0.007);
}

#[test]
fn bucket_bounds_are_inclusive_and_cumulative() {
    let metrics = Metrics::new(MetricsConfig { time_buckets: vec![0.01, 1.0, 0.1], ..config() });
    let worker = metrics.worker();
    for millis in [0, 10, 11, 100, 1_000, 1_001] {
        worker.observe(&Record { request_time: Duration::from_millis(millis), ..record(route()) }.counted());
    }
    let text = metrics.render(Instant::now());
    let buckets = samples(&text, "nginx_ingress_controller_request_duration_seconds_bucket");
    for (bound, expect) in [("0.01", 2.0), ("0.1", 4.0), ("1", 5.0), ("+Inf", 6.0)] {
        assert_eq!(buckets.get(&format!("{LABELS},le=\"{bound}\"")), Some(&expect), "{bound}");
    }
    assert_eq!(buckets.len(), 4);
}

#[test]
fn the_default_buckets_are_written_as_go_writes_them() {
    let metrics = Metrics::new(config());
    metrics.worker().observe(&record(route()).counted());
    let text = metrics.render(Instant::now());
    for (name, bounds) in [
        ("request_duration_seconds", "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf"),
        ("request_size", "10 20 30 40 50 60 70 80 90 100 +Inf"),
        ("bytes_sent", "10 100 1000 10000 100000 1e+06 1e+07 +Inf"),
    ] {
        let prefix = format!("nginx_ingress_controller_{name}_bucket{{");
        let seen: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with(&prefix))
            .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(seen.join(" "), bounds, "{name}");
    }
}

#[test]
fn a_route_of_another_table_is_told_apart_though_it_stands_in_the_same_place() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    for (generation, path) in [(1, "/foo"), (1, "/foo"), (2, "/bar"), (2, "/bar"), (0, "/baz")] {
        worker.observe(&record(RouteLabels { generation, path, ..route() }).counted());
    }
    let counted: Vec<f64> = samples(&metrics.render(Instant::now()), REQUESTS).into_values().collect();
    assert_eq!(counted, [2.0, 1.0, 2.0]);
}

#[test]
fn an_answer_of_ours_has_no_upstream_series() {
    let metrics = Metrics::new(config());
    let local = Some(LocalReason { kind: "redirect", rule: "ssl" });
    metrics.worker().observe(&Record { status: 308, local, ..record(route()) }.counted());
    let text = metrics.render(Instant::now());
    assert!(!text.contains("response_duration_seconds") && !text.contains("upstream_latency"));
    assert_eq!(samples(&text, "nginx_ingress_controller_request_duration_seconds_count").len(), 1);
    let replies = samples(&text, "narthex_local_replies_total");
    assert_eq!(replies.get("kind=\"redirect\",rule=\"ssl\""), Some(&1.0));
}

#[test]
fn flags_shape_labels_and_names() {
    let flags = MetricsConfig {
        per_host: false,
        status_classes: true,
        exclude: ["request_size", "nginx_ingress_controller_header_duration_seconds"]
            .map(str::to_owned)
            .into(),
        ..config()
    };
    let metrics = Metrics::new(flags);
    let worker = metrics.worker();
    let tries = [one_try(1)];
    worker.observe(&Record { status: 201, tries: &tries, ..record(route()) }.counted());
    worker.observe(&Record { status: 204, tries: &tries, ..record(route()) }.counted());
    let text = metrics.render(Instant::now());
    let labels = LABELS.replace("host=\"foo.bar\",", "").replace("200", "2xx");
    assert_eq!(samples(&text, REQUESTS), BTreeMap::from([(labels, 2.0)]));
    assert!(!text.contains("request_size") && !text.contains("header_duration"));
    assert!(text.contains("nginx_ingress_controller_response_size_bucket"));
    let excluded = MetricsConfig { exclude: BTreeSet::from(["requests".to_owned()]), ..config() };
    let metrics = Metrics::new(excluded);
    metrics.worker().observe(&record(route()).counted());
    assert_eq!(samples(&metrics.render(Instant::now()), REQUESTS).len(), 0);
}

#[test]
fn workers_are_added_up() {
    let metrics = Metrics::new(config());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let worker = metrics.worker();
            std::thread::spawn(move || {
                for _ in 0..1_000 {
                    worker.observe(&record(route()).counted());
                }
                worker.count(Counter::Accepted);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let text = metrics.render(Instant::now());
    assert_eq!(samples(&text, REQUESTS), BTreeMap::from([(LABELS.to_owned(), 4_000.0)]));
    assert_eq!(samples(&text, "narthex_connections_accepted_total").get(""), Some(&4.0));
    assert_eq!(samples(&text, "narthex_workers").get(""), Some(&4.0));
}

#[test]
fn one_identity_for_two_routes_mixes_nothing_up() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    for _ in 0..3 {
        worker.observe(&record(route()).counted());
        worker.observe(&record(RouteLabels { path: "/other", ..route() }).counted());
    }
    let counts: Vec<f64> = samples(&metrics.render(Instant::now()), REQUESTS).into_values().collect();
    assert_eq!(counts, [3.0, 3.0]);
}

#[test]
fn routes_of_tables_that_are_gone_are_forgotten() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    // Each swap gives the same route a new identity.
    for identity in 0..10_000 {
        worker.observe(&record(RouteLabels { identity, ..route() }).counted());
        for _ in 0..7 {
            worker.observe(&record(RouteLabels { identity: usize::MAX, ..route() }).counted());
        }
        assert!(worker.remembered() <= 300, "{} after {identity} swaps", worker.remembered());
    }
    let counted = samples(&metrics.render(Instant::now()), REQUESTS);
    assert_eq!(counted.values().sum::<f64>(), 80_000.0);
    // What is in use at once is remembered whole.
    for round in 0..3 {
        for identity in 0..2_000 {
            worker.observe(&record(RouteLabels { identity, ..route() }).counted());
        }
        assert!(round == 0 || worker.remembered() >= 2_000);
    }
}

#[test]
fn all_hosts_of_a_large_table_are_remembered_when_they_are_asked_in_turn() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    for round in 0..3 {
        for identity in 0..50_000 {
            worker.observe(&record(RouteLabels { identity, ..route() }).counted());
            assert!(round == 0 || worker.remembered() == 50_000, "{identity}");
        }
    }
    // What is more than there is room for costs no more than that.
    for identity in 0..200_000 {
        worker.observe(&record(RouteLabels { identity, ..route() }).counted());
        assert!(worker.remembered() <= 131_072, "{identity}");
    }
    let counted = samples(&metrics.render(Instant::now()), REQUESTS);
    assert_eq!(counted.values().sum::<f64>(), 350_000.0);
}

#[test]
fn hosts_that_clients_make_up_are_remembered_as_one_and_where_they_are_told_apart_as_few() {
    for (per_undefined_host, most) in [(false, 1), (true, 16_384)] {
        let metrics = Metrics::new(MetricsConfig { per_undefined_host, series_limit: 1_000_000, ..config() });
        let worker = metrics.worker();
        for number in 0..20_000 {
            let name = format!("h{number}.example");
            let labels = RouteLabels { host: HostLabel::Undefined(&name), ..route() };
            worker.observe(&record(labels).counted());
            assert!(worker.remembered() <= most, "{number}");
        }
        let counted = samples(&metrics.render(Instant::now()), REQUESTS);
        assert_eq!(counted.values().sum::<f64>(), 20_000.0);
        assert!(counted.len() == if per_undefined_host { 1_001 } else { 1 });
    }
}

#[test]
fn texts_that_only_read_alike_one_after_the_other_are_routes_of_their_own() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    let all = [
        route(),
        RouteLabels { ingress: "we", namespace: "bdefault", ..route() },
        RouteLabels { service: "", path: "/foo/bar", ..route() },
        RouteLabels { host: HostLabel::Configured("foo.bars"), ..route() },
        RouteLabels { host: HostLabel::Configured("foo.ba"), ..route() },
    ];
    // All under one identity, so that only their texts tell them apart.
    for count in 1..=3 {
        for labels in &all {
            worker.observe(&record(*labels).counted());
        }
        let counts: Vec<f64> = samples(&metrics.render(Instant::now()), REQUESTS).into_values().collect();
        assert_eq!(counts, [f64::from(count); 5]);
    }
}

#[test]
fn canary_methods_and_statuses_are_series_of_their_own_and_odd_methods_are_other() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    let line = |method| RequestLine::Parsed { method, target: b"/", protocol: "HTTP/1.1" };
    worker.observe(&Record { alternative_upstream_name: "default-canary-80", ..record(route()) }.counted());
    worker.observe(&Record { status: 503, ..record(route()) }.counted());
    for method in ["BREW", "get", "PROPFIND"] {
        worker.observe(&Record { line: line(method), ..record(route()) }.counted());
    }
    let seen = samples(&metrics.render(Instant::now()), REQUESTS);
    assert_eq!(seen.get(&LABELS.replace("canary=\"\"", "canary=\"default-canary-80\"")), Some(&1.0));
    assert_eq!(seen.get(&LABELS.replace("200", "503")), Some(&1.0));
    assert_eq!(seen.get(&LABELS.replace("GET", "OTHER")), Some(&3.0));
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_scan_of_random_hosts_adds_no_series() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    worker.observe(&record(route()).counted());
    let before = lines(&metrics.render(Instant::now()));
    for number in 0..100_000 {
        let host = format!("host-{number}.example");
        worker.observe(&Record { status: 404, ..record(unmatched(&host)) }.counted());
    }
    let text = metrics.render(Instant::now());
    assert_eq!(lines(&text), before);
    assert_eq!(samples(&text, "narthex_unmatched_requests_total").get(""), Some(&100_000.0));
    assert_eq!(
        samples(&text, "nginx_ingress_controller_nginx_process_requests_total").into_values().sum::<f64>(),
        100_001.0
    );
}

#[test]
fn a_host_without_a_name_in_an_ingress_is_an_underscore() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    for host in ["a.example", "b.example"] {
        worker.observe(&record(RouteLabels { host: HostLabel::Undefined(host), ..route() }).counted());
    }
    let seen = samples(&metrics.render(Instant::now()), REQUESTS);
    assert_eq!(seen, BTreeMap::from([(LABELS.replace("foo.bar", "_"), 2.0)]));
}

#[test]
fn undefined_hosts_become_labels_on_demand_and_only_a_bounded_number_of_them() {
    let metrics = Metrics::new(MetricsConfig { per_undefined_host: true, ..config() });
    let worker = metrics.worker();
    worker.observe(&Record { status: 404, ..record(unmatched("wildcard.foo.com")) }.counted());
    let seen = samples(&metrics.render(Instant::now()), REQUESTS);
    assert_eq!(seen.len(), 1);
    assert!(seen.keys().all(|labels| labels.contains("host=\"wildcard.foo.com\"")));
    for number in 0..5_000 {
        let host = format!("host-{number}.example");
        worker.observe(&Record { status: 404, ..record(unmatched(&host)) }.counted());
    }
    worker.observe(&Record { status: 404, ..record(unmatched("not a host\n")) }.counted());
    let text = metrics.render(Instant::now());
    let seen = samples(&text, REQUESTS);
    assert!(seen.len() <= 1_001, "{}", seen.len());
    assert_eq!(seen.values().sum::<f64>(), 5_002.0);
    assert!(seen.keys().any(|labels| labels.contains("host=\"_\"")));
}

#[test]
fn beyond_the_limit_requests_are_still_counted_as_other() {
    let metrics = Metrics::new(MetricsConfig { series_limit: 1_000, ..config() });
    let worker = metrics.worker();
    for number in 0..5_000 {
        let ingress = format!("ingress-{number}");
        worker.observe(&record(RouteLabels { ingress: &ingress, ..route() }).counted());
    }
    let text = metrics.render(Instant::now());
    let seen = samples(&text, REQUESTS);
    assert_eq!(seen.values().sum::<f64>(), 5_000.0, "no request is lost");
    let other = seen.keys().filter(|labels| labels.contains("ingress=\"other\"")).count();
    assert_eq!(other, 1);
    let durations = samples(&text, "nginx_ingress_controller_request_duration_seconds_count");
    assert_eq!(durations.values().sum::<f64>(), 5_000.0, "no observation is lost");
    // Bare counters go further than histograms, and both end within the limit.
    assert!(seen.len() > 100 && durations.len() < 20, "{} {}", seen.len(), durations.len());
    let used = samples(&text, "narthex_metrics_series").into_values().sum::<f64>();
    assert!(used <= 1_000.0, "{used}");
    assert!(
        samples(&text, "narthex_metrics_series_dropped_total").get("").is_some_and(|dropped| *dropped > 0.0)
    );
}

#[test]
fn series_of_vanished_objects_leave_after_five_minutes_and_come_back_with_traffic() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    let begin = Instant::now();
    worker.observe(&record(route()).counted());
    worker.observe(
        &record(RouteLabels { ingress: "other-web", host: HostLabel::Configured("b"), ..route() }).counted(),
    );
    let live = |hosts: &[&str], ingresses: &[&str]| LiveObjects {
        hosts: hosts.iter().map(|&host| host.into()).collect(),
        ingresses: ingresses.iter().map(|&name| ("default".into(), name.into())).collect(),
    };
    let count = |now| samples(&metrics.render(now), REQUESTS).len();
    let none = LiveObjects::default;
    metrics.change_live(live(&["foo.bar", "b"], &["web", "other-web"]), none(), begin);
    assert_eq!(count(begin + RETIRE_AFTER * 3), 2, "what exists stays");
    let gone = begin + RETIRE_AFTER * 3;
    metrics.change_live(none(), live(&["foo.bar"], &["web"]), gone);
    assert_eq!(count(gone + RETIRE_AFTER - Duration::from_secs(1)), 2);
    assert_eq!(count(gone + RETIRE_AFTER), 1);
    worker.observe(&record(route()).counted());
    assert_eq!(count(gone + RETIRE_AFTER), 2, "the worker did not keep counting into removed cells");
    // One that comes back in time keeps its numbers.
    let all = live(&["foo.bar", "b"], &["web", "other-web"]);
    metrics.change_live(live(&["foo.bar"], &["web"]), none(), gone + RETIRE_AFTER);
    let later = gone + RETIRE_AFTER * 2;
    metrics.change_live(none(), all.clone(), later);
    metrics.change_live(all, none(), later + RETIRE_AFTER / 2);
    assert_eq!(count(later + RETIRE_AFTER * 2), 2);
}

#[test]
fn many_series_are_written_in_pieces_each_once_and_leave_together() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    let begin = Instant::now();
    let hosts: Vec<String> = (0..300).map(|number| format!("host-{number}")).collect();
    for host in &hosts {
        let route = RouteLabels { ingress: host, host: HostLabel::Configured(host), ..route() };
        worker.observe(&record(route).counted());
    }
    let pieces: Vec<String> = metrics.scrape(begin, || {}).collect();
    assert!(pieces.len() > 10, "{}", pieces.len());
    assert!(pieces.iter().all(|piece| piece.ends_with('\n') && piece.len() < 64 * 1024));
    let text = pieces.concat();
    assert_eq!(text.matches("# TYPE nginx_ingress_controller_requests counter").count(), 1);
    for host in &hosts {
        let labels = format!("host=\"{host}\"");
        let counted = text.lines().filter(|line| line.starts_with(REQUESTS) && line.contains(&labels));
        assert_eq!(counted.count(), 1, "{host}");
    }
    // Those with odd numbers vanish.
    let left: Vec<&String> = hosts.iter().step_by(2).collect();
    let live = LiveObjects {
        hosts: left.iter().map(|&host| host.as_str().into()).collect(),
        ingresses: left.iter().map(|&host| ("default".into(), host.as_str().into())).collect(),
    };
    metrics.change_live(live, LiveObjects::default(), begin);
    let count = |now| samples(&metrics.render(now), REQUESTS).len();
    assert_eq!(count(begin + RETIRE_AFTER / 2), 300);
    assert_eq!(count(begin + RETIRE_AFTER), 150);
}

#[test]
fn guards_count_while_they_live_on_whatever_thread_they_end() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    worker.count(Counter::Accepted);
    let connection = worker.hold(Gauge::Connections);
    let idle = worker.hold(Gauge::Connections);
    let request = worker.hold(Gauge::Requests);
    let mut spool = worker.hold_amount(Gauge::Spooled, 100);
    spool.set_amount(70);
    let state = |text: &str, name: &str| {
        let all = samples(text, "nginx_ingress_controller_nginx_process_connections");
        all.into_iter().find(|(labels, _)| labels.contains(&format!("state=\"{name}\""))).unwrap().1
    };
    let text = metrics.render(Instant::now());
    assert_eq!((state(&text, "active"), state(&text, "writing"), state(&text, "waiting")), (2.0, 1.0, 1.0));
    assert_eq!(samples(&text, "narthex_spooled_bytes").get(""), Some(&70.0));
    let tunnel = worker.tunnel();
    assert_eq!(worker.gauge(Gauge::Tunnels), 1);
    std::thread::spawn(move || drop((connection, idle, request, spool, tunnel))).join().unwrap();
    let text = metrics.render(Instant::now());
    assert_eq!((state(&text, "active"), state(&text, "waiting")), (0.0, 0.0));
    assert_eq!(samples(&text, "narthex_spooled_bytes").get(""), Some(&0.0));
    assert_eq!(samples(&text, "narthex_tunnels_total").get(""), Some(&1.0));
}

#[test]
fn words_are_labels() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    worker.retried("connect");
    worker.retried("connect");
    worker.rejected("tls-handshake");
    worker.cut();
    let text = metrics.render(Instant::now());
    assert_eq!(samples(&text, "narthex_upstream_retries_total").get("reason=\"connect\""), Some(&2.0));
    assert_eq!(
        samples(&text, "narthex_connections_refused_total").get("reason=\"tls-handshake\""),
        Some(&1.0)
    );
    assert_eq!(samples(&text, "narthex_tunnels_cut_total").get(""), Some(&1.0));
}

#[test]
fn admission_checks_name_their_ingress_as_far_as_there_is_room() {
    let metrics = Metrics::new(config());
    let control = metrics.control();
    let facts = || AdmissionFacts {
        tested: 1,
        tested_time: Duration::ZERO,
        compiled: 1,
        compiled_time: Duration::ZERO,
        size: 1,
        roundtrip: Duration::ZERO,
    };
    let total = |name: &str, label: &str| {
        let text = metrics.render(Instant::now());
        let all = samples(&text, &format!("nginx_ingress_controller_{name}"));
        all.iter().filter(|(labels, _)| labels.contains(label)).map(|(_, value)| *value).sum::<f64>()
    };
    control.admission("default", "new", false, true, facts());
    control.admission("default", "new", true, true, facts());
    control.admission("default", "bad", false, false, facts());
    assert_eq!(total("check_success", "ingress=\"new\",namespace=\"default\""), 2.0);
    assert_eq!(total("check_errors", "ingress=\"bad\",namespace=\"default\""), 1.0);
    // Whoever tries names without end gets no series without end.
    for number in 0..2000 {
        control.admission("default", &format!("try-{number}"), false, false, facts());
    }
    assert_eq!(total("check_errors", "ingress=\"try-1\""), 1.0);
    assert_eq!(total("check_errors", "ingress=\"try-1999\""), 0.0);
    assert!(total("check_errors", "ingress=\"\"") > 1000.0);
    control.admission("default", "old", true, false, facts());
    assert_eq!(total("check_errors", "ingress=\"old\""), 1.0);
    // Those that are gone leave nothing, and those that came make room.
    let exists = |_: &str, name: &str| matches!(name, "old" | "try-1" | "try-2");
    control.retain_checked(exists, || ());
    assert_eq!(total("check_success", "ingress=\"new\""), 0.0);
    assert_eq!(total("check_errors", "ingress=\"old\""), 1.0);
    assert_eq!(total("check_errors", "ingress=\"bad\""), 1.0, "it may still come");
    for number in 0..3 {
        control.admission("default", &format!("late-{number}"), false, false, facts());
    }
    let late: Vec<f64> =
        (0..3).map(|number| total("check_errors", &format!("ingress=\"late-{number}\""))).collect();
    assert_eq!(late, [1.0, 1.0, 0.0]);
    control.retain_checked(|_, _| false, || ());
    assert_eq!(total("check_errors", "ingress=\"try-1\""), 0.0);
    control.admission("default", "old", true, true, facts());
    assert_eq!(total("check_success", "ingress=\"old\""), 1.0, "it came again");
}

#[test]
fn checks_of_many_ingresses_are_written_in_pieces_each_once() {
    let metrics = Metrics::new(config());
    let name = |number: usize| format!("web-{number:04}");
    for number in 0..2000 {
        metrics.control().admission(
            "default",
            &name(number),
            true,
            number % 2 == 0,
            AdmissionFacts::default(),
        );
    }
    let pieces: Vec<String> = metrics.scrape(Instant::now(), || {}).collect();
    assert!(pieces.iter().all(|piece| piece.ends_with('\n') && piece.len() < 64 * 1024));
    let text = pieces.concat();
    for (family, remainder) in [("check_success", 0), ("check_errors", 1)] {
        let family = format!("nginx_ingress_controller_{family}");
        assert_eq!(text.matches(&format!("# TYPE {family} counter")).count(), 1);
        let told: Vec<&str> = text.lines().filter(|line| line.starts_with(&format!("{family}{{"))).collect();
        assert_eq!(told.len(), 1000, "{family}");
        for (line, number) in told.iter().zip((remainder..).step_by(2)) {
            let labels =
                format!("controller_pod=\"pod-1\",ingress=\"{}\",namespace=\"default\"}} 1", name(number));
            assert!(line.ends_with(&labels), "{line}");
        }
    }
}

#[test]
fn the_control_plane_tells_under_the_names_of_ingress_nginx() {
    let metrics = Metrics::new(config());
    let control = metrics.control();
    control.set_build("1.0", "abc", "repo");
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
    control.published(u64::MAX, 7, TableSize { hosts: 3, ..TableSize::default() }, at);
    let (web, lost): (IngressName, IngressName) =
        (("default".into(), "web".into()), ("default".into(), "lost".into()));
    let nowhere = Orphaned { no_service: true, no_endpoint: None };
    let empty = Orphaned { no_service: false, no_endpoint: Some(true) };
    control.change_orphans([(web.clone(), Some(empty)), (lost.clone(), Some(nowhere))]);
    control.set_certificates(Arc::new([CertificateFacts {
        host: "foo.bar".to_owned(),
        namespace: "default".to_owned(),
        secret: "tls".to_owned(),
        identifier: "ff".to_owned(),
        issuer_organization: "Org \"x\"".to_owned(),
        issuer_common_name: "ca".to_owned(),
        serial_number: "1".to_owned(),
        public_key_algorithm: "RSA".to_owned(),
        not_after: 1_800_000_000,
    }]));
    let now = Instant::now();
    control.confirmed(now);
    let text = metrics.render(now + Duration::from_secs(9));
    let first = |name: &str| {
        let all = samples(&text, name);
        assert_eq!(all.len(), 1, "{name} {all:?}");
        all.into_iter().next().unwrap()
    };
    let prefix = |name: &str| format!("nginx_ingress_controller_{name}");
    assert_eq!(first(&prefix("config_last_reload_successful")).1, 1.0);
    assert_eq!(first(&prefix("config_last_reload_successful_timestamp_seconds")).1, 1_700_000_000.0);
    assert!(first(&prefix("config_hash")).0.contains("controller_pod=\"pod-1\""));
    assert_eq!(first(&prefix("success")).1, 1.0);
    let (labels, value) = first(&prefix("ssl_expire_time_seconds"));
    assert_eq!(value, 1_800_000_000.0);
    assert_eq!(
        labels,
        "class=\"k8s.io/ingress-nginx\",host=\"foo.bar\",identifier=\"ff\",namespace=\"default\",secret_name=\"tls\""
    );
    assert!(first(&prefix("ssl_certificate_info")).0.contains("issuer_organization=\"Org \\\"x\\\"\""));
    let orphans: Vec<_> = samples(&text, &prefix("orphan_ingress")).into_iter().collect();
    let labels = |ingress: &str, kind: &str| {
        format!(
            "controller_class=\"k8s.io/ingress-nginx\",controller_namespace=\"ingress\",controller_pod=\"pod-1\",ingress=\"{ingress}\",namespace=\"default\",type=\"{kind}\""
        )
    };
    let expected = [("lost", "no-service", 1.0), ("web", "no-endpoint", 1.0), ("web", "no-service", 0.0)];
    assert_eq!(orphans, expected.map(|(ingress, kind, value)| (labels(ingress, kind), value)));
    assert_eq!(first("narthex_generation").1, 7.0);
    assert_eq!(first("narthex_snapshot_age_seconds").1, 9.0);
    control.failed();
    control.set_certificates(Arc::default());
    control.change_orphans([(web, None), (lost, None)]);
    let text = metrics.render(now);
    assert_eq!(samples(&text, &prefix("config_last_reload_successful")).into_values().sum::<f64>(), 0.0);
    assert_eq!(samples(&text, &prefix("errors")).into_values().sum::<f64>(), 1.0);
    assert_eq!(samples(&text, &prefix("ssl_expire_time_seconds")).len(), 0);
    assert_eq!(samples(&text, &prefix("orphan_ingress")).len(), 0);
}

/// The text is what Prometheus parses: every family once, declared before its samples, and in one piece.
#[test]
fn the_text_is_well_formed_and_every_name_is_in_the_table() {
    let metrics = Metrics::new(config());
    let worker = metrics.worker();
    let tries = [one_try(1)];
    worker.observe(
        &Record { tries: &tries, ..record(RouteLabels { path: "/a\"b\\c\nd", ..route() }) }.counted(),
    );
    worker.retried("x");
    let text = metrics.render(Instant::now());
    let known: BTreeMap<&str, Kind> =
        NGINX.iter().chain(OWN).map(|family| (family.name, family.kind)).collect();
    let mut declared = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(declaration) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declaration.split_once(' ').unwrap();
            assert_eq!(known.get(name).map(|kind| kind.as_str()), Some(kind), "{name}");
            assert!(declared.insert(name.to_owned()), "{name} is declared twice");
            current = name.to_owned();
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(name == current || base == Some(&current), "{line} stands under {current}");
        }
    }
    assert!(text.contains(r#"path="/a\"b\\c\nd""#));
}

#[test]
fn names_follow_the_rules_and_stand_once() {
    let all: Vec<_> = NGINX.iter().chain(OWN).collect();
    let unique: BTreeSet<&str> = all.iter().map(|family| family.name).collect();
    assert_eq!(unique.len(), all.len());
    for family in OWN {
        let total = family.name.ends_with("_total");
        assert_eq!(total, family.kind == Kind::Counter, "{}", family.name);
        assert!(family.help.ends_with('.'), "{}", family.name);
    }
    assert!(NGINX.iter().all(|family| family.name.starts_with(names::NGINX_PREFIX)));
}

#[test]
fn the_document_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, names::markdown()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == names::markdown(),
        "docs/metrics.md is out of date: run the tests with UPDATE_GOLDEN=1"
    );
}
