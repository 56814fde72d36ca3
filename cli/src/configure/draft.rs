//! Drafts of configuration files: the present and the new contents. Reads and writes nothing.

use crate::engine_files::EngineSettings;
use mig_cdi_sys::ConfigFile;
use similar::TextDiff;
use std::path::Path;

/// Upper bound for a configuration file in bytes, far above that of any engine.
pub(crate) const LIMIT: usize = 4 << 20;

/// A file with its present and its new contents.
#[derive(Debug)]
pub(crate) struct Draft {
    pub file: ConfigFile,
    /// Path below the root of the host, before links are followed.
    pub path: String,
    /// Present contents; `None` when the file does not exist.
    pub before: Option<String>,
    /// New contents.
    pub after: String,
}

/// Changes that configure one engine.
#[derive(Debug, Default)]
pub(crate) struct ConfigPlan {
    /// Files in the order of writing, a drop-in before the file that imports it. Includes files that need no
    /// change.
    pub drafts: Vec<Draft>,
    /// Paths of the files that the engine reads now.
    pub read: Vec<String>,
    /// Information for the user.
    pub notes: Vec<String>,
    /// Possible problems.
    pub warnings: Vec<String>,
    /// Daemon that reads the files when it starts; `None` for podman, which reads them at each start of a
    /// container.
    pub daemon: Option<EngineDaemon>,
}

impl ConfigPlan {
    /// A plan without changes, for an engine with these settings.
    pub(super) fn of(settings: &EngineSettings) -> ConfigPlan {
        let read = settings.files.iter().map(|(path, _)| path.clone()).collect();
        ConfigPlan { read, ..ConfigPlan::default() }
    }
}

/// Daemon of an engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineDaemon {
    /// Name of its process.
    pub process: &'static str,
    /// Command that restarts it.
    pub restart: &'static str,
}

impl Draft {
    /// True when the file needs a change.
    pub(crate) fn is_changed(&self) -> bool {
        self.before.as_ref() != Some(&self.after)
    }

    /// Formats the change in the form of `diff -u`.
    pub(crate) fn diff(&self) -> String {
        diff(self.file.path(), self.before.as_deref(), Some(&self.after))
    }
}

/// Compares two contents of a file in the form of `diff -u`; `None` stands for a file that does not exist.
pub(crate) fn diff(path: &Path, old: Option<&str>, new: Option<&str>) -> String {
    let name = |text: Option<&str>| match text {
        Some(_) => path.display().to_string(),
        None => "/dev/null".to_owned(),
    };
    let lines = TextDiff::from_lines(old.unwrap_or_default(), new.unwrap_or_default());
    lines.unified_diff().header(&name(old), &name(new)).to_string()
}
