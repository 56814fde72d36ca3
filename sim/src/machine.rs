//! A simulated node in the role of a machine: answers of `/proc`, of the device nodes and of NVML.

use crate::{
    NvmlFault, ProcTree, SimulatedComputeInstance, SimulatedGpu, SimulatedInstance, SimulatedNode,
    nvml_partitioner::SimulatedPartitioner,
};
use mig_cdi_model::{Attributes, MajorMinor, PendingMode};
use mig_cdi_sys::{DriverRoot, Error, KernelFiles, Machine, NodeStat, Result, nvml};

/// A simulated node that discovery reads like a real machine.
#[derive(Debug, Clone)]
pub struct SimulatedMachine {
    node: SimulatedNode,
    tree: ProcTree,
}

impl SimulatedMachine {
    /// Creates the machine of a node.
    #[must_use]
    pub fn new(node: SimulatedNode) -> Self {
        SimulatedMachine { tree: ProcTree::of(&node), node }
    }

    /// Starts NVML for partitioning. Changes are made to a copy of the node and end with it.
    ///
    /// # Errors
    /// As [`Machine::nvml`].
    pub fn partitioner(&self) -> std::result::Result<Box<dyn nvml::Partitioner>, nvml::NvmlError> {
        Ok(Box::new(SimulatedPartitioner::start(self.node.clone())?))
    }
}

impl KernelFiles for SimulatedMachine {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        match self.tree.files.get(path) {
            Some(file) if file.len() > limit => Err(Error::TooLarge { path: path.into(), limit }),
            file => Ok(file.cloned()),
        }
    }

    fn list(&self, path: &str) -> Result<Option<Vec<String>>> {
        Ok(self.tree.list(path))
    }

    fn node(&self, path: &str) -> Result<Option<NodeStat>> {
        Ok(self.tree.nodes.get(path).copied())
    }
}

impl Machine for SimulatedMachine {
    fn driver(&self) -> Option<&DriverRoot> {
        None
    }

    fn nvml(&self) -> std::result::Result<nvml::NvmlSnapshot, nvml::NvmlError> {
        let path = "libnvidia-ml.so.1 of the simulated node".to_owned();
        match self.node.nvml_fault {
            Some(NvmlFault::DriverNotLoaded) => Err(nvml::NvmlError::NotLoaded { path }),
            Some(NvmlFault::VersionMismatch) => Err(nvml::NvmlError::VersionMismatch { path }),
            None => Ok(nvml::NvmlSnapshot {
                library: path,
                driver_version: self.node.driver.clone(),
                cuda_version: self.node.cuda_version(),
                gpus: self.node.nvml_gpus().map(|(_, found)| gpu(found)).collect(),
            }),
        }
    }
}

fn gpu(gpu: &SimulatedGpu) -> std::result::Result<nvml::NvmlGpu, nvml::CallError> {
    // NVML still counts a lost GPU; getting its handle fails (nvml.h at nvmlDeviceGetHandleByIndex_v2).
    if gpu.is_lost {
        return Err(nvml::CallError::gpu_lost("nvmlDeviceGetHandleByIndex_v2"));
    }
    Ok(nvml::NvmlGpu {
        // NVML prints a PCI domain of eight digits, /proc one of four.
        pci: format!("0000{}", gpu.pci),
        uuid: gpu.uuid.to_string(),
        minor: gpu.minor,
        model: gpu.model.product.to_owned(),
        // As root sees it: with MIG on, NVML reports it to nobody else.
        memory_bytes: Some(gpu.model.memory_mib << 20),
        compute_capability: gpu.model.compute_capability(),
        mig: (!gpu.model.profiles.is_empty()).then_some(gpu.is_mig_enabled),
        pending_mode: gpu.pending_mode(),
        // Ranks, which shift: on an A30 device 0 was GPU instance 3, and GPU instance 2 once that was created (public
        // log).
        devices: (0..)
            .zip(gpu.mig_devices())
            .map(|(index, device)| nvml::IndexedMigDevice { index, device: Ok(device) })
            .collect(),
    })
}

impl SimulatedNode {
    /// GPUs that NVML counts, in the order of its indices, with their positions in the description.
    pub fn nvml_gpus(&self) -> impl Iterator<Item = (usize, &SimulatedGpu)> {
        // nvml.h, nvmlDeviceModifyDrainState: "Any new NVML process will no longer see this GPU."
        self.gpus.iter().enumerate().filter(|(_, gpu)| !gpu.is_drained)
    }

    /// Newest CUDA version that its driver supports, by driver branch: the driver that each toolkit comes
    /// with (CUDA release notes, table 3).
    #[must_use]
    pub fn cuda_version(&self) -> Option<MajorMinor> {
        let (major, minor) = match self.driver.split('.').next()?.parse().ok()? {
            525 => (12, 0),
            535 => (12, 2),
            545 => (12, 3),
            550 => (12, 4),
            555 => (12, 5),
            560 => (12, 6),
            570 => (12, 8),
            575 => (12, 9),
            580 => (13, 0),
            _ => return None,
        };
        Some(MajorMinor { major, minor })
    }
}

impl SimulatedGpu {
    /// The MIG mode that it is to have, when that is another one.
    pub(crate) fn pending_mode(&self) -> Option<PendingMode> {
        let current = (!self.model.profiles.is_empty()).then_some(self.is_mig_enabled);
        let pending = Some(self.is_mig_enabled_after_reset);
        PendingMode::new(current, pending, || self.model.is_resetless())
    }

    /// Engines and multiprocessors of a compute instance.
    #[must_use]
    pub fn attributes(&self, gi: &SimulatedInstance, ci: &SimulatedComputeInstance) -> Attributes {
        let row = gi.profile;
        Attributes {
            multiprocessors: row.compute_multiprocessors(ci.placement.size),
            gpu_slices: row.slices,
            compute_slices: ci.placement.size,
            copy_engines: row.copy_engines,
            decoders: row.decoders,
            encoders: row.encoders,
            jpeg_engines: row.jpeg,
            ofa_engines: row.ofa,
        }
    }

    /// MIG devices that NVML lists, in the order of their indices.
    pub fn mig_devices(&self) -> impl Iterator<Item = nvml::NvmlMigDevice> + '_ {
        self.instances.iter().flat_map(move |gi| {
            gi.compute.iter().filter(|ci| !ci.is_hidden).map(move |ci| nvml::NvmlMigDevice {
                gi: gi.id,
                ci: ci.id,
                uuid: ci.uuid.to_string(),
                name: ci.name.clone(),
                sizes: Some(nvml::Sizes {
                    memory_mib: gi.profile.memory_mib,
                    attributes: self.attributes(gi, ci),
                }),
                // As root sees them too (nvml.h: "Requires privileged user").
                gi_placement: Some(gi.placement),
                ci_placement: Some(ci.placement),
            })
        })
    }
}
