//! Writes spec files. A whole spec replaces the old one, or nothing changes. No other module writes one.

mod conflict;

use crate::{
    Error, Result,
    spec_file::{DefinedNames, SIZE_LIMIT},
};
use conflict::Conflict;
use mig_cdi_model::cdi::{Kind, Spec};
use mig_cdi_sys::{Lock, Outcome, TrustedDir, absolute, read_regular, replaceable_by_others};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Time for which another run is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Path of a spec file, and the directories that engines read.
#[derive(Debug, Clone)]
pub struct SpecPath {
    dir: PathBuf,
    name: String,
    spec_dirs: Vec<PathBuf>,
}

impl SpecPath {
    /// Checks the path of a spec file. Other specs are in `spec_dirs`.
    ///
    /// # Errors
    /// When `path` names no file, or one that engines would not read.
    pub fn new(path: &Path, suffix: &str, spec_dirs: &[PathBuf]) -> Result<SpecPath> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            Error::usage("write", path.display())
                .because("not the name of a file")
                .with_cure("name one such as /var/run/cdi/nvidia.com-mig.json")
        })?;
        if Path::new(name).extension().is_none_or(|extension| extension != suffix)
            || name.starts_with('.')
        {
            let cause = format!(
                "engines read only files named *.json and *.yaml, and this one is in {suffix}"
            );
            let cure = format!("name it NAME.{suffix} or choose --format");
            return Err(Error::usage("write", path.display()).because(cause).with_cure(cure));
        }
        let dir = match path.parent() {
            Some(dir) if dir != Path::new("") => dir.to_owned(),
            _ => PathBuf::from("."),
        };
        Ok(SpecPath { dir, name: name.to_owned(), spec_dirs: spec_dirs.to_vec() })
    }

    /// Path of the spec of another kind in the same directory.
    ///
    /// # Errors
    /// When the two are one file.
    pub fn beside(&self, kind: &Kind) -> Result<SpecPath> {
        let suffix = if self.name.ends_with(".yaml") { "yaml" } else { "json" };
        let name = format!("{}.{suffix}", kind.file_stem());
        if name == self.name {
            let error = Error::usage("write", self.path().display());
            let cause = format!("this is the file of {kind}");
            return Err(error.because(cause).with_cure("choose another --output"));
        }
        Ok(SpecPath { name, ..self.clone() })
    }

    /// Path as the user named it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Locks the directory against other runs until the lock is dropped. A directory that does not exist yet is not
    /// created.
    ///
    /// # Errors
    /// When the directory is unsafe, or another run keeps the lock for ten seconds.
    pub fn lock(&self) -> Result<Option<Lock>> {
        let dir = TrustedDir::open_existing(&self.dir)?;
        Ok(dir.map(|dir| dir.lock(LOCK_TIMEOUT)).transpose()?)
    }

    /// As [`SpecPath::lock`], for a run that is going to write. The directory is created: without it there would be nothing to lock,
    /// and what this run reads of the node could become the first spec after another run has changed the node.
    ///
    /// # Errors
    /// As [`SpecPath::lock`], or when the directory cannot be created.
    pub fn lock_to_write(&self) -> Result<Lock> {
        Ok(TrustedDir::open_or_make(&self.dir)?.lock(LOCK_TIMEOUT)?)
    }

    /// Checks what [`SpecPath::write`] would check, and changes nothing.
    ///
    /// # Errors
    /// As [`SpecPath::write`].
    pub fn check(&self, spec: &Spec) -> Result<()> {
        match TrustedDir::open_existing(&self.dir)? {
            Some(dir) => self.check_conflicts(spec, &dir),
            None => Ok(()),
        }
    }

    /// Fails when another file defines a device of `spec`.
    fn check_conflicts(&self, spec: &Spec, dir: &TrustedDir) -> Result<()> {
        // A file outside the directories that engines read conflicts only with files in its own directory.
        let is_read = self.spec_dirs.iter().any(|path| dir.is_at(path));
        let dirs = if is_read { &self.spec_dirs[..] } else { std::slice::from_ref(&self.dir) };
        let is_own = |path: &Path, name: &OsStr| name == self.name.as_str() && dir.is_at(path);
        let Some(Conflict { device, file }) = conflict::find(spec, dirs, is_own)? else {
            return Ok(());
        };
        let cause = format!(
            "{} defines {device} too, and engines would drop or hide one of them",
            file.display()
        );
        Err(Error::refused("write", self.path().display())
            .because(cause)
            .with_cure("remove that file, or choose another kind"))
    }

    /// Writes a spec.
    ///
    /// # Errors
    /// When the directory is unsafe, another file defines one of the devices, or a step fails. The old spec then stays
    /// as it was.
    pub fn write(&self, spec: &Spec, text: &str) -> Result<Outcome> {
        let dir = TrustedDir::open_or_make(&self.dir)?;
        self.check_conflicts(spec, &dir)?;
        // By rename within the directory: the Go library watches for Rename, Remove and Write, not for Create
        // (container-device-interface `pkg/cdi/cache.go:549-570`), and would not notice a link or a new file.
        Ok(dir.replace(&self.name, text.as_bytes())?)
    }

    /// Absolute path of the masked parameters of the driver, a file that the spec mounts into containers. Its suffix `.params` is
    /// none that an engine reads.
    ///
    /// # Errors
    /// When a user other than root could replace it.
    pub fn params_file(&self) -> Result<String> {
        let dir = absolute(&self.dir)?;
        let path = dir.join(self.params_file_name());
        let path = path.to_string_lossy().into_owned();
        match replaceable_by_others(&dir) {
            None => Ok(path),
            Some(reason) => {
                let cause = format!("{reason}, so a user other than root could replace it");
                let cure = "choose a directory that belongs to root with --output";
                Err(Error::refused("mount", path).because(cause).with_cure(cure))
            }
        }
    }

    fn params_file_name(&self) -> String {
        format!("{}.params", self.name)
    }

    /// Writes the file of masked parameters.
    ///
    /// # Errors
    /// As [`SpecPath::write`].
    pub fn write_params_file(&self, text: &str) -> Result<Outcome> {
        let dir = TrustedDir::open_or_make(&self.dir)?;
        Ok(dir.replace(&self.params_file_name(), text.as_bytes())?)
    }

    /// Writes another text of the spec that is there, with some of its devices: no conflict can be new.
    ///
    /// # Errors
    /// As [`SpecPath::write`].
    pub fn rewrite(&self, text: &str) -> Result<Outcome> {
        let dir = TrustedDir::open_or_make(&self.dir)?;
        Ok(dir.replace(&self.name, text.as_bytes())?)
    }

    /// Directory as the user named it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads the file, `None` when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self) -> Result<Option<Vec<u8>>> {
        match read_regular(&self.path(), SIZE_LIMIT) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a spec of this kind and its file of masked parameters: CDI accepts no spec without a device.
    ///
    /// # Errors
    /// When the file is no spec of this kind, or cannot be removed.
    pub fn remove(&self, kind: &Kind) -> Result<Outcome> {
        let Some(dir) = TrustedDir::open_existing(&self.dir)? else {
            return Ok(Outcome::Unchanged);
        };
        let Some(old) = dir.read(&self.name, SIZE_LIMIT)? else {
            return Ok(Outcome::Unchanged);
        };
        match DefinedNames::parse(&old) {
            // Another kind at this path is of another tool, or of a user: neither is removed.
            Some(names) if names.kind == kind.to_string() => {
                let removed = dir.remove(&self.name)?;
                dir.remove(&self.params_file_name())?;
                Ok(removed)
            }
            _ => {
                let error = Error::refused("remove", self.path().display());
                Err(error
                    .because(format!("it is no spec of {kind}"))
                    .with_cure("delete it by hand"))
            }
        }
    }
}
