//! From a world to a published snapshot. Owns the compiler, the pairs and the one publisher; knows no clock and no
//! files, so that tests can drive it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::quarantine::{Compile, Quarantine};
use super::{Completion, Settings};
use crate::cert::Keeper;
use crate::compile::class::{Classes, Verdict};
use crate::compile::{Inputs, LastGood, Options, missing};
use crate::diagnostic::{Diagnostic, Severity};
use crate::limit::priority::breathe;
use crate::model::{CertCatalog, Ingress, Kind, ObjectKey, ObjectRef, Origin, SharedMap, World};
use crate::snapshot::{self, Publisher, Reader, Snapshot};
use crate::standalone;

/// What a table was made of: enough to ask what another object would come to (`admission`).
#[derive(Debug, Clone, PartialEq)]
pub struct Sources {
    /// Objects, less what the namespace selector leaves out.
    pub world: World,
    /// Certificates of its Secrets.
    pub certificates: CertCatalog,
    /// Flags, as the objects complete them.
    pub options: Options,
}

/// What a rebuild came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Generation that is published now.
    pub generation: u64,
    /// How many objects of each kind there are.
    pub objects: Vec<(Kind, usize)>,
    /// What it was made of. After a change of EndpointSlices alone these may be old ones.
    pub sources: Arc<Sources>,
    /// Ingresses that are ours; empty when objects come from files, where nobody asks.
    pub served: Arc<BTreeSet<ObjectKey>>,
    /// Findings of severity error.
    pub errors: usize,
    /// Findings of severity warning.
    pub warnings: usize,
    /// Secrets whose pair is an old one.
    pub stale_certificates: BTreeSet<ObjectKey>,
    /// Objects that are left out because the compiler fails on them.
    pub quarantined: BTreeSet<ObjectRef>,
    /// Panics of the compiler since start.
    pub panics: u64,
    /// Time spent on certificates and compilation; set by the loop.
    pub build: Duration,
    /// Time from the first change to publication; set by the loop, `None` for the first publication.
    pub propagation: Option<Duration>,
    /// When to rebuild although nothing changes, seconds since 1970.
    pub review_at: Option<i64>,
}

/// Whether a rebuild changed what is served.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A new snapshot.
    Published(Report),
    /// The same as before.
    Unchanged(Report),
    /// The compiler failed on this world as a whole; the last snapshot stays.
    Failed,
}

/// Turns worlds into snapshots, one after the other.
#[derive(Debug)]
pub struct Rebuild<C> {
    settings: Settings,
    keeper: Keeper,
    quarantine: Quarantine<C>,
    last_good: LastGood,
    served: Served,
    publisher: Publisher,
    /// What the last whole build gave; `None` after one that failed, when there is no compiler that knows the table.
    last: Option<Report>,
}

struct Built {
    snapshot: Snapshot,
    report: Report,
}

impl<C: Compile> Rebuild<C> {
    /// Builds the first snapshot and opens the channel to its readers.
    ///
    /// # Errors
    /// When the compiler fails on the world as a whole.
    pub fn start(
        settings: Settings,
        mut keeper: Keeper,
        world: World,
        found: Vec<Diagnostic>,
        now: i64,
    ) -> Result<(Self, Reader, Report), CompilerFailed> {
        let mut quarantine = Quarantine::new();
        let (mut last_good, mut served) = (LastGood::default(), Served::default());
        let memory = Memory {
            keeper: &mut keeper,
            quarantine: &mut quarantine,
            last_good: &mut last_good,
            served: &mut served,
        };
        let built = build(&settings, memory, world, found, now).ok_or(CompilerFailed)?;
        let Built { mut snapshot, mut report } = built;
        snapshot.generation = 1;
        report.generation = 1;
        let (publisher, reader) = snapshot::channel(snapshot);
        let last = Some(report.clone());
        Ok((Self { settings, keeper, quarantine, last_good, served, publisher, last }, reader, report))
    }

    /// Builds a snapshot of a world and publishes it unless it is what is served already. `now` is seconds since 1970.
    pub fn rebuild(&mut self, world: World, found: Vec<Diagnostic>, now: i64) -> Outcome {
        let Self { settings, keeper, quarantine, last_good, served, .. } = self;
        let built = build(settings, Memory { keeper, quarantine, last_good, served }, world, found, now);
        self.last = None;
        let Some(Built { mut snapshot, mut report }) = built else { return Outcome::Failed };
        let current = self.publisher.current();
        if current.diagnostics == snapshot.diagnostics {
            // Whoever follows them sees by their address that nothing is new.
            snapshot.diagnostics = Arc::clone(&current.diagnostics);
        }
        if same(&current, &snapshot) {
            report.generation = current.generation;
            self.last = Some(report.clone());
            return Outcome::Unchanged(report);
        }
        snapshot.generation = current.generation + 1;
        report.generation = snapshot.generation;
        self.last = Some(report.clone());
        self.publisher.publish(snapshot);
        Outcome::Published(report)
    }

    /// Publishes what a change of EndpointSlices comes to. Findings about it come with the next
    /// [`Rebuild::rebuild`]. `None` when it takes that one now: the last build failed or left objects out.
    pub fn endpoints(&mut self, world: &World) -> Option<Outcome> {
        let last = self.last.as_ref()?;
        let current = self.publisher.current();
        // Neither classes nor certificates have a part in where a backend's endpoints are.
        let certificates = CertCatalog::default();
        let inputs = Inputs { world, certificates: &certificates, options: &self.settings.options };
        let Some(endpoints) = self.quarantine.endpoints(&inputs, &current.table) else {
            self.last = None;
            return None;
        };
        let mut report = Report { generation: current.generation, ..last.clone() };
        if endpoints == current.endpoints {
            return Some(Outcome::Unchanged(report));
        }
        report.generation += 1;
        self.publisher.publish(Snapshot {
            generation: report.generation,
            table: Arc::clone(&current.table),
            endpoints,
            certs: Arc::clone(&current.certs),
            diagnostics: Arc::clone(&current.diagnostics),
        });
        Some(Outcome::Published(report))
    }

    /// What is published now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.publisher.current()
    }

    /// Frees replaced tables that no request holds any more; true while some are held.
    pub fn free(&mut self) -> bool {
        self.publisher.free(breathe);
        self.publisher.waits()
    }
}

/// The compiler fails on every part of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the compiler fails on these objects; please report this")]
pub struct CompilerFailed;

/// What is remembered from one build to the next.
struct Memory<'m, C> {
    keeper: &'m mut Keeper,
    quarantine: &'m mut Quarantine<C>,
    last_good: &'m mut LastGood,
    served: &'m mut Served,
}

fn build<C: Compile>(
    settings: &Settings,
    memory: Memory<'_, C>,
    mut world: World,
    mut diagnostics: Vec<Diagnostic>,
    now: i64,
) -> Option<Built> {
    let Memory { keeper, quarantine, last_good, served } = memory;
    let mut options = settings.options.clone();
    match settings.completion {
        Completion::Assume => standalone::complete(&mut world, &mut options, settings.without_class),
        Completion::AsGiven => options.without_class = settings.without_class.unwrap_or(false),
    }
    settings.restrict(&mut world);
    last_good.follow(&world, &mut options);
    let objects = count(&world);
    let served = match settings.completion {
        Completion::Assume => Arc::default(),
        Completion::AsGiven => served.follow(&world, &options),
    };
    let judged = keeper.judge(&world.secrets, options.default_certificate.as_ref(), now);
    diagnostics.extend(judged.diagnostics);
    diagnostics.extend(missing(&options, &world));
    let (compiled, quarantined) = quarantine.compile(&world, &judged.catalog, &options)?;
    diagnostics.extend(compiled.diagnostics);
    diagnostics.extend(quarantined.iter().map(left_out));
    diagnostics.sort_by(|left, right| {
        (&left.object, &left.field, left.code).cmp(&(&right.object, &right.field, right.code))
    });
    let count = |severity| diagnostics.iter().filter(|found| found.severity == severity).count();
    let report = Report {
        generation: 0,
        objects,
        sources: Arc::new(Sources { world, certificates: judged.catalog, options }),
        served,
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        stale_certificates: judged.stale,
        quarantined,
        panics: quarantine.panics(),
        build: Duration::ZERO,
        propagation: None,
        review_at: judged.review_at,
    };
    let snapshot = Snapshot {
        generation: 0,
        table: compiled.table,
        endpoints: compiled.endpoints,
        certs: judged.store,
        diagnostics: diagnostics.into(),
    };
    Some(Built { snapshot, report })
}

/// Which Ingresses are ours, and what that was judged by.
#[derive(Debug, Default)]
struct Served {
    by: Option<(Classes, Options)>,
    ingresses: SharedMap<ObjectKey, Arc<Ingress>>,
    ours: Arc<BTreeSet<ObjectKey>>,
}

impl Served {
    /// Judges what changed; the same value while the same Ingresses are ours.
    fn follow(&mut self, world: &World, options: &Options) -> Arc<BTreeSet<ObjectKey>> {
        let classes = Classes::new(world, options);
        if self.by.as_ref().is_none_or(|(known, by)| *known != classes || by != options) {
            *self = Self { by: Some((classes.clone(), options.clone())), ..Self::default() };
        }
        for key in world.ingresses.differences(&self.ingresses, Arc::ptr_eq) {
            let is_ours =
                |ingress: &Arc<Ingress>| matches!(classes.judge(ingress, options), Verdict::Ours(_));
            let is = world.ingresses.get(key).is_some_and(is_ours);
            if is && !self.ours.contains(key) {
                Arc::make_mut(&mut self.ours).insert(key.clone());
            } else if !is && self.ours.contains(key) {
                Arc::make_mut(&mut self.ours).remove(key);
            }
        }
        self.ingresses = world.ingresses.clone();
        Arc::clone(&self.ours)
    }
}

/// Unchanged parts keep their address; endpoints are small enough to compare.
fn same(current: &Snapshot, next: &Snapshot) -> bool {
    Arc::ptr_eq(&current.table, &next.table)
        && Arc::ptr_eq(&current.certs, &next.certs)
        && (Arc::ptr_eq(&current.endpoints, &next.endpoints) || current.endpoints == next.endpoints)
        && Arc::ptr_eq(&current.diagnostics, &next.diagnostics)
}

fn count(world: &World) -> Vec<(Kind, usize)> {
    vec![
        (Kind::ConfigMap, world.config_maps.len()),
        (Kind::EndpointSlice, world.slices.len()),
        (Kind::Ingress, world.ingresses.len()),
        (Kind::IngressClass, world.classes.len()),
        (Kind::Namespace, world.namespaces.len()),
        (Kind::Secret, world.secrets.len()),
        (Kind::Service, world.services.len()),
    ]
}

fn left_out(object: &ObjectRef) -> Diagnostic {
    Diagnostic {
        object: object.clone(),
        code: "ObjectQuarantined",
        severity: Severity::Error,
        field: String::new(),
        value: String::new(),
        reason: "the compiler fails on this object; it is left out and everything else is served".into(),
        hint: "please report this object".into(),
        origin: Arc::new(Origin::default()),
    }
}

#[cfg(test)]
mod tests;
