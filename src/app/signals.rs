//! The process around the proxy: logging, signals, exit code.

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
    let running = match start(config) {
        Ok(running) => running,
        Err(error) => return failed(&error),
    };
    let path = running.error_log_path();
    if let Destination::File(_) = Destination::from_path(&path)
        && let Err(error) = logging.writer().reopen(&Destination::from_path(&path))
    {
        tracing::error!(%error, "error-log-path cannot be opened; this log stays on stderr");
    }
    tracing::info!(http = %running.http(), https = %running.https(), admin = %running.admin(), "serving");
    if let Some(demo) = &demo {
        tell(&demo.introduction(running.http(), running.https(), running.admin()));
    }
    runtime.block_on(until_stopped(running));
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

async fn until_stopped(running: Running) {
    let (Ok(mut term), Ok(mut int), Ok(mut hup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        tracing::error!("signals cannot be received; ending");
        running.kill();
        return;
    };
    loop {
        tokio::select! {
            _ = hup.recv() => running.reread(),
            _ = term.recv() => {
                running.terminate();
                break;
            }
            _ = int.recv() => {
                running.drain_by(DrainPlan::INTERACTIVE);
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
