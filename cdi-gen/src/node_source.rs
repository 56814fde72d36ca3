//! The node whose MIG state is read: this machine, with directories that stand for its `/`, or a simulated one.

use crate::{
    Error, MessageSink, Result,
    discover::{Discovery, Source, discover},
};
use mig_cdi_sim::{SimulatedMachine, SimulatedNode};
use mig_cdi_sys::{Host, Machine, NodeRoots, nvml};

/// A node and the interface that its MIG state is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSource {
    /// Roots of this machine. A simulated node uses them only to compare its numbers with this machine's.
    pub roots: NodeRoots,
    /// Interface that MIG state is read from.
    pub source: Source,
    /// The simulated node, when one takes the place of this machine.
    pub simulated: Option<SimulatedNode>,
}

impl NodeSource {
    /// A simulated node from its description in TOML, read as NVML and `/proc` would show it.
    ///
    /// # Errors
    /// When the description is wrong.
    pub fn simulate(description: &str) -> Result<NodeSource> {
        let node = SimulatedNode::parse(description).map_err(|e| {
            Error::usage("read", "the node description").because_of(e.without_cure(), e.cure)
        })?;
        let roots = NodeRoots::default();
        Ok(NodeSource { roots, source: Source::Nvml, simulated: Some(node) })
    }

    /// True for a simulated node: nothing of it exists on this machine.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// Opens this machine, even when a simulated node takes its place.
    ///
    /// # Errors
    /// When one of the roots is not a directory.
    pub fn host(&self) -> Result<Host> {
        Ok(Host::open(&self.roots)?)
    }

    /// Opens the node: this machine, or the simulated one.
    ///
    /// # Errors
    /// As [`NodeSource::host`].
    pub fn machine(&self) -> Result<Box<dyn Machine>> {
        match &self.simulated {
            None => Ok(Box::new(self.host()?)),
            Some(node) => Ok(Box::new(SimulatedMachine::new(node.clone()))),
        }
    }

    /// Opens NVML for partitioning.
    ///
    /// # Errors
    /// When one of the roots is not a directory. The inner error: when NVML does not start.
    pub fn partitioner(&self) -> Result<Result<Box<dyn nvml::Partitioner>, nvml::NvmlError>> {
        match &self.simulated {
            None => Ok(self.host()?.partitioner()),
            Some(node) => Ok(SimulatedMachine::new(node.clone()).partitioner()),
        }
    }

    /// Discovers the topology, and reports what is omitted from it as errors.
    ///
    /// # Errors
    /// As [`discover`].
    pub fn discover(&self, machine: &dyn Machine, messages: &dyn MessageSink) -> Result<Discovery> {
        let discovery = discover(machine, self.source)?;
        if self.source == Source::Proc {
            // `/proc/driver/nvidia` has neither MIG UUIDs nor profiles, and a UUID cannot be computed from what it has.
            messages.warn(
                "without nvml there are no uuids and no profiles; devices are named by gpu minor, \
                 gpu instance and compute instance",
            );
        }
        for problem in &discovery.problems {
            messages.error(&problem.to_string());
        }
        for warning in &discovery.warnings {
            messages.warn(warning);
        }
        report_details(&discovery, messages);
        Ok(discovery)
    }
}

/// Reports the driver, and each GPU with its instances, as details.
pub(crate) fn report_details(discovery: &Discovery, messages: &dyn MessageSink) {
    let Discovery { topology, library, .. } = discovery;
    let driver = &topology.driver_version;
    let interface = library.as_deref().unwrap_or("/proc alone");
    messages.detail(&format!("driver {driver}, read through {interface}"));
    for gpu in &topology.gpus {
        let devices = gpu.gpu_instances.iter().map(|gi| gi.compute_instances.len()).sum::<usize>();
        let (label, node, instances) = (gpu.label(), &gpu.node.path, gpu.gpu_instances.len());
        messages.detail(&format!(
            "{label} at {} is {node}: {instances} gpu instances, {devices} mig devices",
            gpu.pci
        ));
    }
}
