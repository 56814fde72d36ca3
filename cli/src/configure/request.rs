//! Request to configure one engine, and the reading and drafting of files that its engine module needs for it. Writes
//! nothing.

use super::{
    config_edit::{Edit, EditError},
    config_format::{ConfigFormat, by_hand, edit, parse},
    draft::{Draft, LIMIT},
};
use crate::{
    cli::EngineArg,
    engine_files::{
        ConfigPlaces, EngineSettings, HidingLink, KeyCase, is_below_copied, is_same_dir,
    },
};
use mig_cdi_gen::{
    Error,
    engines::{EngineVersion, InstalledEngine},
};
use mig_cdi_sys::{ConfigFile, Root};
use serde_json::Value;
use std::path::Path;

/// First line of a file that is entirely ours.
const HEADER: &str = "# Written by mig-cdi configure; --undo removes it.\n";

/// Request to configure one engine.
#[derive(Debug)]
pub(crate) struct ConfigureRequest<'a> {
    /// Root directory below which the engine's files are.
    pub host: &'a Root,
    pub engine_kind: EngineArg,
    /// The engine with its version, as it is installed or as the command line gives it.
    pub engine: InstalledEngine,
    /// Places of the engine's files.
    pub places: ConfigPlaces,
    /// True when the root directory is not that of this machine, but of an image.
    pub is_image: bool,
    /// Directories in which the running daemon looks for programs.
    pub program_dirs: Vec<String>,
    /// Runtimes of which `mig-cdi-runtime` runs the first that exists.
    pub real_runtimes: Vec<String>,
    /// Spec directories that the engine has to read.
    pub dirs: Vec<String>,
    /// File of our settings that has them.
    pub settings_file: &'a Path,
    /// Program to register as an OCI runtime.
    pub runtime: Option<String>,
    /// Program to register as a hook of every container.
    pub hook: Option<String>,
}

/// Source of a list of directories that a daemon reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListedBy {
    /// Its files.
    File,
    /// Its command line, which names all that is wanted.
    CommandLine,
}

impl ConfigureRequest<'_> {
    /// Version of the engine, or the newest one where it is not known.
    pub(super) fn version(&self) -> EngineVersion {
        self.engine.assumed_version()
    }

    /// True when a path leads to something on the host.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.host.identity(path).is_ok_and(|found| found.is_some())
    }

    /// Reports whether the engine reads CDI specs.
    ///
    /// # Errors
    /// When it does not, and a runtime or a hook, which need no CDI of the engine, are not requested either.
    pub(super) fn reads_cdi(&self) -> Result<bool, Error> {
        if self.engine.has_cdi || self.runtime.is_some() || self.hook.is_some() {
            return Ok(self.engine.has_cdi);
        }
        let cure = match self.engine_kind {
            EngineArg::Podman | EngineArg::Crio => "update it, or use --hook or --runtime",
            EngineArg::Containerd | EngineArg::Docker => "update it, or use --runtime",
        };
        Err(Error::refused("configure", self.engine.label())
            .because("this version has no cdi support")
            .with_cure(cure))
    }

    fn is_rootless(&self) -> bool {
        self.places.user_config.is_some()
    }

    fn hiding_link(&self, dir: &str) -> Option<HidingLink> {
        HidingLink::find(self.host, self.engine_kind, self.version(), self.is_rootless(), dir)
    }

    /// Warnings of requested spec directories that the engine does not look into, whatever its list says.
    pub(super) fn hidden_dirs(&self) -> Vec<String> {
        let warning = |link: HidingLink| {
            let dirs = self.dirs.iter().filter(|dir| self.hiding_link(dir) == Some(link));
            let dirs: Vec<_> = dirs.map(String::as_str).collect();
            let (label, dirs_text) = (self.engine.label(), dirs.join(" and "));
            let (reason, cure) = (link.reason(), link.cure(self.settings_file));
            let text = format!("{label} does not look into {dirs_text}: {reason}; {cure}");
            (!dirs.is_empty()).then_some(text)
        };
        HidingLink::ALL.into_iter().filter_map(warning).collect()
    }

    /// Note of requested spec directories that a rootless dockerd will not see: of `/etc` and `/run` it sees what was there when it
    /// started.
    pub(super) fn late_dirs(&self) -> Option<String> {
        let is_rootless_docker = self.engine_kind == EngineArg::Docker && self.is_rootless();
        let is_late = |dir: &&String| {
            is_below_copied(dir) && !self.exists(dir) && self.hiding_link(dir).is_none()
        };
        let late: Vec<_> = self.dirs.iter().filter(is_late).map(String::as_str).collect();
        let text = format!(
            "create {} and restart rootless dockerd, which sees only directories that were there at its start",
            late.join(" and ")
        );
        (is_rootless_docker && !late.is_empty()).then_some(text)
    }

    /// Edit that adds the requested spec directories to a list; `None` when the engine reads them all, by whatever path.
    pub(super) fn spec_dirs_edit(&self, keys: &[&str], read: &[String]) -> Option<Edit> {
        let is_read = |dir: &&String| read.iter().any(|one| is_same_dir(self.host, one, dir));
        let missing: Vec<_> = self.dirs.iter().filter(|dir| !is_read(dir)).cloned().collect();
        (!missing.is_empty()).then(|| Edit::contains(keys, missing, Vec::new()))
    }

    /// The same for a daemon, whose command line counts more than its files.
    ///
    /// # Errors
    /// When the command line of the running daemon names other directories.
    pub(super) fn daemon_spec_dirs_edit(
        &self,
        keys: &[&str],
        settings: &EngineSettings,
        flag: &str,
    ) -> Result<Option<Edit>, Error> {
        match self.given_list(flag, &self.places.given.spec_dirs, &self.dirs)? {
            ListedBy::File => Ok(self.spec_dirs_edit(keys, &settings.strings(keys))),
            ListedBy::CommandLine => Ok(None),
        }
    }

    /// Says whether a list of directories comes from the files of a daemon, or has all that is wanted by its command line, which counts
    /// alone.
    ///
    /// # Errors
    /// When the command line of the running daemon names other directories.
    pub(super) fn given_list(
        &self,
        flag: &str,
        given: &[String],
        wanted: &[String],
    ) -> Result<ListedBy, Error> {
        if given.is_empty() {
            return Ok(ListedBy::File);
        }
        let is_given = |dir: &&String| given.iter().any(|one| is_same_dir(self.host, one, dir));
        if wanted.iter().all(|dir| is_given(&dir)) {
            return Ok(ListedBy::CommandLine);
        }
        let cause = format!("it was started with {flag} {}, which counts alone", given.join(", "));
        let add: Vec<_> =
            wanted.iter().filter(|dir| !is_given(dir)).map(|dir| format!("{flag} {dir}")).collect();
        Err(Error::refused("configure", self.engine.label())
            .because(cause)
            .with_cure(format!("start it with {} too", add.join(" "))))
    }

    /// Drafts edits of a file.
    pub(super) fn draft(
        &self,
        path: &str,
        format: ConfigFormat,
        edits: &[Edit],
    ) -> Result<Draft, Error> {
        let (file, before) = self.open(path)?;
        // JSON has no comments.
        let empty = if format == ConfigFormat::Json { "" } else { HEADER };
        let text = before.as_deref().unwrap_or(empty);
        let case = KeyCase::of(self.engine_kind, self.version());
        let spelled: Vec<_> = match parse(text, format) {
            Ok(value) => edits.iter().map(|edit| edit.spelled_in(&value, case)).collect(),
            // The editor reports where it does not parse.
            Err(_) => edits.to_vec(),
        };
        let after = edit(text, format, &spelled)
            .map_err(|error| edit_error(&file, &error, format, edits))?;
        Ok(Draft { file, path: path.to_owned(), before, after })
    }

    /// Drafts a file that is entirely ours.
    pub(super) fn whole_file(&self, path: &str, text: String) -> Result<Draft, Error> {
        let (file, before) = self.open(path)?;
        Ok(Draft { file, path: path.to_owned(), before, after: text })
    }

    /// Drafts the file of a hook in a directory that is only ours. `read` are the directories that the engine reads so far.
    ///
    /// # Errors
    /// When hooks of others are there that the engine does not run yet: it would start to.
    pub(super) fn hook_file(
        &self,
        dir: &str,
        read: &[String],
        name: &str,
        text: String,
    ) -> Result<Draft, Error> {
        let names = self.host.list(dir)?.unwrap_or_default();
        // Engines load no other suffix.
        let mut others = names.iter().filter(|other| other.ends_with(".json") && *other != name);
        match others.next() {
            Some(other) if !read.iter().any(|read| read == dir) => {
                let cause = format!(
                    "{}/{other} is not a hook of mig-cdi, and {} would start to run it",
                    self.host.display_path(dir).display(),
                    self.engine.name
                );
                Err(Error::refused("configure", self.engine.label())
                    .because(cause)
                    .with_cure("move it elsewhere"))
            }
            _ => self.whole_file(&format!("{dir}/{name}"), text),
        }
    }

    /// Opens a file and reads its text; `None` when it does not exist.
    fn open(&self, path: &str) -> Result<(ConfigFile, Option<String>), Error> {
        let file = ConfigFile::open(self.host, path, LIMIT)?;
        let before = file.bytes().map(|bytes| String::from_utf8(bytes.to_vec())).transpose();
        let before = before
            .map_err(|_| Error::failed("read", file.path().display()).because("not valid utf-8"))?;
        Ok((file, before))
    }

    /// Parses a file; `None` when it does not exist.
    pub(super) fn value(&self, path: &str, format: ConfigFormat) -> Result<Option<Value>, Error> {
        let (file, text) = self.open(path)?;
        let invalid = |error: EditError| {
            Error::failed("parse", file.path().display())
                .because(error)
                .with_cure("correct the file")
        };
        text.map(|text| parse(&text, format).map_err(invalid)).transpose()
    }
}

/// Error of an edit. A file that parses can be edited by hand: the cure shows what to set.
fn edit_error(file: &ConfigFile, error: &EditError, format: ConfigFormat, edits: &[Edit]) -> Error {
    let cure = if error.line().is_some() {
        "correct it; the engine may not start either".to_owned()
    } else {
        format!("set by hand: {}", by_hand(format, edits))
    };
    Error::failed("edit", file.path().display()).because(error).with_cure(cure)
}
