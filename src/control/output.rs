//! The end of the loop that every source shares: publish what comes of a world, tell the log and the hooks.

use std::time::{Duration, Instant};

use super::{Beside, Hook, Outcome, Rebuild, Report, Settings, StartError, now};
use crate::cert::{self, Keeper};
use crate::compile::Compiler;
use crate::diagnostic::Diagnostic;
use crate::model::World;
use crate::snapshot::Reader;

/// When it is first looked whether the last request let go of a replaced table, and how often from then on.
const FREE: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];
/// From the freeing of the last replaced table until its memory is given back. mimalloc keeps what is freed for a second,
/// so that who asks again soon gets it without the kernel, and looks at the clock only when more is freed: after the last
/// change nothing is, and tens of megabytes stay.
const GIVE_BACK: Duration = Duration::from_millis(1_500);
/// More than mimalloc keeps in pages for many: when this is freed, it looks.
const LOOK_BYTES: usize = 8 << 20;

/// Publishes worlds.
pub(super) struct Output {
    rebuild: Rebuild<Compiler>,
    beside: Beside,
    hooks: Vec<Hook>,
    review_at: Option<i64>,
    free_at: Option<Instant>,
    give_back_at: Option<Instant>,
}

impl Output {
    /// Publishes the first world. `source` is its name for the log.
    pub(super) fn start(
        settings: Settings,
        beside: &Beside,
        (world, diagnostics): (World, Vec<Diagnostic>),
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
        Ok((
            Self {
                rebuild,
                beside: beside.clone(),
                hooks,
                review_at,
                free_at: None,
                give_back_at: Some(Instant::now() + GIVE_BACK),
            },
            reader,
        ))
    }

    /// When to publish although nothing changes, seconds since 1970.
    pub(super) const fn review_at(&self) -> Option<i64> {
        self.review_at
    }

    /// When to look again for replaced tables that can be freed, or to give their memory back.
    pub(super) fn free_at(&self) -> Option<Instant> {
        self.free_at.into_iter().chain(self.give_back_at).min()
    }

    /// Frees replaced tables once it is time to, and gives their memory back later.
    pub(super) fn free(&mut self, present: Instant) {
        if self.free_at.is_some_and(|at| at <= present) {
            self.free_at = self.rebuild.free().then(|| present + FREE[1]);
            self.give_back_at = Some(present + GIVE_BACK);
        }
        if self.give_back_at.is_some_and(|at| at <= present) {
            self.give_back_at = None;
            // Never written to, so it takes no memory itself.
            drop(std::hint::black_box(Vec::<u8>::with_capacity(LOOK_BYTES)));
        }
    }

    /// Publishes a world whose first change came at `since`.
    pub(super) fn world(&mut self, world: World, mut diagnostics: Vec<Diagnostic>, since: Instant) {
        let began = Instant::now();
        diagnostics.extend_from_slice(&self.beside.lock());
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
