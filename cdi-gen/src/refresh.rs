//! One refresh: makes the host's device nodes and the specs current, and reports what the watch has to know.
//!
//! The watch runs it in a child process, so that an NVML that hangs or crashes does not take the watch along, and none of its
//! memory stays. [`RefreshRequest`] is the child's argument, [`RefreshReply`] its standard output.

use crate::{
    Error, Exit, NoMessages, NodeRoots, NodeSource, Result,
    child::{self, ChildOutput},
    device_nodes::{self, NodeChange, NodeChanges, NodesMode},
    discover::Source,
    engines::EngineList,
    generate::{
        GenerateOptions, GeneratedSpecs, Generator, OnConflict, PlannedSpec, SpecPlan, text_of,
    },
    inventory::{Inventory, inventory},
    spec::{Format, preferred_name},
};
use mig_cdi_model::{Gpu, MigDevice, MigMode};
use mig_cdi_sys::{FileStamp, is_root};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Instructions for one refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshRequest {
    /// Roots of this machine.
    pub roots: NodeRoots,
    /// Interface that MIG state is read from.
    pub source: Source,
    /// Options of the specs.
    pub generate: GenerateOptions,
    /// Whether the host's device nodes are repaired too. Only root can.
    pub repair_nodes: bool,
    /// Whether the report includes an [`Inventory`], for a program that advertises slices.
    pub wants_inventory: bool,
    /// Whether the report lists all GPUs, for a watch that subscribes to the errors of each.
    pub wants_all_gpus: bool,
}

/// Outcome of one refresh.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum RefreshReply {
    /// The specs are current, except for what the report says is omitted.
    Done(Box<RefreshReport>),
    /// The specs are as they were.
    Failed(Error),
}

/// Findings of one refresh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshReport {
    /// MIG devices of the node.
    pub devices: Vec<Slice>,
    /// Number of things that could not be confirmed and are omitted.
    pub omitted: usize,
    /// UUIDs of the GPUs in MIG mode.
    pub mig_gpus: BTreeSet<String>,
    /// All GPUs by UUID, each followed by ` mig` when it is in MIG mode. Empty unless requested.
    pub all_gpus: BTreeSet<GpuInMode>,
    /// Directories that hold driver files named in the specs.
    pub file_dirs: Vec<PathBuf>,
    /// Stamps of the specs that were written, in the order of [`crate::generate::SpecTargets::iter`]; `None` where there is no
    /// file.
    pub spec_stamps: Vec<Option<FileStamp>>,
    /// Changes of the host's device nodes.
    pub node_changes: Vec<ChangedNode>,
    /// Warnings for the log of the watch, a line each. For display only.
    pub warnings: Vec<String>,
    /// Slices that can be advertised, when requested.
    pub inventory: Option<Inventory>,
    /// Engines with their versions, when `--version` of each was run.
    pub engines: Option<EngineList>,
}

/// A node or link in `/dev` that a refresh has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedNode {
    /// Path on this host.
    pub path: PathBuf,
    /// Stamp of what is there now; `None` where nothing is left.
    pub stamp: Option<FileStamp>,
    /// The change as a line, for display only: [`NodeChange`] has it in fields.
    pub line: String,
}

/// A MIG device, as the status of the watch lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Name of the device in the CDI spec that people can read most easily.
    pub name: Option<String>,
    /// MIG UUID from NVML.
    pub uuid: Option<String>,
    /// Profile from NVML: `1g.10gb`.
    pub profile: Option<String>,
}

/// A GPU and its MIG mode. In JSON it is one text: `GPU-…`, with ` mig` behind it in MIG mode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct GpuInMode {
    /// UUID of the GPU.
    pub uuid: String,
    /// Whether MIG mode is enabled.
    pub is_mig_enabled: bool,
}

impl From<GpuInMode> for String {
    fn from(gpu: GpuInMode) -> String {
        if gpu.is_mig_enabled { gpu.uuid + " mig" } else { gpu.uuid }
    }
}

impl From<String> for GpuInMode {
    fn from(text: String) -> GpuInMode {
        match text.strip_suffix(" mig") {
            Some(uuid) => GpuInMode { uuid: uuid.to_owned(), is_mig_enabled: true },
            None => GpuInMode { uuid: text, is_mig_enabled: false },
        }
    }
}

/// Runs the parent's request: the body of the hidden subcommand `refresh`.
#[must_use]
pub fn run_child(message: &str) -> ChildOutput {
    let reply = child::parse(message).and_then(|request: RefreshRequest| refresh(&request));
    let (reply, exit) = match reply {
        Ok(report) if report.omitted > 0 => (RefreshReply::Done(report), Exit::Incomplete),
        Ok(report) => (RefreshReply::Done(report), Exit::Success),
        Err(failure) => (RefreshReply::Failed(failure.clone()), failure.kind.into()),
    };
    ChildOutput { stdout: child::line(&reply), exit }
}

fn refresh(request: &RefreshRequest) -> Result<Box<RefreshReport>> {
    let node = NodeSource { roots: request.roots.clone(), source: request.source, simulated: None };
    let generator = Generator::new(&node, &request.generate, &NoMessages);
    // Nodes are repaired while NVML is read. They are complete before a spec that names them is written: an engine may start a
    // container from it at once.
    let (nodes, generated) = std::thread::scope(|scope| {
        let can_repair = is_root() && request.repair_nodes;
        let repair = || device_nodes::apply(&node, NodesMode::default(), &NoMessages);
        let nodes = can_repair.then(|| scope.spawn(repair));
        let mut repaired = None;
        // The device plugin advertises slices. It must not lose them because another tool defines the whole GPUs.
        let on_conflict =
            if request.wants_inventory { OnConflict::YieldGpus } else { OnConflict::Refuse };
        let before_write = || repaired = nodes.and_then(|nodes| nodes.join().ok());
        let generated = generator.generate(on_conflict, before_write);
        (repaired, generated)
    });
    let GeneratedSpecs { plan, .. } = generated?;
    let mut report = report(request, &node, &plan)?;
    report.engines = generator.devices().known_engines().map(|known| EngineList(known.to_vec()));
    match nodes {
        Some(Ok(changes)) => add_node_changes(&mut report, changes, &request.roots),
        Some(Err(failure)) => report.warnings.push(failure.to_string()),
        None => {}
    }
    let conflict = plan.gpus_conflict.iter();
    report.warnings.extend(conflict.map(|error| format!("whole gpus are omitted: {error}")));
    Ok(Box::new(report))
}

fn add_node_changes(report: &mut RefreshReport, changes: NodeChanges, roots: &NodeRoots) {
    let changed = |change: &NodeChange| {
        let path = roots.dev_path(change.path());
        // A node that was made and is gone already was removed by another program: no file has this stamp.
        let stamp = FileStamp::of(&path).or((!change.removes()).then_some(FileStamp::NO_FILE));
        ChangedNode { path, stamp, line: change.to_string() }
    };
    report.node_changes = changes.changes.iter().map(changed).collect();
    report.warnings = changes.problems;
}

fn report(request: &RefreshRequest, node: &NodeSource, plan: &SpecPlan) -> Result<RefreshReport> {
    let slice = |device: &MigDevice<'_>| Slice {
        name: preferred_name(device, request.source).map(|name| name.to_string()),
        uuid: device.ci.uuid.as_ref().map(ToString::to_string),
        profile: device.ci.profile.as_ref().map(ToString::to_string),
    };
    let specs = plan.specs().filter_map(|planned| planned.built.spec.as_ref());
    let mounts = specs.flat_map(|spec| &spec.container_edits.mounts);
    let dirs: BTreeSet<_> =
        mounts.filter_map(|mount| Some(Path::new(&mount.host_path).parent()?.to_owned())).collect();
    let in_mig_mode = plan.topology.gpus.iter().filter(|gpu| gpu.mig == MigMode::Enabled);
    let with_mode = |gpu: &Gpu| {
        let uuid = gpu.uuid.as_ref()?.to_string();
        Some(GpuInMode { uuid, is_mig_enabled: gpu.mig == MigMode::Enabled })
    };
    let all_gpus = plan.topology.gpus.iter().filter(|_| request.wants_all_gpus);
    let inventory = match request.wants_inventory {
        true => {
            let built = plan.specs().map(|planned| (&planned.kind, &planned.built));
            let machine = node.machine()?;
            Some(inventory(&plan.topology, built, &plan.omitted, &*machine))
        }
        false => None,
    };
    Ok(RefreshReport {
        all_gpus: all_gpus.filter_map(with_mode).collect(),
        mig_gpus: in_mig_mode.filter_map(|gpu| Some(gpu.uuid.as_ref()?.to_string())).collect(),
        devices: plan.topology.mig_devices().map(|device| slice(&device)).collect(),
        omitted: plan.omitted.len(),
        inventory,
        file_dirs: dirs.into_iter().collect(),
        spec_stamps: plan.specs().map(|planned| spec_stamp(planned, plan.format)).collect(),
        ..RefreshReport::default()
    })
}

/// Stamp of the file that this refresh wrote, or [`FileStamp::NO_FILE`] when another file has taken its place since.
fn spec_stamp(planned: &PlannedSpec, format: Format) -> Option<FileStamp> {
    let target = planned.target.as_ref()?;
    // Before the content is read: a file that is replaced in between must not pass for ours.
    let stamp = FileStamp::of(&target.path());
    let Some(spec) = &planned.built.spec else { return stamp };
    match (target.read(), text_of(spec, format)) {
        (Ok(Some(found)), Ok(text)) if found == text.as_bytes() => stamp,
        _ => Some(FileStamp::NO_FILE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_sent() {
        let changed = |stamp| ChangedNode {
            path: PathBuf::from("/dev/nvidia-caps/nvidia-cap30"),
            stamp,
            line: "make /dev/nvidia-caps/nvidia-cap30 508:30 0444".to_owned(),
        };
        let report = RefreshReport {
            node_changes: vec![changed(Some(FileStamp::NO_FILE)), changed(None)],
            engines: Some("podman=4.3.1,crio".parse().unwrap()),
            ..RefreshReport::default()
        };
        let line = child::line(&RefreshReply::Done(Box::new(report.clone())));
        let Ok(RefreshReply::Done(read)) = serde_json::from_str(&line) else {
            panic!("{line}");
        };
        assert_eq!(*read, report);
    }
}
