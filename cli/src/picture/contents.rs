//! Contents of a picture: the GPUs, and how each is partitioned.

use super::gpu_layout::{GpuLayout, Region};

/// Contents of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    /// GPUs in the order in which they are drawn.
    pub gpus: Vec<GpuView>,
    /// CDI kind of the devices, such as `nvidia.com/mig`.
    pub kind: String,
}

/// One GPU of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GpuView {
    /// `GPU 0: NVIDIA H100 80GB HBM3 at 0000:19:00.0`.
    pub heading: String,
    /// Holders of the GPU as a whole.
    pub holders: Vec<String>,
    /// Partitioning of the GPU.
    pub state: GpuState,
}

/// Partitioning of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GpuState {
    /// Not partitioned, for this reason.
    Whole(String),
    /// Partitioned in this way.
    Partitioned(GpuLayout),
    /// Partitioned in a way that cannot be drawn.
    Unknown {
        /// Reason, as a sentence.
        reason: String,
        /// Names of the devices.
        devices: Vec<String>,
    },
}

impl Picture {
    /// Name of a device that a container could request.
    pub(super) fn example(&self) -> Option<&str> {
        self.layouts().flat_map(GpuLayout::devices).find_map(|device| device.name.as_deref())
    }

    pub(super) fn layouts(&self) -> impl Iterator<Item = &GpuLayout> {
        self.gpus.iter().filter_map(|gpu| match &gpu.state {
            GpuState::Partitioned(layout) => Some(layout),
            _ => None,
        })
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.layouts().flat_map(|layout| &layout.regions).any(Region::is_in_use)
    }

    /// True when a compute slice of a GPU instance belongs to no compute instance.
    pub(super) fn has_idle_slice(&self) -> bool {
        let mut regions = self.layouts().flat_map(|layout| &layout.regions);
        regions.any(|region| match region {
            Region::Free(_) => false,
            Region::Instance(gi) => gi.spans.iter().any(|span| span.device.is_none()),
        })
    }
}
