//! The one stage that changes the machine: a whole spec replaces the old one, or nothing happens.

mod conflict;

use crate::{Exit, Failure, spec_file::Names};
use mig_cdi_model::cdi::{Kind, Spec};
use mig_cdi_sys::{Lock, Outcome, TrustedDir, absolute, read_regular, replaceable_by_others};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Far above any spec: a node of 448 devices in three styles has 1 MB.
const SPEC_LIMIT: usize = 16 << 20;

/// The file of a spec and the directories that engines read.
#[derive(Debug, Clone)]
pub struct Target {
    dir: PathBuf,
    name: String,
    spec_dirs: Vec<PathBuf>,
}

impl Target {
    /// A spec at `path`, beside whatever is in `spec_dirs`.
    ///
    /// # Errors
    /// When `path` names no file or engines would not read a file of this suffix.
    pub fn new(path: &Path, suffix: &str, spec_dirs: &[PathBuf]) -> Result<Target, Failure> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            let message = format!("write {}: not the name of a file", path.display());
            Failure::new(Exit::Usage, message)
        })?;
        if Path::new(name).extension().is_none_or(|extension| extension != suffix)
            || name.starts_with('.')
        {
            let message = format!(
                "write {}: engines read only files named *.json and *.yaml, and this one is to be {suffix}; \
                 name it NAME.{suffix} or choose --format",
                path.display()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(Target { dir, name: name.to_owned(), spec_dirs: spec_dirs.to_vec() })
    }

    /// The file of another kind in the same directory.
    ///
    /// # Errors
    /// When it would be the same file.
    pub fn beside(&self, kind: &Kind) -> Result<Target, Failure> {
        let suffix = if self.name.ends_with(".yaml") { "yaml" } else { "json" };
        let name = format!("{}.{suffix}", kind.file_stem());
        if name == self.name {
            let message =
                format!("write {}: it is the file of {kind}; name another", self.path().display());
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(Target { name, ..self.clone() })
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Makes others that write here wait until the lock is dropped. A directory that is not there yet is
    /// not made for it.
    ///
    /// # Errors
    /// When the directory is unsafe, or another run does not end.
    pub fn lock(&self) -> Result<Option<Lock>, Failure> {
        let dir = TrustedDir::open_existing(&self.dir)?;
        Ok(dir.map(|dir| dir.lock(Duration::from_secs(10))).transpose()?)
    }

    /// Refuses what [`Target::install`] would refuse, and changes nothing.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, spec: &Spec) -> Result<(), Failure> {
        match TrustedDir::open_existing(&self.dir)? {
            Some(dir) => conflict::check(spec, &dir, self),
            None => Ok(()),
        }
    }

    /// Puts a spec there, whole.
    ///
    /// # Errors
    /// When the directory is unsafe, another file defines one of the devices, or a step fails. The
    /// old spec is then as it was.
    pub fn install(&self, spec: &Spec, text: &str) -> Result<Outcome, Failure> {
        let dir = TrustedDir::open_or_make(&self.dir)?;
        conflict::check(spec, &dir, self)?;
        Ok(dir.replace(&self.name, text.as_bytes())?)
    }

    /// The path, from `/` on, of a file that goes with this one, that containers are given, and that
    /// no engine takes for a spec.
    ///
    /// # Errors
    /// When somebody but root could exchange it.
    pub fn companion(&self) -> Result<String, Failure> {
        let dir = absolute(&self.dir)?;
        let path = dir.join(self.companion_name());
        let path = path.to_string_lossy().into_owned();
        match replaceable_by_others(&dir) {
            None => Ok(path),
            Some(reason) => {
                let message = format!(
                    "mount {path}: {reason}, so somebody but root could put another file there; name a \
                     directory of root's with --output"
                );
                Err(Failure::new(Exit::Refused, message))
            }
        }
    }

    fn companion_name(&self) -> String {
        format!("{}.params", self.name)
    }

    /// Puts the companion there, whole.
    ///
    /// # Errors
    /// As [`Target::install`].
    pub fn install_companion(&self, text: &str) -> Result<Outcome, Failure> {
        let dir = TrustedDir::open_or_make(&self.dir)?;
        Ok(dir.replace(&self.companion_name(), text.as_bytes())?)
    }

    /// Puts another text of the same spec there, whole.
    ///
    /// # Errors
    /// As [`Target::install`].
    pub fn rewrite(&self, text: &str) -> Result<Outcome, Failure> {
        let dir = TrustedDir::open_or_make(&self.dir)?;
        Ok(dir.replace(&self.name, text.as_bytes())?)
    }

    /// The directory as it was given.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file as it is now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self) -> Result<Option<Vec<u8>>, Failure> {
        match read_regular(&self.path(), SPEC_LIMIT) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a spec of this kind away, since there is no device to put into it.
    ///
    /// # Errors
    /// When the file is something else, or cannot be removed.
    pub fn clear(&self, kind: &Kind) -> Result<Outcome, Failure> {
        let Some(dir) = TrustedDir::open_existing(&self.dir)? else {
            return Ok(Outcome::Unchanged);
        };
        let Some(old) = dir.read(&self.name, SPEC_LIMIT)? else {
            return Ok(Outcome::Unchanged);
        };
        match Names::parse(&old) {
            Some(foreign) if foreign.kind == kind.to_string() => {
                let removed = dir.remove(&self.name)?;
                dir.remove(&self.companion_name())?;
                Ok(removed)
            }
            _ => {
                let path = self.path();
                let message = format!(
                    "remove {}: it is no spec of {kind}; remove it yourself",
                    path.display()
                );
                Err(Failure::new(Exit::Refused, message))
            }
        }
    }
}
