//! The flags of `controller`: how to reach the API server, and what to write back.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Environment;
use super::flags::{OptionalKey, go_bool, optional_key, seconds};
use crate::model::ObjectKey;

/// Shortest `--status-update-interval`.
const SHORTEST_STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest `--election-ttl`: a lease is renewed twice in it, and an API server may take a second.
const SHORTEST_ELECTION_TTL: Duration = Duration::from_secs(4);

/// `--election-ttl` where it is 0.
const DEFAULT_ELECTION_TTL: Duration = Duration::from_secs(30);

/// How the cluster is reached and told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// How to reach the API server.
    pub access: Access,
    /// Namespace of the Lease and of Events about this process: POD_NAMESPACE, else `default`.
    pub namespace: String,
    /// This process among its like: POD_NAME; empty to make one up.
    pub identity: String,
    /// Leader election; `None` when this process is to act as the leader by itself.
    pub election: Option<Election>,
    /// Status of Ingresses; `None` to leave it alone.
    pub status: Option<Status>,
    /// Whether findings become Events; false with `--coexist`.
    pub events: bool,
    /// Whether a changed Ingress is told so by an Event; false with `--disable-sync-events`.
    pub sync_events: bool,
    /// Which Secrets are followed.
    pub secrets: SecretScope,
    /// `--snapshot-dir`: where what is known is kept, for a start while the API server is away.
    pub snapshot_dir: Option<PathBuf>,
}

/// Which Secrets are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretScope {
    /// All of them, wherever Ingresses are followed.
    All,
    /// `--secret-namespaces`: all of these namespaces.
    Namespaces(Vec<String>),
    /// `--secrets-by-reference`: those that our Ingresses and flags name, each by its name.
    Referenced,
}

/// How to reach the API server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--apiserver-host`: replaces the address that kubeconfig or Pod give.
    pub host: Option<String>,
    /// `--certificate-authority`: replaces theirs.
    pub authority: Option<PathBuf>,
}

/// Leader election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// `--election-id`: name of the Lease.
    pub lease: String,
    /// `--election-ttl`: after this time without renewal another process takes over.
    pub ttl: Duration,
}

/// Status of Ingresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whose addresses are written.
    pub source: AddressSource,
    /// `--status-update-interval`.
    pub interval: Duration,
    /// `--update-status-on-shutdown`.
    pub clear_on_shutdown: bool,
}

/// Where the addresses of an Ingress's status come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressSource {
    /// `--publish-service`.
    Service(ObjectKey),
    /// `--publish-status-address`: IP addresses and host names.
    Given(Vec<String>),
    /// The nodes of the controller's own Pods.
    Nodes {
        /// `--report-node-internal-ip-address`.
        internal: bool,
    },
}

/// The flags as written.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterFlags {
    /// File with address and credentials of the API server [default: those of the Pod, or $KUBECONFIG]
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    kubeconfig: OsString,
    /// Address of the API server, over that of the kubeconfig
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    apiserver_host: String,
    /// Certificate authority of the API server, PEM
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    certificate_authority: OsString,
    /// Lease that elects the process which writes status
    #[arg(long, value_name = "NAME", default_value = "ingress-controller-leader")]
    election_id: String,
    /// After this time without renewal another process leads, seconds; less than 4 counts as 4, 0 as 30
    #[arg(long, value_name = "SECONDS", default_value = "30s", value_parser = seconds)]
    election_ttl: Duration,
    /// Write status without asking who leads
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    disable_leader_election: bool,
    /// Write addresses into the status of Ingresses
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    update_status: bool,
    /// Clear the status when the last controller ends
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    update_status_on_shutdown: bool,
    /// How often status is compared, seconds; less than 5 counts as 5
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    status_update_interval: Duration,
    /// Service whose addresses are written into the status of Ingresses
    #[arg(long, value_name = "NS/NAME", value_parser = optional_key)]
    publish_service: Option<OptionalKey>,
    /// Addresses that are written into the status of Ingresses
    #[arg(long, value_name = "ADDR[,ADDR]", default_value = "", hide_default_value = true)]
    publish_status_address: String,
    /// Write internal addresses of nodes rather than external ones
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    report_node_internal_ip_address: bool,
    /// Serve beside another controller of the same class and write nothing: no status, no Events, no Lease
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    coexist: bool,
    /// Write no Event for each changed Ingress
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    disable_sync_events: bool,
    /// Follow Secrets in these namespaces only, so that no right to list all of them is needed
    #[arg(long, value_name = "NS[,NS]", default_value = "", hide_default_value = true)]
    secret_namespaces: String,
    /// Follow only those Secrets that Ingresses and flags name, each by its name, so that no right to list Secrets is needed
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_parser = go_bool, value_name = "BOOL", hide_default_value = true)]
    secrets_by_reference: bool,
    /// Keep what is known, less Secrets, in this directory, and serve it when the API server is away at the start
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    snapshot_dir: OsString,
}

impl ClusterFlags {
    /// What these flags mean.
    ///
    /// # Errors
    /// A sentence about flags that contradict each other.
    pub fn resolve(self, environment: &Environment) -> Result<Cluster, String> {
        let service = self.publish_service.and_then(|key| key.0);
        let given = list(&self.publish_status_address);
        let source = match (service, given.is_empty()) {
            (Some(_), false) => {
                return Err("--publish-service and --publish-status-address exclude each other".into());
            }
            (Some(service), true) => AddressSource::Service(service),
            (None, false) => AddressSource::Given(given),
            (None, true) => AddressSource::Nodes { internal: self.report_node_internal_ip_address },
        };
        // As ingress-nginx: what is too short is no reason not to start.
        let election_ttl = match self.election_ttl {
            Duration::ZERO => DEFAULT_ELECTION_TTL,
            ttl => ttl.max(SHORTEST_ELECTION_TTL),
        };
        if !self.disable_leader_election && self.election_id.is_empty() {
            return Err(
                "--election-id is empty; write --disable-leader-election to lead without a Lease".into()
            );
        }
        let secrets = match (list(&self.secret_namespaces), self.secrets_by_reference) {
            (namespaces, true) if !namespaces.is_empty() => {
                return Err("--secret-namespaces and --secrets-by-reference exclude each other".into());
            }
            (_, true) => SecretScope::Referenced,
            (namespaces, false) if namespaces.is_empty() => SecretScope::All,
            (namespaces, false) => SecretScope::Namespaces(namespaces),
        };
        let file = |path: OsString| Some(path).filter(|path| !path.is_empty()).map(PathBuf::from);
        let namespace = Some(&environment.pod_namespace).filter(|name| !name.is_empty());
        Ok(Cluster {
            access: Access {
                kubeconfig: file(self.kubeconfig),
                host: Some(self.apiserver_host).filter(|host| !host.is_empty()),
                authority: file(self.certificate_authority),
            },
            namespace: namespace.cloned().unwrap_or_else(|| "default".into()),
            identity: environment.pod_name.clone(),
            election: (!self.disable_leader_election && !self.coexist)
                .then_some(Election { lease: self.election_id, ttl: election_ttl }),
            status: (self.update_status && !self.coexist).then_some(Status {
                source,
                interval: self.status_update_interval.max(SHORTEST_STATUS_INTERVAL),
                clear_on_shutdown: self.update_status_on_shutdown,
            }),
            events: !self.coexist,
            sync_events: !self.coexist && !self.disable_sync_events,
            secrets,
            snapshot_dir: file(self.snapshot_dir),
        })
    }
}

/// The parts of a list with commas, less the empty ones.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn resolve(flags: &[&str]) -> Result<Cluster, String> {
        let command = ClusterFlags::augment_args(Command::new("t").args_override_self(true));
        let matches =
            command.try_get_matches_from(["t"].iter().chain(flags)).map_err(|error| error.to_string())?;
        let flags = ClusterFlags::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        flags.resolve(&Environment {
            pod_namespace: "edge".into(),
            pod_name: "pod-1".into(),
            ..Environment::default()
        })
    }

    #[track_caller]
    fn source(flags: &[&str], expect: AddressSource) {
        assert_eq!(resolve(flags).unwrap().status.unwrap().source, expect, "{flags:?}");
    }

    #[track_caller]
    fn fails(flags: &[&str], words: &str) {
        let error = resolve(flags).expect_err("these flags should be refused");
        assert!(error.contains(words), "{flags:?}: {error}");
    }

    #[test]
    fn no_flag_at_all_gives_what_ingress_nginx_does() {
        let cluster = resolve(&[]).unwrap();
        let expect = Cluster {
            access: Access::default(),
            namespace: "edge".into(),
            identity: "pod-1".into(),
            election: Some(Election {
                lease: "ingress-controller-leader".into(),
                ttl: Duration::from_secs(30),
            }),
            status: Some(Status {
                source: AddressSource::Nodes { internal: false },
                interval: Duration::from_secs(60),
                clear_on_shutdown: true,
            }),
            events: true,
            sync_events: true,
            secrets: SecretScope::All,
            snapshot_dir: None,
        };
        assert_eq!(cluster, expect);
    }

    #[test]
    fn addresses_come_from_one_place() {
        source(&["--publish-service=edge/lb"], AddressSource::Service(ObjectKey::new("edge", "lb")));
        source(&["--publish-service="], AddressSource::Nodes { internal: false });
        source(&["--report-node-internal-ip-address"], AddressSource::Nodes { internal: true });
        let given = AddressSource::Given(vec!["192.0.2.1".into(), "lb.example".into()]);
        source(&["--publish-status-address=192.0.2.1, lb.example,"], given);
        fails(&["--publish-service=a/b", "--publish-status-address=192.0.2.1"], "exclude each other");
        fails(&["--publish-service=b"], "namespace/name");
    }

    #[test]
    fn writing_back_can_be_turned_off_and_is_bounded() {
        assert_eq!(resolve(&["--update-status=false"]).unwrap().status, None);
        assert_eq!(resolve(&["--disable-leader-election"]).unwrap().election, None);
        assert_eq!(resolve(&["--election-ttl=1m"]).unwrap().election.unwrap().ttl, Duration::from_secs(60));
        let ttl = |flag: &str| resolve(&[flag]).unwrap().election.unwrap().ttl.as_secs();
        assert_eq!((ttl("--election-ttl=1s"), ttl("--election-ttl=0s")), (4, 30));
        for (text, expect) in [("1m30s", 90), ("1h0m0s", 3600), ("5500ms", 5), ("0.5h", 1800), ("12", 12)] {
            assert_eq!(ttl(&format!("--election-ttl={text}")), expect, "{text}");
        }
        for bad in ["1x", "s", ".s", "1s5", "-1s", "1.2.3s"] {
            fails(&[&format!("--election-ttl={bad}")], "number of seconds");
        }
        let interval = |flag: &str| resolve(&[flag]).unwrap().status.unwrap().interval.as_secs();
        assert_eq!((interval("--status-update-interval=1"), interval("--status-update-interval=9")), (5, 9));
        fails(&["--election-id="], "--disable-leader-election");
    }

    #[test]
    fn secrets_are_followed_everywhere_in_some_namespaces_or_by_name() {
        let secrets = |flags: &[&str]| resolve(flags).unwrap().secrets;
        assert_eq!(secrets(&["--secret-namespaces=,"]), SecretScope::All);
        let some = SecretScope::Namespaces(vec!["a".into(), "b".into()]);
        assert_eq!(secrets(&["--secret-namespaces=a, b"]), some);
        assert_eq!(secrets(&["--secrets-by-reference"]), SecretScope::Referenced);
        fails(&["--secrets-by-reference", "--secret-namespaces=a"], "exclude each other");
    }

    #[test]
    fn who_coexists_writes_nothing() {
        let cluster = resolve(&["--coexist", "--update-status=true"]).unwrap();
        assert_eq!((cluster.election, cluster.status), (None, None));
        assert_eq!((cluster.events, cluster.sync_events), (false, false));
        let cluster = resolve(&["--disable-sync-events"]).unwrap();
        assert_eq!((cluster.events, cluster.sync_events), (true, false));
    }

    #[test]
    fn access_is_taken_as_written() {
        let access = resolve(&["--kubeconfig=k", "--apiserver-host=http://h:1", "--certificate-authority=c"]);
        let expect = Access {
            kubeconfig: Some("k".into()),
            host: Some("http://h:1".into()),
            authority: Some("c".into()),
        };
        assert_eq!(access.unwrap().access, expect);
    }
}
