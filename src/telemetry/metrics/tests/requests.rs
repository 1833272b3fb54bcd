//! Requests: what each of them counts, under which labels, and what a worker remembers of its route.

use super::*;

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
