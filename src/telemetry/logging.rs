//! The diagnostic log: `tracing` events as lines on stderr, text or JSON.
//!
//! Lines go through a bounded lane of their own (`F-20`), so a stalled stderr never holds a worker up.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::TryInitError;

use super::writer::{Bounds, Destination, Lane, LineWriter, OpenError};

/// Bytes of diagnostic lines that may wait.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Lines that may wait.
const MAX_LINES: usize = 16 * 1024;
/// How long the process waits at its end for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// What the flags say about the diagnostic log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggingConfig {
    /// Form of a line.
    pub format: LogFormat,
    /// Filter, such as `info` or `narthex=debug`; see [`level_of_verbosity`].
    pub filter: String,
    /// Where to; stderr by default, `error-log-path` of the ConfigMap otherwise.
    pub destination: Destination,
}

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The destination cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The filter does not parse.
    #[error("log filter {filter:?} is not understood")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber is installed.
    #[error("logging was started twice")]
    Twice(#[from] TryInitError),
}

/// Keeps logging alive; writes the last lines when dropped.
#[derive(Debug)]
pub struct Logging {
    writer: LineWriter,
}

/// The level that klog's `-v` stands for: 0 and 1 the life cycle, 2 to 4 details, 5 and more everything.
pub const fn level_of_verbosity(verbosity: u8) -> &'static str {
    match verbosity {
        0 | 1 => "info",
        2..=4 => "debug",
        _ => "trace",
    }
}

/// Installs the process-wide subscriber.
///
/// # Errors
/// When the destination cannot be opened, the filter does not parse, or logging was started before.
pub fn start(config: &LoggingConfig) -> Result<Logging, LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|source| LoggingError::Filter { filter: config.filter.clone(), source })?;
    let bounds = Bounds { lanes: 1, lines: MAX_LINES, bytes: MAX_BYTES };
    let writer = LineWriter::start(&config.destination, bounds)?;
    let lane = LaneWriter(Arc::new(writer.lane()));
    let colour = config.destination == Destination::Stderr && io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lane).with_ansi(colour);
    match config.format {
        LogFormat::Text => builder.finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(Logging { writer })
}

impl Logging {
    /// Counters, for metrics.
    pub fn writer(&self) -> &LineWriter {
        &self.writer
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // A reader that is gone must not keep the process alive.
        self.writer.flush(PATIENCE);
    }
}

/// Gives every event a buffer that becomes one line.
#[derive(Debug, Clone)]
struct LaneWriter(Arc<Lane>);

/// One event being written.
#[derive(Debug)]
struct EventLine {
    lane: Arc<Lane>,
    text: Vec<u8>,
}

impl<'w> MakeWriter<'w> for LaneWriter {
    type Writer = EventLine;

    fn make_writer(&'w self) -> EventLine {
        EventLine { lane: Arc::clone(&self.0), text: Vec::new() }
    }
}

impl Write for EventLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for EventLine {
    fn drop(&mut self) {
        let line = self.text.trim_ascii_end();
        if line.is_empty() {
            return;
        }
        self.lane.append(|out| {
            // A value with a line feed would look like another line to log shippers.
            out.extend(line.iter().map(|byte| if *byte == b'\n' || *byte == b'\r' { b' ' } else { *byte }));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verbosity_is_a_filter_that_parses() {
        for verbosity in 0..=10 {
            EnvFilter::try_new(level_of_verbosity(verbosity)).unwrap();
        }
        assert_eq!(level_of_verbosity(0), "info");
    }

    #[test]
    fn one_event_is_one_line_whatever_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        let writer = LineWriter::start(&Destination::File(path.clone()), Bounds::for_lanes(1)).unwrap();
        let lane = LaneWriter(Arc::new(writer.lane()));
        let subscriber = tracing_subscriber::fmt().with_writer(lane).with_ansi(false).without_time().finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(path = "/a\nfaked: line", "first");
            tracing::warn!("second\r\nhalf");
        });
        assert!(writer.close(Duration::from_secs(20)));
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("first") && text.contains("second"), "{text}");
    }

    #[test]
    fn a_bad_filter_is_an_error_that_names_it() {
        let config = LoggingConfig {
            format: LogFormat::Text,
            filter: "narthex=loud=x".to_owned(),
            destination: Destination::Stderr,
        };
        let error = start(&config).unwrap_err();
        assert!(error.to_string().contains("narthex=loud=x"), "{error}");
    }
}
