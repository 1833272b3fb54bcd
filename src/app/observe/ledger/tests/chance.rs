//! Directories whose files change by chance, of fixed seeds: whatever came, changed, moved or went, what is remembered of
//! the files, of the compilation and of the table is what looking at all of it for the first time gives.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::*;
use crate::cert::{Keeper, self_signed};
use crate::compile::Compiled;
use crate::route::dump;
use crate::standalone::Directory;

/// 2026-01-01.
const NOW: i64 = 1_767_225_600;
const FILES: usize = 6;
const HOSTS: [&str; 7] = ["a.test", "a.test", "b.test", "c.test", "www.a.test", "*.w.test", ""];
const SERVICES: [&str; 5] = ["s1", "s1", "s2", "s3", "missing"];
const ANNOTATIONS: [&str; 20] = [
    "server-alias: 'al.test,*.al.test'",
    "server-alias: 'b.test,~^re[0-9]+$,pre.*'",
    "from-to-www-redirect: 'true'",
    "affinity: cookie",
    "canary: 'true'",
    "default-backend: s2",
    "service-upstream: 'true'",
    "auth-type: basic",
    "auth-secret: users",
    "auth-tls-secret: a/tls",
    "ssl-passthrough: 'true'",
    "ssl-ciphers: 'ECDHE-RSA-AES128-GCM-SHA256'",
    "custom-headers: a/headers",
    "app-root: /start",
    "rewrite-target: /$2",
    "whitelist-source-range: nonsense",
    "server-snippet: 'set $told yes;'",
    "stream-snippet: 'server { listen 9100; return ok; }'",
    "load-balance: ewma",
    "permanent-redirect: 'https://elsewhere.test'",
];
const SETTINGS: [&str; 5] = [
    "{}",
    "{}",
    "{ssl-redirect: 'false', log-format-upstream: '$status $told $nobody'}",
    "{host-ownership: first-namespace}",
    "{allow-snippet-annotations: 'true', annotations-risk-level: Critical, log-format-upstream: '$told'}",
];

struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// Certificates that Secrets may hold, with keys, as lines of a manifest.
fn pairs() -> Vec<String> {
    let pair = |names: &[&str]| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let chain = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
        let of = |name: &str, text: &str| format!("{name}: {}", serde_json::Value::from(text));
        let (chain, key) = (chain.replace('\r', ""), key.serialize_pem().replace('\r', ""));
        format!("{}, {}, {}", of("tls.crt", &chain), of("tls.key", &key), of("ca.crt", &chain))
    };
    vec![pair(&["a.test", "www.a.test"]), pair(&["b.test", "*.w.test", "al.test"])]
}

/// One of the objects that there may be, as chance has it now.
fn object(id: usize, pairs: &[String], chance: &mut Chance) -> String {
    let namespace = ["a", "b"][id % 2];
    let number = id / 2;
    let mut yaml = String::new();
    let mut head = |api: &str, kind: &str, name: &str, namespace: &str| {
        write!(yaml, "apiVersion: {api}\nkind: {kind}\nmetadata:\n  name: {name}\n").unwrap();
        if !namespace.is_empty() {
            writeln!(yaml, "  namespace: {namespace}").unwrap();
        }
    };
    match number {
        0..5 => {
            head("networking.k8s.io/v1", "Ingress", &format!("i{number}"), namespace);
            ingress_body(&mut yaml, chance);
        }
        5..7 => {
            head("v1", "Service", &format!("s{}", number - 4), namespace);
            let port = chance.of(&[80, 80, 80, 81]);
            writeln!(yaml, "spec: {{clusterIP: 10.0.0.{number}, ports: [{{port: {port}}}]}}").unwrap();
        }
        7..9 => {
            head("discovery.k8s.io/v1", "EndpointSlice", &format!("e{number}"), namespace);
            let all = ["", "{addresses: [10.1.0.1]}", "{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}"];
            let all = chance.of(&all);
            writeln!(yaml, "  labels: {{kubernetes.io/service-name: s{}}}", number - 6).unwrap();
            writeln!(yaml, "addressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{all}]").unwrap();
        }
        9 => {
            head("v1", "Secret", "tls", namespace);
            let pair = pairs.get(chance.below(3)).map_or("tls.crt: nonsense", String::as_str);
            writeln!(yaml, "type: kubernetes.io/tls\nstringData: {{{pair}}}").unwrap();
        }
        10 => {
            head("v1", "Secret", "users", namespace);
            let users = chance.of(&["auth: 'u:{PLAIN}p'", "auth: 'u:{PLAIN}q'", "other: x"]);
            writeln!(yaml, "stringData: {{{users}}}").unwrap();
        }
        11 if namespace == "a" => {
            head("v1", "ConfigMap", "cfg", namespace);
            writeln!(yaml, "data: {}", chance.of(&SETTINGS)).unwrap();
        }
        11 => {
            head("v1", "ConfigMap", "tcp", "a");
            writeln!(yaml, "data: {}", chance.of(&["{}", "{'9000': 'a/s1:80'}", "{'9000': 'b/s2:80'}"]))
                .unwrap();
        }
        12 if namespace == "a" => {
            head("v1", "ConfigMap", "headers", namespace);
            writeln!(yaml, "data: {}", chance.of(&["{X-One: a}", "{X-One: b, X-Two: c}"])).unwrap();
        }
        12 => {
            head("networking.k8s.io/v1", "IngressClass", "strict", "");
            let parameters = chance.of(&["", ", parameters: {kind: PathSemantics, name: kubernetes}"]);
            let controller =
                chance.of(&["k8s.io/ingress-nginx", "k8s.io/ingress-nginx", "example.com/other"]);
            writeln!(yaml, "spec: {{controller: {controller}{parameters}}}").unwrap();
        }
        _ => {
            head("v1", "Namespace", namespace, "");
            writeln!(yaml, "  labels: {{turn: '{}'}}", chance.below(3)).unwrap();
        }
    }
    yaml
}

fn ingress_body(yaml: &mut String, chance: &mut Chance) {
    let mut annotations = BTreeMap::new();
    for _ in 0..chance.below(4) {
        let (name, value) = chance.of(&ANNOTATIONS).split_once(": ").unwrap();
        annotations.insert(name, value);
    }
    if annotations.contains_key("canary") {
        annotations.insert("canary-weight", "'20'");
    }
    if !annotations.is_empty() {
        writeln!(yaml, "  annotations:").unwrap();
        for (name, value) in annotations {
            writeln!(yaml, "    nginx.ingress.kubernetes.io/{name}: {value}").unwrap();
        }
    }
    let class = chance.of(&["nginx", "nginx", "nginx", "strict", "foreign"]);
    writeln!(yaml, "spec:\n  ingressClassName: {class}").unwrap();
    let backend = |chance: &mut Chance| {
        format!("{{service: {{name: {}, port: {{number: 80}}}}}}", chance.of(&SERVICES))
    };
    if chance.below(5) == 0 {
        writeln!(yaml, "  defaultBackend: {}", backend(chance)).unwrap();
    }
    if chance.below(2) == 0 {
        let secret = chance.of(&["tls", "tls", "absent"]);
        writeln!(yaml, "  tls: [{{hosts: ['{}'], secretName: {secret}}}]", chance.of(&HOSTS[..6])).unwrap();
    }
    writeln!(yaml, "  rules:").unwrap();
    for _ in 0..=chance.below(3) {
        let path = chance.of(&["/", "/a", "/a/b", "/v[0-9]+"]);
        let kind = chance.of(&["Prefix", "Exact", "ImplementationSpecific"]);
        let host = match chance.of(&HOSTS) {
            "" => String::new(),
            host => format!("host: '{host}', "),
        };
        let backend = backend(chance);
        writeln!(
            yaml,
            "  - {{{host}http: {{paths: [{{path: '{path}', pathType: {kind}, backend: {backend}}}]}}}}"
        )
        .unwrap();
    }
}

/// The files of a directory, and what is to be in them.
struct Files {
    root: PathBuf,
    /// By number; the second is how often it was renamed.
    held: BTreeMap<usize, (usize, Vec<String>)>,
    pairs: Vec<String>,
}

impl Files {
    fn path(&self, number: usize, renamed: usize) -> PathBuf {
        // Sometimes before and sometimes after the others.
        self.root.join(format!("{}{number}-{renamed}.yaml", ["m", "a", "z"][renamed % 3]))
    }

    /// One file comes, changes, loses something, goes or gets another name.
    fn change(&mut self, chance: &mut Chance) {
        let number = chance.below(FILES);
        let (renamed, mut objects) = self.held.remove(&number).unwrap_or_default();
        let _ = fs::remove_file(self.path(number, renamed));
        // An object is at home in one file, and now and then it is declared in another one too.
        let id = |chance: &mut Chance| match chance.below(24) {
            0 => chance.below(28),
            _ => (chance.below(28) * FILES + number) % 30,
        };
        let fresh = |chance: &mut Chance| {
            let id = id(chance);
            object(id, &self.pairs, chance)
        };
        let renamed = match chance.below(10) {
            0 => return,
            1 => renamed + 1,
            2 if !objects.is_empty() => {
                objects.remove(chance.below(objects.len()));
                renamed
            }
            3..6 if !objects.is_empty() => {
                let at = chance.below(objects.len());
                objects[at] = fresh(chance);
                renamed
            }
            6..8 => {
                objects.push(fresh(chance));
                renamed
            }
            _ => {
                objects = (0..1 + chance.below(6)).map(|_| fresh(chance)).collect();
                renamed
            }
        };
        if objects.is_empty() {
            return;
        }
        fs::write(self.path(number, renamed), objects.join("---\n")).unwrap();
        self.held.insert(number, (renamed, objects));
    }
}

/// All that a compilation gives, as text.
fn shown(compiled: &Compiled) -> String {
    let Compiled { table, endpoints, diagnostics } = compiled;
    let mut text = dump::table(table, endpoints);
    let prepared = (table.client_certificates, table.own_handshakes, table.passthrough);
    let mut backends: Vec<String> = table.backends.iter().map(|backend| backend.name.to_string()).collect();
    backends.sort();
    writeln!(text, "{prepared:?} {backends:?} {:?}", table.tls).unwrap();
    for found in diagnostics {
        writeln!(text, "{found:?}").unwrap();
    }
    text
}

/// What came of the steps, so that the test can tell that they did something.
#[derive(Default)]
struct Seen {
    duplicates: usize,
    kept: usize,
    prepared: [usize; 3],
    findings: usize,
}

fn follow_directory(seed: u64, root: &Path, pairs: &[String], seen: &mut Seen) {
    let classes = ["nginx", "foreign"].map(|name| {
        let controller = if name == "nginx" { "k8s.io/ingress-nginx" } else { "example.com/other" };
        format!("apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: {name}}}\nspec: {{controller: {controller}}}\n")
    });
    fs::write(root.join("classes.yaml"), classes.join("---\n")).unwrap();
    let options = Options {
        config_map: Some(ObjectKey::new("a", "cfg")),
        default_backend: Some(ObjectKey::new("a", "s1")),
        default_certificate: Some(ObjectKey::new("b", "tls")),
        tcp_services: Some(ObjectKey::new("a", "tcp")),
        ssl_passthrough: true,
        ..Options::default()
    };
    let mut chance = Chance(seed);
    let mut files = Files { root: root.to_owned(), held: BTreeMap::new(), pairs: pairs.to_vec() };
    let mut keeper = Keeper::new(self_signed(NOW).unwrap());
    let (mut directory, mut compiler) = (Directory::new(root), Compiler::new());
    let (mut ledger, mut there) = (Ledger::default(), There::default());
    let mut last: Option<Arc<Table>> = None;
    for step in 0..60 {
        for _ in 0..=chance.below(3) {
            files.change(&mut chance);
        }
        let reading = directory.read(Instant::now()).unwrap();
        let first = Directory::new(root).read(Instant::now()).unwrap();
        let case = format!("seed {seed}, step {step}");
        assert_eq!(reading.world, first.world, "{case}");
        assert_eq!(reading.diagnostics, first.diagnostics, "{case}");
        let certificates = keeper.judge(&reading.world.secrets, None, NOW).catalog;
        let inputs = Inputs { world: &reading.world, certificates: &certificates, options: &options };
        let compiled = compiler.compile(&inputs);
        let scratch = Compiler::new().compile(&Inputs { world: &first.world, ..inputs });
        assert_eq!(shown(&compiled), shown(&scratch), "{case}");
        let (table, endpoints) = (&compiled.table, &compiled.endpoints);
        assert_eq!(fingerprint::table(table), fingerprint::table(&scratch.table), "{case}");
        there.take(ledger.follow(table, endpoints));
        let (mut fresh, mut all) = (Ledger::default(), There::default());
        all.take(fresh.follow(table, endpoints));
        assert_eq!(there, all, "{case}");
        let figures = |ledger: &Ledger| (ledger.hosts(), ledger.locations(), ledger.ready());
        assert_eq!(figures(&ledger), figures(&fresh), "{case}");
        assert_eq!(ledger.fingerprint(table), fingerprint::table(table), "{case}");

        seen.duplicates += usize::from(first.diagnostics.iter().any(|found| found.code == "DuplicateObject"));
        seen.kept += usize::from(last.as_ref().is_some_and(|last| Arc::ptr_eq(last, table)));
        for (count, is) in
            seen.prepared.iter_mut().zip([table.client_certificates, table.own_handshakes, table.passthrough])
        {
            *count += usize::from(is);
        }
        seen.findings += compiled.diagnostics.len();
        last = Some(Arc::clone(table));
    }
}

#[test]
fn whatever_becomes_of_a_directory_what_is_remembered_is_what_is_there() {
    let (pairs, mut seen) = (pairs(), Seen::default());
    for seed in 1..=12 {
        let root = tempfile::tempdir().unwrap();
        follow_directory(seed, root.path(), &pairs, &mut seen);
    }
    let Seen { duplicates, kept, prepared, findings } = seen;
    assert!(duplicates > 20 && kept > 20 && findings > 100, "{duplicates} {kept} {findings}");
    assert!(prepared.iter().all(|count| *count > 20 && *count < 700), "{prepared:?}");
}
