//! Bounds: how many series there may be, and when they leave.

use super::*;

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
