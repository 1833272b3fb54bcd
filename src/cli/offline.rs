//! Manifests compiled once, without serving them: what `check` and `explain` look at. The same steps in the same order
//! as the control loop takes, less time: nothing is kept from before.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ArgMatches;

use crate::admission;
use crate::cert::{self, Keeper};
use crate::compile::class::{Classes, Verdict};
use crate::compile::{Compiled, Inputs, compile, missing, semantics_differences};
use crate::config::{Config, Environment, Flags, Source};
use crate::control::Settings;
use crate::diagnostic::{Diagnostic, Severity};
use crate::manifest::{self, Manifest};
use crate::model::{Kind, ObjectKey, ObjectRef};
use crate::standalone::{self, manifest_paths};

/// What manifests come to.
pub(super) struct Offline {
    pub(super) compiled: Compiled,
    /// Findings of reading, of certificates and of compilation, by file, line, object and field.
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) files: usize,
    pub(super) objects: usize,
}

/// Whether to say which paths would mean something else under the other `--path-semantics`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Differences {
    Tell,
    Skip,
}

/// The configuration that flags give where nothing listens: only addresses that were chosen are refused as endpoints.
pub(super) fn config(flags: Flags, given: &ArgMatches) -> Result<Config, String> {
    let source = Source::Directory(PathBuf::new());
    let mut config = Config::resolve(source, flags, given, Environment::default())?;
    let chosen = [
        (config.given.http, config.http),
        (config.given.https, config.https),
        (config.given.admin, config.admin),
    ];
    config.options.own_addresses =
        chosen.into_iter().filter(|(given, _)| *given).map(|(_, address)| address).collect();
    Ok(config)
}

/// Reads and compiles. `-` is standard input.
pub(super) fn compile_paths(
    paths: &[PathBuf],
    config: &Config,
    differences: Differences,
) -> Result<Offline, String> {
    let mut manifests: Vec<Manifest> = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            manifests.push(standard_input());
            continue;
        }
        for file in manifest_paths(path).map_err(|error| with_cause(&error))? {
            let shown = file.to_string_lossy();
            manifests.push(match std::fs::read(&file) {
                Ok(bytes) => manifest::read(&shown, &bytes),
                Err(error) => manifest::unreadable(&shown, &error.to_string()),
            });
        }
    }
    let (mut world, mut diagnostics) = manifest::world(&manifests);
    diagnostics.extend(manifests.iter().flat_map(|manifest| manifest.diagnostics.iter().cloned()));
    let settings = Settings::of(config);
    let mut options = settings.options.clone();
    standalone::complete(&mut world, &mut options, settings.without_class);
    settings.restrict(&mut world);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or_default();
    let mut keeper = Keeper::new(cert::self_signed(now)?);
    let judged = keeper.judge(&world.secrets, options.default_certificate.as_ref(), now);
    diagnostics.extend(judged.diagnostics);
    diagnostics.extend(missing(&options, &world));
    let inputs = Inputs { world: &world, certificates: &judged.catalog, options: &options };
    let compiled = compile(&inputs);
    diagnostics.extend(compiled.diagnostics.iter().cloned());
    if differences == Differences::Tell {
        diagnostics.extend(semantics_differences(&inputs));
        diagnostics.extend(refusals(&inputs, &compiled, &diagnostics));
    }
    // A line is looked up in the whole document: once for each finding.
    diagnostics.sort_by_cached_key(|found| {
        (found.origin.file.clone(), found.line(), found.object.clone(), found.field.clone(), found.code)
    });
    let objects = manifests.iter().map(|manifest| manifest.objects.len()).sum();
    Ok(Offline { compiled, diagnostics, files: manifests.len(), objects })
}

/// Ingresses that the admission webhook would refuse though nothing in them is an error by itself, as an error.
fn refusals(inputs: &Inputs<'_>, compiled: &Compiled, found: &[Diagnostic]) -> Vec<Diagnostic> {
    let Inputs { world, options, .. } = *inputs;
    let classes = Classes::new(world, options);
    let mut about: BTreeMap<&ObjectKey, Vec<Diagnostic>> = BTreeMap::new();
    for one in found.iter().filter(|one| one.object.kind == Kind::Ingress) {
        about.entry(&one.object.key).or_default().push(one.clone());
    }
    let ours = world
        .ingresses
        .values()
        .filter(|ingress| matches!(classes.judge(ingress, options), Verdict::Ours(_)));
    ours.filter_map(|ingress| {
        let found = about.get(&ingress.meta.key).map_or(&[][..], Vec::as_slice);
        let verdict = admission::verdict(ingress, found, world, options, &compiled.table.globals);
        let admission::Verdict::Refuse { message, .. } = verdict else { return None };
        let told = found.iter().any(|one| one.severity == Severity::Error);
        (!told).then(|| Diagnostic {
            object: ObjectRef { kind: Kind::Ingress, key: ingress.meta.key.clone() },
            code: "AdmissionRefused",
            severity: Severity::Error,
            field: String::new(),
            value: String::new(),
            reason: format!("the admission webhook refuses this Ingress: {message}"),
            hint: String::new(),
            origin: Arc::clone(&ingress.meta.origin),
        })
    })
    .collect()
}

fn standard_input() -> Manifest {
    let mut bytes = Vec::new();
    let limit = manifest::MAX_FILE_BYTES as u64 + 1;
    match io::stdin().lock().take(limit).read_to_end(&mut bytes) {
        Ok(_) => manifest::read("<stdin>", &bytes),
        Err(error) => manifest::unreadable("<stdin>", &error.to_string()),
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
