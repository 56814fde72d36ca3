//! Sources of desired layouts: those that a command line, a layout file or a checkpoint requests, and the GPUs that each is for.

use crate::{gpu_change::GpuChange, holders::Holders, node_gpus::NodeGpus};
use mig_cdi_config::layouts::{
    Assignment, GpuLayoutSetting, Layouts, LayoutsError, SelectedLayout,
};
use mig_cdi_gen::{Error, ErrorKind, MessageSink, Result};
use mig_cdi_sys::{nvml::GpuPartitioning, read_named};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

/// Name of the layout in a checkpoint.
pub const CHECKPOINT_LAYOUT: &str = "checkpoint";

/// Largest layout file that is read, far above any.
const TEXT_LIMIT: usize = 1 << 20;

/// A layout in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutFile {
    /// Path of the file, in the format of mig-parted; `-` is standard input.
    pub path: PathBuf,
    /// Name of the layout.
    pub layout: String,
}

/// Source of desired layouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayoutSource {
    /// Assignments `GPU=LAYOUT`, such as `0=3x2g.20gb,1g.10gb`, `all=none`.
    Assignments(Vec<String>),
    /// A layout in a file.
    File(LayoutFile),
    /// Path of a checkpoint: a file with the one layout [`CHECKPOINT_LAYOUT`].
    Checkpoint(PathBuf),
}

impl LayoutSource {
    /// True for a checkpoint, of which as much is restored as is possible.
    pub(crate) fn is_checkpoint(&self) -> bool {
        matches!(self, LayoutSource::Checkpoint(_))
    }
}

/// A GPU with its desired layout.
#[derive(Debug)]
pub struct DesiredGpu<'a> {
    /// The GPU before the change.
    pub gpu: &'a GpuPartitioning,
    /// Desired layout.
    pub layout: GpuLayoutSetting,
    /// Place in a file that the layout comes from, such as `layouts.yaml: line 7`; `None` for a command line.
    pub location: Option<String>,
}

impl DesiredGpu<'_> {
    /// Plans the change by `plan`, one of [`GpuChange`]'s functions. An error in the layout names its place in the file.
    ///
    /// # Errors
    /// Those of `plan`.
    pub(crate) fn change(
        &self,
        plan: impl FnOnce(&GpuPartitioning, &GpuLayoutSetting) -> Result<GpuChange>,
    ) -> Result<GpuChange> {
        plan(self.gpu, &self.layout).map_err(|error| match (error.kind, &self.location) {
            (ErrorKind::Usage, Some(location)) => {
                Error { subject: format!("{} ({location})", error.subject), ..error }
            }
            _ => error,
        })
    }
}

/// Desired layouts of the GPUs of a node.
#[derive(Debug)]
pub struct DesiredGpus<'a> {
    /// GPUs that the source selects.
    pub gpus: Vec<DesiredGpu<'a>>,
    /// GPUs in a checkpoint that the node does not have, an error for each.
    pub absent: Vec<Error>,
}

impl NodeGpus {
    /// Returns the desired layouts of the GPUs that a source selects. Reports each GPU of a checkpoint that the node does not have.
    ///
    /// # Errors
    /// When a layout or the selection of GPUs is wrong, or a file cannot be read.
    pub fn desired(
        &self,
        source: &LayoutSource,
        messages: &dyn MessageSink,
    ) -> Result<DesiredGpus<'_>> {
        match source {
            LayoutSource::Assignments(assignments) => self.assigned(assignments),
            LayoutSource::File(LayoutFile { path, layout }) => {
                let selected = read_layouts(path)?.select(layout, &self.candidates()?);
                let selected = selected.map_err(|e| {
                    self.unreadable_gpu(&e).unwrap_or_else(|| layout_file_error(path, &e))
                })?;
                Ok(DesiredGpus { gpus: self.selected(selected, Some(path)), absent: Vec::new() })
            }
            LayoutSource::Checkpoint(path) => self.checkpointed(path, messages),
        }
    }

    fn assigned(&self, assignments: &[String]) -> Result<DesiredGpus<'_>> {
        if assignments.is_empty() {
            return Err(Error::usage("partition", "gpus").because("no gpu is named").with_cure(
                "write GPU=LAYOUT, such as 0=3x2g.20gb,1g.10gb, or name a file with --file",
            ));
        }
        let fail = |e: LayoutsError| declaration_error("parse", &e.location, &e);
        let assignments = assignments.iter().map(|text| text.parse().map_err(fail));
        let assignments = assignments.collect::<Result<Vec<_>>>()?;
        let selected = Assignment::select(&assignments, &self.candidates()?)
            .map_err(|e| self.unreadable_gpu(&e).unwrap_or_else(|| fail(e)))?;
        Ok(DesiredGpus { gpus: self.selected(selected, None), absent: Vec::new() })
    }

    /// Returns the error for a named GPU that is absent, where it may be one of those that cannot be read.
    fn unreadable_gpu(&self, error: &LayoutsError) -> Option<Error> {
        let first = self.unreadable.first().filter(|_| error.is_about_absent_gpu)?;
        let Error { cause, cure, .. } = first.clone();
        let error = Error::of(ErrorKind::Incomplete, "partition", &error.location);
        Some(Error { cure, ..error.because(format!("{}: {cause}", first.subject)) })
    }

    fn checkpointed(&self, path: &Path, messages: &dyn MessageSink) -> Result<DesiredGpus<'_>> {
        let layouts = read_layouts(path)?;
        let selected = layouts.select_present(CHECKPOINT_LAYOUT, &self.candidates()?);
        let (selected, absent) = selected.map_err(|e| layout_file_error(path, &e))?;
        let cause = match self.unreadable.is_empty() {
            true => "it is not on this node, and is omitted",
            false => "it is not among the gpus that nvml describes, and is omitted",
        };
        let omitted = |gpu| {
            let error =
                Error::of(ErrorKind::Incomplete, "restore", format!("gpu {gpu}")).because(cause);
            messages.error(&error.to_string());
            error
        };
        let absent = absent.into_iter().map(omitted).collect();
        Ok(DesiredGpus { gpus: self.selected(selected, Some(path)), absent })
    }

    /// Joins selected layouts with their GPUs. A GPU without MIG is omitted unless the user names it: `all` means those that can
    /// be partitioned.
    fn selected(&self, selected: Vec<SelectedLayout>, file: Option<&Path>) -> Vec<DesiredGpu<'_>> {
        let desired = |selected: SelectedLayout| {
            let gpu = self.all.get(selected.gpu)?;
            let location = file.map(|file| format!("{}: {}", file.display(), selected.location));
            let layout = selected.layout;
            (selected.is_named || gpu.mig.is_some()).then_some(DesiredGpu { gpu, layout, location })
        };
        selected.into_iter().filter_map(desired).collect()
    }

    /// Plans the changes of GPUs to their desired layouts, without destroying what `holders` hold.
    ///
    /// # Errors
    /// As [`GpuChange::plan_with`].
    pub fn changes(&self, desired: &[DesiredGpu<'_>], holders: &Holders) -> Result<Vec<GpuChange>> {
        let plan = |desired: &DesiredGpu<'_>| {
            desired.change(|gpu, layout| GpuChange::plan_with(gpu, &self.all, holders, layout))
        };
        desired.iter().map(plan).collect()
    }
}

fn read_layouts(file: &Path) -> Result<Layouts> {
    let bytes = read_named(file, TEXT_LIMIT).map_err(Error::of_input)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::usage("read", file.display()).because("not valid utf-8"))?;
    Layouts::parse(&text).map_err(|e| layout_file_error(file, &e))
}

fn layout_file_error(file: &Path, cause: &LayoutsError) -> Error {
    let place = format!("{}: {}", file.display(), cause.location);
    declaration_error("read", place, cause)
}

/// Makes the error of a declaration at a place: a line of a file, or an argument.
fn declaration_error(operation: &str, place: impl Display, error: &LayoutsError) -> Error {
    Error::usage(operation, place).because_of(&error.cause, error.cure.as_ref())
}
