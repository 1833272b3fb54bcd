use std::collections::VecDeque;

use super::*;
use crate::upstream::tests::local;

/// A resolver that answers from a list, with the number of questions asked.
fn scripted(answers: Vec<Option<Found>>) -> (Resolver, Rc<Cell<usize>>) {
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let answers = Rc::new(RefCell::new(VecDeque::from(answers)));
    let resolver = Resolver::with_lookup(move |_| {
        count.set(count.get() + 1);
        let answer = answers.borrow_mut().pop_front().flatten();
        Box::pin(async move {
            tokio::task::yield_now().await;
            answer
        })
    });
    (resolver, asked)
}

fn found(addresses: &[&str], ttl: u64) -> Option<Found> {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Some(Found { addresses, ttl: Duration::from_secs(ttl) })
}

fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(IpAddr::to_string).collect()
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Makes what is known about `name` older.
fn age(resolver: &Resolver, name: &str, by: Duration) {
    let mut names = resolver.0.names.borrow_mut();
    let known = names.get_mut(name).unwrap();
    known.fresh_until -= by;
    known.good_until -= by;
}

#[test]
fn a_name_is_asked_for_once_per_ttl_and_once_for_all_who_wait() {
    local(async {
        let (resolver, asked) = scripted(vec![found(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 60)]);
        let name = Arc::from("a.test");
        let (one, two) = tokio::join!(resolver.addresses(&name), resolver.addresses(&name));
        assert_eq!(texts(&one), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(one, two);
        assert_eq!(texts(&resolver.addresses(&name).await), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(asked.get(), 1);
    });
}

#[test]
fn an_old_answer_is_renewed_behind_the_requests_back() {
    local(async {
        let (resolver, asked) = scripted(vec![found(&["10.0.0.1"], 60), found(&["10.0.0.9"], 60)]);
        let name = Arc::from("a.test");
        resolver.addresses(&name).await;
        age(&resolver, &name, Duration::from_secs(61));
        for _ in 0..3 {
            assert_eq!(texts(&resolver.addresses(&name).await), ["10.0.0.1"]);
        }
        settle().await;
        assert_eq!((texts(&resolver.addresses(&name).await), asked.get()), (vec!["10.0.0.9".to_owned()], 2));
    });
}

#[test]
fn a_failed_renewal_keeps_the_last_good_answer_for_ten_minutes() {
    local(async {
        let (resolver, _) = scripted(vec![found(&["10.0.0.1"], 60), None, None]);
        let name = Arc::from("a.test");
        resolver.addresses(&name).await;
        age(&resolver, &name, Duration::from_secs(61));
        resolver.addresses(&name).await;
        settle().await;
        assert_eq!(texts(&resolver.addresses(&name).await), ["10.0.0.1"]);
        age(&resolver, &name, LAST_GOOD);
        assert!(resolver.addresses(&name).await.is_empty());
    });
}

#[test]
fn ttls_are_clamped() {
    for (ttl, at_least, at_most) in [(0, 0, 1), (86_400, 299, 300)] {
        local(async {
            let (resolver, _) = scripted(vec![found(&["10.0.0.1"], ttl)]);
            resolver.addresses(&Arc::from("a.test")).await;
            let names = resolver.0.names.borrow();
            let left = names["a.test"].fresh_until.saturating_duration_since(Instant::now()).as_secs();
            assert!((at_least..=at_most).contains(&left), "{left}");
        });
    }
}

#[test]
fn a_name_without_answer_has_no_address_and_is_not_asked_for_at_once_again() {
    local(async {
        let (resolver, asked) = scripted(vec![None, found(&["10.0.0.1"], 60)]);
        let name = Arc::from("a.test");
        assert!(resolver.addresses(&name).await.is_empty());
        assert!(resolver.addresses(&name).await.is_empty());
        assert_eq!(asked.get(), 1);
        age(&resolver, &name, NEGATIVE);
        assert_eq!(texts(&resolver.addresses(&name).await), ["10.0.0.1"]);
    });
}

#[test]
fn local_names_metadata_and_literals_are_never_asked_for() {
    local(async {
        let (resolver, asked) = scripted(Vec::new());
        for name in [
            "localhost",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1",
            "::1",
            "metadata.google.internal",
            "",
            ".",
        ] {
            assert!(resolver.addresses(&Arc::from(name)).await.is_empty(), "{name}");
        }
        assert_eq!(asked.get(), 0);
    });
}

#[test]
fn questions_under_way_are_bounded() {
    local(async {
        let resolver = Resolver::with_lookup(|_| Box::pin(std::future::pending()));
        let names: Vec<Arc<str>> = (0..IN_FLIGHT).map(|number| format!("n{number}.test").into()).collect();
        for name in &names {
            assert!(resolver.ask(name, Instant::now()).is_some());
        }
        assert!(resolver.addresses(&Arc::from("one-more.test")).await.is_empty());
    });
}

#[test]
fn every_resolved_address_is_judged() {
    use crate::route::{EndpointAddress, EndpointSet};
    use crate::upstream::Upstreams;
    use crate::upstream::tests::settings;
    local(async {
        let (resolver, _) = scripted(vec![found(&["10.0.0.1", "169.254.169.254", "127.0.0.1"], 60)]);
        let rule: AddressRule = Rc::new(|address| address.ip().to_string().starts_with("10."));
        let upstreams = Upstreams::with_resolver(
            crate::upstream::Settings { address_rule: rule, ..settings() },
            resolver,
        );
        let set = |ready| Arc::new(EndpointSet { ready, empty_because: "" });
        let named = set(vec![EndpointAddress::Name("a.test".into(), 80)]);
        let resolved = upstreams.endpoints(&named).await;
        assert_eq!(resolved.ready, [EndpointAddress::Socket("10.0.0.1:80".parse().unwrap())]);
        let plain = set(vec![EndpointAddress::Socket("10.0.0.1:80".parse().unwrap())]);
        assert!(Arc::ptr_eq(&upstreams.endpoints(&plain).await, &plain));
    });
}

#[test]
fn listed_name_servers_are_asked_for_absolute_names() {
    local(async {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = server.recv_from(&mut buffer).await {
                let question = &buffer[12..length];
                let name_end = question.iter().position(|byte| *byte == 0).unwrap();
                let is_a = question[name_end + 2] == 1;
                // Header: same id, response, recursion available, one question, and one answer for A.
                let mut reply = buffer[..2].to_vec();
                reply.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
                reply.extend(&question[..name_end + 5]);
                if is_a {
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 10, 9, 8, 7]);
                }
                server.send_to(&reply, from).await.unwrap();
            }
        });
        let resolver = Resolver::new(&NameServers::Listed(vec![address]));
        assert_eq!(texts(&resolver.addresses(&Arc::from("svc.example.test")).await), ["10.9.8.7"]);
    });
}
