//! The port of the admission webhook among the rest, and its certificate where that comes from files.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::StartError;
use crate::admission::{self, Intake, Webhook};
use crate::cert::Serving;
use crate::config::{Config, WebhookCertificate};
use crate::control::{Hook, Settings};
use crate::listener;
use crate::telemetry::Metrics;

/// How often the files are looked at: whoever writes them (cert-manager, a kubelet) is in no hurry either.
const LOOK: Duration = Duration::from_secs(10);

/// The port, taken and not served yet.
pub(super) struct Port {
    port: listener::Port,
    certificate: WebhookCertificate,
    intake: Intake,
    serving: Serving,
}

/// The webhook at work.
pub(super) struct Running {
    // Ends when dropped.
    _webhook: Webhook,
    _files: Option<Files>,
}

/// Follows the files of the certificate; ends when dropped.
struct Files {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    /// Takes the port, where the flags ask for one.
    pub(super) fn bind(config: &Config) -> Result<Option<Self>, StartError> {
        let Some(webhook) = &config.webhook else { return Ok(None) };
        let port = listener::bind(webhook.address, "--validating-webhook")?;
        let certificate = webhook.certificate.clone();
        Ok(Some(Self { port, certificate, intake: Intake::new(), serving: Serving::default() }))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Follows what is served.
    pub(super) fn hook(&self) -> Hook {
        self.intake.hook()
    }

    /// Where the certificate is put when it is made here.
    pub(super) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Serves.
    pub(super) fn start(self, settings: Settings, metrics: &Metrics) -> Result<Running, StartError> {
        let failed = |source| StartError::Thread { what: "the admission webhook", source };
        let files = match &self.certificate {
            WebhookCertificate::Files { certificate, key } => {
                Some(Files::follow(certificate, key, self.serving.clone()).map_err(failed)?)
            }
            WebhookCertificate::Own { .. } => None,
        };
        let mut listeners = self.port.listen(1)?;
        let listener = listeners.pop().ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let webhook = admission::start(listener, &self.serving, settings, &self.intake, metrics.clone());
        Ok(Running { _webhook: webhook.map_err(failed)?, _files: files })
    }
}

// === impl Files ===

impl Files {
    fn follow(certificate: &Path, key: &Path, serving: Serving) -> std::io::Result<Self> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let (stop, stopped) = mpsc::channel();
        let mut last = None;
        let mut told = String::new();
        let mut look = move || {
            let pair = std::fs::read(&certificate).and_then(|chain| Ok((chain, std::fs::read(&key)?)));
            let outcome = match pair {
                Ok(pair) if last.as_ref() == Some(&pair) => return,
                Ok((chain, key)) => {
                    let outcome = serving.put(&chain, &key).map(drop);
                    last = Some((chain, key));
                    outcome
                }
                Err(error) => Err(error.to_string()),
            };
            match outcome {
                Ok(()) => {
                    tracing::info!("the webhook has its certificate");
                    told.clear();
                }
                // The pair before it, if there was one, is shown on.
                Err(reason) if reason != told => {
                    tracing::warn!(certificate = %certificate.display(), reason, "the certificate of the webhook cannot be used");
                    told = reason;
                }
                Err(_told) => {}
            }
        };
        look();
        let run = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK) {
                look();
            }
        };
        let thread = thread::Builder::new().name("webhook-files".into()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported when it happened.
            drop(thread.join());
        }
    }
}
