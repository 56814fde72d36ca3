//! Changes to the configuration of an engine, so that it reads our CDI specs. Each engine has a module that knows
//! its files. All changes are drafted before anything is written, so that a bad file is found before the first
//! write. Starts, stops and restarts no engine.

mod apply;
mod config_edit;
mod containerd;
mod crio;
mod docker;
mod json;
mod language;
mod podman;
mod running;
mod toml;

pub(crate) use apply::{Record, UndoPreview, lock, record_path, write};
pub(crate) use running::{DaemonState, daemon_state};

use config_edit::{Edit, EditError};
use language::{Language, edit, parse};
use mig_cdi_gen::{
    Error,
    engines::{EngineVersion, InstalledEngine},
};
use mig_cdi_sys::{ConfigFile, Root};
use serde_json::Value;
use similar::TextDiff;
use std::path::Path;

/// Upper bound for a configuration file in bytes, far above that of any engine.
pub(crate) const LIMIT: usize = 4 << 20;
/// First line of a file that is entirely ours.
const HEADER: &str = "# Written by mig-cdi configure; --undo removes it.\n";

/// Request to configure one engine.
#[derive(Debug)]
pub(crate) struct ConfigureRequest<'a> {
    /// Root directory below which the engine's files are.
    pub host: &'a Root,
    pub engine: InstalledEngine,
    /// Directories of the user, for a rootless engine.
    pub user: Option<UserDirs>,
    /// Spec directories that the engine has to read.
    pub dirs: Vec<String>,
    /// Program to register as an OCI runtime.
    pub runtime: Option<String>,
    /// Program to register as a hook of every container.
    pub hook: Option<String>,
}

/// Directories of a user (XDG Base Directory Specification).
#[derive(Debug)]
pub(crate) struct UserDirs {
    /// `$XDG_CONFIG_HOME`, or `~/.config`.
    pub config: String,
    /// `$XDG_STATE_HOME`, or `~/.local/state`.
    pub state: String,
}

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
    /// Information for the user.
    pub notes: Vec<String>,
    /// Possible problems.
    pub warnings: Vec<String>,
    /// Process name of the daemon that reads the files when it starts; `None` for podman, which reads them at
    /// each start of a container.
    pub daemon: Option<&'static str>,
    /// Command that restarts the daemon.
    pub restart: Option<&'static str>,
}

/// Drafts the files of an engine.
///
/// # Errors
/// When a file cannot be read, does not parse or cannot be edited, and when the engine has no CDI.
pub(crate) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    let mut plan = match request.engine.name {
        "podman" => podman::plan(request),
        "containerd" => containerd::plan(request),
        "crio" => crio::plan(request),
        _ => docker::plan(request),
    }?;
    if let Some(major) = request.engine.untested_major() {
        plan.warnings.push(format!(
            "{} {major} is newer than any tested version: it is configured as the newest known one",
            request.engine.name
        ));
    }
    Ok(plan)
}

impl ConfigureRequest<'_> {
    fn version(&self) -> EngineVersion {
        self.engine.assumed_version()
    }

    /// Refuses an engine without CDI.
    fn require_cdi(&self) -> Result<(), Error> {
        if self.engine.has_cdi {
            return Ok(());
        }
        Err(Error::refused("configure", self.engine.label())
            .because("this version has no cdi support")
            .cure("update it, or use mig-cdi-hook"))
    }

    /// Edit that adds the requested spec directories to a list, which starts with `initial` where it is absent.
    fn spec_dirs_edit(&self, keys: &[&str], initial: Vec<String>) -> Edit {
        Edit::contains(keys, self.dirs.clone(), initial)
    }

    /// Drafts edits of a file.
    fn draft(&self, path: &str, language: Language, edits: &[Edit]) -> Result<Draft, Error> {
        let (file, before) = self.open(path)?;
        // JSON has no comments.
        let empty = if language == Language::Toml { HEADER } else { "" };
        let text = before.as_deref().unwrap_or(empty);
        let after = edit(text, language, edits)
            .map_err(|error| edit_error(&file, &error, language, edits))?;
        Ok(Draft { file, path: path.to_owned(), before, after })
    }

    /// Drafts a file that is entirely ours.
    fn whole_file(&self, path: &str, text: String) -> Result<Draft, Error> {
        let (file, before) = self.open(path)?;
        Ok(Draft { file, path: path.to_owned(), before, after: text })
    }

    fn open(&self, path: &str) -> Result<(ConfigFile, Option<String>), Error> {
        let file = ConfigFile::open(self.host, path, LIMIT)?;
        let before = file.bytes().map(|bytes| String::from_utf8(bytes.to_vec())).transpose();
        let before = before
            .map_err(|_| Error::failed("read", file.path().display()).because("not valid utf-8"))?;
        Ok((file, before))
    }

    /// Parses a file; `None` when it does not exist.
    fn value(&self, path: &str, language: Language) -> Result<Option<Value>, Error> {
        let (file, text) = self.open(path)?;
        let invalid = |error: EditError| {
            Error::failed("parse", file.path().display()).because(error).cure("correct the file")
        };
        text.map(|text| parse(&text, language).map_err(invalid)).transpose()
    }

    /// Parses a TOML file and the files of its drop-in directory, in the order in which a later one overrides an
    /// earlier one: podman and CRI-O sort drop-ins by name.
    fn values(&self, path: &str, suffix: &str) -> Result<Vec<Value>, Error> {
        let dir = format!("{path}.d");
        let names = self.host.list(&dir)?.unwrap_or_default();
        let names = names.into_iter().filter(|name| name.ends_with(suffix));
        let paths = std::iter::once(path.to_owned()).chain(names.map(|n| format!("{dir}/{n}")));
        let values = paths.map(|path| self.value(&path, Language::Toml));
        values.filter_map(Result::transpose).collect()
    }
}

/// Error of an edit. A file that parses can be edited by hand: the cure shows the lines to add.
fn edit_error(file: &ConfigFile, error: &EditError, language: Language, edits: &[Edit]) -> Error {
    let cure = if error.line().is_some() {
        "correct it; the engine may not start either".to_owned()
    } else {
        let example = edit("", language, edits).unwrap_or_default();
        let lines: Vec<_> = example.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        format!("add by hand: {}", lines.join(" "))
    };
    Error::failed("edit", file.path().display()).because(error).cure(cure)
}

impl Draft {
    /// True when the file needs a change.
    pub(crate) fn changes(&self) -> bool {
        self.before.as_ref() != Some(&self.after)
    }

    /// The change in the form of `diff -u`.
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
