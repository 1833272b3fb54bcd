//! The process around the proxy: logging, signals, exit code.

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Running, StartError, start};
use crate::config::{Config, LogFormat, Notice, Source};
use crate::demo;
use crate::drain::DrainPlan;
use crate::telemetry::logging::{self, LoggingConfig};
use crate::telemetry::writer::Destination;

/// Runs until told to stop; the exit code.
pub fn run(mut config: Config) -> u8 {
    let logging = LoggingConfig {
        format: match config.logging.format {
            LogFormat::Json => logging::LogFormat::Json,
            LogFormat::Text => logging::LogFormat::Text,
        },
        filter: logging::level_of_verbosity(config.logging.verbosity).to_owned(),
        destination: Destination::Stderr,
    };
    let logging = match logging::start(&logging) {
        Ok(logging) => logging,
        Err(error) => {
            say(&format!("error: {error}"));
            return 1;
        }
    };
    for notice in &config.notices {
        match notice {
            Notice::Info(text) => tracing::info!("{text}"),
            Notice::Warning(text) => tracing::warn!("{text}"),
        }
    }
    let mut demo = None;
    if matches!(config.source, Source::Demo(_)) {
        match demo::prepare(config) {
            Ok((prepared, running)) => {
                config = prepared;
                demo = Some(running);
            }
            Err(error) => {
                say(&format!("error: {error}"));
                return 1;
            }
        }
    }
    let post_grace = config.post_shutdown_grace;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => return failed(&StartError::Thread { what: "the main runtime", source }),
    };
    let signals = {
        let _inside = runtime.enter();
        Signals::new()
    };
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(source) => return failed(&StartError::Thread { what: "the signal handlers", source }),
    };
    let started = match config.source {
        // A cluster may let us wait for long, and we must be able to end meanwhile.
        Source::Cluster(_) => runtime.block_on(start_unless_stopped(config, &mut signals)),
        Source::Demo(_) | Source::Directory(_) => start(config).map(Some),
    };
    let running = match started {
        Ok(Some(running)) => running,
        Ok(None) => return 0,
        Err(error) => return failed(&error),
    };
    running.count_panics();
    let error_log = running.error_log();
    if let Destination::File(_) | Destination::Syslog(_) = error_log
        && let Err(error) = logging.writer().reopen(&error_log)
    {
        tracing::error!(%error, "error-log-path cannot be opened; this log stays on stderr");
    }
    tracing::info!(http = %running.http(), https = %running.https(), admin = %running.admin(), "serving");
    if let Some(demo) = &demo {
        tell(&demo.introduction(running.http(), running.https(), running.admin()));
    }
    // As nginx does: files that were moved away are opened again.
    let reopen = |running: &Running| {
        running.reopen_logs();
        let error_log = running.error_log();
        if let Destination::File(_) | Destination::Syslog(_) = error_log
            && let Err(error) = logging.writer().reopen(&error_log)
        {
            tracing::error!(%error, "error-log-path cannot be opened; this log stays where it was");
        }
    };
    runtime.block_on(until_stopped(running, signals, reopen));
    std::thread::sleep(post_grace);
    0
}

fn failed(error: &StartError) -> u8 {
    say(&format!("error: {error}"));
    error.exit_code()
}

/// To stdout: what `demo` has to say before the access log begins there.
fn tell(text: &str) {
    use std::io::Write;
    let _closed = writeln!(std::io::stdout(), "{text}");
}

/// To stderr, also when logging does not work.
fn say(text: &str) {
    use std::io::Write;
    // Nobody is left to tell when stderr is closed.
    let _closed = writeln!(std::io::stderr(), "{text}");
}

/// The signals that end the process or make it read again.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    usr1: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Starts; `None` when a signal came before anything was served.
async fn start_unless_stopped(config: Config, signals: &mut Signals) -> Result<Option<Running>, StartError> {
    let (sender, started) = tokio::sync::oneshot::channel();
    let run = move || drop(sender.send(start(config)));
    std::thread::Builder::new()
        .name("start".into())
        .spawn(run)
        .map_err(|source| StartError::Thread { what: "the start", source })?;
    tokio::select! {
        started = started => match started {
            Ok(started) => started.map(Some),
            Err(_panicked) => {
                Err(StartError::Thread { what: "the controller", source: std::io::ErrorKind::Other.into() })
            }
        },
        _ = signals.term.recv() => Ok(None),
        _ = signals.int.recv() => Ok(None),
    }
}

async fn until_stopped(running: Running, signals: Signals, reopen: impl Fn(&Running)) {
    let Signals { mut term, mut int, mut hup, mut usr1 } = signals;
    loop {
        tokio::select! {
            _ = hup.recv() => running.reread(),
            _ = usr1.recv() => reopen(&running),
            _ = term.recv() => {
                running.terminate();
                break;
            }
            _ = int.recv() => {
                // Whoever presses Ctrl-C does not want to wait for minutes (F-9).
                if std::io::stdin().is_terminal() {
                    running.drain_by(DrainPlan::INTERACTIVE);
                } else {
                    running.terminate();
                }
                break;
            }
        }
    }
    finish(running, &mut term, &mut int).await;
}

/// Waits for the drain; a further signal ends the grace period, one more ends the process.
async fn finish(running: Running, term: &mut Signal, int: &mut Signal) {
    let mut hurried = false;
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while !running.is_finished() {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = term.recv() => {
                running.hurry();
            }
            _ = int.recv() => {
                if hurried {
                    return;
                }
                hurried = true;
                running.hurry();
            }
        }
    }
    running.join(Duration::from_secs(1));
}
