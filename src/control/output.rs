//! The end of the loop that every source shares: publish what comes of a world, tell the log and the hooks.

use std::time::{Duration, Instant};

use super::{Hook, Outcome, Rebuild, Report, Settings, StartError, now};
use crate::cert::{self, Keeper};
use crate::compile::Compiler;
use crate::diagnostic::Diagnostic;
use crate::model::World;
use crate::snapshot::Reader;

/// When it is first looked whether the last request let go of a replaced table, and how often from then on.
const FREE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];

/// Publishes worlds.
pub(super) struct Output {
    rebuild: Rebuild<Compiler>,
    hooks: Vec<Hook>,
    review_at: Option<i64>,
    free_at: Option<Instant>,
}

impl Output {
    /// Publishes the first world. `source` is its name for the log.
    pub(super) fn start(
        settings: Settings,
        world: World,
        diagnostics: Vec<Diagnostic>,
        mut hooks: Vec<Hook>,
        began: Instant,
        source: &str,
    ) -> Result<(Self, Reader), StartError> {
        let keeper = Keeper::new(cert::self_signed(now()).map_err(StartError::Certificate)?);
        let (rebuild, reader, mut report) =
            Rebuild::<Compiler>::start(settings, keeper, world, diagnostics, now())?;
        report.build = began.elapsed();
        let review_at = report.review_at;
        let snapshot = rebuild.current();
        for hook in &mut hooks {
            hook(&snapshot, &report);
        }
        log(&report, source);
        Ok((Self { rebuild, hooks, review_at, free_at: None }, reader))
    }

    /// When to publish although nothing changes, seconds since 1970.
    pub(super) const fn review_at(&self) -> Option<i64> {
        self.review_at
    }

    /// When to look again for replaced tables that can be freed.
    pub(super) const fn free_at(&self) -> Option<Instant> {
        self.free_at
    }

    /// Frees replaced tables once it is time to.
    pub(super) fn free(&mut self, present: Instant) {
        if self.free_at.is_some_and(|at| at <= present) {
            self.free_at = self.rebuild.free().then(|| present + FREE[1]);
        }
    }

    /// Publishes a world whose first change came at `since`.
    pub(super) fn world(&mut self, world: World, diagnostics: Vec<Diagnostic>, since: Instant) {
        let began = Instant::now();
        let outcome = self.rebuild.rebuild(world, diagnostics, now());
        self.tell(outcome, began, since);
    }

    /// Publishes a world in which only EndpointSlices changed. False when that takes [`Output::world`].
    #[must_use]
    pub(super) fn endpoints(&mut self, world: &World, since: Instant) -> bool {
        let began = Instant::now();
        let Some(outcome) = self.rebuild.endpoints(world) else { return false };
        self.tell(outcome, began, since);
        true
    }

    fn tell(&mut self, outcome: Outcome, began: Instant, since: Instant) {
        match outcome {
            Outcome::Published(mut report) => {
                report.build = began.elapsed();
                report.propagation = Some(since.elapsed());
                self.review_at = report.review_at;
                log(&report, "");
                let snapshot = self.rebuild.current();
                for hook in &mut self.hooks {
                    hook(&snapshot, &report);
                }
                self.free_at = Some(Instant::now() + FREE[0]);
            }
            Outcome::Unchanged(report) => self.review_at = report.review_at,
            Outcome::Failed => {
                self.review_at = None;
                tracing::error!(
                    "the compiler fails on these manifests, the last table stays; please report this"
                );
            }
        }
    }
}

fn log(report: &Report, source: &str) {
    let Report { generation, errors, warnings, .. } = report;
    let build_ms = report.build.as_millis();
    let propagation_ms = report.propagation.map_or(0, |time| time.as_millis());
    if source.is_empty() {
        tracing::info!(generation, errors, warnings, build_ms, propagation_ms, "published");
    } else {
        tracing::info!(generation, errors, warnings, build_ms, source, "published the first table");
    }
}
