//! Memory and compute slices of one GPU side by side, as the driver reports them.

use mig_cdi_gen::{discover::Source, spec::preferred_name};
use mig_cdi_model::{Gpu, MigDevice, Placement, Profile};
use mig_cdi_partition::{Holders, free_placements};
use mig_cdi_sys::nvml::{GpuPartitioning, GpuProfile, NvmlComputeInstance, NvmlGpuInstance};

/// Highest number of slices that is drawn. No GPU has more than 8, and a wider picture would not be readable.
const MAX_SLICES: u32 = 64;

/// A GPU in MIG mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GpuLayout {
    /// Number of memory slices, by the placements that the driver reports.
    pub memory_slices: u32,
    /// Number of compute slices: that of the largest profile.
    pub compute_slices: u32,
    /// Regions by first memory slice; together they are all memory slices.
    pub regions: Vec<Region>,
    /// Profiles of which one more instance can be created, the largest first.
    pub fits: Vec<FreeProfile>,
}

/// Adjacent memory slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Region {
    /// One memory slice that no GPU instance has.
    Free(Placement),
    /// The memory slices of a GPU instance.
    Instance(InstanceView),
}

/// A GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InstanceView {
    /// Letter that stands for the instance in the picture.
    pub key: String,
    /// Memory slices of the GPU.
    pub placement: Placement,
    /// `3g.40gb`.
    pub profile: String,
    /// Memory in MiB, when the profile is known.
    pub memory_mib: Option<u64>,
    /// Number of compute slices.
    pub compute_slices: u32,
    /// Spans by first compute slice; together they are all compute slices of the instance.
    pub spans: Vec<ComputeSpan>,
    /// Holders of the instance as a whole.
    pub holders: Vec<String>,
}

/// Adjacent compute slices of a GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComputeSpan {
    /// Compute slices of the GPU instance.
    pub placement: Placement,
    /// The compute instance; `None` for one slice that no compute instance has.
    pub device: Option<DrawnDevice>,
}

/// A compute instance in its GPU instance: the device that a container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrawnDevice {
    /// Key of the GPU instance, with a number when the compute instance is not all of it.
    pub key: String,
    /// CDI name; `None` for a device that is not confirmed and therefore in no spec.
    pub name: Option<String>,
    /// Holders of the device.
    pub holders: Vec<String>,
}

/// A profile of which one more GPU instance can be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FreeProfile {
    /// `3g.40gb`.
    pub profile: String,
    /// Possible first memory slices.
    pub starts: Vec<u32>,
}

/// Reason why a GPU cannot be drawn: the driver's numbers contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{scope}: {contradiction}")]
pub(crate) struct LayoutError {
    /// Slices that the error is about: those of the GPU, or of one of its instances.
    pub scope: SliceScope,
    pub contradiction: Contradiction,
}

/// Slices of a GPU or of a GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SliceScope {
    /// Memory slices of the GPU.
    #[error("memory slices")]
    Memory,
    /// Compute slices of a GPU instance.
    #[error("compute slices of gpu instance {id}")]
    Compute {
        /// Id of the GPU instance.
        id: u32,
    },
}

/// Numbers of the driver that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Contradiction {
    /// No slices, or more than any GPU has.
    #[error("the driver reports {0}")]
    Count(u32),
    /// An instance on slices that do not exist.
    #[error("the driver reports an instance at {placement} of {count}")]
    OutOfRange {
        /// Slices of the instance.
        placement: Placement,
        /// Number of slices that exist.
        count: u32,
    },
    /// Two instances on one slice.
    #[error("the driver reports two instances at {0}")]
    Overlap(u32),
}

impl Region {
    /// Memory slices of the region.
    pub(super) fn placement(&self) -> Placement {
        match self {
            Region::Free(placement) => *placement,
            Region::Instance(gi) => gi.placement,
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        match self {
            Region::Free(_) => false,
            Region::Instance(gi) => gi.is_in_use(),
        }
    }
}

impl InstanceView {
    /// True when the instance, or one of its devices, has a holder.
    pub(super) fn is_in_use(&self) -> bool {
        let mut devices = self.spans.iter().filter_map(|span| span.device.as_ref());
        !self.holders.is_empty() || devices.any(|device| !device.holders.is_empty())
    }

    /// The compute instance that is all of the GPU instance.
    pub(super) fn only_device(&self) -> Option<&DrawnDevice> {
        match &self.spans[..] {
            [ComputeSpan { device: Some(device), .. }] => Some(device),
            _ => None,
        }
    }
}

impl GpuLayout {
    /// Arranges what NVML reports for a GPU. Names of devices are those of `known`, the same GPU as it was
    /// discovered.
    ///
    /// # Errors
    /// When the numbers of the driver contradict each other.
    pub(crate) fn new(
        gpu: &GpuPartitioning,
        known: Option<&Gpu>,
        holders: &Holders,
    ) -> Result<GpuLayout, LayoutError> {
        // NVML reports no number of memory slices: it is where the last possible placement ends.
        let placements = gpu.profiles.iter().flat_map(|profile| &profile.placements);
        let taken: Vec<_> = gpu.instances.iter().map(|instance| instance.placement).collect();
        let ends = placements.chain(&taken).map(|p| p.start.saturating_add(p.size));
        let memory_slices = ends.max().unwrap_or(0);
        let tiles = tile(memory_slices, &taken)
            .map_err(|contradiction| LayoutError { scope: SliceScope::Memory, contradiction })?;
        let source = LayoutSource { gpu, known, holders };
        let mut keys = (0..).map(letters);
        let region = |tile: Tile| match tile.occupant {
            None => Ok(Region::Free(tile.placement)),
            Some(index) => {
                let key = keys.next().unwrap_or_default();
                source.instance(&gpu.instances[index], key).map(Region::Instance)
            }
        };
        let regions: Vec<_> = tiles.into_iter().map(region).collect::<Result<_, _>>()?;
        let largest = gpu.profiles.iter().map(|profile| profile.slices).max();
        let mut layout =
            GpuLayout { memory_slices, compute_slices: 0, regions, fits: free_profiles(gpu) };
        layout.compute_slices = largest.unwrap_or(0).max(layout.compute_taken());
        Ok(layout)
    }

    /// Number of memory slices that GPU instances have.
    pub(super) fn memory_taken(&self) -> u32 {
        self.instances().map(|gi| gi.placement.size).sum()
    }

    /// Number of compute slices that GPU instances have.
    pub(super) fn compute_taken(&self) -> u32 {
        self.instances().map(|gi| gi.compute_slices).sum()
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = &InstanceView> {
        self.regions.iter().filter_map(|region| match region {
            Region::Free(_) => None,
            Region::Instance(gi) => Some(gi),
        })
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = &DrawnDevice> {
        self.instances().flat_map(|gi| &gi.spans).filter_map(|span| span.device.as_ref())
    }
}

/// Values of which a layout is made.
struct LayoutSource<'a> {
    gpu: &'a GpuPartitioning,
    known: Option<&'a Gpu>,
    holders: &'a Holders,
}

impl LayoutSource<'_> {
    fn instance(
        &self,
        instance: &NvmlGpuInstance,
        key: String,
    ) -> Result<InstanceView, LayoutError> {
        let NvmlGpuInstance { id, profile, placement, compute_profiles, compute } = instance;
        let row = self.gpu.profiles.iter().find(|row| row.id == *profile);
        // The list of profiles may lack that of an instance; the largest compute instance is as large as the GPU
        // instance.
        let reported = row.map(|row| row.slices);
        let largest = || compute_profiles.iter().map(|profile| profile.slices).max();
        let compute_slices = reported.or_else(largest).unwrap_or(0);
        let taken: Vec<_> = compute.iter().map(|ci| ci.placement).collect();
        let scope = SliceScope::Compute { id: *id };
        let tiles = tile(compute_slices, &taken)
            .map_err(|contradiction| LayoutError { scope, contradiction })?;
        let is_whole = matches!(tiles[..], [Tile { occupant: Some(_), .. }]);
        let mut number = 0;
        let mut device = |ci: &NvmlComputeInstance| {
            number += 1;
            DrawnDevice {
                key: if is_whole { key.clone() } else { format!("{key}{number}") },
                name: self.known.and_then(|known| device_name(known, instance, ci)),
                holders: self.holders.of_compute_instance(self.gpu.minor, *id, ci.id),
            }
        };
        let span = |tile: Tile| ComputeSpan {
            placement: tile.placement,
            device: tile.occupant.map(|index| device(&compute[index])),
        };
        Ok(InstanceView {
            spans: tiles.into_iter().map(span).collect(),
            placement: *placement,
            profile: profile_name(row.and_then(|row| row.name.as_ref()), *profile),
            memory_mib: row.map(|row| row.memory_mib),
            compute_slices,
            holders: self.holders.of_gpu_instance(self.gpu.minor, *id),
            key,
        })
    }
}

/// Returns the CDI name of a device. `None` when its placement is not the one that was discovered: the GPU was
/// partitioned in between, and the ids may belong to other instances now.
fn device_name(
    known: &Gpu,
    instance: &NvmlGpuInstance,
    compute: &NvmlComputeInstance,
) -> Option<String> {
    let gi = known.gpu_instances.iter().find(|gi| gi.id.0 == instance.id)?;
    let ci = gi.compute_instances.iter().find(|ci| ci.id.0 == compute.id)?;
    if gi.placement != Some(instance.placement) || ci.placement != Some(compute.placement) {
        return None;
    }
    preferred_name(&MigDevice { gpu: known, gi, ci }, Source::Nvml).map(|name| name.to_string())
}

fn profile_name(name: Option<&Profile>, id: u32) -> String {
    name.map_or_else(|| format!("profile {id}"), ToString::to_string)
}

/// Slices of one occupant, or one free slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tile {
    placement: Placement,
    /// Index of the placement that occupies the slices.
    occupant: Option<usize>,
}

/// Splits slices `0..count` into tiles, each slice in exactly one: a tile for each placement, and one for each
/// slice that is free.
fn tile(count: u32, placements: &[Placement]) -> Result<Vec<Tile>, Contradiction> {
    if count == 0 || count > MAX_SLICES {
        return Err(Contradiction::Count(count));
    }
    let mut placements: Vec<_> = placements.iter().copied().enumerate().collect();
    // NVML lists instances by profile, not by placement.
    placements.sort_by_key(|(_, placement)| placement.start);
    let (mut tiles, mut next) = (Vec::new(), 0);
    let free = |start| Tile { placement: Placement { start, size: 1 }, occupant: None };
    for (index, placement) in placements {
        let end = placement.start.checked_add(placement.size);
        let end = end.filter(|end| placement.size > 0 && *end <= count);
        let end = end.ok_or(Contradiction::OutOfRange { placement, count })?;
        if placement.start < next {
            return Err(Contradiction::Overlap(placement.start));
        }
        tiles.extend((next..placement.start).map(free));
        tiles.push(Tile { placement, occupant: Some(index) });
        next = end;
    }
    tiles.extend((next..count).map(free));
    Ok(tiles)
}

fn free_profiles(gpu: &GpuPartitioning) -> Vec<FreeProfile> {
    let mut rows: Vec<_> = gpu.profiles.iter().collect();
    // NVML enumerates 1g, 2g, 3g, 4g and 7g, then variants such as 1g+me (nvml.h, NVML_GPU_INSTANCE_PROFILE_*).
    rows.sort_by_key(|row| std::cmp::Reverse((row.slices, row.memory_mib)));
    let free_profile = |row: &&GpuProfile| FreeProfile {
        profile: profile_name(row.name.as_ref(), row.id),
        starts: free_placements(gpu, row).iter().map(|placement| placement.start).collect(),
    };
    rows.iter().map(free_profile).filter(|profile| !profile.starts.is_empty()).collect()
}

/// Returns `A` to `Z`, then `AA` and so on, as spreadsheets name columns.
fn letters(number: usize) -> String {
    let last = char::from(b'A' + (number % 26) as u8);
    match number / 26 {
        0 => last.to_string(),
        more => letters(more - 1) + &last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: u32, size: u32) -> Placement {
        Placement { start, size }
    }

    #[test]
    fn every_slice_is_in_one_tile() {
        let tiles = tile(8, &[at(4, 4), at(1, 2)]).unwrap();
        let tiles: Vec<_> = tiles.iter().map(|tile| (tile.placement, tile.occupant)).collect();
        let expected =
            [(at(0, 1), None), (at(1, 2), Some(1)), (at(3, 1), None), (at(4, 4), Some(0))];
        assert_eq!(tiles, expected);
    }

    #[test]
    fn contradictions_are_errors() {
        for (count, placements) in [
            (0, vec![]),
            (65, vec![]),
            (8, vec![at(0, 4), at(3, 1)]),
            (8, vec![at(8, 1)]),
            (8, vec![at(3, 0)]),
            (8, vec![at(u32::MAX, 2)]),
        ] {
            assert!(tile(count, &placements).is_err(), "{count} {placements:?}");
        }
    }

    #[test]
    fn keys_do_not_run_out() {
        let keys = [0, 25, 26, 51, 52, 701, 702].map(letters);
        assert_eq!(keys, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }
}
