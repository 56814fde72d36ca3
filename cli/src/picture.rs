//! Pictures of how GPUs are partitioned: memory slices, the compute slices that belong to them, who uses them, what
//! is free and what still fits.
//!
//! Takes values and returns text; queries no driver and writes nothing. A [`GpuLayout`] can only be made of what can
//! be drawn: every memory slice is in one region, and every compute slice of a GPU instance in one span.

mod gpu_layout;
mod legend;
mod style;
mod svg;
mod text;
mod tree;

pub(crate) use gpu_layout::GpuLayout;
pub(crate) use style::Style;
pub(crate) use svg::svg;
pub(crate) use text::text;
pub(crate) use tree::tree;

use gpu_layout::Region;

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
    fn example(&self) -> Option<&str> {
        self.layouts().flat_map(GpuLayout::devices).find_map(|device| device.name.as_deref())
    }

    fn layouts(&self) -> impl Iterator<Item = &GpuLayout> {
        self.gpus.iter().filter_map(|gpu| match &gpu.state {
            GpuState::Partitioned(layout) => Some(layout),
            _ => None,
        })
    }

    fn is_in_use(&self) -> bool {
        self.layouts().flat_map(|layout| &layout.regions).any(Region::is_in_use)
    }

    /// True when a compute slice of a GPU instance belongs to no compute instance.
    fn has_idle_slice(&self) -> bool {
        let mut regions = self.layouts().flat_map(|layout| &layout.regions);
        regions.any(|region| match region {
            Region::Free(_) => false,
            Region::Instance(gi) => gi.spans.iter().any(|span| span.device.is_none()),
        })
    }
}
