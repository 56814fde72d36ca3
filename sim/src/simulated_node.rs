//! A simulated node with every instance placed, numbered and named.

use crate::{Dri, FileFault, MajorNumbers, Model, NvmlFault, ProcessDescription, ProfileRow, uuid};
use mig_cdi_model::{GpuUuid, MigUuid, PciAddress, Placement};
use std::collections::BTreeSet;

/// A simulated node, with its GPUs in the order of their index in nvidia-smi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedNode {
    /// Free text of the description.
    pub description: String,
    /// Driver version.
    pub driver: String,
    /// Product name of the machine, as its DMI tables have it.
    pub machine: Option<String>,
    /// Major numbers.
    pub majors: MajorNumbers,
    /// GPUs, by index.
    pub gpus: Vec<SimulatedGpu>,
    /// Reason why NVML does not start, if it does not.
    pub nvml_fault: Option<NvmlFault>,
    /// NVML names MIG devices by the product alone.
    pub(crate) names_without_profile: bool,
    /// Device nodes that the host does not have.
    pub(crate) missing_nodes: BTreeSet<String>,
    /// Major number of capability nodes left over from before the module was reloaded.
    pub(crate) stale_caps_major: Option<u32>,
    /// Faults of driver files.
    pub(crate) files: Vec<FileFault>,
}

/// A GPU of a simulated node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedGpu {
    /// Product.
    pub model: &'static Model,
    /// Minor number of `/dev/nvidiaN`.
    pub minor: u32,
    /// PCI address.
    pub pci: PciAddress,
    /// GPU UUID.
    pub uuid: GpuUuid,
    /// NUMA node of its PCI slot.
    pub numa: Option<u32>,
    /// MIG mode now.
    pub is_mig_enabled: bool,
    /// MIG mode after the next reset.
    pub is_mig_enabled_after_reset: bool,
    /// Fallen off the bus: NVML reports `NVML_ERROR_GPU_IS_LOST`, `/proc` still has it.
    pub is_lost: bool,
    /// Drained by an administrator: NVML counts it no more, `/proc` still has it.
    pub is_drained: bool,
    /// Open in a program that NVML does not list: a monitor, a persistence daemon.
    pub is_open: bool,
    /// DRI nodes.
    pub dri: Option<Dri>,
    /// GPU instances, by id.
    pub instances: Vec<SimulatedInstance>,
    /// Processes that NVML reports on it.
    pub processes: Vec<ProcessDescription>,
}

/// A GPU instance of a simulated node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedInstance {
    /// GPU instance id.
    pub id: u32,
    /// Profile.
    pub profile: &'static ProfileRow,
    /// Memory slices of the GPU.
    pub placement: Placement,
    /// Compute instances, by id.
    pub compute: Vec<SimulatedComputeInstance>,
}

/// A compute instance of a simulated node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimulatedComputeInstance {
    /// Compute instance id.
    pub id: u32,
    /// Compute slices of the GPU instance.
    pub placement: Placement,
    /// Profile name: `1c.3g.40gb`, or that of the GPU instance when it spans it.
    pub profile: String,
    /// Name of the MIG device in NVML: product and profile.
    pub name: String,
    /// MIG UUID.
    pub uuid: MigUuid,
    /// Missing in NVML's list, although the capability tree has it.
    pub is_hidden: bool,
}

impl SimulatedGpu {
    /// Sets the UUID and the name of every MIG device, as NVML reports them.
    pub(crate) fn name_devices(&mut self, without_profile: bool) {
        let SimulatedGpu { model, uuid, .. } = self;
        for gi in &mut self.instances {
            for ci in &mut gi.compute {
                // The UUID is made from the first engine (see `uuid`). The driver shows nowhere which engines an instance
                // has; by placement they are at least different for all that exist at one time.
                let syspipe = gi.placement.start + ci.placement.start;
                ci.uuid = uuid::mig_uuid(model.chip, uuid, gi.id, syspipe);
                ci.name = match without_profile {
                    true => model.product.to_owned(),
                    false => format!("{} MIG {}", model.product, ci.profile),
                };
            }
        }
    }
}

impl SimulatedComputeInstance {
    /// Creates one without a name and a UUID; [`SimulatedGpu::name_devices`] sets them.
    pub(crate) fn unnamed(
        row: &ProfileRow,
        id: u32,
        placement: Placement,
    ) -> SimulatedComputeInstance {
        let uuid = "MIG-00000000-0000-0000-0000-000000000000".parse().expect("a UUID");
        let (profile, name) = (row.compute_name(placement.size), String::new());
        SimulatedComputeInstance { id, placement, profile, name, uuid, is_hidden: false }
    }
}
