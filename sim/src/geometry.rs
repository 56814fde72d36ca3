//! Profiles and placements of the GPUs that can be simulated.
//!
//! Ids, counts, memory and placements are as nvidia-smi prints them in NVIDIA's MIG guide and in
//! public logs. Reported memory differs between driver releases, and so do names on some boards:
//! nothing outside a simulated node may use these tables.

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
    /// Optical flow and JPEG engines.
    pub ofa: u32,
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

/// The seven shapes of GPUs with eight memory slices: 1g, 1g+me, 1g with double memory, 2g, 3g, 4g,
/// 7g.
const EIGHTHS: [ProfileRow; 7] = [
    shape(19, 7, 1, 1, &[0, 1, 2, 3, 4, 5, 6]),
    shape(20, 1, 1, 1, &[0, 1, 2, 3, 4, 5, 6]),
    shape(15, 4, 1, 2, &[0, 2, 4, 6]),
    shape(14, 3, 2, 2, &[0, 2, 4]),
    shape(9, 2, 3, 4, &[0, 4]),
    shape(5, 1, 4, 4, &[0]),
    shape(0, 1, 7, 8, &[0]),
];

const fn shape(id: u32, max: u32, slices: u32, size: u32, starts: &'static [u32]) -> ProfileRow {
    let (name, memory_mib, decoders, ofa, compute_rev1) = ("", 0, 0, 0, false);
    ProfileRow { name, id, max, slices, size, starts, memory_mib, decoders, ofa, compute_rev1 }
}

/// The shapes with a model's names, memory in hundredths of a GiB for one, two, four and eight
/// slices, and decoders.
const fn eighths(
    names: [&'static str; 7],
    centi_gib: [u64; 4],
    decoders: [u32; 7],
) -> [ProfileRow; 7] {
    let mut rows = EIGHTHS;
    let mut i = 0;
    while i < 7 {
        rows[i].name = names[i];
        rows[i].memory_mib = centi_gib[rows[i].size.trailing_zeros() as usize] * 1024 / 100;
        rows[i].decoders = decoders[i];
        i += 1;
    }
    rows[1].ofa = 1;
    rows[6].ofa = 1;
    rows
}

/// A row of a GPU with four memory slices, which are also its compute slices.
const fn quarter(
    name: &'static str,
    id: u32,
    max: u32,
    slices: u32,
    centi_gib: u64,
    engines: (u32, u32),
) -> ProfileRow {
    const STARTS: [&[u32]; 5] = [&[], &[0, 1, 2, 3], &[0, 2], &[], &[0]];
    ProfileRow {
        name,
        id,
        max,
        slices,
        size: slices,
        starts: STARTS[slices as usize],
        memory_mib: centi_gib * 1024 / 100,
        decoders: engines.0,
        ofa: engines.1,
        compute_rev1: false,
    }
}

const A100_ENGINES: [u32; 7] = [0, 1, 1, 1, 2, 2, 5];
/// Hopper has a decoder for each slice; so, by the logs of 1g and 2g, has Blackwell.
const H100_ENGINES: [u32; 7] = [1, 1, 1, 2, 3, 4, 7];

const A100_40: [ProfileRow; 7] = eighths(
    ["1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"],
    [475, 962, 1950, 3925],
    A100_ENGINES,
);
const A100_80: [ProfileRow; 7] = eighths(
    ["1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"],
    [950, 1950, 3925, 7900],
    A100_ENGINES,
);
const H100_80: [ProfileRow; 7] = eighths(
    ["1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"],
    [975, 1962, 3950, 7925],
    H100_ENGINES,
);
const H200: [ProfileRow; 7] = eighths(
    ["1g.18gb", "1g.18gb+me", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"],
    [1600, 3225, 6950, 13975],
    H100_ENGINES,
);
/// Memory of 3g, 4g and 7g is not in any public log; it is twice and four times that of 2g.
const B200: [ProfileRow; 7] = eighths(
    ["1g.23gb", "1g.23gb+me", "1g.45gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb"],
    [2200, 4425, 8850, 17700],
    H100_ENGINES,
);
const GH200_96: [ProfileRow; 7] = {
    let mut rows = eighths(
        ["1g.12gb", "1g.12gb+me", "1g.24gb", "2g.24gb", "3g.48gb", "4g.48gb", "7g.96gb"],
        [1100, 2300, 4650, 9300],
        H100_ENGINES,
    );
    rows[2].compute_rev1 = true;
    rows
};
const A30: [ProfileRow; 5] = [
    quarter("1g.6gb", 14, 4, 1, 581, (1, 0)),
    quarter("1g.6gb+me", 21, 1, 1, 581, (1, 1)),
    quarter("2g.12gb", 5, 2, 2, 1169, (2, 0)),
    quarter("2g.12gb+me", 6, 1, 2, 1169, (2, 1)),
    quarter("4g.24gb", 0, 1, 4, 2344, (4, 1)),
];
const RTX_PRO_6000: [ProfileRow; 11] = [
    quarter("1g.24gb", 14, 4, 1, 2362, (1, 0)),
    quarter("1g.24gb+me", 21, 1, 1, 2362, (1, 1)),
    quarter("1g.24gb+gfx", 47, 4, 1, 2362, (1, 0)),
    quarter("1g.24gb+me.all", 65, 1, 1, 2362, (4, 1)),
    quarter("1g.24gb-me", 67, 4, 1, 2362, (0, 0)),
    quarter("2g.48gb", 5, 2, 2, 4738, (2, 0)),
    quarter("2g.48gb+gfx", 35, 2, 2, 4738, (2, 0)),
    quarter("2g.48gb+me.all", 64, 1, 2, 4738, (4, 1)),
    quarter("2g.48gb-me", 66, 2, 2, 4738, (0, 0)),
    quarter("4g.96gb", 0, 1, 4, 9500, (4, 1)),
    quarter("4g.96gb+gfx", 32, 1, 4, 9500, (4, 1)),
];

const LIMIT: [ProfileRow; 1] = [ProfileRow {
    name: "1g.1gb",
    memory_mib: 1024,
    ..shape(19, 14, 1, 1, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
}];

const fn model(
    key: &'static str,
    product: &'static str,
    chip: u16,
    memory_mib: u64,
    slices: (u32, u32),
    decoders: u32,
    profiles: &'static [ProfileRow],
) -> Model {
    let (compute_slices, memory_slices) = slices;
    let (pci_device, pci_subsystem) = (0, 0);
    Model {
        key,
        product,
        chip,
        pci_device,
        pci_subsystem,
        memory_mib,
        compute_slices,
        memory_slices,
        decoders,
        profiles,
    }
}

impl Model {
    /// With PCI ids of NVIDIA's; device ids as mig-parted's device filters list them.
    const fn pci(mut self, device: u32, subsystem: u32) -> Model {
        self.pci_device = device << 16 | 0x10de;
        self.pci_subsystem = subsystem << 16 | 0x10de;
        self
    }
}

/// What can be simulated.
pub const MODELS: [Model; 10] = [
    model("a30", "NVIDIA A30", 0x170, 24_576, (4, 4), 4, &A30).pci(0x20b7, 0x1532),
    model("a100-40gb", "NVIDIA A100-SXM4-40GB", 0x170, 40_960, (7, 8), 5, &A100_40)
        .pci(0x20b0, 0x134f),
    model("a100-80gb", "NVIDIA A100-SXM4-80GB", 0x170, 81_920, (7, 8), 5, &A100_80)
        .pci(0x20b2, 0x1463),
    model("h100-80gb", "NVIDIA H100 80GB HBM3", 0x180, 81_559, (7, 8), 7, &H100_80)
        .pci(0x2330, 0x16c1),
    model("gh200-96gb", "NVIDIA GH200 480GB", 0x180, 97_871, (7, 8), 7, &GH200_96)
        .pci(0x2342, 0x16eb),
    model("h200", "NVIDIA H200", 0x180, 143_771, (7, 8), 7, &H200).pci(0x2335, 0x18be),
    model("b200", "NVIDIA B200", 0x1a0, 183_359, (7, 8), 7, &B200).pci(0x2901, 0x1999),
    model(
        "rtx-pro-6000",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        0x1b2,
        97_887,
        (4, 4),
        4,
        &RTX_PRO_6000,
    )
    .pci(0x2bb5, 0x204e),
    // No product: as many instances as there are capability minors for, for measurements.
    model("limit", "Largest GPU", 0, 16_384, (14, 16), 0, &LIMIT),
    // A GPU that cannot be divided, for nodes that mix.
    model("l40s", "NVIDIA L40S", 0x192, 46_068, (0, 0), 3, &[]).pci(0x26b9, 0x1851),
];
