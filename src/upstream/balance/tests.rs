//! Values of rings and node maps were computed outside of this code: with the C source of the library that
//! ingress-nginx uses, and with Python's `zlib.crc32` and `hashlib.md5`.

use super::*;
use crate::policy::BackendPolicies;
use crate::policy::affinity::Affinity;
use crate::policy::load_balance::HashBy;
use crate::policy::session_cookie::SessionCookie;
use crate::policy::template::Template;
use crate::route::BackendSlot;

fn peers(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn three() -> Vec<SocketAddr> {
    peers(&["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"])
}

fn set(peers: &[SocketAddr]) -> Arc<EndpointSet> {
    let ready = peers.iter().copied().map(EndpointAddress::Socket).collect();
    Arc::new(EndpointSet { ready, empty_because: "" })
}

fn backend(policies: BackendPolicies) -> Backend {
    let key = BackendKey { namespace: "default".into(), service: "echo".into(), port: "80".into() };
    Backend { key, name: "default-echo-80".into(), slot: BackendSlot(0), policies, canary: None }
}

fn sticky(mode: Mode, change_on_failure: bool) -> Backend {
    backend(BackendPolicies {
        affinity: Some(Affinity { mode, ..Affinity::default() }),
        cookie: SessionCookie { change_on_failure, ..SessionCookie::default() },
        ..BackendPolicies::default()
    })
}

struct Bench {
    balancer: Balancer,
    health: Health,
    now: Instant,
}

impl Bench {
    fn new(seed: u64) -> Self {
        Self { balancer: Balancer::new(Rng::new(seed)), health: Health::new(true), now: Instant::now() }
    }

    fn pick(&self, backend: &Backend, set: &Arc<EndpointSet>, facts: &PickFacts<'_>) -> Option<Picked> {
        self.balancer.pick(backend, set, facts, &self.health, self.now)
    }

    fn address(&self, backend: &Backend, set: &Arc<EndpointSet>, facts: &PickFacts<'_>) -> SocketAddr {
        self.pick(backend, set, facts).unwrap().address
    }
}

#[test]
fn a_ring_leads_where_the_library_of_ingress_nginx_leads() {
    let check = |nodes: &[&str], cases: &[(&str, usize)]| {
        let ring = Ring::new(nodes.to_vec(), |node| (*node).to_owned());
        for (key, node) in cases {
            assert_eq!(ring.find(key), nodes.get(*node).copied(), "{key:?}");
        }
    };
    check(
        &["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"],
        &[
            ("", 0),
            ("a", 2),
            ("/index.html", 0),
            ("1700000001.123.42.777777", 1),
            ("192.168.1.77", 2),
            ("k0", 0),
            ("k1", 1),
            ("k2", 2),
            ("k3", 0),
            ("k4", 0),
            ("k5", 1),
            ("k6", 0),
            ("k7", 2),
        ],
    );
    check(
        &["10.42.0.5:80", "10.42.1.7:80", "[fd00::1]:80", "10.42.2.9:80", "[fd00::2]:80"],
        &[("s0", 2), ("s1", 4), ("s2", 1), ("s3", 3), ("s4", 3), ("s5", 3), ("s6", 4), ("s7", 4), ("s8", 0)],
    );
    check(
        &["set1", "set2", "set3"],
        &[("k0", 2), ("k1", 2), ("k2", 0), ("k3", 1), ("k4", 0), ("k5", 2), ("k6", 1), ("k7", 0)],
    );
    check(&["only"], &[("", 0), ("x", 0)]);
    check(&[], &[("x", 9)]);
}

#[test]
fn endpoints_stand_on_the_ring_under_their_address_and_port() {
    let ring =
        Ring::of(&peers(&["10.42.0.5:80", "10.42.1.7:80", "[fd00::1]:80", "10.42.2.9:80", "[fd00::2]:80"]));
    assert_eq!(ring.find("s0"), Some("[fd00::1]:80".parse().unwrap()));
    assert_eq!(ring.find("s3"), Some("10.42.2.9:80".parse().unwrap()));
}

#[test]
fn round_robin_takes_turns_from_a_random_start() {
    let (backend, peers) = (backend(BackendPolicies::default()), three());
    let set = set(&peers);
    let mut starts = [false; 3];
    for seed in 0..20 {
        let bench = Bench::new(seed);
        let order: Vec<_> = (0..6).map(|_| bench.address(&backend, &set, &PickFacts::default())).collect();
        let start = peers.iter().position(|peer| *peer == order[0]).unwrap();
        starts[start] = true;
        let expected: Vec<_> = (0..6).map(|step| peers[(start + step) % 3]).collect();
        assert_eq!(order, expected);
    }
    assert_eq!(starts, [true; 3]);
}

#[test]
fn round_robin_avoids_tried_and_ill_endpoints_while_others_are_left() {
    let peers = three();
    let check = |wanted: &[usize], tried: &[usize], expected: [usize; 3]| {
        let mut turn = RoundRobin::new(0);
        let found: Vec<_> = (0..3)
            .map(|_| {
                let is = |list: &[usize], peer| list.iter().any(|index| peers[*index] == peer);
                turn.pick(&peers, |peer| is(wanted, peer), |peer| is(tried, peer)).unwrap()
            })
            .collect();
        assert_eq!(found, expected.map(|index| peers[index]), "{wanted:?} {tried:?}");
    };
    check(&[0, 1, 2], &[], [0, 1, 2]);
    check(&[1, 2], &[], [1, 2, 1]);
    check(&[0, 1, 2], &[0], [1, 2, 1]);
    check(&[0], &[0], [1, 2, 1]);
    check(&[0, 1, 2], &[0, 1, 2], [0, 1, 2]);
    check(&[], &[], [0, 1, 2]);
}

#[test]
fn an_empty_set_has_no_endpoint() {
    let bench = Bench::new(1);
    let ewma =
        backend(BackendPolicies { load_balance: Some(LoadBalance::Ewma), ..BackendPolicies::default() });
    for backend in [
        backend(BackendPolicies::default()),
        ewma,
        sticky(Mode::Balanced, true),
        sticky(Mode::Persistent, true),
        hashed(None),
        hashed(Some(3)),
    ] {
        let bench_pick =
            bench.pick(&backend, &set(&[]), &PickFacts { sticky_key: Some("k"), ..PickFacts::default() });
        assert_eq!(bench_pick, None, "{backend:?}");
    }
}

fn hashed(subset: Option<u32>) -> Backend {
    // The text does not matter here: the caller expands it.
    let template = Template::parse("$request_uri").unwrap();
    backend(BackendPolicies { hash_by: Some(HashBy { template, subset }), ..BackendPolicies::default() })
}

#[test]
fn hashing_follows_the_key_and_not_the_tries() {
    let (bench, peers) = (Bench::new(1), three());
    let (backend, set) = (hashed(None), set(&peers));
    for (key, index) in [("k0", 0), ("k1", 1), ("k2", 2), ("", 0)] {
        let facts = PickFacts { hash_key: Some(key), tried: &peers, ..PickFacts::default() };
        assert_eq!(bench.address(&backend, &set, &facts), peers[index], "{key}");
    }
    assert_eq!(bench.address(&backend, &set, &PickFacts::default()), peers[0]);
}

#[test]
fn a_subset_is_fixed_by_the_key_and_chance_chooses_in_it() {
    let peers = peers(&[
        "10.0.0.1:1",
        "10.0.0.2:1",
        "10.0.0.3:1",
        "10.0.0.4:1",
        "10.0.0.5:1",
        "10.0.0.6:1",
        "10.0.0.7:1",
    ]);
    let (bench, backend, set) = (Bench::new(1), hashed(Some(3)), set(&peers));
    // Sets of three: 1 2 3, 4 5 6, and 7 filled up with 1 2. `k2` leads to set1, `k3` to set2, `k0` to set3.
    for (key, members) in [("k2", [0, 1, 2]), ("k3", [3, 4, 5]), ("k0", [6, 0, 1])] {
        let facts = PickFacts { hash_key: Some(key), ..PickFacts::default() };
        let mut found: Vec<_> = (0..60).map(|_| bench.address(&backend, &set, &facts)).collect();
        found.sort_unstable();
        found.dedup();
        let mut expected = members.map(|index| peers[index]);
        expected.sort_unstable();
        assert_eq!(found, expected, "{key}");
    }
}

#[test]
fn a_subset_larger_than_the_backend_is_all_of_it() {
    let subsets = Subsets::new(&three(), u32::MAX);
    let rng = Rng::new(3);
    let mut found: Vec<_> = (0..60).filter_map(|_| subsets.find("k", &rng)).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, three());
}

#[test]
fn ewma_prefers_the_faster_of_two_and_forgets_with_time() {
    let (peers, rng, start) = (&three()[..2], Rng::new(1), Instant::now());
    let mut ewma = Ewma::default();
    ewma.observe(peers[0], Duration::from_secs(1), start);
    ewma.observe(peers[1], Duration::from_millis(10), start);
    let pick = |ewma: &Ewma, now| ewma.pick(peers, |_| true, |_| false, &rng, now);
    for _ in 0..20 {
        assert_eq!(pick(&ewma, start), Some(peers[1]));
    }
    // A slow answer of the other weighs the more the later it comes.
    ewma.observe(peers[1], Duration::from_secs(3), start + Duration::from_secs(30));
    for _ in 0..20 {
        assert_eq!(pick(&ewma, start + Duration::from_secs(30)), Some(peers[0]));
    }
}

#[test]
fn ewma_averages_as_ingress_nginx_does() {
    // 0.5 decayed over 10 s with a sample of 0.1: 0.5/e + 0.1·(1 − 1/e) = 0.24715; a score decays without a sample.
    let (peer, other, start) = (three()[0], three()[1], Instant::now());
    let mut ewma = Ewma::default();
    ewma.observe(peer, Duration::from_millis(500), start);
    let later = start + Duration::from_secs(10);
    ewma.observe(peer, Duration::from_millis(100), later);
    for (millis, expected) in [(247, other), (248, peer)] {
        let mut ewma_with = Ewma::default();
        ewma_with.observe(peer, Duration::from_millis(500), start);
        ewma_with.observe(peer, Duration::from_millis(100), later);
        ewma_with.observe(other, Duration::from_millis(millis), later);
        for seed in 0..10 {
            let found = ewma_with.pick(&[peer, other], |_| true, |_| false, &Rng::new(seed), later);
            assert_eq!(found, Some(expected), "{millis}");
        }
    }
}

#[test]
fn ewma_starts_new_endpoints_at_the_average() {
    let (peers, start) = (three(), Instant::now());
    let mut ewma = Ewma::default();
    ewma.observe(peers[0], Duration::from_secs(1), start);
    ewma.observe(peers[1], Duration::from_secs(3), start);
    ewma.follow(&peers, start);
    let pick = |pair: [usize; 2], seed| {
        ewma.pick(&pair.map(|index| peers[index]), |_| true, |_| false, &Rng::new(seed), start)
    };
    for seed in 0..10 {
        assert_eq!(pick([0, 2], seed), Some(peers[0]));
        assert_eq!(pick([1, 2], seed), Some(peers[2]));
    }
}

#[test]
fn ewma_avoids_tried_endpoints_until_all_were_tried() {
    let (peers, rng, now) = (three(), Rng::new(1), Instant::now());
    let ewma = Ewma::default();
    let pick =
        |tried: &[SocketAddr]| ewma.pick(&peers, |_| true, |peer| tried.contains(&peer), &rng, now).unwrap();
    for _ in 0..20 {
        assert_eq!(pick(&peers[..2]), peers[2]);
        assert!(peers.contains(&pick(&peers)));
    }
}

#[test]
fn the_configmap_chooses_for_backends_that_do_not() {
    let (bench, peers) = (Bench::new(1), three());
    let (backend, set) = (backend(BackendPolicies::default()), set(&peers[..2]));
    let facts = PickFacts { default_balance: LoadBalance::Ewma, ..PickFacts::default() };
    bench.pick(&backend, &set, &facts).unwrap();
    bench.balancer.observe(&backend.key, peers[0], Duration::from_secs(9), bench.now);
    bench.balancer.observe(&backend.key, peers[1], Duration::from_secs(1), bench.now);
    for _ in 0..10 {
        assert_eq!(bench.address(&backend, &set, &facts), peers[1]);
    }
}

#[test]
fn keys_of_persistent_sessions_are_those_of_ingress_nginx() {
    for (peer, key) in [
        ("10.0.0.1:8080", "3721c6907c0f163ab4db663b074ee451"),
        ("10.0.0.2:8080", "cc91bead326a2bfbe81eb5f88d6fa63a"),
        ("[fd00::1]:80", "301f84dcf8038c651a45a8ddc9b29bff"),
    ] {
        let bench = Bench::new(1);
        let peers = peers(&["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:80"]);
        let facts = PickFacts { sticky_key: Some(key), ..PickFacts::default() };
        let picked = bench.pick(&sticky(Mode::Persistent, false), &set(&peers), &facts).unwrap();
        assert_eq!(picked, Picked { address: peer.parse().unwrap(), set_cookie_key: None });
    }
}

#[test]
fn a_session_leads_back_to_its_endpoint() {
    for mode in [Mode::Balanced, Mode::Persistent] {
        for seed in 0..20 {
            let (bench, backend, set) = (Bench::new(seed), sticky(mode, false), set(&three()));
            let first = bench.pick(&backend, &set, &PickFacts::default()).unwrap();
            let key = first.set_cookie_key.expect("a first request gets a cookie");
            let facts = PickFacts { sticky_key: Some(&key), ..PickFacts::default() };
            // On another worker too.
            for bench in [bench, Bench::new(seed + 100)] {
                let next = bench.pick(&backend, &set, &facts).unwrap();
                assert_eq!(next, Picked { address: first.address, set_cookie_key: None }, "{mode:?}");
            }
        }
    }
}

#[test]
fn a_failed_session_stays_unless_it_may_change() {
    for (mode, key) in [(Mode::Balanced, "k0"), (Mode::Persistent, "3721c6907c0f163ab4db663b074ee451")] {
        let (peers, bench) = (three(), Bench::new(1));
        let set = set(&peers);
        let facts = PickFacts { sticky_key: Some(key), tried: &peers[..1], ..PickFacts::default() };
        let stays = bench.pick(&sticky(mode, false), &set, &facts).unwrap();
        assert_eq!(stays, Picked { address: peers[0], set_cookie_key: None }, "{mode:?}");
        let changes = bench.pick(&sticky(mode, true), &set, &facts).unwrap();
        assert!(changes.address != peers[0] && changes.set_cookie_key.is_some(), "{mode:?} {changes:?}");
        // With every endpoint tried the session's own is better than none.
        let facts = PickFacts { tried: &peers, ..facts };
        assert_eq!(bench.address(&sticky(mode, true), &set, &facts), peers[0], "{mode:?}");
    }
}

#[test]
fn a_dead_endpoint_gives_a_persistent_session_a_new_cookie_and_a_balanced_one_another_place() {
    let (peers, bench) = (three(), Bench::new(1));
    let rest = set(&peers[1..]);
    let facts = PickFacts { sticky_key: Some("3721c6907c0f163ab4db663b074ee451"), ..PickFacts::default() };
    let picked = bench.pick(&sticky(Mode::Persistent, false), &rest, &facts).unwrap();
    assert!(peers[1..].contains(&picked.address) && picked.set_cookie_key.is_some());
    let facts = PickFacts { sticky_key: Some("k0"), ..PickFacts::default() };
    let picked = bench.pick(&sticky(Mode::Balanced, false), &rest, &facts).unwrap();
    assert!(peers[1..].contains(&picked.address) && picked.set_cookie_key.is_none());
}

#[test]
fn new_sessions_avoid_endpoints_that_this_request_tried() {
    for mode in [Mode::Balanced, Mode::Persistent] {
        let (peers, set) = (three(), set(&three()));
        for seed in 0..20 {
            let facts = PickFacts { tried: &peers[..2], ..PickFacts::default() };
            assert_eq!(Bench::new(seed).address(&sticky(mode, false), &set, &facts), peers[2], "{mode:?}");
        }
    }
}

#[test]
fn state_survives_snapshots_and_follows_endpoints() {
    let (bench, backend, peers) = (Bench::new(1), backend(BackendPolicies::default()), three());
    let first = bench.address(&backend, &set(&peers), &PickFacts::default());
    // An equal set under another pointer does not restart the turn.
    let second = bench.address(&backend, &set(&peers), &PickFacts::default());
    let third = bench.address(&backend, &set(&peers), &PickFacts::default());
    let mut seen = [first, second, third];
    seen.sort_unstable();
    assert_eq!(seen, peers[..]);
    assert_eq!(bench.address(&backend, &set(&peers[..1]), &PickFacts::default()), peers[0]);
    bench.balancer.retain(|_| false);
    assert!(bench.balancer.is_empty());
}

#[test]
fn ill_endpoints_are_passed_over_but_never_all_of_them() {
    let (bench, backend, peers) = (Bench::new(1), backend(BackendPolicies::default()), three());
    let set = set(&peers);
    bench.health.failed(peers[1], bench.now);
    for _ in 0..6 {
        assert_ne!(bench.address(&backend, &set, &PickFacts::default()), peers[1]);
    }
    bench.health.failed(peers[0], bench.now);
    bench.health.failed(peers[2], bench.now);
    let mut seen: Vec<_> = (0..3).map(|_| bench.address(&backend, &set, &PickFacts::default())).collect();
    seen.sort_unstable();
    assert_eq!(seen, peers);
}
