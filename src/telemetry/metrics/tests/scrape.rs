//! The text of a scrape: its pieces, its form, its names.

use super::*;

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
