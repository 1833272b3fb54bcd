//! Every metric: name, help text, type; and the default buckets. Nothing else in the project spells a metric's name.
//!
//! The first table keeps the names and labels of ingress-nginx, so that dashboards, alerts, Flagger, Argo Rollouts and
//! KEDA go on working; the second one is our own.

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
    /// Sum and count.
    Summary,
}

impl Kind {
    /// The word of the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Full name.
    pub name: &'static str,
    /// Help text, a full sentence.
    pub help: &'static str,
    /// Type.
    pub kind: Kind,
}

/// Prefix of the names that ingress-nginx has; `--exclude-socket-metrics` takes them with or without it.
pub const NGINX_PREFIX: &str = "nginx_ingress_controller_";

/// `--time-buckets`, seconds.
pub const TIME_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// `--length-buckets`, bytes.
pub const LENGTH_BUCKETS: [f64; 10] = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0];
/// `--size-buckets`, bytes.
pub const SIZE_BUCKETS: [f64; 7] = [10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7];
/// Seconds of building and of propagating a table.
pub const BUILD_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

macro_rules! families {
    ($(#[$doc:meta])* $table:ident { $($constant:ident = $kind:ident $name:literal $help:literal;)* }) => {
        $(#[doc = $help] pub static $constant: Family = Family { name: $name, help: $help, kind: Kind::$kind };)*
        $(#[$doc])*
        pub static $table: &[&Family] = &[$(&$constant,)*];
    };
}

families! {
    /// Names that ingress-nginx has.
    NGINX {
        REQUESTS = Counter "nginx_ingress_controller_requests"
            "The total number of client requests.";
        REQUEST_DURATION = Histogram "nginx_ingress_controller_request_duration_seconds"
            "The request processing time in seconds, from the first byte read to the last byte written.";
        RESPONSE_DURATION = Histogram "nginx_ingress_controller_response_duration_seconds"
            "The time spent on receiving the response from the upstream server, of the last try.";
        HEADER_DURATION = Histogram "nginx_ingress_controller_header_duration_seconds"
            "The time spent on receiving the first header from the upstream server, of the last try.";
        CONNECT_DURATION = Histogram "nginx_ingress_controller_connect_duration_seconds"
            "The time spent on establishing a connection with the upstream server, of the last try.";
        REQUEST_SIZE = Histogram "nginx_ingress_controller_request_size"
            "The request length in bytes, with request line, header and body.";
        RESPONSE_SIZE = Histogram "nginx_ingress_controller_response_size"
            "The response length in bytes, with status line, header and body.";
        BYTES_SENT = Histogram "nginx_ingress_controller_bytes_sent"
            "The number of bytes sent to a client. Deprecated, use response_size.";
        UPSTREAM_LATENCY = Summary "nginx_ingress_controller_ingress_upstream_latency_seconds"
            "The time to the first header of the upstream server, per Ingress and Service.";
        PROCESS_CONNECTIONS = Gauge "nginx_ingress_controller_nginx_process_connections"
            "The current number of client connections with state {active, reading, writing, waiting}.";
        PROCESS_CONNECTIONS_TOTAL = Counter "nginx_ingress_controller_nginx_process_connections_total"
            "The total number of connections with state {accepted, handled}.";
        PROCESS_REQUESTS_TOTAL = Counter "nginx_ingress_controller_nginx_process_requests_total"
            "The total number of client requests, with those that no Ingress took.";
        PROCESS_CPU = Counter "nginx_ingress_controller_nginx_process_cpu_seconds_total"
            "The CPU time used, in seconds.";
        PROCESS_READ_BYTES = Counter "nginx_ingress_controller_nginx_process_read_bytes_total"
            "The number of bytes read from storage.";
        PROCESS_WRITE_BYTES = Counter "nginx_ingress_controller_nginx_process_write_bytes_total"
            "The number of bytes written to storage.";
        PROCESS_NUM = Gauge "nginx_ingress_controller_nginx_process_num_procs"
            "The number of processes; always one.";
        PROCESS_RESIDENT = Gauge "nginx_ingress_controller_nginx_process_resident_memory_bytes"
            "The resident memory in bytes.";
        PROCESS_VIRTUAL = Gauge "nginx_ingress_controller_nginx_process_virtual_memory_bytes"
            "The virtual memory in bytes.";
        PROCESS_START = Gauge "nginx_ingress_controller_nginx_process_oldest_start_time_seconds"
            "The start time in seconds since 1970.";
        BUILD_INFO = Gauge "nginx_ingress_controller_build_info"
            "A constant 1 with the version as labels.";
        CONFIG_HASH = Gauge "nginx_ingress_controller_config_hash"
            "A hash of the running configuration.";
        CONFIG_RELOAD_OK = Gauge "nginx_ingress_controller_config_last_reload_successful"
            "Whether the last attempt to take in a configuration was successful.";
        CONFIG_RELOAD_TIME = Gauge "nginx_ingress_controller_config_last_reload_successful_timestamp_seconds"
            "The time of the last configuration taken in, in seconds since 1970.";
        SUCCESS = Counter "nginx_ingress_controller_success"
            "The number of configurations taken in.";
        ERRORS = Counter "nginx_ingress_controller_errors"
            "The number of configurations that could not be taken in.";
        CHECK_SUCCESS = Counter "nginx_ingress_controller_check_success"
            "The number of objects that the admission webhook allowed.";
        CHECK_ERRORS = Counter "nginx_ingress_controller_check_errors"
            "The number of objects that the admission webhook refused.";
        LEADER = Gauge "nginx_ingress_controller_leader_election_status"
            "Whether this instance is the leader.";
        SSL_EXPIRE = Gauge "nginx_ingress_controller_ssl_expire_time_seconds"
            "The end of validity of the certificate of a host, in seconds since 1970.";
        SSL_INFO = Gauge "nginx_ingress_controller_ssl_certificate_info"
            "A constant 1 with facts about the certificate of a host as labels.";
        ORPHAN = Gauge "nginx_ingress_controller_orphan_ingress"
            "Whether an Ingress has no Service (type no-service) or its Service no endpoint (type no-endpoint).";
        ADMISSION_TESTED = Gauge "nginx_ingress_controller_admission_tested_ingresses"
            "The number of Ingresses that the last admission check looked at.";
        ADMISSION_TESTED_TIME = Gauge "nginx_ingress_controller_admission_tested_duration"
            "The time the last admission check spent on testing, in seconds.";
        ADMISSION_RENDER = Gauge "nginx_ingress_controller_admission_render_ingresses"
            "The number of Ingresses that the last admission check compiled.";
        ADMISSION_RENDER_TIME = Gauge "nginx_ingress_controller_admission_render_duration"
            "The time the last admission check spent on compiling, in seconds.";
        ADMISSION_SIZE = Gauge "nginx_ingress_controller_admission_config_size"
            "The size of the object that the last admission check looked at, in bytes.";
        ADMISSION_ROUNDTRIP = Gauge "nginx_ingress_controller_admission_roundtrip_duration"
            "The time of the last admission check from request to answer, in seconds.";
    }
}

families! {
    /// Our own names.
    OWN {
        GENERATION = Gauge "narthex_generation"
            "The generation of the routing table in use; it grows by one with each publication.";
        SNAPSHOT_AGE = Gauge "narthex_snapshot_age_seconds"
            "Seconds since the source of configuration last confirmed what is served.";
        BUILD_SECONDS = Histogram "narthex_table_build_seconds"
            "The time to compile a routing table, in seconds.";
        PROPAGATION_SECONDS = Histogram "narthex_propagation_seconds"
            "The time from the arrival of a change to its publication, in seconds.";
        TABLE_OBJECTS = Gauge "narthex_table_objects"
            "The number of hosts, locations, backends and certificates in the routing table, by kind.";
        DIAGNOSTICS = Gauge "narthex_diagnostics"
            "The number of findings about objects, by severity.";
        QUARANTINED = Counter "narthex_object_quarantined_total"
            "The number of objects set aside because compiling them failed.";
        REMOVALS_HELD = Counter "narthex_removals_held_total"
            "The number of times that most hosts or objects were gone at once and were kept for a second look.";
        SOURCE_CONNECTED = Gauge "narthex_apiserver_connected"
            "Whether the source of configuration can be read; the API server, or the directory of manifests.";
        CONNECTIONS = Gauge "narthex_connections"
            "The number of open client connections.";
        CONNECTION_LIMIT = Gauge "narthex_connection_limit"
            "The number of client connections at which accepting pauses.";
        ACTIVE_REQUESTS = Gauge "narthex_active_requests"
            "The number of requests being served.";
        TUNNELS = Gauge "narthex_tunnels"
            "The number of upgraded connections and of TCP sessions being relayed.";
        TLS_HANDSHAKES_ACTIVE = Gauge "narthex_tls_handshakes_in_progress"
            "The number of TLS handshakes with clients in progress.";
        POOL_IDLE = Gauge "narthex_upstream_connections_idle"
            "The number of pooled upstream connections that wait for a request.";
        POOL_IN_USE = Gauge "narthex_upstream_connections_in_use"
            "The number of upstream connections that carry a request.";
        UDP_SESSIONS = Gauge "narthex_udp_sessions"
            "The number of UDP sessions.";
        SPOOLED = Gauge "narthex_spooled_bytes"
            "The bytes of request bodies in spool files.";
        BUFFERED = Gauge "narthex_buffered_body_bytes"
            "The bytes of bodies held in memory.";
        ACCEPTED = Counter "narthex_connections_accepted_total"
            "The number of client connections accepted.";
        ACCEPT_ERRORS = Counter "narthex_accept_errors_total"
            "The number of failed attempts to accept a connection.";
        ACCEPT_RESTING = Gauge "narthex_accept_resting"
            "The number of listening sockets that accept nothing now, because connections or descriptors are used up.";
        IDLE_SHED = Counter "narthex_idle_connections_shed_total"
            "The number of idle client connections asked to leave because room ran out.";
        HEADER_VALUES_REJECTED = Counter "narthex_header_value_rejected_total"
            "The number of fields left out of a request to a backend because their expanded value was no sound field value.";
        REFUSED = Counter "narthex_connections_refused_total"
            "The number of client connections closed before they carried a request, by reason.";
        BYTES_RECEIVED = Counter "narthex_client_received_bytes_total"
            "The bytes of requests received from clients.";
        BYTES_SENT_TOTAL = Counter "narthex_client_sent_bytes_total"
            "The bytes of responses sent to clients.";
        TLS_HANDSHAKES = Counter "narthex_tls_handshakes_total"
            "The number of TLS handshakes with clients that ended well.";
        TLS_RESUMED = Counter "narthex_tls_handshakes_resumed_total"
            "The number of TLS handshakes with clients that resumed a session.";
        TLS_ERRORS = Counter "narthex_tls_handshake_errors_total"
            "The number of TLS handshakes with clients that failed.";
        UPSTREAM_CONNECTS = Counter "narthex_upstream_connects_total"
            "The number of connections made to endpoints.";
        UPSTREAM_CONNECT_ERRORS = Counter "narthex_upstream_connect_errors_total"
            "The number of connections to endpoints that failed.";
        UPSTREAM_REUSES = Counter "narthex_upstream_reuses_total"
            "The number of requests that went over a pooled connection.";
        UPSTREAM_STALE = Counter "narthex_upstream_stale_connections_total"
            "The number of pooled connections that turned out to be closed when a request was to be sent.";
        RETRIES = Counter "narthex_upstream_retries_total"
            "The number of tries after the first one, by what failed before.";
        RETRIES_DENIED = Counter "narthex_upstream_retries_denied_total"
            "The number of tries that the retry budget forbade.";
        EJECTIONS = Counter "narthex_endpoint_ejections_total"
            "The number of times an endpoint was set aside after failures.";
        TUNNELS_TOTAL = Counter "narthex_tunnels_total"
            "The number of upgraded connections and of TCP sessions that began.";
        TUNNELS_CUT = Counter "narthex_tunnels_cut_total"
            "The number of tunnels that the shutdown deadline or a limit cut.";
        SESSIONS = Counter "narthex_stream_sessions_total"
            "The number of ended sessions of TCP and UDP services and of TLS passed through, by protocol and status.";
        SESSION_BYTES_RECEIVED = Counter "narthex_stream_received_bytes_total"
            "The bytes received from clients in such sessions.";
        SESSION_BYTES_SENT = Counter "narthex_stream_sent_bytes_total"
            "The bytes sent to clients in such sessions.";
        DATAGRAMS_DROPPED = Counter "narthex_udp_datagrams_dropped_total"
            "The number of datagrams dropped because a bound was reached or nobody took them.";
        WORKER_STALLS = Counter "narthex_worker_stalls_total"
            "The number of times a worker was held up for 10 ms or longer.";
        UNMATCHED = Counter "narthex_unmatched_requests_total"
            "The number of requests that no Ingress took.";
        LOCAL_REPLIES = Counter "narthex_local_replies_total"
            "The number of answers that were ours, by kind and rule.";
        PANICS = Counter "narthex_panics_total"
            "The number of panics that were contained, by place.";
        DRAINED = Counter "narthex_drained_total"
            "The number of connections, requests and tunnels that ended well during shutdown.";
        CUT = Counter "narthex_cut_total"
            "The number of connections, requests and tunnels that the shutdown deadline cut.";
        DRAIN_PHASE = Gauge "narthex_drain_phase"
            "The phase of shutdown: 0 serving, 1 grace, 2 draining, 3 ending tunnels, 4 cut.";
        LOG_LINES = Counter "narthex_log_lines_total"
            "The number of log lines written, by log.";
        LOG_DROPPED = Counter "narthex_log_lines_dropped_total"
            "The number of log lines lost because the reader was too slow or gone, by log.";
        LOG_ERRORS = Counter "narthex_log_write_errors_total"
            "The number of failed writes of log lines, by log.";
        SPANS = Counter "narthex_spans_total"
            "The number of recorded spans by outcome: exported, dropped (no room), failed (the collector did not take them).";
        SERIES = Gauge "narthex_metrics_series"
            "The number of request series in use, of the limit set by --metrics-series-limit.";
        SERIES_LIMIT = Gauge "narthex_metrics_series_limit"
            "The limit set by --metrics-series-limit.";
        SERIES_DROPPED = Counter "narthex_metrics_series_dropped_total"
            "The number of label combinations that were counted as other because of the limit.";
        MEMORY_BOUND = Gauge "narthex_memory_bound_bytes"
            "The memory that the configured limits can reach together.";
        MEMORY_LIMIT = Gauge "narthex_memory_limit_bytes"
            "The memory that is granted: --memory-limit, else what the control group grants, else that of the machine.";
        WORKERS = Gauge "narthex_workers"
            "The number of worker threads.";
        PROCESS_CPU_SECONDS = Counter "process_cpu_seconds_total"
            "Total user and system CPU time spent in seconds.";
        PROCESS_RSS = Gauge "process_resident_memory_bytes"
            "Resident memory size in bytes.";
        PROCESS_VSIZE = Gauge "process_virtual_memory_bytes"
            "Virtual memory size in bytes.";
        PROCESS_OPEN_FDS = Gauge "process_open_fds"
            "Number of open file descriptors.";
        PROCESS_MAX_FDS = Gauge "process_max_fds"
            "Maximum number of open file descriptors.";
        PROCESS_START_TIME = Gauge "process_start_time_seconds"
            "Start time of the process since unix epoch in seconds.";
        PROCESS_THREADS = Gauge "process_threads"
            "Number of OS threads in the process.";
    }
}

/// `docs/metrics.md`: both tables.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (title, table) in [("Names of ingress-nginx", NGINX), ("Our own", OWN)] {
        text.push_str(&format!("\n## {title}\n\n| metric | type | meaning |\n|---|---|---|\n"));
        for family in table {
            text.push_str(&format!("| `{}` | {} | {} |\n", family.name, family.kind.as_str(), family.help));
        }
    }
    text
}

const INTRODUCTION: &str = "# Metrics

<!-- Written by the tests from src/telemetry/metrics/names.rs: run them with UPDATE_GOLDEN=1. -->

Served at `/metrics` of the admin port as Prometheus text.
Dashboards, alerts and tools made for ingress-nginx find the names and labels they know.

Request metrics carry `controller_class`, `controller_namespace`, `controller_pod`, `namespace`, `ingress`, `service`, \
`canary`, `path`, `host`, `method` and `status`.
Labels come from objects and closed lists, never from clients:

* `host` is the name of the virtual host that took the request: for a wildcard the wildcard, for a rule without host `_`.
  `--metrics-per-host=false` drops the label.
* Requests that no Ingress took are counted by `narthex_unmatched_requests_total` only.
  `--metrics-per-undefined-host` gives up to 1,000 of their hosts series of their own.
* `method` is one of the usual nine, else `OTHER`.
* `status` is the code, or its class with `--report-status-classes`.
* `path` is the path as the Ingress writes it, `canary` the backend of the canary that took the request, else empty.

Upstream times are those of the last try; answers that are ours have none.

`--metrics-series-limit` (50,000) bounds the lines of request metrics.
From four fifths of it on, new combinations of labels keep only `nginx_ingress_controller_requests`; beyond it they are \
counted under `other`, by status class. `narthex_metrics_series_dropped_total` tells.
Series of objects that are gone leave five minutes later.

Differences from ingress-nginx: with retries it records no upstream time, here it is that of the last try; the host of a \
wildcard is the wildcard; `nginx_ingress_controller_ingress_upstream_latency_seconds` (asked for by Flagger) is there \
again and is the time to the first header; native histograms (`--bucket-factor`) are not offered.
";
