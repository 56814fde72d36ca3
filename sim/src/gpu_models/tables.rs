//! Tables of the profiles of each GPU model.

use super::{Model, ProfileRow};

/// The seven profiles of GPUs with eight memory slices, without names and sizes: 1g, 1g+me, 1g with double
/// memory, 2g, 3g, 4g, 7g.
// Placements of `nvidia-smi mig -lgipp` on A100 and H100. The GPU has seven compute slices for its eight memory slices:
// no 1g starts at the last one, and a 7g takes all eight.
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
    ProfileRow {
        name: "",
        id,
        max,
        slices,
        size,
        starts,
        memory_mib: 0,
        decoders: 0,
        encoders: 0,
        jpeg: 0,
        ofa: 0,
        copy_engines: None,
        multiprocessors: None,
        slice_multiprocessors: None,
        compute_rev1: false,
    }
}

/// Engines of a chip in each of the seven profiles; 0 for a figure that no public log shows.
#[derive(Clone, Copy)]
struct Engines {
    decoders: [u32; 7],
    jpeg: [u32; 7],
    copy: [u32; 7],
    multiprocessors: [u32; 7],
    of_slice: u32,
}

const fn known(figure: u32) -> Option<u32> {
    if figure == 0 { None } else { Some(figure) }
}

/// Fills the seven profiles with a model's names, its memory in hundredths of a GiB for one, two, four and
/// eight slices, and its engines.
const fn eighths(
    names: [&'static str; 7],
    centi_gib: [u64; 4],
    engines: &Engines,
) -> [ProfileRow; 7] {
    let mut rows = EIGHTHS;
    let mut i = 0;
    while i < 7 {
        rows[i].name = names[i];
        // One entry for 1, 2, 4 and 8 memory slices. Hundredths, as nvidia-smi prints them: 9.50.
        rows[i].memory_mib = centi_gib[rows[i].size.trailing_zeros() as usize] * 1024 / 100;
        rows[i].decoders = engines.decoders[i];
        rows[i].jpeg = engines.jpeg[i];
        rows[i].copy_engines = known(engines.copy[i]);
        rows[i].multiprocessors = known(engines.multiprocessors[i]);
        rows[i].slice_multiprocessors = known(engines.of_slice);
        i += 1;
    }
    // The GPU has one optical flow engine, which only +me and the whole GPU get.
    rows[1].ofa = 1;
    rows[6].ofa = 1;
    rows
}

/// Returns a profile of a GPU with four memory slices, which are also its compute slices.
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
        memory_mib: centi_gib * 1024 / 100,
        decoders: engines.0,
        ofa: engines.1,
        ..shape(id, max, slices, slices, STARTS[slices as usize])
    }
}

/// Fills the profiles of an A30: fourteen multiprocessors and a copy engine for each slice, JPEG engines where
/// optical flow engines are.
const fn a30<const N: usize>(mut rows: [ProfileRow; N]) -> [ProfileRow; N] {
    let mut i = 0;
    while i < N {
        rows[i].multiprocessors = Some(14 * rows[i].slices);
        rows[i].copy_engines = Some(rows[i].slices);
        rows[i].jpeg = rows[i].ofa;
        i += 1;
    }
    rows
}

/// Fills the profiles of an RTX PRO 6000: as many encoders and JPEG engines as decoders. Copy engines are
/// known of the plain profiles alone.
const fn rtx_pro<const N: usize>(mut rows: [ProfileRow; N]) -> [ProfileRow; N] {
    let mut i = 0;
    while i < N {
        let slices = rows[i].slices;
        // 46, 94 and 188 in a public log: a 1g is smaller than half a 2g.
        rows[i].multiprocessors = Some(if slices == 1 { 46 } else { 47 * slices });
        rows[i].encoders = rows[i].decoders;
        rows[i].jpeg = rows[i].decoders;
        if matches!(rows[i].id, 14 | 21 | 5 | 0) {
            rows[i].copy_engines = Some(slices);
        }
        i += 1;
    }
    rows
}

// Five decoders for seven slices: a plain 1g has none.
const A100_ENGINES: Engines = Engines {
    decoders: [0, 1, 1, 1, 2, 2, 5],
    jpeg: [0, 1, 0, 0, 0, 0, 1],
    copy: [1, 1, 1, 2, 3, 4, 7],
    multiprocessors: [14, 14, 14, 28, 42, 56, 98],
    of_slice: 14,
};
/// Engines in logs of H100 SXM and H200. Hopper has a decoder for each slice.
const H100_ENGINES: Engines = Engines {
    decoders: [1, 1, 1, 2, 3, 4, 7],
    jpeg: [1, 1, 1, 2, 3, 4, 7],
    copy: [1, 1, 1, 2, 3, 4, 8],
    multiprocessors: [16, 16, 26, 32, 60, 64, 132],
    of_slice: 0,
};
/// Engines in a log of 1g and 2g (NVIDIA/mig-parted pull request 166); decoders of the larger ones as on
/// Hopper.
const B200_ENGINES: Engines = Engines {
    copy: [2, 2, 2, 4, 0, 0, 0],
    multiprocessors: [18, 18, 30, 36, 0, 0, 0],
    ..H100_ENGINES
};

const A100_40: [ProfileRow; 7] = eighths(
    ["1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"],
    [475, 962, 1950, 3925],
    &A100_ENGINES,
);
const A100_80: [ProfileRow; 7] = eighths(
    ["1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"],
    [950, 1950, 3925, 7900],
    &A100_ENGINES,
);
const H100_80: [ProfileRow; 7] = eighths(
    ["1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"],
    [975, 1962, 3950, 7925],
    &H100_ENGINES,
);
const H200: [ProfileRow; 7] = eighths(
    ["1g.18gb", "1g.18gb+me", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb"],
    [1600, 3225, 6950, 13975],
    &H100_ENGINES,
);
/// Memory of 3g, 4g and 7g is not in any public log; it is twice and four times that of 2g.
const B200: [ProfileRow; 7] = eighths(
    ["1g.23gb", "1g.23gb+me", "1g.45gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb"],
    [2200, 4425, 8850, 17700],
    &B200_ENGINES,
);
const GH200_96: [ProfileRow; 7] = {
    let mut rows = eighths(
        ["1g.12gb", "1g.12gb+me", "1g.24gb", "2g.24gb", "3g.48gb", "4g.48gb", "7g.96gb"],
        [1100, 2300, 4650, 9300],
        &H100_ENGINES,
    );
    rows[2].compute_rev1 = true;
    rows
};
const A30: [ProfileRow; 5] = a30([
    quarter("1g.6gb", 14, 4, 1, 581, (1, 0)),
    quarter("1g.6gb+me", 21, 1, 1, 581, (1, 1)),
    quarter("2g.12gb", 5, 2, 2, 1169, (2, 0)),
    quarter("2g.12gb+me", 6, 1, 2, 1169, (2, 1)),
    quarter("4g.24gb", 0, 1, 4, 2344, (4, 1)),
]);
const RTX_PRO_6000: [ProfileRow; 11] = rtx_pro([
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
]);

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
    /// Returns the model with this key.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Model> {
        MODELS.iter().find(|model| model.key == key)
    }

    /// Adds PCI ids with NVIDIA's vendor id; device ids as mig-parted's device filters list them.
    const fn pci(mut self, device: u32, subsystem: u32) -> Model {
        self.pci_device = device << 16 | 0x10de;
        self.pci_subsystem = subsystem << 16 | 0x10de;
        self
    }
}

/// Every GPU model that can be simulated.
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
    // Not a product: as many GPU instances as there are capability minors for, for measurements.
    model("limit", "Largest GPU", 0, 16_384, (14, 16), 0, &LIMIT),
    // A GPU without MIG, for nodes that mix.
    model("l40s", "NVIDIA L40S", 0x192, 46_068, (0, 0), 3, &[]).pci(0x26b9, 0x1851),
];
