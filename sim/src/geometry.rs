//! Profiles and placements of the GPUs that can be simulated.
//!
//! Ids, counts, memory and placements are as nvidia-smi prints them in NVIDIA's MIG guide and in
//! public logs. Reported memory differs between driver releases, and so do names on some boards:
//! nothing outside a simulated node may use these tables.

mod tables;

pub use tables::MODELS;

use mig_cdi_model::Release;

/// A profile of GPU instances on one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileRow {
    /// `2g.20gb`.
    pub name: &'static str,
    /// The id that nvidia-smi shows.
    pub id: u32,
    /// How many a GPU holds at most.
    pub max: u32,
    /// Compute slices.
    pub slices: u32,
    /// Memory slices from a start.
    pub size: u32,
    /// Memory slices at which it may start.
    pub starts: &'static [u32],
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders: datacentre GPUs have none.
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg: u32,
    /// Optical flow engines.
    pub ofa: u32,
    /// Copy engines, where a public log shows them.
    pub copy_engines: Option<u32>,
    /// Streaming multiprocessors, likewise.
    pub multiprocessors: Option<u32>,
    /// Those of one compute slice of it, likewise.
    pub slice_multiprocessors: Option<u32>,
    /// Its compute instance is NVML's `1_SLICE_REV1`, as nvidia-smi shows it on a GH200's 1g.24gb.
    pub compute_rev1: bool,
}

/// How many kinds of GPU instances NVML of the 580 series knows (nvml.h
/// `NVML_GPU_INSTANCE_PROFILE_COUNT`).
pub const GPU_PROFILE_KINDS: u32 = 17;
/// How many kinds of compute instances (nvml.h `NVML_COMPUTE_INSTANCE_PROFILE_COUNT`).
pub const COMPUTE_PROFILE_KINDS: u32 = 8;

impl ProfileRow {
    /// Which `NVML_GPU_INSTANCE_PROFILE_*` it is; that is not its id.
    #[must_use]
    pub fn kind(&self) -> u32 {
        let suffix = self.name.find(['+', '-']).map_or("", |at| &self.name[at..]);
        match (self.slices, suffix) {
            (1, "") if self.size == 2 => 9,
            (2, "") => 1,
            (3, "") => 2,
            (4, "") => 3,
            (7, "") => 4,
            (2, "+me") => 8,
            (_, "+me") => 7,
            (2, "+gfx") => 11,
            (4, "+gfx") => 12,
            (_, "+gfx") => 10,
            (2, "-me") => 14,
            (_, "-me") => 13,
            (2, "+me.all") => 16,
            (_, "+me.all") => 15,
            _ => 0,
        }
    }

    /// The id of its compute instances of `size` slices, which is also their
    /// `NVML_COMPUTE_INSTANCE_PROFILE_*`.
    #[must_use]
    pub fn compute_id(&self, size: u32) -> u32 {
        match size {
            1 if self.compute_rev1 => 7,
            7 => 4,
            size => size - 1,
        }
    }

    /// Slices of its compute instances of an id.
    #[must_use]
    pub fn compute_size(&self, id: u32) -> Option<u32> {
        self.compute_sizes().iter().copied().find(|size| self.compute_id(*size) == id)
    }

    /// Streaming multiprocessors of a compute instance of `size` slices, where they are known.
    #[must_use]
    pub fn compute_multiprocessors(&self, size: u32) -> Option<u32> {
        match size == self.slices {
            true => self.multiprocessors,
            false => self.slice_multiprocessors.map(|of_one| of_one * size),
        }
    }

    /// The name of a compute instance: that of the profile when it spans the GPU instance.
    #[must_use]
    pub fn compute_name(&self, size: u32) -> String {
        if size == self.slices { self.name.to_owned() } else { format!("{size}c.{}", self.name) }
    }

    /// Slices of the compute instances that it can hold (nvidia-smi mig -lcip: 3 slices on no 4g, 5
    /// and 6 on no 7g).
    #[must_use]
    pub fn compute_sizes(&self) -> &'static [u32] {
        match self.slices {
            7 => &[1, 2, 3, 4, 7],
            4 => &[1, 2, 4],
            3 => &[1, 2, 3],
            2 => &[1, 2],
            _ => &[1],
        }
    }
}

/// A product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// The name in a description.
    pub key: &'static str,
    /// The name that the driver gives.
    pub product: &'static str,
    /// Architecture and implementation, an input of MIG UUIDs.
    pub chip: u16,
    /// PCI device and vendor, as NVML packs them: `0xDDDDVVVV`.
    pub pci_device: u32,
    /// PCI subsystem, packed alike. It differs between boards of one product.
    pub pci_subsystem: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Compute slices.
    pub compute_slices: u32,
    /// Memory slices.
    pub memory_slices: u32,
    /// Video decoders.
    pub decoders: u32,
    /// What it can be divided into; empty when it cannot be.
    pub profiles: &'static [ProfileRow],
}

impl Model {
    /// The model of a description's key.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Model> {
        MODELS.iter().find(|model| model.key == key)
    }

    /// The row of a profile name.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&'static ProfileRow> {
        self.profiles.iter().find(|row| row.name == name)
    }

    /// The row of an id.
    #[must_use]
    pub fn profile_by_id(&self, id: u32) -> Option<&'static ProfileRow> {
        self.profiles.iter().find(|row| row.id == id)
    }

    /// Changes MIG mode without a reset: Hopper and later (NVIDIA's MIG guide; NVML field 184).
    #[must_use]
    pub fn is_resetless(&self) -> bool {
        self.chip >= 0x180
    }

    /// CUDA compute capability by chip (CUDA programming guide, compute capabilities).
    #[must_use]
    pub fn compute_capability(&self) -> Option<Release> {
        let (major, minor) = match self.chip {
            0x170 => (8, 0),
            0x180 => (9, 0),
            0x192 => (8, 9),
            0x1a0 => (10, 0),
            0x1b2 => (12, 0),
            _ => return None,
        };
        Some(Release { major, minor })
    }

    /// The ids that the driver draws from for instances of `size` memory slices: 0 for the whole
    /// memory, 1..2 for half, 3..6 for a quarter, 7..14 for an eighth (open-gpu-kernel-modules
    /// `kmigmgr_ga100.c` l.308-353, used for every chip since).
    #[must_use]
    pub fn instance_ids(&self, size: u32) -> std::ops::RangeInclusive<u32> {
        match self.memory_slices / size.max(1) {
            0 | 1 => 0..=0,
            2 | 3 => 1..=2,
            4..=7 => 3..=6,
            8..=15 => 7..=14,
            _ => 1..=14,
        }
    }
}
