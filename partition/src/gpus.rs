//! The GPUs of a node, and the layouts that a command line, a file or a checkpoint asks for.

use crate::{
    apply::{Change, label},
    holders::Holders,
};
use mig_cdi_config::layouts::{
    Assignment, BadLayouts, GpuIdentity, Layout, Layouts, SelectedLayout,
};
use mig_cdi_gen::{
    Error, ErrorKind, MessageSink, NodeSource, Result,
    discover::{self, Source},
};
use mig_cdi_model::GpuIndex;
use mig_cdi_sys::{
    nvml::{GpuPartitioning, Partitioner},
    read_named,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

/// Name of the layout in a checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

/// Bound on a file of layouts, far above any.
const TEXT_LIMIT: usize = 1 << 20;

/// A layout in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutFile {
    /// The file, in the format of mig-parted; `-` is standard input.
    pub path: PathBuf,
    /// Name of the layout.
    pub layout: String,
}

/// Where the desired layouts come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// Assignments `GPU=LAYOUT`.
    Assignments(Vec<String>),
    /// A layout in a file.
    File(LayoutFile),
    /// A checkpoint.
    Checkpoint(PathBuf),
}

/// A GPU and its desired layout.
#[derive(Debug)]
pub struct DesiredGpu<'a> {
    /// The GPU as it is.
    pub gpu: &'a GpuPartitioning,
    /// Its desired layout.
    pub layout: Layout,
    /// Place in a file that the layout comes from, such as `layouts.yaml: line 7`; `None` for a command line.
    pub origin: Option<String>,
}

impl DesiredGpu<'_> {
    /// Plans the change by one of [`Change`]'s ways. An error in the layout names the place that it comes from.
    ///
    /// # Errors
    /// Those of `plan`.
    pub fn change(
        &self,
        plan: impl FnOnce(&GpuPartitioning, &Layout) -> Result<Change>,
    ) -> Result<Change> {
        plan(self.gpu, &self.layout).map_err(|error| match (error.kind, &self.origin) {
            (ErrorKind::Usage, Some(origin)) => {
                let cause = format!("{}: {}", error.subject, error.cause);
                Error { operation: "read".to_owned(), subject: origin.clone(), cause, ..error }
            }
            _ => error,
        })
    }
}

/// Desired layouts of the GPUs of a node.
#[derive(Debug)]
pub struct DesiredGpus<'a> {
    /// GPUs that the goal names.
    pub gpus: Vec<DesiredGpu<'a>>,
    /// Number of GPUs in a checkpoint that the node does not have.
    pub absent: usize,
}

/// The GPUs of a node, and the interface that partitions them.
pub struct Gpus {
    /// NVML, or a simulated node.
    pub partitioner: Box<dyn Partitioner>,
    /// GPUs that NVML can describe.
    pub all: Vec<GpuPartitioning>,
    /// Number of GPUs that it cannot.
    pub lost: usize,
}

impl Gpus {
    /// Reads the GPUs of a node.
    ///
    /// # Errors
    /// When NVML cannot be asked, or can describe none of the GPUs.
    pub fn read(node: &NodeSource, messages: &dyn MessageSink) -> Result<Gpus> {
        let gpus = Gpus::ask(node, messages, "it is left out")?;
        match gpus.all.is_empty() && gpus.lost > 0 {
            true => {
                Err(Error::of(ErrorKind::Incomplete, "", "").because("nvml can tell of no gpu"))
            }
            false => Ok(gpus),
        }
    }

    /// Reads the GPUs of a node, though NVML may be able to describe none. `consequence` says what becomes of such a GPU.
    ///
    /// # Errors
    /// When NVML cannot be asked.
    pub fn ask(node: &NodeSource, messages: &dyn MessageSink, consequence: &str) -> Result<Gpus> {
        if node.source == Source::Proc {
            return Err(Error::usage("", "--source proc")
                .because("only nvml divides gpus and tells how they are divided"));
        }
        let partitioner = node.partitioner()?.map_err(discover::without_nvml)?;
        let (mut all, mut lost) = (Vec::new(), 0);
        for (index, gpu) in
            partitioner.gpus().map_err(discover::without_nvml)?.into_iter().enumerate()
        {
            match gpu {
                Ok(gpu) => all.push(gpu),
                Err(error) => {
                    lost += 1;
                    messages.error(&format!("gpu {index}: {error}; {consequence}"));
                }
            }
        }
        Ok(Gpus { partitioner, all, lost })
    }

    /// The GPUs with the names that a layout can select them by.
    ///
    /// # Errors
    /// When NVML gives one a UUID or PCI address of another form.
    pub fn candidates(&self) -> Result<Vec<GpuIdentity>> {
        let candidate = |gpu: &GpuPartitioning| {
            let bad = |e| Error::failed("ask nvml of", label(gpu)).because(e);
            Ok(GpuIdentity {
                index: GpuIndex(gpu.index),
                uuid: gpu.uuid.parse().map_err(bad)?,
                pci: gpu.pci.parse().map_err(bad)?,
                device_id: gpu.device_id,
                subsystem_id: gpu.subsystem_id,
            })
        };
        self.all.iter().map(candidate).collect()
    }

    /// Desired layouts of the GPUs that a goal names. A GPU of a checkpoint that the node does not have is reported.
    ///
    /// # Errors
    /// When a layout or the selection of GPUs is wrong, or a file cannot be read.
    pub fn desired(&self, goal: &Goal, messages: &dyn MessageSink) -> Result<DesiredGpus<'_>> {
        let all_present = |gpus| DesiredGpus { gpus, absent: 0 };
        match goal {
            Goal::Assignments(assignments) if assignments.is_empty() => {
                Err(Error::usage("", "no gpu to divide").because(
                    "write GPU=LAYOUT, such as 0=3x2g.20gb,1g.10gb, or name a file with --file",
                ))
            }
            Goal::Assignments(assignments) => {
                let fail = |e: BadLayouts| bad_layouts("", &e.origin, &e);
                let assignments = assignments.iter().map(|text| text.parse().map_err(fail));
                let assignments = assignments.collect::<Result<Vec<_>>>()?;
                let selected =
                    Assignment::select(&assignments, &self.candidates()?).map_err(fail)?;
                Ok(all_present(self.selected(selected, None)))
            }
            Goal::File(LayoutFile { path, layout }) => {
                let selected = layouts(path)?.select(layout, &self.candidates()?);
                let selected = selected.map_err(|e| unreadable(path, &e))?;
                Ok(all_present(self.selected(selected, Some(path))))
            }
            Goal::Checkpoint(path) => {
                let selected = layouts(path)?.select_present(CHECKPOINT, &self.candidates()?);
                let (selected, absent) = selected.map_err(|e| unreadable(path, &e))?;
                for gpu in &absent {
                    messages.error(&format!("gpu {gpu} is not on this node; it is left out"));
                }
                let gpus = self.selected(selected, Some(path));
                Ok(DesiredGpus { gpus, absent: absent.len() })
            }
        }
    }

    /// A GPU that has no MIG is omitted unless it is named by itself.
    fn selected(&self, selected: Vec<SelectedLayout>, file: Option<&Path>) -> Vec<DesiredGpu<'_>> {
        let desired = |selected: SelectedLayout| {
            let gpu = self.all.get(selected.gpu)?;
            let origin = file.map(|file| format!("{}: {}", file.display(), selected.origin));
            let layout = selected.layout;
            (selected.is_named || gpu.mig.is_some()).then_some(DesiredGpu { gpu, layout, origin })
        };
        selected.into_iter().filter_map(desired).collect()
    }

    /// Plans the changes of GPUs, knowing who holds what.
    ///
    /// # Errors
    /// When a layout cannot be reached.
    pub fn changes(&self, desired: &[DesiredGpu<'_>], holders: &Holders) -> Result<Vec<Change>> {
        let plan = |desired: &DesiredGpu<'_>| {
            desired.change(|gpu, goal| Change::with(gpu, &self.all, holders, goal))
        };
        desired.iter().map(plan).collect()
    }
}

fn layouts(file: &Path) -> Result<Layouts> {
    let bytes = read_named(file, TEXT_LIMIT)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::usage("read", file.display()).because("not valid utf-8"))?;
    Layouts::parse(&text).map_err(|e| unreadable(file, &e))
}

fn unreadable(file: &Path, cause: &BadLayouts) -> Error {
    let place = format_args!("{}: {}", file.display(), cause.origin);
    bad_layouts("read", place, cause)
}

/// Makes an error of a declaration that cannot be followed.
fn bad_layouts(operation: &str, place: impl Display, error: &BadLayouts) -> Error {
    let failure = Error::usage(operation, place).because(&error.cause);
    match &error.cure {
        Some(cure) => failure.cure(cure),
        None => failure,
    }
}
