//! Writing what was drafted, all of it or nothing, and taking it back. What was written is recorded, so that
//! a change by somebody else is noticed before it would be lost.

use super::{Draft, LIMIT, diff};
use mig_cdi_gen::{Exit, Failure};
use mig_cdi_sys::{ConfigFile, Lock, Root, remove_empty_dir};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What a file was before the first change is beside it, under its name and this.
const BACKUP: &str = ".mig-cdi-backup";

/// What was written into the files of an engine, so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub files: Vec<Written>,
    /// Directories that were made, outermost first.
    dirs: Vec<PathBuf>,
}

/// One file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    /// As it was named, below the root of the host.
    pub path: String,
    /// All of it, as it was left.
    text: String,
    /// It was not there before.
    made: bool,
    /// Between two of our changes somebody else made one, which the backup does not have.
    foreign: bool,
}

/// What is to be done to take one file back.
struct Back {
    file: ConfigFile,
    now: Option<String>,
    /// `None` removes it.
    before: Option<String>,
}

impl Record {
    /// The record of an engine; an empty one when there is none.
    pub(crate) fn read(host: &Root, path: &str) -> Result<Record, Failure> {
        let file = ConfigFile::open(host, path, 4 * LIMIT)?;
        let Some(bytes) = file.bytes() else { return Ok(Record::default()) };
        serde_json::from_slice(bytes).map_err(|e| {
            let path = file.path().display();
            let message = format!("parse {path}: {e}; remove it, and what configure wrote by hand");
            Failure::new(Exit::Failed, message)
        })
    }

    fn write(&self, host: &Root, path: &str) -> Result<(), Failure> {
        let file = ConfigFile::open(host, path, 4 * LIMIT)?;
        if self.files.is_empty() {
            if file.bytes().is_some() {
                file.remove("")?;
            }
            return Ok(());
        }
        file.make_dirs()?;
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Failure::new(Exit::Failed, format!("write json: {e}")))?;
        // Configuration of registries has passwords in it.
        Ok(file.replace(text.as_bytes(), 0o600)?)
    }

    /// Notes what a draft is going to leave.
    fn note(&mut self, draft: &Draft) -> Result<(), Failure> {
        let known = self.files.iter_mut().find(|file| file.path == draft.path);
        if let Some(known) = known {
            known.foreign |= draft.before.as_ref() != Some(&known.text);
            known.text.clone_from(&draft.after);
            return Ok(());
        }
        // An older backup, of which no record tells.
        let backup = backup(&draft.file)?;
        self.files.push(Written {
            path: draft.path.clone(),
            text: draft.after.clone(),
            made: draft.before.is_none(),
            foreign: backup.is_some() && backup != draft.before,
        });
        Ok(())
    }

    /// How all is taken back, in the order of doing it; the differences where it cannot be.
    fn back(&self, host: &Root) -> Result<(Vec<Back>, Vec<String>), Failure> {
        let (mut steps, mut conflicts) = (Vec::new(), Vec::new());
        for written in self.files.iter().rev() {
            let text = |path: &str| -> Result<(ConfigFile, Option<String>), Failure> {
                let file = ConfigFile::open(host, path, LIMIT)?;
                let text = file.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                Ok((file, text))
            };
            let (file, now) = text(&written.path)?;
            let before = match written.made {
                true => None,
                false => backup(&file)?,
            };
            let lost = !written.made && before.is_none();
            if now == before && !lost {
                continue;
            }
            if written.foreign || lost || now.as_ref() != Some(&written.text) {
                let ours =
                    if written.foreign { before.as_deref() } else { Some(&written.text[..]) };
                conflicts.push(diff(file.path(), ours, now.as_deref()));
                continue;
            }
            steps.push(Back { file, now, before });
        }
        Ok((steps, conflicts))
    }

    /// What taking it back would change; the differences that keep it from being done.
    pub(crate) fn diff(&self, host: &Root) -> Result<Result<String, String>, Failure> {
        let (steps, conflicts) = self.back(host)?;
        if !conflicts.is_empty() {
            return Ok(Err(conflicts.concat()));
        }
        let show = |back: &Back| {
            let (now, before) = (back.now.as_deref(), back.before.as_deref());
            diff(back.file.path(), now, before)
        };
        Ok(Ok(steps.iter().map(show).collect()))
    }

    /// Takes all back. Gives the lines that say what was done.
    pub(crate) fn undo(mut self, host: &Root, record: &str) -> Result<Vec<String>, Failure> {
        let (steps, _) = self.back(host)?;
        let mut said = Vec::new();
        for back in steps {
            let path = back.file.path().display().to_string();
            match back.before {
                None => {
                    back.file.remove("")?;
                    said.push(format!("removed {path}"));
                }
                Some(before) => {
                    back.file.replace(before.as_bytes(), 0o644)?;
                    back.file.remove(BACKUP)?;
                    said.push(format!("restored {path}"));
                }
            }
        }
        for dir in self.dirs.iter().rev() {
            remove_empty_dir(dir)?;
        }
        self.files.clear();
        self.write(host, record)?;
        Ok(said)
    }
}

fn backup(file: &ConfigFile) -> Result<Option<String>, Failure> {
    let path = PathBuf::from(format!("{}{BACKUP}", file.path().display()));
    match mig_cdi_sys::read_regular(&path, LIMIT) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes other runs wait until it is dropped: what is drafted or taken back while it is held is written on what was
/// read. Two that edit one file otherwise lose what the first wrote, or its record.
pub(crate) fn lock(host: &Root, record_path: &str) -> Result<Lock, Failure> {
    const PATIENCE: Duration = Duration::from_secs(60);
    Ok(ConfigFile::open(host, record_path, 4 * LIMIT)?.lock(PATIENCE)?)
}

/// Writes every draft, or none: what was written before one that fails is taken back.
pub(crate) fn write(
    drafts: &[Draft],
    host: &Root,
    record_path: &str,
) -> Result<Vec<String>, Failure> {
    let old = Record::read(host, record_path)?;
    let mut record = Record::read(host, record_path)?;
    let drafts: Vec<_> = drafts.iter().filter(|draft| draft.changes()).collect();
    for draft in &drafts {
        record.note(draft)?;
    }
    let mut done = Undo { made: Vec::new(), written: Vec::new() };
    let mut said = Vec::new();
    let mut all = || -> Result<(), Failure> {
        for draft in &drafts {
            done.made.extend(draft.file.make_dirs()?);
        }
        record.dirs.extend(done.made.iter().cloned());
        // Before the files: what is written and not recorded could not be taken back.
        record.write(host, record_path)?;
        for draft in &drafts {
            unchanged(draft, host)?;
            // What an earlier run made was nothing before.
            let made = record.files.iter().any(|file| file.made && file.path == draft.path);
            let kept = !made && draft.file.back_up(BACKUP)?;
            done.written.push((draft, kept));
            draft.file.replace(draft.after.as_bytes(), 0o644)?;
            said.push(say(draft, made));
        }
        Ok(())
    };
    match all() {
        Ok(()) => Ok(said),
        Err(failure) => {
            done.run();
            // The first failure is the one that matters.
            let _ = old.write(host, record_path);
            Err(failure)
        }
    }
}

/// What somebody writes between our look and our change is not to be lost.
fn unchanged(draft: &Draft, host: &Root) -> Result<(), Failure> {
    let now = ConfigFile::open(host, &draft.path, LIMIT)?;
    if now.bytes() == draft.file.bytes() {
        return Ok(());
    }
    let path = draft.file.path().display();
    Err(Failure::new(Exit::Failed, format!("edit {path}: it has just been changed; run it again")))
}

fn say(draft: &Draft, made: bool) -> String {
    let path = draft.file.path().display();
    match draft.before {
        None => format!("wrote {path}"),
        Some(_) if made => format!("changed {path}"),
        Some(_) => format!("changed {path}; as it was before the first change: {path}{BACKUP}"),
    }
}

/// What was done so far.
struct Undo<'a> {
    made: Vec<PathBuf>,
    /// And whether its backup is of this run.
    written: Vec<(&'a Draft, bool)>,
}

impl Undo<'_> {
    /// As far as it goes: what failed may fail here too.
    fn run(&self) {
        for (draft, kept) in self.written.iter().rev() {
            let _ = match &draft.before {
                Some(before) => draft.file.replace(before.as_bytes(), 0o644),
                None => draft.file.remove(""),
            };
            if *kept {
                let _ = draft.file.remove(BACKUP);
            }
        }
        for dir in self.made.iter().rev() {
            let _ = remove_empty_dir(dir);
        }
    }
}

/// The path of an engine's record.
pub(crate) fn record_path(state: &str, engine: &str) -> String {
    Path::new(state).join(format!("mig-cdi/configure/{engine}.json")).display().to_string()
}
