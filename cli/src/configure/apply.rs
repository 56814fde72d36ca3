//! Writing the drafts of an engine, all or none, and undoing it. The written text is recorded, so that a change by
//! someone else is noticed and never overwritten.

use super::draft::{Draft, LIMIT, diff};
use mig_cdi_gen::Error;
use mig_cdi_sys::{ConfigFile, Lock, Root, remove_empty_dir};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Suffix of the copy of a file as it was before the first change.
const BACKUP_SUFFIX: &str = ".mig-cdi-backup";
/// Upper bound for a record in bytes: it holds the text of several files.
const RECORD_LIMIT: usize = 4 * LIMIT;

/// Record of what was written for an engine. Stored as JSON.
// Its keys are a file format: an undo has to read the records of earlier releases.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    pub files: Vec<WrittenFile>,
    /// Directories that were created, outermost first.
    #[serde(rename = "dirs")]
    created_dirs: Vec<PathBuf>,
}

/// A file that was written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WrittenFile {
    /// Path below the root of the host, before links are followed.
    pub path: String,
    /// Full contents as they were written.
    text: String,
    /// True when the file did not exist before.
    #[serde(rename = "made")]
    created: bool,
    /// True when someone else changed the file between two of our changes. The backup does not have that change.
    #[serde(rename = "foreign")]
    has_foreign_change: bool,
    /// Contents of a drop-in before the first change. It has no backup beside it, since an engine may read every file of the
    /// directory, as CRI-O does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

/// Differences that an undo would make, in the form of `diff -u`.
#[derive(Debug)]
pub(crate) enum UndoPreview {
    /// The undo is possible and changes this.
    Clean(String),
    /// Someone else has changed a file since, in this way. Nothing can be undone.
    Conflict(String),
}

/// Step of an undo: the contents that one file gets back.
struct UndoStep {
    file: ConfigFile,
    now: Option<String>,
    /// Contents before the first change; `None` removes the file.
    before: Option<String>,
}

/// Steps of an undo, or the differences that prevent it.
#[derive(Default)]
struct UndoPlan {
    steps: Vec<UndoStep>,
    conflicts: Vec<String>,
}

impl Record {
    /// Reads the record of an engine; an empty one where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or is no record, and when another user could have written it: an undo removes and
    /// restores the files that it names.
    pub(crate) fn read(host: &Root, path: &str) -> Result<Record, Error> {
        let file = ConfigFile::open(host, path, RECORD_LIMIT)?;
        file.expect_own()?;
        let Some(bytes) = file.bytes() else { return Ok(Record::default()) };
        serde_json::from_slice(bytes).map_err(|e| {
            let path = file.path().display();
            Error::failed("parse", &path).because(e).with_cure(format!(
                "remove the changes of mig-cdi configure by hand, then remove {path}"
            ))
        })
    }

    fn write(&self, host: &Root, path: &str) -> Result<(), Error> {
        let file = ConfigFile::open(host, path, RECORD_LIMIT)?;
        if self.files.is_empty() {
            if file.bytes().is_some() {
                file.remove("")?;
            }
            return Ok(());
        }
        file.make_dirs()?;
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::failed("write", "json").because(e))?;
        // The record holds whole files, and containerd's may contain passwords of registries.
        Ok(file.replace(text.as_bytes(), 0o600)?)
    }

    /// Records the contents that a draft is about to write.
    fn add(&mut self, draft: &Draft) -> Result<(), Error> {
        let known = self.files.iter_mut().find(|file| file.path == draft.path);
        if let Some(known) = known {
            known.has_foreign_change |= draft.before.as_ref() != Some(&known.text);
            known.text.clone_from(&draft.after);
            return Ok(());
        }
        // A backup without a record is left from a record that was removed by hand. It is never overwritten, and
        // may be older than what is there now.
        let backup = backup(&draft.file)?;
        self.files.push(WrittenFile {
            path: draft.path.clone(),
            text: draft.after.clone(),
            created: draft.before.is_none(),
            has_foreign_change: backup.is_some() && backup != draft.before,
            before: draft.before.clone().filter(|_| is_drop_in(&draft.path)),
        });
        Ok(())
    }

    fn undo_plan(&self, host: &Root) -> Result<UndoPlan, Error> {
        let mut plan = UndoPlan::default();
        // The file that imports a drop-in was written last and goes back first.
        for written in self.files.iter().rev() {
            let file = ConfigFile::open(host, &written.path, LIMIT)?;
            let now = file.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let before = match written.created {
                true => None,
                false if written.before.is_some() => written.before.clone(),
                false => backup(&file)?,
            };
            let is_lost = !written.created && before.is_none();
            if now == before && !is_lost {
                continue;
            }
            if written.has_foreign_change || is_lost || now.as_ref() != Some(&written.text) {
                let ours = match written.has_foreign_change {
                    true => before.as_deref(),
                    false => Some(&written.text[..]),
                };
                plan.conflicts.push(diff(file.path(), ours, now.as_deref()));
                continue;
            }
            plan.steps.push(UndoStep { file, now, before });
        }
        Ok(plan)
    }

    /// Shows the differences that an undo would make, or those that prevent it.
    pub(crate) fn preview_undo(&self, host: &Root) -> Result<UndoPreview, Error> {
        let UndoPlan { steps, conflicts } = self.undo_plan(host)?;
        if !conflicts.is_empty() {
            return Ok(UndoPreview::Conflict(conflicts.concat()));
        }
        let show = |step: &UndoStep| {
            let (now, before) = (step.now.as_deref(), step.before.as_deref());
            diff(step.file.path(), now, before)
        };
        Ok(UndoPreview::Clean(steps.iter().map(show).collect()))
    }

    /// Undoes all changes and removes the record. Returns a line for each file.
    pub(crate) fn undo(mut self, host: &Root, record_path: &str) -> Result<Vec<String>, Error> {
        let mut lines = Vec::new();
        for step in self.undo_plan(host)?.steps {
            let path = step.file.path().display().to_string();
            match step.before {
                None => {
                    step.file.remove("")?;
                    lines.push(format!("removed {path}"));
                }
                Some(before) => {
                    step.file.replace(before.as_bytes(), 0o644)?;
                    step.file.remove(BACKUP_SUFFIX)?;
                    lines.push(format!("restored {path}"));
                }
            }
        }
        // Innermost first: only an empty directory can be removed.
        for dir in self.created_dirs.iter().rev() {
            remove_empty_dir(dir)?;
        }
        self.files.clear();
        self.write(host, record_path)?;
        Ok(lines)
    }
}

/// True for a file in a directory of drop-ins.
fn is_drop_in(path: &str) -> bool {
    let dir = Path::new(path).parent().and_then(Path::file_name).and_then(|name| name.to_str());
    dir.is_some_and(|dir| dir.ends_with(".d"))
}

fn backup(file: &ConfigFile) -> Result<Option<String>, Error> {
    let path = PathBuf::from(format!("{}{BACKUP_SUFFIX}", file.path().display()));
    match mig_cdi_sys::read_regular(&path, LIMIT) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes the lock of an engine's record, which lasts until it is dropped. Two runs that edit one file at the same
/// time would otherwise lose the changes of the first, or its record.
pub(crate) fn lock(host: &Root, record_path: &str) -> Result<Lock, Error> {
    const TIMEOUT: Duration = Duration::from_secs(60);
    Ok(ConfigFile::open(host, record_path, RECORD_LIMIT)?.lock(TIMEOUT)?)
}

/// Writes every draft, or none: a failure undoes what was written before it. Returns a line for each file.
pub(crate) fn write(
    drafts: &[Draft],
    host: &Root,
    record_path: &str,
) -> Result<Vec<String>, Error> {
    // Kept for the rollback: the record on disk is replaced before the files are.
    let old_record = Record::read(host, record_path)?;
    let mut record = Record::read(host, record_path)?;
    let drafts: Vec<_> = drafts.iter().filter(|draft| draft.is_changed()).collect();
    for draft in &drafts {
        record.add(draft)?;
    }
    let mut rollback = Rollback::default();
    match write_all(&drafts, host, record_path, &mut record, &mut rollback) {
        Ok(lines) => Ok(lines),
        Err(error) => {
            rollback.run();
            // The first error is reported; the disk that caused it may refuse this too.
            let _ = old_record.write(host, record_path);
            Err(error)
        }
    }
}

fn write_all<'d>(
    drafts: &[&'d Draft],
    host: &Root,
    record_path: &str,
    record: &mut Record,
    rollback: &mut Rollback<'d>,
) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for draft in drafts {
        rollback.created_dirs.extend(draft.file.make_dirs()?);
    }
    record.created_dirs.extend(rollback.created_dirs.iter().cloned());
    // Before the files: a change without a record could not be undone after a crash.
    record.write(host, record_path)?;
    for draft in drafts {
        check_unchanged(draft, host)?;
        // A file that an earlier run created has no contents of before to keep.
        let created = record.files.iter().any(|file| file.created && file.path == draft.path);
        let has_backup =
            !created && !is_drop_in(&draft.path) && draft.file.back_up(BACKUP_SUFFIX)?;
        rollback.written.push(WrittenDraft { draft, has_backup });
        draft.file.replace(draft.after.as_bytes(), 0o644)?;
        lines.push(describe(draft, created));
    }
    Ok(lines)
}

/// Fails when the file has changed since it was read for the draft. Editors do not take our lock.
fn check_unchanged(draft: &Draft, host: &Root) -> Result<(), Error> {
    let now = ConfigFile::open(host, &draft.path, LIMIT)?;
    if now.bytes() == draft.file.bytes() {
        return Ok(());
    }
    Err(Error::failed("edit", draft.file.path().display())
        .because("the file has just been changed")
        .with_cure("run the command again"))
}

fn describe(draft: &Draft, created: bool) -> String {
    let path = draft.file.path().display();
    match draft.before {
        None => format!("wrote {path}"),
        Some(_) if created || is_drop_in(&draft.path) => format!("changed {path}"),
        Some(_) => format!("changed {path}; the original is {path}{BACKUP_SUFFIX}"),
    }
}

/// Changes that were made so far, to be undone after a failure.
#[derive(Default)]
struct Rollback<'d> {
    created_dirs: Vec<PathBuf>,
    written: Vec<WrittenDraft<'d>>,
}

struct WrittenDraft<'d> {
    draft: &'d Draft,
    /// True when this run created the backup.
    has_backup: bool,
}

impl Rollback<'_> {
    /// Undoes as much as possible: the cause of the failure, such as a full disk, may affect this too.
    fn run(&self) {
        for WrittenDraft { draft, has_backup } in self.written.iter().rev() {
            let _ = match &draft.before {
                Some(before) => draft.file.replace(before.as_bytes(), 0o644),
                None => draft.file.remove(""),
            };
            if *has_backup {
                let _ = draft.file.remove(BACKUP_SUFFIX);
            }
        }
        for dir in self.created_dirs.iter().rev() {
            let _ = remove_empty_dir(dir);
        }
    }
}

/// Returns the path of an engine's record.
pub(crate) fn record_path(state: &str, engine: &str) -> String {
    Path::new(state).join(format!("mig-cdi/configure/{engine}.json")).display().to_string()
}
