//! A simulated node as a machine that discovery can ask.

use crate::{Compute, Gpu, Instance, Node, NvmlFault, Tree, divide::Simulated};
use mig_cdi_model::{Attributes, Release};
use mig_cdi_sys::{DriverRoot, Error, Machine, NodeStat, Result, nvml};

/// A simulated node as a machine.
#[derive(Debug, Clone)]
pub struct SimulatedMachine {
    node: Node,
    tree: Tree,
}

impl SimulatedMachine {
    /// The machine of a node.
    #[must_use]
    pub fn new(node: Node) -> Self {
        SimulatedMachine { tree: Tree::of(&node), node }
    }

    /// Whoever divides the node. What he changes is forgotten with him.
    ///
    /// # Errors
    /// As [`Machine::nvml`].
    pub fn partitioner(&self) -> std::result::Result<Box<dyn nvml::Partitioner>, nvml::NvmlError> {
        Ok(Box::new(Simulated::start(self.node.clone())?))
    }
}

impl Machine for SimulatedMachine {
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
                gpus: self.node.gpus.iter().map(gpu).collect(),
            }),
        }
    }
}

fn gpu(gpu: &Gpu) -> std::result::Result<nvml::NvmlGpu, nvml::CallError> {
    if gpu.lost {
        return Err(nvml::CallError::gpu_lost("nvmlDeviceGetHandleByIndex_v2"));
    }
    Ok(nvml::NvmlGpu {
        pci: format!("0000{}", gpu.pci),
        uuid: gpu.uuid.to_string(),
        minor: gpu.minor,
        model: gpu.model.product.to_owned(),
        memory_bytes: Some(gpu.model.memory_mib << 20),
        compute_capability: gpu.model.compute_capability(),
        mig: (!gpu.model.profiles.is_empty()).then_some(gpu.mig),
        mig_pending: (!gpu.model.profiles.is_empty()).then_some(gpu.mig_pending),
        devices: (0..).zip(gpu.mig_devices().map(Ok)).collect(),
    })
}

impl Node {
    /// The newest CUDA that its driver knows: which that is of which branch is in the release notes of CUDA
    /// (table 3, toolkit and the driver that comes with it).
    #[must_use]
    pub fn cuda_version(&self) -> Option<Release> {
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
        Some(Release { major, minor })
    }
}

impl Gpu {
    /// What a compute instance has to compute with.
    #[must_use]
    pub fn attributes(&self, gi: &Instance, ci: &Compute) -> Attributes {
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

    /// The MIG devices that NVML lists, in the order of their indices.
    pub fn mig_devices(&self) -> impl Iterator<Item = nvml::NvmlMigDevice> + '_ {
        self.instances.iter().flat_map(move |gi| {
            gi.compute.iter().filter(|ci| !ci.hidden).map(move |ci| nvml::NvmlMigDevice {
                gi: gi.id,
                ci: ci.id,
                uuid: ci.uuid.to_string(),
                name: ci.name.clone(),
                sizes: Some(nvml::Sizes {
                    memory_mib: gi.profile.memory_mib,
                    attributes: self.attributes(gi, ci),
                }),
                gi_placement: Some(gi.placement),
                ci_placement: Some(ci.placement),
            })
        })
    }
}
