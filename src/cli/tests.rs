//! Commands as library calls: exit codes, streams, and the shape of JSON.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

mod compatibility;

/// A command line and what became of it.
struct Ran {
    action: Action,
    out: String,
    err: String,
}

impl Ran {
    fn code(&self) -> u8 {
        match &self.action {
            Action::Exit(code) => *code,
            Action::Run(_) => panic!("this command line runs a proxy"),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

fn run(args: &[&str]) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = ["narthex"].iter().chain(args).map(OsString::from);
    let action = main(args, Environment::default(), &mut out, &mut err).unwrap();
    Ran { action, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

const GOOD: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations:
    nginx.ingress.kubernetes.io/ssl-redirect: 'false'
spec:
  ingressClassName: nginx
  tls:
  - hosts: [a.example]
  rules:
  - host: a.example
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {service: {name: app, port: {number: 80}}}
      - path: /api
        pathType: Exact
        backend: {service: {name: api, port: {number: 80}}}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: app-1, labels: {kubernetes.io/service-name: app}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {ports: [{port: 80, targetPort: 8081}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{port: 8081}]
endpoints: [{addresses: [127.0.0.1]}]
";

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> (TempDir, String) {
    let root = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(root.path().join(name), text).unwrap();
    }
    let path = root.path().to_str().unwrap().to_owned();
    (root, path)
}

#[test]
fn clean_manifests_are_exit_code_0() {
    let (_root, path) = directory(&[("a.yaml", GOOD)]);
    let ran = run(&["check", &path]);
    assert_eq!((ran.code(), ran.err.as_str()), (OK, ""), "{}", ran.out);
    assert!(ran.out.ends_with("note\n") || ran.out.ends_with("notes\n"), "{}", ran.out);
    assert!(ran.out.contains("1 file, 5 objects: 0 errors, 0 warnings"), "{}", ran.out);
}

#[test]
fn warnings_alone_are_exit_code_0() {
    let text = GOOD.replace("ssl-redirect", "ssl-rediret");
    let (_root, path) = directory(&[("a.yaml", &text)]);
    let ran = run(&["check", &path]);
    assert_eq!(ran.code(), OK, "{}", ran.out);
    let line = format!("{path}/a.yaml:6: warning: ");
    assert!(ran.out.lines().any(|one| one.starts_with(&line) && one.contains("did you mean")), "{}", ran.out);
}

#[test]
fn errors_are_exit_code_1_with_file_line_object_field_and_reason() {
    let bad = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: bad}\nspec:\n  rules:\n  - http:\n      paths:\n      - path: /\n        pathType: prefix\n        backend: {service: {name: s, port: {number: 80}}}\n";
    let (_root, path) = directory(&[("a.yaml", GOOD), ("b.yaml", bad)]);
    let ran = run(&["check", &path]);
    assert_eq!((ran.code(), ran.err.as_str()), (BAD_NEWS, ""), "{}", ran.out);
    let expect = format!(
        "{path}/b.yaml:9: error: InvalidField Ingress default/bad spec.rules[0].http.paths[0].pathType = \"prefix\": is no path type (hint: use Exact, Prefix or ImplementationSpecific)"
    );
    assert!(ran.out.lines().any(|line| line == expect), "{}", ran.out);
}

#[test]
fn json_holds_every_finding_and_a_summary() {
    let (_root, path) = directory(&[("a.yaml", GOOD), ("b.yaml", "kind: [\n")]);
    let ran = run(&["check", "--output=json", "--print", &path]);
    assert_eq!(ran.code(), BAD_NEWS);
    let answer = ran.json();
    assert_eq!(answer["summary"]["files"], 2);
    assert_eq!(answer["summary"]["objects"], 5);
    assert_eq!(answer["summary"]["errors"], 1);
    let errors: Vec<_> = answer["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|found| found["severity"] == "error")
        .collect();
    assert_eq!(errors.len(), 1);
    let found = errors[0].as_object().unwrap();
    let keys: Vec<_> = found.keys().map(String::as_str).collect();
    assert_eq!(keys, ["code", "field", "file", "hint", "line", "object", "reason", "severity", "value"]);
    assert_eq!(found["file"], format!("{path}/b.yaml"));
    assert_eq!(found["object"]["kind"], "Manifest");
    assert!(answer["table"].as_str().unwrap().contains("server a.example"), "{answer:#}");
}

#[test]
fn print_shows_the_table() {
    let (_root, path) = directory(&[("a.yaml", GOOD)]);
    assert!(run(&["check", "--print", &path]).out.contains("server a.example"));
    assert!(!run(&["check", &path]).out.contains("server a.example"));
}

#[test]
fn wrong_command_lines_are_exit_code_2() {
    let (_root, path) = directory(&[]);
    for (args, words) in [
        (&["check"][..], "PATH"),
        (&["check", "--ouput=json", &path], "--output"),
        (&["check", "/nonexistent/manifests"], "does not exist"),
        (&["chek"], "check"),
        (&["standalone"], "--manifests"),
        (&["standalone", "--manifests", "m", "--http-adr=x"], "--http-addr"),
        (
            &["standalone", "--manifests", "m", "--watch-namespace=a", "--watch-namespace-selector=b"],
            "exclude",
        ),
        (&["explain", "GET", "http://a/"], "--manifests"),
        (&["explain", "--manifests", "/nonexistent/manifests", "GET", "http://a/"], "does not exist"),
        (&["explain", "--manifests", &path, "-H", "no colon", "GET", "http://a/"], "Name: value"),
        (&["explain", "--manifests", &path, "GET", "ftp://a.example/"], "http://"),
        (&["explain", "--manifests", &path, "GET", "a.example/"], "http://"),
        (&["man", "nothing"], "no command"),
    ] {
        let ran = run(args);
        assert_eq!((ran.code(), ran.out.as_str()), (USAGE, ""), "{args:?}");
        assert!(ran.err.contains(words), "{args:?}: {}", ran.err);
    }
}

#[test]
fn standalone_and_demo_become_configurations() {
    let Action::Run(config) =
        run(&["standalone", "--manifests", "m", "--http-addr=127.0.0.1:1", "--http-addr=127.0.0.1:2"]).action
    else {
        panic!("should run")
    };
    assert_eq!((config.source, config.http.port()), (Source::Directory("m".into()), 2));
    let Action::Run(config) = run(&["demo"]).action else { panic!("should run") };
    assert_eq!(config.source, Source::Demo(None));
}

#[test]
fn explain_says_where_a_request_goes() {
    let (_root, path) = directory(&[("a.yaml", GOOD)]);
    let ran = run(&["explain", "--manifests", &path, "--output=json", "GET", "https://A.example/api?x=1"]);
    assert_eq!((ran.code(), ran.err.as_str()), (OK, ""), "{}", ran.out);
    let answer = ran.json();
    assert_eq!(answer["server"], "a.example");
    assert_eq!(answer["outcome"]["kind"], "forward");
    assert_eq!(answer["outcome"]["backend"], "default-api-80");
    assert_eq!(answer["outcome"]["target"], "/api?x=1");
    assert_eq!(answer["outcome"]["endpoints"][0], "127.0.0.1:8081");
    assert!(answer["outcome"]["split"].is_null());
    let locations = answer["locations"].as_array().unwrap();
    let won: Vec<_> = locations.iter().filter(|one| one["won"] == true).collect();
    assert_eq!(won.len(), 1);
    assert!(won[0]["owner"].as_str().unwrap().contains("Ingress default/web"), "{answer:#}");
    assert!(locations.iter().all(|one| !one["because"].as_str().unwrap().is_empty()));
    let text = run(&["explain", "--manifests", &path, "GET", "https://a.example/api?x=1"]);
    assert_eq!(text.out, answer["text"].as_str().unwrap());
}

const CANARY: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: next
  annotations:
    nginx.ingress.kubernetes.io/canary: 'true'
    nginx.ingress.kubernetes.io/canary-weight: '20'
    nginx.ingress.kubernetes.io/canary-by-header: x-next
spec:
  ingressClassName: nginx
  rules:
  - host: a.example
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {service: {name: next, port: {number: 80}}}
---
apiVersion: v1
kind: Service
metadata: {name: next}
spec: {ports: [{port: 80, targetPort: 8082}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: next-1, labels: {kubernetes.io/service-name: next}}
addressType: IPv4
ports: [{port: 8082}]
endpoints: [{addresses: [127.0.0.1]}]
";

#[test]
fn explain_tells_both_ways_where_the_weight_of_a_canary_decides() {
    let (_root, path) = directory(&[("a.yaml", GOOD), ("b.yaml", CANARY)]);
    let explain = |field: &str| {
        run(&["explain", "--manifests", &path, "--output=json", "-H", field, "GET", "http://a.example/"])
            .json()
    };
    let answer = explain("x-other: 1");
    assert_eq!(answer["outcome"]["backend"], "default-app-80");
    assert_eq!(answer["outcome"]["canary"], false);
    let split = &answer["outcome"]["split"];
    assert_eq!((&split["weight"], &split["total"]), (&20.into(), &100.into()), "{answer:#}");
    assert_eq!(
        (&split["backend"], &split["endpoints"][0]),
        (&"default-next-80".into(), &"127.0.0.1:8082".into())
    );
    assert!(answer["text"].as_str().unwrap().contains("or, 20 of 100 requests, to default-next-80 (canary)"));
    for (field, backend, canary) in
        [("x-next: always", "default-next-80", true), ("x-next: never", "default-app-80", false)]
    {
        let answer = explain(field);
        assert_eq!(answer["outcome"]["backend"], backend, "{field}");
        assert_eq!(answer["outcome"]["canary"], canary, "{field}");
        assert!(answer["outcome"]["split"].is_null(), "{field}");
        assert!(answer["text"].as_str().unwrap().contains("the field x-next decides"), "{answer:#}");
    }
}

#[test]
fn explain_takes_a_host_field_over_that_of_the_url() {
    let (_root, path) = directory(&[("a.yaml", GOOD)]);
    let ran = run(&[
        "explain",
        "--manifests",
        &path,
        "--output=json",
        "-H",
        "Host: a.example",
        "GET",
        "https://127.0.0.1/x",
    ]);
    assert_eq!(ran.json()["server"], "a.example");
}

#[test]
fn requests_that_no_table_sees_are_bad_news() {
    let (_root, path) = directory(&[("a.yaml", GOOD)]);
    for (method, url, words) in [
        ("GET", "http://a.example/%zz", "answered 400"),
        ("GET", "http://a..example/", "answered 400"),
        ("TRACE", "http://a.example/", "answered 405"),
    ] {
        let ran = run(&["explain", "--manifests", &path, method, url]);
        assert_eq!(ran.code(), BAD_NEWS, "{url}");
        assert!(ran.err.contains(words), "{url}: {}", ran.err);
    }
}

#[test]
fn version_completions_and_manual_pages_are_printed() {
    assert_eq!(run(&["version"]).out, format!("narthex {VERSION}\n"));
    assert_eq!(run(&["--version"]).out, format!("narthex {VERSION}\n"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).out.contains("standalone"), "{shell}");
    }
    assert!(run(&["man"]).out.contains(".TH narthex"));
    assert!(run(&["man", "check"]).out.contains("--output".replace('-', "\\-").as_str()));
    assert_eq!(run(&["--help"]).code(), OK);
}

#[test]
fn the_name_of_the_program_it_replaces_means_controller() {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut ran = |args: &[&str]| {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let environment =
            Environment { pod_namespace: "edge".into(), pod_name: "pod-1".into(), ..Environment::default() };
        main(args, environment, &mut out, &mut err).unwrap()
    };
    // The arguments of the chart's Deployment, less the ports.
    let action = ran(&[
        "/nginx-ingress-controller",
        "--publish-service=edge/ingress-nginx-controller",
        "--election-id=ingress-nginx-leader",
        "--controller-class=k8s.io/ingress-nginx",
        "--ingress-class=nginx",
        "--configmap=edge/ingress-nginx-controller",
        "--enable-metrics=false",
        "--v=2",
    ]);
    let Action::Run(config) = action else { panic!("the controller runs") };
    let Source::Cluster(cluster) = &config.source else { panic!("{:?}", config.source) };
    assert_eq!((cluster.namespace.as_str(), cluster.identity.as_str()), ("edge", "pod-1"));
    assert_eq!(
        cluster.election.as_ref().map(|election| election.lease.as_str()),
        Some("ingress-nginx-leader")
    );
    assert_eq!(config.admin.to_string(), "0.0.0.0:10254");
    assert_eq!(config.options.allow_upstream, []);
    assert_eq!((config.without_class, config.notices.len()), (None, 0));
    assert!(matches!(ran(&["narthex", "controller"]), Action::Run(_)));
    // There a word beside flags is not looked at: the switch is on.
    match ran(&["/nginx-ingress-controller", "--enable-metrics", "false", "--add_dir_header"]) {
        Action::Run(config) => {
            let told = config.notices.iter().filter(|notice| format!("{notice:?}").contains("the word"));
            assert_eq!(told.count(), 1);
        }
        Action::Exit(code) => panic!("refused with {code}"),
    }
    assert!(matches!(ran(&["/usr/bin/narthex"]), Action::Exit(USAGE)));
    assert!(matches!(ran(&["nginx-ingress-controller", "--version"]), Action::Exit(OK)));
}

/// A program that stands in for kubectl: it writes its arguments down and answers from files beside it.
fn kubectl(answers: &[(&str, &str)]) -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    for (name, answer) in answers {
        fs::write(folder.path().join(name), answer).unwrap();
    }
    let script = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho \"$@\" >> asked\nfor word in \"$@\"; do\n  \
                  [ -f \"$word\" ] && exec cat \"$word\"\ndone\nexit 3\n";
    let program = folder.path().join("kubectl");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn the_plugin_asks_kubectl_in_the_words_of_its_user() {
    const PODS: &str = r#"{"items": [
        {"metadata": {"name": "starting"}, "status": {"phase": "Pending"}},
        {"metadata": {"name": "one"}, "status": {"phase": "Running"}}]}"#;
    const SERVICE: &str = r#"{"spec": {"clusterIP": "10.96.0.7"}}"#;
    let folder = kubectl(&[("pods", PODS), ("service", SERVICE)]);
    let program = folder.path().join("kubectl");
    let ask = |words: &[&str]| {
        let name = [&["plugin", "--kubectl", program.to_str().unwrap()], words].concat();
        run(&name)
    };
    for (words, code, asked) in [
        (
            &["-n", "ingress-nginx", "backends", "--list"][..],
            3,
            "--namespace ingress-nginx exec deployment/ingress-nginx-controller -c controller -- /dbg backends list",
        ),
        (
            &["backends", "--backend", "a-b-80", "--pod", "p"],
            3,
            "exec pod/p -c controller -- /dbg backends get a-b-80",
        ),
        (
            &["certs", "--host", "a.test", "--deployment", "d"],
            3,
            "exec deployment/d -c controller -- /dbg certs get a.test",
        ),
        (
            &["--context", "c", "lint"],
            3,
            "--context c exec deployment/ingress-nginx-controller -c controller -- /dbg findings",
        ),
        (&["general", "-l", "app=x"], 3, "exec pod/one -c controller -- /dbg general"),
        (&["exec", "-i", "--pod", "p", "--", "ls", "-l"], 3, "exec -i pod/p -c controller -- ls -l"),
        (
            &["logs", "--", "-f", "--tail=3"],
            3,
            "logs deployment/ingress-nginx-controller -c controller -f --tail=3",
        ),
        (&["info"], 0, "get service ingress-nginx-controller -o json"),
        (&["ingresses", "-A"], 1, "get ingresses.networking.k8s.io -o json --all-namespaces"),
        (&["ssh"], 1, ""),
    ] {
        let ran = ask(words);
        let log = fs::read_to_string(folder.path().join("asked")).unwrap_or_default();
        assert_eq!(
            (ran.code(), log.lines().last().unwrap_or_default()),
            (code, asked),
            "{words:?} {}",
            ran.err
        );
        fs::write(folder.path().join("asked"), "").unwrap();
    }
    assert_eq!(ask(&["info"]).out, "Service cluster IP address: 10.96.0.7\n");
    let gone = run(&["plugin", "--kubectl", "/no/such/kubectl", "info"]);
    assert!(gone.code() == BAD_NEWS && gone.err.contains("cannot run"), "{}", gone.err);
}

#[test]
fn names_of_the_program_choose_its_command() {
    for (name, expect) in [
        ("/usr/bin/kubectl-narthex", "plugin"),
        ("kubectl-ingress_nginx", "plugin"),
        ("/dbg", "dbg"),
        ("/wait-shutdown", "wait-shutdown"),
        ("/nginx-ingress-controller", "controller"),
        ("narthex", "--version"),
    ] {
        let args = as_controller([name, "--version"].map(OsString::from));
        assert_eq!(args.get(1).and_then(|word| word.to_str()), Some(expect), "{name}");
    }
    let nobody = run(&["dbg", "--admin", "http://127.0.0.1:1", "backends", "list"]);
    assert!(nobody.code() == BAD_NEWS && nobody.err.starts_with("error: cannot ask"), "{}", nobody.err);
}
