//! `mig-cdi configure`: what the files of an engine are to say so that it takes our specs. Each engine has a
//! module that knows its files; what there is to change is drafted whole before anything is written.

mod apply;
mod containerd;
mod crio;
mod docker;
mod json;
mod podman;
mod running;
mod toml;
mod wish;

pub(crate) use apply::{Record, lock, record_path, write};
pub(crate) use running::{Running, running};

use mig_cdi_gen::{
    Exit, Failure,
    engines::{Installed, Release},
};
use mig_cdi_sys::{ConfigFile, Root};
use serde_json::Value;
use similar::TextDiff;
use std::path::Path;
use wish::{Language, Wish, edit, parse};

/// Far above any configuration of an engine.
pub(crate) const LIMIT: usize = 4 << 20;
/// The header of a file of our own.
const HEADER: &str = "# Written by mig-cdi configure, which takes it away with --undo.\n";

/// What is to be configured.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// Where its files are.
    pub host: &'a Root,
    pub engine: Installed,
    /// The directories of configuration and of state of a user, for an engine that is not root's.
    pub home: Option<Home>,
    /// Directories of specs that it is to read.
    pub dirs: Vec<String>,
    /// The program to make known as a runtime.
    pub runtime: Option<String>,
    /// The program to make known as a hook.
    pub hook: Option<String>,
}

/// Where a user has configuration and state.
#[derive(Debug)]
pub(crate) struct Home {
    pub config: String,
    pub state: String,
}

/// A file as it is and as it is to be.
#[derive(Debug)]
pub(crate) struct Draft {
    pub file: ConfigFile,
    /// As it was named.
    pub path: String,
    /// `None` when it is not there.
    pub before: Option<String>,
    pub after: String,
}

/// What there is to do.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In the order of writing: a file before the one that leads to it. Those that are as they should be are
    /// among them.
    pub drafts: Vec<Draft>,
    /// What should be known.
    pub notes: Vec<String>,
    /// What may be wrong.
    pub warnings: Vec<String>,
    /// The process that reads the files when it starts; none when every start of a container reads them.
    pub daemon: Option<&'static str>,
    /// How it is made to read them.
    pub restart: Option<&'static str>,
}

/// Drafts what an engine's files are to say.
pub(crate) fn plan(request: &Request<'_>) -> Result<Plan, Failure> {
    let mut plan = match request.engine.name {
        "podman" => podman::plan(request),
        "containerd" => containerd::plan(request),
        "crio" => crio::plan(request),
        _ => docker::plan(request),
    }?;
    if let Some(major) = request.engine.untested() {
        plan.warnings.push(format!(
            "{} {major} is newer than any that this was tested with: it is configured as the newest known one",
            request.engine.name
        ));
    }
    Ok(plan)
}

impl Request<'_> {
    fn release(&self) -> Release {
        self.engine.assumed()
    }

    /// Refuses what knows no CDI.
    fn needs_cdi(&self) -> Result<(), Failure> {
        if self.engine.has_cdi {
            return Ok(());
        }
        let message = format!(
            "configure {}: it knows no cdi; update it, or use mig-cdi-hook",
            self.engine.label()
        );
        Err(Failure::new(Exit::Refused, message))
    }

    /// A list of directories that has ours.
    fn dirs(&self, keys: &[&str], begin: Vec<String>) -> Wish {
        Wish::new(keys, wish::What::Holds { items: self.dirs.clone(), begin })
    }

    /// A file that is to say more.
    fn draft(&self, path: &str, language: Language, wishes: &[Wish]) -> Result<Draft, Failure> {
        let (file, before) = self.open(path)?;
        let new = if language == Language::Toml { HEADER } else { "" };
        let text = before.as_deref().unwrap_or(new);
        let after = edit(text, language, wishes).map_err(|reason| {
            let lines = edit("", language, wishes).unwrap_or_default();
            let lines: Vec<_> = lines.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            let by_hand = match reason.starts_with("line ") {
                true => "correct it; the engine may not start either".to_owned(),
                false => format!("add by hand: {}", lines.join(" ")),
            };
            Failure::new(
                Exit::Failed,
                format!("edit {}: {reason}; {by_hand}", file.path().display()),
            )
        })?;
        Ok(Draft { file, path: path.to_owned(), before, after })
    }

    /// A file that is all ours.
    fn whole(&self, path: &str, text: String) -> Result<Draft, Failure> {
        let (file, before) = self.open(path)?;
        Ok(Draft { file, path: path.to_owned(), before, after: text })
    }

    fn open(&self, path: &str) -> Result<(ConfigFile, Option<String>), Failure> {
        let file = ConfigFile::open(self.host, path, LIMIT)?;
        let before = file.bytes().map(|bytes| String::from_utf8(bytes.to_vec())).transpose();
        let before = before.map_err(|_| {
            Failure::new(Exit::Failed, format!("read {}: not valid utf-8", file.path().display()))
        })?;
        Ok((file, before))
    }

    /// What a file says now, if it is there.
    fn value(&self, path: &str, language: Language) -> Result<Option<Value>, Failure> {
        let (file, text) = self.open(path)?;
        let bad = |reason| {
            let message = format!("parse {}: {reason}; correct it", file.path().display());
            Failure::new(Exit::Failed, message)
        };
        text.map(|text| parse(&text, language).map_err(bad)).transpose()
    }

    /// A file in TOML, then those of its directory, in the order in which the later wins.
    fn values(&self, path: &str, suffix: &str) -> Result<Vec<Value>, Failure> {
        let dir = format!("{path}.d");
        let names = self.host.list(&dir)?.unwrap_or_default();
        let names = names.into_iter().filter(|name| name.ends_with(suffix));
        let paths = std::iter::once(path.to_owned()).chain(names.map(|n| format!("{dir}/{n}")));
        let values = paths.map(|path| self.value(&path, Language::Toml));
        values.filter_map(Result::transpose).collect()
    }
}

impl Draft {
    /// Something is to change.
    pub(crate) fn changes(&self) -> bool {
        self.before.as_ref() != Some(&self.after)
    }

    /// What changes, as `diff -u` shows it.
    pub(crate) fn diff(&self) -> String {
        diff(self.file.path(), self.before.as_deref(), Some(&self.after))
    }
}

/// What tells one text of a file from another, as `diff -u` shows it.
pub(crate) fn diff(path: &Path, old: Option<&str>, new: Option<&str>) -> String {
    let name = |text: Option<&str>| match text {
        Some(_) => path.display().to_string(),
        None => "/dev/null".to_owned(),
    };
    let lines = TextDiff::from_lines(old.unwrap_or_default(), new.unwrap_or_default());
    lines.unified_diff().header(&name(old), &name(new)).to_string()
}
