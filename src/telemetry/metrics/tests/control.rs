//! What the control plane tells, and what workers tell beside requests.

use super::*;

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
