//! The GPUs of a node as NVML or a simulated node describes them.

use crate::gpu_change::gpu_label;
use mig_cdi_config::layouts::GpuIdentity;
use mig_cdi_gen::{
    Error, ErrorKind, MessageSink, NodeSource, Result,
    discover::{self, Source},
};
use mig_cdi_model::{Gpu, GpuIndex, PciAddress, Topology};
use mig_cdi_sys::nvml::{CallError, GpuPartitioning, Partitioner};
use std::{collections::BTreeSet, fmt};

/// Number of readings of a GPU while other programs change its instances.
const READINGS: usize = 4;

/// The GPUs of a node, and the interface that partitions them. NVML stays open until this is dropped.
pub struct NodeGpus {
    /// NVML, or a simulated node.
    pub partitioner: Box<dyn Partitioner>,
    /// GPUs that NVML can describe, by index.
    pub all: Vec<GpuPartitioning>,
    /// GPUs that it cannot describe, an error for each; one for all that it describes to root only.
    pub unreadable: Vec<Error>,
    /// Error of the GPUs that NVML describes to root only.
    denied: Option<Error>,
}

impl NodeGpus {
    /// Reads the GPUs of a node. Reports each GPU that NVML does not describe.
    ///
    /// # Errors
    /// When NVML does not answer, describes none of the GPUs, or describes one to root only.
    pub fn read(node: &NodeSource, messages: &dyn MessageSink) -> Result<NodeGpus> {
        NodeGpus::through(open(node)?, node, "it is omitted")?.expect_some(messages)
    }

    /// Reads the GPUs again, with the same NVML.
    ///
    /// # Errors
    /// As [`NodeGpus::read`].
    pub(crate) fn read_again(
        self,
        node: &NodeSource,
        messages: &dyn MessageSink,
    ) -> Result<NodeGpus> {
        NodeGpus::through(self.partitioner, node, "it is omitted")?.expect_some(messages)
    }

    /// True when NVML describes a GPU to root only.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.denied.is_some()
    }

    fn expect_some(mut self, messages: &dyn MessageSink) -> Result<NodeGpus> {
        let failure = match self.denied.take() {
            Some(denied) => Some(denied),
            None if self.all.is_empty() => self.unreadable.pop(),
            None => None,
        };
        let others = self.unreadable.iter().filter(|error| Some(*error) != failure.as_ref());
        others.for_each(|error| messages.error(&error.to_string()));
        failure.map_or(Ok(self), Err)
    }

    /// Reads the GPUs of a node, even when NVML describes none of them. Reports each that it does not describe; `consequence`
    /// ends the message, as in `it is omitted`.
    ///
    /// # Errors
    /// When NVML does not answer.
    pub fn read_available(
        node: &NodeSource,
        messages: &dyn MessageSink,
        consequence: &str,
    ) -> Result<NodeGpus> {
        let gpus = NodeGpus::through(open(node)?, node, consequence)?;
        for error in &gpus.unreadable {
            let mut error = error.clone();
            if gpus.denied.as_ref() == Some(&error) {
                error.cause += &format!("; {consequence}");
            }
            messages.error(&error.to_string());
        }
        Ok(gpus)
    }

    fn through(
        partitioner: Box<dyn Partitioner>,
        node: &NodeSource,
        consequence: &str,
    ) -> Result<NodeGpus> {
        let before = ProcInstances::read(node);
        let answers = partitioner.gpus().map_err(discover::required_nvml_error)?;
        let mut reading = Reading {
            partitioner: &*partitioner,
            node,
            consequence,
            before,
            all: Vec::new(),
            unreadable: Vec::new(),
            denied: None,
        };
        (0..).zip(answers).for_each(|(index, answer)| reading.add(index, answer));
        reading.add_uncounted();
        let Reading { all, mut unreadable, denied, .. } = reading;
        unreadable.extend(denied.clone());
        Ok(NodeGpus { partitioner, all, unreadable, denied })
    }

    /// Returns the GPUs with one of them as it was read last.
    pub(crate) fn with(&self, latest: &GpuPartitioning) -> Vec<GpuPartitioning> {
        let others = self.all.iter().filter(|gpu| gpu.uuid != latest.uuid);
        others.chain([latest]).cloned().collect()
    }

    /// Returns the names by which layouts can select the GPUs, in the order of [`NodeGpus::all`].
    ///
    /// # Errors
    /// When NVML reports a UUID or PCI address that is not one.
    pub fn candidates(&self) -> Result<Vec<GpuIdentity>> {
        let candidate = |gpu: &GpuPartitioning| {
            let bad = |e| Error::failed("query nvml about", gpu_label(gpu)).because(e);
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
}

fn open(node: &NodeSource) -> Result<Box<dyn Partitioner>> {
    if node.source == Source::Proc {
        // /proc shows the ids of instances, and neither profiles nor placements.
        return Err(Error::usage("accept", "--source proc")
            .because("only nvml partitions gpus and reports their layouts")
            .with_cure("omit --source proc"));
    }
    node.partitioner()?.map_err(discover::required_nvml_error)
}

/// GPUs that have been read so far. One of which not every instance is known is as good as one that NVML cannot describe: a layout without
/// that instance would destroy another, or leave it out of a checkpoint.
struct Reading<'a> {
    partitioner: &'a dyn Partitioner,
    node: &'a NodeSource,
    consequence: &'a str,
    /// Instances in `/proc` before NVML was asked.
    before: ProcInstances,
    all: Vec<GpuPartitioning>,
    unreadable: Vec<Error>,
    denied: Option<Error>,
}

impl Reading<'_> {
    fn add(&mut self, index: u32, answer: Result<GpuPartitioning, CallError>) {
        match answer.and_then(|gpu| self.missing(gpu)) {
            Ok((gpu, missing)) => match missing.or_else(|| undescribed(&gpu)) {
                None => self.all.push(gpu),
                Some(cause) => {
                    let cure = "update the driver, or partition this gpu with nvidia-smi mig";
                    self.omit(gpu_label(&gpu), &cause, Some(cure));
                }
            },
            Err(error) if error.is_not_permitted() => {
                let cause = "nvml reports them only to a caller with privileges";
                let denied = Error::failed("read", "the layouts of the gpus");
                self.denied.get_or_insert(denied.because_of(cause, error.cure));
            }
            Err(error) => self.omit(format!("gpu {index}"), &error.without_cure(), error.cure),
        }
    }

    /// Returns what of a GPU's instances NVML does not list, with the GPU as it was read last. Other programs create and destroy instances
    /// meanwhile: one is missing that `/proc` shows before NVML lists them, and after.
    fn missing(
        &self,
        mut gpu: GpuPartitioning,
    ) -> Result<(GpuPartitioning, Option<String>), CallError> {
        let mut before = self.before.missing(&gpu);
        for _ in 0..READINGS {
            if before.is_empty() {
                return Ok((gpu, None));
            }
            let in_proc = ProcInstances::read(self.node);
            let after = in_proc.missing(&gpu);
            if let Some(instance) = before.intersection(&after).next() {
                let cause =
                    format!("nvml does not list {instance} by any profile, and /proc shows it");
                return Ok((gpu, Some(cause)));
            }
            gpu = self.partitioner.gpu(&gpu.uuid)?;
            before = in_proc.missing(&gpu);
        }
        Ok((gpu, Some("its instances change all the time".to_owned())))
    }

    /// Adds the GPUs with instances that NVML does not count.
    fn add_uncounted(&mut self) {
        // One that NVML cannot describe may be any of them.
        if !self.unreadable.is_empty() || self.denied.is_some() {
            return;
        }
        for (minor, pci) in self.before.of_other_gpus(&self.all) {
            let cure = format!("run nvidia-smi drain --query --pciid {pci}");
            let cause = "nvml does not count it, and /proc shows its gpu instances";
            self.omit(format!("gpu minor {minor} ({pci})"), cause, Some(&cure));
        }
    }

    fn omit(&mut self, gpu: String, cause: &str, cure: Option<&str>) {
        let cause = format!("{cause}; {}", self.consequence);
        let error = Error::of(ErrorKind::Incomplete, "query nvml about", gpu);
        self.unreadable.push(error.because_of(cause, cure));
    }
}

/// A GPU instance, or a compute instance of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Instance {
    gi: u32,
    ci: Option<u32>,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ci {
            None => write!(f, "gpu instance {}", self.gi),
            Some(ci) => write!(f, "compute instance {ci} of gpu instance {}", self.gi),
        }
    }
}

/// The instances that `/proc` shows. NVML lists instances by profile: one whose profile it does not describe is in no list.
struct ProcInstances(Option<Topology>);

impl ProcInstances {
    /// Reads them. Where `/proc` has none, as in many containers, NVML has to be believed.
    fn read(node: &NodeSource) -> ProcInstances {
        let read = || discover::discover(&node.host().ok()?, Source::Proc).ok();
        let found = if node.is_simulated() { None } else { read() };
        ProcInstances(found.map(|found| found.topology))
    }

    /// Returns those of a GPU that NVML does not list.
    fn missing(&self, gpu: &GpuPartitioning) -> BTreeSet<Instance> {
        let gpus = self.0.iter().flat_map(|topology| &topology.gpus);
        let in_proc = gpus.filter(|other| other.minor.0 == gpu.minor);
        let in_proc = in_proc.flat_map(|gpu| &gpu.gpu_instances).flat_map(|gi| {
            let ids = gi.compute_instances.iter().map(|ci| Some(ci.id.0));
            ids.chain([None]).map(|ci| Instance { gi: gi.id.0, ci })
        });
        let listed: BTreeSet<Instance> = gpu
            .instances
            .iter()
            .flat_map(|gi| {
                let ids = gi.compute.iter().map(|ci| Some(ci.id));
                ids.chain([None]).map(|ci| Instance { gi: gi.id, ci })
            })
            .collect();
        in_proc.filter(|instance| !listed.contains(instance)).collect()
    }

    /// Returns the minor numbers and addresses of other GPUs that have instances.
    fn of_other_gpus(&self, counted: &[GpuPartitioning]) -> Vec<(u32, PciAddress)> {
        let gpus = self.0.iter().flat_map(|topology| &topology.gpus);
        let is_other = |gpu: &&Gpu| counted.iter().all(|counted| counted.minor != gpu.minor.0);
        let others = gpus.filter(is_other).filter(|gpu| !gpu.gpu_instances.is_empty());
        others.map(|gpu| (gpu.minor.0, gpu.pci)).collect()
    }
}

/// Returns the first instance whose profile the driver does not describe, as a sentence: nothing could make it again.
fn undescribed(gpu: &GpuPartitioning) -> Option<String> {
    let is_named =
        |id: u32| gpu.profiles.iter().any(|profile| profile.id == id && profile.name.is_some());
    gpu.instances.iter().find_map(|gi| {
        if !is_named(gi.profile) {
            let (id, profile) = (gi.id, gi.profile);
            return Some(format!(
                "the driver does not name profile {profile}, which gpu instance {id} has"
            ));
        }
        let is_known = |id: u32| gi.compute_profiles.iter().any(|profile| profile.id == id);
        let ci = gi.compute.iter().find(|ci| !is_known(ci.profile))?;
        Some(format!(
            "the driver does not describe profile {} of compute instances, which compute instance {} of gpu instance {} has",
            ci.profile, ci.id, gi.id
        ))
    })
}
