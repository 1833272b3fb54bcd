//! All wiring, in start order: ports, first table, workers, admin. Nothing else constructs components.
//!
//! [`run`] is the process; [`start`] is the same inside a process that has other things to do (tests, `demo`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cert::Serving;
use crate::config::{Config, PassiveHealth, Source};
use crate::control::{self, Control, Hook};
use crate::controller::{self, Following};
use crate::drain::{DrainPlan, DrainTrigger, Phase};
use crate::limit::{self, Clients, ConnectionLimit, Descriptors};
use crate::listener::{self, BindError};
use crate::policy::global::Globals;
use crate::proxy::client_certificate::Groups;
use crate::proxy::filter::digest::Nonces;
use crate::proxy::filter::external::Answers;
use crate::proxy::filter::limit::Limits;
use crate::proxy::filter::password::Threads;
use crate::proxy::sni;
use crate::proxy::spool::Spool;
use crate::snapshot::Reader;
use crate::telemetry::writer::{Destination, OpenError};
use crate::telemetry::{AccessLog, Metrics};

mod addresses;
mod admin;
mod admission;
mod beside;
mod bounds;
mod findings;
mod observe;
mod panics;
mod ports;
mod signals;
mod worker;

pub use signals::run;

use addresses::Chosen;
use beside::Beside;
use ports::Ports;

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or not ours to take.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The first table cannot be made.
    #[error(transparent)]
    Control(#[from] control::StartError),
    /// The cluster cannot be followed.
    #[error(transparent)]
    Controller(#[from] controller::StartError),
    /// The access log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// No TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// A thread or runtime cannot be made.
    #[error("cannot start {what}: {source}")]
    Thread {
        /// Which.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StartError {
    /// Exit code: 2 for what the command line got wrong, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Control(control::StartError::Directory(_))
            | Self::Controller(controller::StartError::Access(_)) => 2,
            _ => 1,
        }
    }
}

/// A proxy that runs.
pub struct Running {
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
    reader: Reader,
    followed: Arc<AtomicU64>,
    control: Control,
    following: Option<Following>,
    drain: DrainTrigger,
    plan: DrainPlan,
    log: AccessLog,
    beside: Beside,
    metrics: Metrics,
    workers: Vec<JoinHandle<()>>,
    admin_server: admin::Server,
    // Answers until the end: an API server that finds nobody refuses every change.
    _webhook: Option<admission::Running>,
}

/// Starts everything and returns once requests are served.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub fn start(mut config: Config) -> Result<Running, StartError> {
    // One cryptographic provider for the process; a second start in it (tests) finds it installed.
    let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let descriptors = Descriptors::raise().unwrap_or_else(|_kept| Descriptors::current());

    // What the command line got wrong is said before any port is taken.
    if let Source::Directory(directory) = &config.source {
        crate::standalone::manifest_paths(directory).map_err(control::StartError::from)?;
    }

    // Ports first: the table refuses backends that are ourselves, and redirects name the real ports.
    let http = hold(&config, config.http, "--http-addr")?;
    let https = hold(&config, config.https, "--https-addr")?;
    let admin = listener::bind(config.admin, "--admin-addr")?;
    let webhook = admission::Port::bind(&config)?;
    let mut addresses = vec![http.address, https.address, admin.address];
    addresses.extend(webhook.as_ref().map(admission::Port::address));
    config.options.own_addresses = listener::own::everywhere(&addresses);
    (config.options.http_port, config.options.https_port) = (http.address.port(), https.address.port());

    let metrics = Metrics::new(observe::metrics_config(&config));
    let drain = DrainTrigger::new();
    let admin_address = admin.address;
    // Before the first table: probes hear "not ready" instead of nothing.
    let admin_server = admin::start(admin, &config, &metrics, &drain)?;
    let settings = control::Settings::of(&config);
    let log_formats = observe::LogFormats::new(config.logging.format);
    let (ports_hook, published) = ports::hook();
    let mut beside = Beside::new(&config, &metrics);
    let mut hooks =
        vec![observe::metrics_hook(metrics.clone()), log_formats.hook(), findings::hook(), ports_hook];
    hooks.push(admin_server.hook());
    hooks.extend(beside.hooks());
    hooks.extend(webhook.as_ref().map(admission::Port::hook));
    let followed = Arc::new(AtomicU64::new(0));
    hooks.push(last_hook(Arc::clone(&followed)));
    let serving = webhook.as_ref().map(admission::Port::serving);
    let (control, reader, following) = follow(&config, settings, &metrics, serving, hooks)?;
    let first = reader.load();
    let globals = &first.table.globals;

    let count = worker_count(&config, globals);
    let log = AccessLog::open(&observe::destination(globals, &globals.access_log_path), count)?;
    metrics.add_log("access", log.writer());
    log_formats.begin(log.clone(), &first);

    let per_worker = usize::try_from(globals.max_worker_connections).unwrap_or(limit::CONNECTIONS_PER_WORKER);
    let connections = ConnectionLimit::new(limit::connection_cap(per_worker, count, descriptors.soft));
    let memory = bounds::memory(&config, globals, &connections, &metrics)?;
    let reach = Arc::new(config.options.reach());
    let shared = worker::Shared {
        reader: reader.clone(),
        tls: Arc::new(sni::Configs::new(reader.clone(), globals)?),
        client_groups: Groups::new(reader.clone(), Arc::clone(globals)),
        connections,
        memory,
        clients: Clients::default(),
        drain: drain.clone(),
        metrics: metrics.clone(),
        log: log.clone(),
        spans: beside.spans.clone(),
        places: beside.places.clone(),
        dns: config.dns.clone(),
        passive_health: config.passive_health == PassiveHealth::On,
        reach: Arc::clone(&reach),
        listeners: [http.address.port(), https.address.port()],
        workers: count,
        passthrough_proxy_protocol: config.passthrough_proxy_protocol,
        passwords: Threads::new(count),
        nonces: Nonces::default(),
        auth_answers: Answers::default(),
        limits: Limits::new(),
        spool: Spool::new(),
    };
    let (http_address, https_address) = (http.address, https.address);
    let (changes, told): (Vec<_>, Vec<_>) =
        (0..count).map(|_| tokio::sync::mpsc::unbounded_channel()).unzip();
    let (for_http, for_https) = Chosen::of(&config, http_address, https_address);
    let mut ports = Ports::new(for_http, for_https, changes);
    ports.listen(&first.table)?;
    drop((http, https));
    let workers = told.into_iter().enumerate();
    let workers = workers
        .map(|(index, changes)| worker::spawn(index, changes, shared.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let told = (config.options.config_map.clone(), control.beside());
    ports.start(reader.clone(), published, drain.clone(), told)?;
    let webhook = webhook.map(|port| port.start(control::Settings::of(&config), &metrics)).transpose()?;
    beside.start(&reader, &reach)?;
    admin_server.ready(reader.clone());
    Ok(Running {
        http: http_address,
        https: https_address,
        admin: admin_address,
        plan: DrainPlan { grace: config.shutdown_grace, deadline: globals.worker_shutdown_timeout },
        reader,
        followed,
        control,
        following,
        drain,
        log,
        beside,
        metrics,
        workers,
        admin_server,
        _webhook: webhook,
    })
}

/// Holds a port of requests. The ConfigMap may name addresses where it is free though somebody has it on another one: the
/// first table tells, and [`Ports::listen`] fails where it does not.
fn hold(config: &Config, address: SocketAddr, flag: &'static str) -> Result<listener::Port, BindError> {
    if config.options.config_map.is_none() {
        return listener::bind(address, flag);
    }
    let (port, taken) = listener::bind_or_leave(address, flag)?;
    if let Some(error) = taken {
        tracing::warn!(%error, "only addresses that the ConfigMap names can be listened on");
    }
    Ok(port)
}

/// Begins to follow the objects; returns once the first table is published.
fn follow(
    config: &Config,
    settings: control::Settings,
    metrics: &Metrics,
    serving: Option<&Serving>,
    hooks: Vec<Hook>,
) -> Result<(Control, Reader, Option<Following>), StartError> {
    match &config.source {
        Source::Directory(directory) => {
            let (control, reader) = control::start(directory.clone(), settings, hooks)?;
            Ok((control, reader, None))
        }
        Source::Cluster(cluster) => {
            let (control, reader, following) = controller::start(config, cluster, metrics, serving, hooks)?;
            Ok((control, reader, Some(following)))
        }
        Source::Demo(_) => {
            Err(StartError::Thread { what: "the demo", source: std::io::ErrorKind::Unsupported.into() })
        }
    }
}

/// Remembers the generation that all hooks before it were told of.
fn last_hook(followed: Arc<AtomicU64>) -> Hook {
    Box::new(move |snapshot, _report| followed.store(snapshot.generation, Ordering::Release))
}

/// `--workers`, else `worker-processes`, else one for each CPU.
fn worker_count(config: &Config, globals: &Globals) -> usize {
    let of_map = || globals.worker_processes.map(|count| usize::try_from(count).unwrap_or(1));
    config.workers.map(std::num::NonZero::get).or_else(of_map).unwrap_or_else(limit::default_workers)
}

// === impl Running ===

impl Running {
    /// The clear-text listener.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The TLS listener.
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// The admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Counts every panic of the process from now on.
    pub(crate) fn count_panics(&self) {
        panics::count(self.metrics.clone());
    }

    /// Generation of the published snapshot, once logs, metrics and whoever else follows publications knows it too.
    pub fn generation(&self) -> u64 {
        self.followed.load(Ordering::Acquire)
    }

    /// Where the ConfigMap has the error log go.
    pub(crate) fn error_log(&self) -> Destination {
        let snapshot = self.reader.load();
        let globals = &snapshot.table.globals;
        observe::destination(globals, &globals.error_log_path)
    }

    /// Reads every manifest again at once (SIGHUP).
    pub fn reread(&self) {
        self.control.reread();
    }

    /// Opens the files of the access log again (SIGUSR1).
    pub fn reopen_logs(&self) {
        observe::reopen(&self.log, &self.reader.load());
    }

    /// True once every worker ended.
    pub fn is_finished(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Ends the grace period at once.
    pub fn hurry(&self) {
        self.drain.hurry();
    }

    /// Begins to drain (SIGTERM); returns at once.
    pub fn terminate(&self) {
        self.drain_by(self.plan);
    }

    /// Cuts everything; returns once all workers ended.
    pub fn kill(self) {
        self.drain_by(DrainPlan { grace: Duration::ZERO, deadline: Duration::ZERO });
        self.join(Duration::from_secs(10));
    }

    /// Waits until every worker ended, or `patience` is over; says whether they did.
    pub fn join(mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while self.workers.iter().any(|worker| !worker.is_finished()) {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        for worker in self.workers.drain(..) {
            // A panic of a worker was reported when it happened.
            let _reported = worker.join();
        }
        self.log.close(Duration::from_secs(1));
        self.beside.close();
        self.admin_server.stop();
        true
    }

    fn drain_by(&self, plan: DrainPlan) {
        if let Some(following) = &self.following {
            following.leave();
        }
        let (drain, metrics) = (self.drain.clone(), self.metrics.clone());
        let run = move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
                return;
            };
            let entered = |phase: Phase| {
                tracing::info!(?phase, "shutting down");
                metrics.control().set_drain_phase(phase as u8);
            };
            let drained = runtime.block_on(drain.run(plan, entered));
            metrics.control().drained(drained.finished, drained.cut);
            tracing::info!(finished = drained.finished, cut = drained.cut, "drained");
        };
        if let Err(error) = std::thread::Builder::new().name("drain".into()).spawn(run) {
            tracing::error!(%error, "cannot start the drain, ending at once");
            std::process::exit(1);
        }
    }
}

/// Reads a command line that runs a proxy (program name first), for tests and `demo`.
///
/// # Errors
/// What the command line got wrong, as it would be printed.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Config, String> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = args.into_iter().map(Into::into);
    match crate::cli::main(args, crate::config::Environment::of_process(), &mut out, &mut err) {
        Ok(crate::cli::Action::Run(config)) => Ok(*config),
        Ok(crate::cli::Action::Exit(_)) => Err(String::from_utf8_lossy(&[out, err].concat()).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}
