//! The kubectl plugin: this program under the name `kubectl-narthex` (or `kubectl-ingress_nginx`), with the verbs of the
//! plugin of ingress-nginx. It runs `kubectl`, so access and contexts are those of its user; what only the controller
//! knows comes from `dbg` in its container.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::text::printable;
use super::{BAD_NEWS, OK};

/// Arguments of the plugin.
#[derive(Debug, Args)]
pub(super) struct PluginArgs {
    /// Namespace of the controller; for `ingresses`, of the Ingresses
    #[arg(short, long, value_name = "NAME", global = true)]
    namespace: Option<String>,
    /// Deployment of the controller
    #[arg(long, value_name = "NAME", default_value = "ingress-nginx-controller", global = true)]
    deployment: String,
    /// A Pod instead of the Deployment
    #[arg(long, value_name = "NAME", global = true)]
    pod: Option<String>,
    /// The first Pod with these labels instead of the Deployment
    #[arg(short = 'l', long, value_name = "LABELS", global = true, conflicts_with = "pod")]
    selector: Option<String>,
    /// Container of the Pod
    #[arg(long, value_name = "NAME", default_value = "controller", global = true)]
    container: String,
    /// Context of kubectl
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// Configuration file of kubectl
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<OsString>,
    /// The program to run as kubectl
    #[arg(long, value_name = "PROGRAM", default_value = "kubectl", hide = true, global = true)]
    kubectl: OsString,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Backends that the controller knows, with their endpoints
    Backends {
        /// One backend
        #[arg(long, value_name = "NAME")]
        backend: Option<String>,
        /// Only names
        #[arg(long, conflicts_with = "backend")]
        list: bool,
    },
    /// The certificate that a host presents; keys are never told
    Certs {
        /// Name of the host
        #[arg(long, value_name = "HOST")]
        host: String,
    },
    /// The routing table, in place of a configuration file
    Conf {
        /// Only the server of this host
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
    },
    /// Run a command in the controller's container
    Exec {
        /// Pass standard input on
        #[arg(short = 'i', long)]
        stdin: bool,
        /// With a terminal
        #[arg(short = 't', long)]
        tty: bool,
        /// Program and arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// What the controller knows beside backends
    General,
    /// Addresses of the controller's Service
    Info {
        /// The Service
        #[arg(long, value_name = "NAME", default_value = "ingress-nginx-controller")]
        service: String,
    },
    /// Ingresses, one line for each path
    #[command(visible_aliases = ["ingress", "ing"])]
    Ingresses {
        /// Of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// Only rules of this host
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Only paths that lead to this Service
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
    },
    /// What is wrong with objects, as the controller sees them
    Lint,
    /// Logs of the controller
    Logs {
        /// Arguments for `kubectl logs`, such as -f
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        rest: Vec<OsString>,
    },
    /// There is no shell in the image; says what to do instead
    Ssh,
}

/// Why a verb failed; said already where `None`.
type Failure = Option<String>;

pub(super) fn run(args: &PluginArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    match args.serve(out) {
        Ok(code) => Ok(code),
        Err(Some(reason)) => {
            writeln!(err, "error: {}", printable(&reason))?;
            Ok(BAD_NEWS)
        }
        Err(None) => Ok(BAD_NEWS),
    }
}

// === impl PluginArgs ===

impl PluginArgs {
    fn serve(&self, out: &mut dyn Write) -> Result<u8, Failure> {
        let broken = |error: io::Error| Some(format!("cannot write: {error}"));
        match &self.verb {
            Verb::Backends { list: true, .. } => self.dbg(&["backends", "list"]),
            Verb::Backends { backend: Some(name), .. } => self.dbg(&["backends", "get", name]),
            Verb::Backends { .. } => self.dbg(&["backends", "all"]),
            Verb::Certs { host } => self.dbg(&["certs", "get", host]),
            Verb::Conf { host: Some(host) } => self.dbg(&["conf", host]),
            Verb::Conf { host: None } => self.dbg(&["conf"]),
            Verb::General => self.dbg(&["general"]),
            Verb::Lint => self.dbg(&["findings"]),
            Verb::Exec { stdin, tty, command } => {
                let mut flags = Vec::new();
                flags.extend(stdin.then_some("-i"));
                flags.extend(tty.then_some("-t"));
                self.exec(&flags, command)
            }
            Verb::Info { service } => {
                let found = self.json(&["get", "service", service, "-o", "json"])?;
                out.write_all(info(&found).as_bytes()).map_err(broken)?;
                Ok(OK)
            }
            Verb::Ingresses { all_namespaces, host, service } => {
                let scope: &[&str] = if *all_namespaces { &["--all-namespaces"] } else { &[] };
                let list = |kind: &str| self.json(&[&["get", kind, "-o", "json"], scope].concat());
                let (ingresses, slices) = (list("ingresses.networking.k8s.io")?, list("endpointslices.discovery.k8s.io")?);
                let wanted = Wanted { host: host.as_deref(), service: service.as_deref() };
                let table = table(&ingresses, &slices, &wanted, *all_namespaces);
                out.write_all(printable(&table).as_bytes()).map_err(broken)?;
                Ok(OK)
            }
            Verb::Logs { rest } => {
                let target = self.target()?;
                let mut command = self.kubectl();
                command.args(["logs", &target, "-c", &self.container]).args(rest);
                status(command)
            }
            Verb::Ssh => Err(Some(
                "the image has no shell: use `exec -- /dbg …`, or `kubectl debug` with an image of your choice".into(),
            )),
        }
    }

    fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.args(self.kubeconfig.iter().flat_map(|file| [OsString::from("--kubeconfig"), file.clone()]));
        command.args(self.context.iter().flat_map(|name| ["--context", name]));
        command.args(self.namespace.iter().flat_map(|name| ["--namespace", name]));
        command
    }

    /// The Pod or Deployment, as `kubectl exec` and `kubectl logs` take it.
    fn target(&self) -> Result<String, Failure> {
        match (&self.pod, &self.selector) {
            (Some(pod), _) => Ok(format!("pod/{pod}")),
            (None, None) => Ok(format!("deployment/{}", self.deployment)),
            (None, Some(labels)) => {
                let pods = self.json(&["get", "pods", "-l", labels, "-o", "json"])?;
                let running = |pod: &&Value| text(pod, "/status/phase") == "Running";
                let pod = items(&pods, "/items").iter().find(running);
                let pod = pod.ok_or_else(|| Some(format!("no running Pod has the labels {labels}")))?;
                Ok(format!("pod/{}", text(pod, "/metadata/name")))
            }
        }
    }

    fn dbg(&self, words: &[&str]) -> Result<u8, Failure> {
        let command: Vec<OsString> =
            std::iter::once("/dbg").chain(words.iter().copied()).map(OsString::from).collect();
        self.exec(&[], &command)
    }

    fn exec(&self, flags: &[&str], inside: &[OsString]) -> Result<u8, Failure> {
        let target = self.target()?;
        let mut command = self.kubectl();
        command.arg("exec").args(flags).args([&target, "-c", &self.container, "--"]).args(inside);
        status(command)
    }

    fn json(&self, words: &[&str]) -> Result<Value, Failure> {
        let mut command = self.kubectl();
        command.args(words).stdin(Stdio::null()).stderr(Stdio::inherit());
        let ended = command.output().map_err(|error| cannot_run(&self.kubectl, &error))?;
        if !ended.status.success() {
            return Err(None);
        }
        serde_json::from_slice(&ended.stdout).map_err(|_| Some("kubectl does not answer with JSON".into()))
    }
}

fn cannot_run(program: &OsString, error: &io::Error) -> Failure {
    Some(format!("cannot run {}: {error}", program.to_string_lossy()))
}

/// Runs a program on our own streams; its exit code is ours.
fn status(mut command: Command) -> Result<u8, Failure> {
    let program = command.get_program().to_owned();
    let ended = command.status().map_err(|error| cannot_run(&program, &error))?;
    Ok(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(BAD_NEWS))
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn info(service: &Value) -> String {
    let mut said = format!("Service cluster IP address: {}\n", text(service, "/spec/clusterIP"));
    if text(service, "/spec/type") == "LoadBalancer" {
        for one in items(service, "/status/loadBalancer/ingress") {
            let (ip, name) = (text(one, "/ip"), text(one, "/hostname"));
            said.push_str(&format!("LoadBalancer IP|CNAME: {}\n", if ip.is_empty() { name } else { ip }));
        }
    }
    printable(&said)
}

/// Which lines of `ingresses` are wanted.
struct Wanted<'w> {
    host: Option<&'w str>,
    service: Option<&'w str>,
}

/// One line for each path, in columns.
fn table(ingresses: &Value, slices: &Value, wanted: &Wanted<'_>, namespaces: bool) -> String {
    let ready = endpoints(slices);
    let title = [
        "NAMESPACE",
        "INGRESS NAME",
        "HOST+PATH",
        "ADDRESSES",
        "TLS",
        "SERVICE",
        "SERVICE PORT",
        "ENDPOINTS",
    ];
    let mut rows = vec![title.map(str::to_owned)];
    for ingress in items(ingresses, "/items") {
        let namespace = text(ingress, "/metadata/namespace");
        let addresses: Vec<&str> = items(ingress, "/status/loadBalancer/ingress")
            .iter()
            .map(|one| if text(one, "/ip").is_empty() { text(one, "/hostname") } else { text(one, "/ip") })
            .collect();
        let with_tls: Vec<&str> = items(ingress, "/spec/tls")
            .iter()
            .flat_map(|tls| items(tls, "/hosts"))
            .filter_map(Value::as_str)
            .collect();
        let mut line = |host: &str, path: &str, backend: &Value| {
            let service = text(backend, "/service/name");
            if wanted.host.is_some_and(|name| name != host)
                || wanted.service.is_some_and(|name| name != service)
            {
                return;
            }
            let number = backend.pointer("/service/port/number").map(Value::to_string);
            let port = number.unwrap_or_else(|| text(backend, "/service/port/name").to_owned());
            let count = ready.get(&(namespace.to_owned(), service.to_owned())).copied().unwrap_or(0);
            rows.push([
                namespace.to_owned(),
                text(ingress, "/metadata/name").to_owned(),
                format!("{}{path}", if host.is_empty() { "*" } else { host }),
                addresses.join(","),
                if with_tls.contains(&host) { "YES" } else { "NO" }.to_owned(),
                service.to_owned(),
                port,
                count.to_string(),
            ]);
        };
        if let Some(default) = ingress.pointer("/spec/defaultBackend") {
            line("", "", default);
        }
        for rule in items(ingress, "/spec/rules") {
            for path in items(rule, "/http/paths") {
                let none = Value::Null;
                line(text(rule, "/host"), text(path, "/path"), path.pointer("/backend").unwrap_or(&none));
            }
        }
    }
    columns(&rows, usize::from(!namespaces))
}

/// Ready addresses by namespace and Service.
fn endpoints(slices: &Value) -> BTreeMap<(String, String), usize> {
    let mut all = BTreeMap::new();
    for slice in items(slices, "/items") {
        let service = text(slice, "/metadata/labels/kubernetes.io~1service-name");
        let key = (text(slice, "/metadata/namespace").to_owned(), service.to_owned());
        let ready = |one: &&Value| one.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
        let addresses: usize =
            items(slice, "/endpoints").iter().filter(ready).map(|one| items(one, "/addresses").len()).sum();
        let count: &mut usize = all.entry(key).or_default();
        *count = count.saturating_add(addresses);
    }
    all
}

fn columns(rows: &[[String; 8]], from: usize) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..8).map(width).collect();
    let mut said = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).skip(from).map(|(cell, width)| format!("{cell:width$}")).collect();
        said.push_str(cells.join("   ").trim_end());
        said.push('\n');
    }
    said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_tells_its_addresses() {
        let service = json!({ "spec": { "clusterIP": "10.96.0.7", "type": "LoadBalancer" },
            "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.4" }, { "hostname": "lb.test" }] } } });
        assert_eq!(
            info(&service),
            "Service cluster IP address: 10.96.0.7\nLoadBalancer IP|CNAME: 1.2.3.4\nLoadBalancer IP|CNAME: lb.test\n"
        );
        assert_eq!(info(&json!({})), "Service cluster IP address: \n");
    }

    #[test]
    fn ingresses_are_told_path_by_path() {
        let ingresses = json!({ "items": [ {
            "metadata": { "namespace": "default", "name": "web" },
            "spec": {
                "tls": [{ "hosts": ["a.test"] }],
                "rules": [
                    { "host": "a.test", "http": { "paths": [
                        { "path": "/x", "backend": { "service": { "name": "one", "port": { "number": 80 } } } } ] } },
                    { "http": { "paths": [
                        { "path": "/", "backend": { "service": { "name": "two", "port": { "name": "http" } } } } ] } },
                ],
            },
            "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.4" }] } },
        } ] });
        let slices = json!({ "items": [ {
            "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "one" } },
            "endpoints": [
                { "addresses": ["10.0.0.1"], "conditions": { "ready": true } },
                { "addresses": ["10.0.0.2"], "conditions": { "ready": false } },
                { "addresses": ["10.0.0.3"] },
            ],
        } ] });
        let all = Wanted { host: None, service: None };
        assert_eq!(
            table(&ingresses, &slices, &all, true),
            "NAMESPACE   INGRESS NAME   HOST+PATH   ADDRESSES   TLS   SERVICE   SERVICE PORT   ENDPOINTS\n\
             default     web            a.test/x    1.2.3.4     YES   one       80             2\n\
             default     web            */          1.2.3.4     NO    two       http           0\n"
        );
        let one = Wanted { host: None, service: Some("two") };
        let said = table(&ingresses, &slices, &one, false);
        assert!(said.starts_with("INGRESS NAME") && said.lines().count() == 2, "{said}");
    }
}
