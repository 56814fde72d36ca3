//! One refresh: the host's device nodes and the specs are made current, and everything that the watch has to know is reported.
//!
//! The watch runs it in a process of its own, so that an NVML that hangs or crashes takes no watch with it and none of its
//! memory stays: [`RefreshRequest`] is that child's command line, [`RefreshReply`] its standard output.

use crate::{
    Error, Exit, NoMessages, NodeSource, Result,
    child::{self, ChildOutput},
    device_nodes::{self, Change, Changes, NodesMode},
    discover::Source,
    engines::EngineList,
    generate::{GenerateOptions, Generated, Generator, OnConflict, PlannedSpec, SpecPlan, text_of},
    inventory::{Inventory, inventory},
    node_source::NodeRoots,
    spec::{Format, preferred_name},
    watch::{external_changes::below, status::Slice},
};
use mig_cdi_model::{Gpu, MigDevice, MigMode};
use mig_cdi_sys::{FileStamp, is_root};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Identity of a file, which changes whenever its content does. `None` for a file that is not there.
pub type Mark = Option<FileStamp>;

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
    /// Whether the report has an [`Inventory`], for a program that advertises slices.
    pub inventory: bool,
    /// Whether the report lists all GPUs, for a watch that subscribes to the errors of each.
    pub all_gpus: bool,
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
    /// All GPUs by UUID, each followed by ` mig` when it is in MIG mode. Empty unless asked for.
    pub all_gpus: BTreeSet<String>,
    /// Directories that hold driver files named in the specs.
    pub file_dirs: Vec<PathBuf>,
    /// Specs as they were left, in the order of [`crate::generate::SpecTargets::iter`].
    pub spec_marks: Vec<Mark>,
    /// Changes of the host's device nodes, a line each.
    pub node_changes: Vec<String>,
    /// The changed nodes and links, as they were left.
    pub node_marks: Vec<(PathBuf, Mark)>,
    /// Warnings that the watch has to pass on, a line each.
    pub warnings: Vec<String>,
    /// Slices that can be advertised, when asked for.
    pub inventory: Option<Inventory>,
    /// Versions of the engines, when they had to be asked.
    pub engines: Option<String>,
}

/// Does what the parent's message asks: the body of the hidden subcommand `refresh`.
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
    // Nodes are repaired while NVML is asked, and joined before a spec that names them is written.
    let (nodes, generated) = std::thread::scope(|scope| {
        let is_wanted = is_root() && request.repair_nodes;
        let repair = || device_nodes::apply(&node, NodesMode::default(), &NoMessages);
        let nodes = is_wanted.then(|| scope.spawn(repair));
        let mut repaired = None;
        // A program that advertises slices goes on with them when it has lost the whole GPUs.
        let on_conflict =
            if request.inventory { OnConflict::YieldGpus } else { OnConflict::Refuse };
        let before_write = || repaired = nodes.and_then(|nodes| nodes.join().ok());
        let generated = generator.generate(on_conflict, before_write);
        (repaired, generated)
    });
    let Generated { plan, .. } = generated?;
    let mut report = report(request, &node, &plan)?;
    report.engines = generator.devices().known_engines().map(EngineList::to_argument);
    match nodes {
        Some(Ok(changes)) => add_node_changes(&mut report, changes, &request.roots.dev),
        Some(Err(failure)) => report.warnings.push(failure.to_string()),
        None => {}
    }
    report.warnings.extend(plan.yielded);
    Ok(Box::new(report))
}

fn add_node_changes(report: &mut RefreshReport, changes: Changes, dev_root: &Path) {
    let mark = |change: &Change| {
        let path = below(dev_root, change.path());
        // A node that was made and has gone since is not as this refresh left it.
        let mark = FileStamp::of(&path).or((!change.removes()).then_some(FileStamp::NO_FILE));
        (path, mark)
    };
    report.node_marks = changes.changes.iter().map(mark).collect();
    report.node_changes = changes.changes.iter().map(ToString::to_string).collect();
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
        let uuid = gpu.uuid.as_ref()?;
        Some(format!("{uuid}{}", if gpu.mig == MigMode::Enabled { " mig" } else { "" }))
    };
    let all_gpus = plan.topology.gpus.iter().filter(|_| request.all_gpus);
    let inventory = match request.inventory {
        true => {
            let built = plan.specs().map(|planned| (&planned.kind, &planned.built));
            let machine = node.machine()?;
            Some(inventory(&plan.topology, built, plan.omitted.clone(), &*machine))
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
        spec_marks: plan.specs().map(|planned| spec_mark(planned, plan.format)).collect(),
        ..RefreshReport::default()
    })
}

/// Mark of the file that this refresh wrote, or [`FileStamp::NO_FILE`] when another has taken its place since. The
/// mark is taken before the content is read, so that a file that is replaced in between does not pass for ours.
fn spec_mark(planned: &PlannedSpec, format: Format) -> Mark {
    let target = planned.target.as_ref()?;
    let mark = FileStamp::of(&target.path());
    let Some(spec) = &planned.built.spec else { return mark };
    match (target.read(), text_of(spec, format)) {
        (Ok(Some(found)), Ok(text)) if found == text.as_bytes() => mark,
        _ => Some(FileStamp::NO_FILE),
    }
}
