//! Profiles and placements of the GPU models that can be simulated.
//!
//! Ids, counts, memory and placements are as nvidia-smi prints them in NVIDIA's MIG user guide and in public
//! logs. Reported memory differs between driver releases (A100 80GB: 9.50 or 9.75 GiB for 1g.10gb), and so
//! do names on some boards (GB200: 1g.24gb or 1g.23gb with one PCI id): nothing outside a simulated node may
//! use these tables.

mod tables;

pub use tables::MODELS;

use mig_cdi_model::MajorMinor;

/// A profile of GPU instances on one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileRow {
    /// Profile name, such as `2g.20gb`.
    pub name: &'static str,
    /// Profile id, as `nvidia-smi mig -lgip` prints it.
    pub id: u32,
    /// Most instances of it on a GPU.
    pub max: u32,
    /// Compute slices.
    pub slices: u32,
    /// Memory slices of one instance.
    pub size: u32,
    /// Memory slices at which it can start.
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
    /// Streaming multiprocessors, where a public log shows them.
    pub multiprocessors: Option<u32>,
    /// Streaming multiprocessors of one of its compute slices, where a public log shows them.
    pub slice_multiprocessors: Option<u32>,
    /// Whether its compute instance is NVML's `1_SLICE_REV1`, as nvidia-smi shows it on a GH200's 1g.24gb.
    pub compute_rev1: bool,
}

impl ProfileRow {
    /// Value of `NVML_GPU_INSTANCE_PROFILE_*` that NVML takes as an argument. It is not the profile id: 3g.40gb is
    /// 2 here and 9 there.
    #[must_use]
    pub fn kind(&self) -> u32 {
        // The suffix distinguishes the variants of a size, as in go-nvlib `mig_profile.go:59-145`.
        let suffix = self.name.find(['+', '-']).map_or("", |at| &self.name[at..]);
        match (self.slices, suffix) {
            // nvml.h: 1_SLICE_REV2 has the memory of two slices, _REV1 is +me.
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

    /// Profile id of its compute instances of `size` slices, which is also their
    /// `NVML_COMPUTE_INSTANCE_PROFILE_*`.
    #[must_use]
    pub fn compute_id(&self, size: u32) -> u32 {
        match size {
            // NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE_REV1 is 7, _7_SLICE is 4 (nvml.h).
            1 if self.compute_rev1 => 7,
            7 => 4,
            size => size - 1,
        }
    }

    /// Compute slices of its compute instance profile with this id.
    #[must_use]
    pub fn compute_size(&self, id: u32) -> Option<u32> {
        self.compute_sizes().iter().copied().find(|size| self.compute_id(*size) == id)
    }

    /// Streaming multiprocessors of a compute instance of `size` slices, where they are known.
    #[must_use]
    pub fn compute_multiprocessors(&self, size: u32) -> Option<u32> {
        // No multiple of a slice: an H100 has 16 in its 1g and 60 in its 3g.
        match size == self.slices {
            true => self.multiprocessors,
            false => self.slice_multiprocessors.map(|of_one| of_one * size),
        }
    }

    /// Profile name of a compute instance of `size` slices: that of the GPU instance when it spans it.
    #[must_use]
    pub fn compute_name(&self, size: u32) -> String {
        if size == self.slices { self.name.to_owned() } else { format!("{size}c.{}", self.name) }
    }

    /// Sizes of the compute instances that it can hold. Not every size exists: `nvidia-smi mig -lcip` lists no
    /// 3c for 4g, no 5c and 6c for 7g.
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

/// A GPU product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Name in a description.
    pub key: &'static str,
    /// Name that the driver reports.
    pub product: &'static str,
    /// Chip id (architecture and implementation), an input of MIG UUIDs: 0x170 for GA100, 0x180 for GH100.
    pub chip: u16,
    /// PCI device and vendor, as NVML packs them: `0xDDDDVVVV`.
    pub pci_device: u32,
    /// PCI subsystem, in the same form. It differs between boards of one product.
    pub pci_subsystem: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Compute slices.
    pub compute_slices: u32,
    /// Memory slices.
    pub memory_slices: u32,
    /// Video decoders.
    pub decoders: u32,
    /// Profiles of GPU instances; empty without MIG.
    pub profiles: &'static [ProfileRow],
}

impl Model {
    /// Returns the profile with this name.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&'static ProfileRow> {
        self.profiles.iter().find(|row| row.name == name)
    }

    /// Returns the profile with this id.
    #[must_use]
    pub fn profile_by_id(&self, id: u32) -> Option<&'static ProfileRow> {
        self.profiles.iter().find(|row| row.id == id)
    }

    /// Reports whether MIG mode changes without a GPU reset: Hopper and later do (NVIDIA's MIG user guide;
    /// NVML field 184, `NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED`).
    #[must_use]
    pub fn is_resetless(&self) -> bool {
        self.chip >= 0x180
    }

    /// CUDA compute capability by chip (CUDA programming guide, compute capabilities).
    #[must_use]
    pub fn compute_capability(&self) -> Option<MajorMinor> {
        let (major, minor) = match self.chip {
            0x170 => (8, 0),
            0x180 => (9, 0),
            0x192 => (8, 9),
            0x1a0 => (10, 0),
            0x1b2 => (12, 0),
            _ => return None,
        };
        Some(MajorMinor { major, minor })
    }

    /// Ids that the driver assigns to GPU instances of `size` memory slices: 0 for the whole
    /// memory, 1..2 for half, 3..6 for a quarter, 7..14 for an eighth
    /// (`kmigmgr_ga100.c:308-353`, used for every chip since).
    #[must_use]
    pub fn instance_ids(&self, size: u32) -> std::ops::RangeInclusive<u32> {
        match self.memory_slices / size.max(1) {
            0 | 1 => 0..=0,
            2 | 3 => 1..=2,
            4..=7 => 3..=6,
            8..=15 => 7..=14,
            // Finer than any product: the model `limit`.
            _ => 1..=14,
        }
    }
}
