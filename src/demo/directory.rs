//! The directory of the example: the user's own, or one that goes away with the demo.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::backend::Backends;
use super::{DemoError, certificate};

/// Port of redirects in the manifests, as they are written here.
const HTTPS_PLACE: &str = "HTTPS_PORT";

/// Manifests as they are shipped: written where they are missing, so that edited ones stay.
const MANIFESTS: &[(&str, &str)] = &[
    ("settings.yaml", include_str!("manifests/settings.yaml")),
    ("shop.yaml", include_str!("manifests/shop.yaml")),
    ("api.yaml", include_str!("manifests/api.yaml")),
    ("chat.yaml", include_str!("manifests/chat.yaml")),
    ("old.yaml", include_str!("manifests/old.yaml")),
    ("slow.yaml", include_str!("manifests/slow.yaml")),
    ("tenants.yaml", include_str!("manifests/tenants.yaml")),
];

/// How many names for a temporary directory are tried.
const ATTEMPTS: u32 = 100;

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    /// The directory that the user wants, made if need be; else a temporary one that only this user can read, because
    /// it holds keys.
    pub(super) fn open(wanted: Option<PathBuf>) -> Result<Self, DemoError> {
        if let Some(path) = wanted {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            return match made.and_then(|()| fs::canonicalize(&path)) {
                Ok(path) => Ok(Self { path, temporary: false }),
                Err(source) => Err(DemoError::Write { path, source }),
            };
        }
        let base = std::env::temp_dir();
        let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
        for attempt in 0..ATTEMPTS {
            let path = base.join(format!("narthex-demo-{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, temporary: true }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(source) => return Err(DemoError::Write { path, source }),
            }
        }
        Err(DemoError::Write { path: base, source: last })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the manifests that are missing, and anew what changes with each start: addresses and certificates.
    pub(super) fn fill(&self, backends: &Backends, https: u16) -> Result<(), DemoError> {
        for (name, text) in MANIFESTS {
            if !self.path.join(name).exists() {
                self.write(name, &text.replace(HTTPS_PLACE, &https.to_string()))?;
            }
        }
        let certificates = certificate::make()?;
        self.write(certificate::AUTHORITY_FILE, &certificates.authority)?;
        self.write("certificate.yaml", &certificates.secret)?;
        self.write("backends.yaml", &backends.manifests())
    }

    /// To a temporary name and renamed, so that no reader sees half a file.
    fn write(&self, name: &str, text: &str) -> Result<(), DemoError> {
        let path = self.path.join(name);
        let beside = self.path.join(format!("{name}.new"));
        File::create(&beside)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|source| DemoError::Write { path, source })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed is left to the system's own cleaning.
            let _left = fs::remove_dir_all(&self.path);
        }
    }
}
