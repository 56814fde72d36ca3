//! The slices of one GPU, side by side, as the driver tells them.

use crate::{
    discover::Source,
    partition::{holders::Holders, view::free},
    spec::preferred_name,
};
use mig_cdi_model::{Gpu, MigDevice, Placement};
use mig_cdi_sys::nvml::{ComputeInstance, Division, GpuInstance};

/// Nobody could read a picture of more, and no GPU has them.
const MOST: u32 = 64;

/// A GPU in MIG mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Strip {
    /// How many memory slices it has, by the placements that the driver knows.
    pub memory: u32,
    /// How many compute slices it has: those of its largest profile.
    pub compute: u32,
    /// By start; together they are all memory slices.
    pub parts: Vec<Part>,
    /// The largest first.
    pub fits: Vec<Fit>,
}

/// A stretch of memory slices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// One that no GPU instance has.
    Free(Placement),
    /// Those of a GPU instance.
    Taken(Taken),
}

/// A GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The letter that it has in the picture.
    pub key: String,
    /// Memory slices.
    pub at: Placement,
    /// `3g.40gb`.
    pub profile: String,
    /// In MiB, when its profile is known.
    pub memory_mib: Option<u64>,
    /// Compute slices.
    pub slices: u32,
    /// By start; together they are all its compute slices.
    pub cells: Vec<Cell>,
    /// Who holds it as a whole.
    pub holders: Vec<String>,
}

/// Compute slices of a GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Compute slices of the GPU instance.
    pub at: Placement,
    /// The compute instance; one slice that none has otherwise.
    pub device: Option<Device>,
}

/// A compute instance: what a container is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// That of its GPU instance when it is all of it, else with a number.
    pub key: String,
    /// What a user types; absent when the device is not certain, and so in no spec.
    pub name: Option<String>,
    /// Who holds it.
    pub holders: Vec<String>,
}

/// A profile of which one more can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fit {
    /// `3g.40gb`.
    pub profile: String,
    /// First memory slices, each a possibility.
    pub starts: Vec<u32>,
}

impl Part {
    /// Memory slices.
    pub(super) fn at(&self) -> Placement {
        match self {
            Part::Free(at) => *at,
            Part::Taken(taken) => taken.at,
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        match self {
            Part::Free(_) => false,
            Part::Taken(taken) => taken.is_in_use(),
        }
    }
}

impl Taken {
    /// Somebody holds it, or a part of it.
    pub(super) fn is_in_use(&self) -> bool {
        let mut devices = self.cells.iter().filter_map(|cell| cell.device.as_ref());
        !self.holders.is_empty() || devices.any(|device| !device.holders.is_empty())
    }

    /// The compute instance that is all of it.
    pub(super) fn whole(&self) -> Option<&Device> {
        match &self.cells[..] {
            [Cell { device: Some(device), .. }] => Some(device),
            _ => None,
        }
    }
}

impl Strip {
    /// Puts side by side what NVML tells of a GPU. Names are those of `known`, the same GPU as it was
    /// discovered.
    ///
    /// # Errors
    /// When it cannot be drawn: the driver contradicts itself. Says how.
    pub(crate) fn of(
        gpu: &Division,
        known: Option<&Gpu>,
        holders: &Holders,
    ) -> Result<Strip, String> {
        let placements = gpu.profiles.iter().flat_map(|profile| &profile.placements);
        let there = gpu.instances.iter().map(|instance| &instance.placement);
        let ends = placements.chain(there).map(|at| at.start.saturating_add(at.size));
        let memory = ends.max().unwrap_or(0);
        let places: Vec<_> = gpu.instances.iter().map(|instance| instance.placement).collect();
        let mut keys = 0;
        let mut part = |(at, instance): (Placement, Option<usize>)| {
            let Some(index) = instance else { return Ok(Part::Free(at)) };
            let key = letters(keys);
            keys += 1;
            let instance = &gpu.instances[index];
            Taken::of(gpu, instance, key, known, holders).map(Part::Taken)
        };
        let parts = cover(memory, &places).map_err(|why| format!("memory slices: {why}"))?;
        let parts: Vec<_> = parts.into_iter().map(&mut part).collect::<Result<_, _>>()?;
        let largest = gpu.profiles.iter().map(|profile| profile.slices).max();
        let mut strip = Strip { memory, compute: 0, parts, fits: fits(gpu) };
        strip.compute = largest.unwrap_or(0).max(strip.compute_taken());
        Ok(strip)
    }

    /// Memory slices that GPU instances have.
    pub(super) fn memory_taken(&self) -> u32 {
        self.taken().map(|taken| taken.at.size).sum()
    }

    /// Compute slices that GPU instances have.
    pub(super) fn compute_taken(&self) -> u32 {
        self.taken().map(|taken| taken.slices).sum()
    }

    pub(super) fn taken(&self) -> impl Iterator<Item = &Taken> {
        self.parts.iter().filter_map(|part| match part {
            Part::Free(_) => None,
            Part::Taken(taken) => Some(taken),
        })
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.taken().flat_map(|taken| &taken.cells).filter_map(|cell| cell.device.as_ref())
    }
}

impl Taken {
    fn of(
        gpu: &Division,
        instance: &GpuInstance,
        key: String,
        known: Option<&Gpu>,
        holders: &Holders,
    ) -> Result<Taken, String> {
        let GpuInstance { id, profile, placement, compute_profiles, compute } = instance;
        let row = gpu.profiles.iter().find(|row| row.id == *profile);
        let told = row.map(|row| row.slices);
        let slices = told.or_else(|| compute_profiles.iter().map(|p| p.slices).max()).unwrap_or(0);
        let places: Vec<_> = compute.iter().map(|ci| ci.placement).collect();
        let cells = cover(slices, &places)
            .map_err(|why| format!("compute slices of gpu instance {id}: {why}"))?;
        let is_whole = matches!(cells[..], [(_, Some(_))]);
        let mut number = 0;
        let mut device = |ci: &ComputeInstance| {
            number += 1;
            Device {
                key: if is_whole { key.clone() } else { format!("{key}{number}") },
                name: known.and_then(|known| name(known, instance, ci)),
                holders: holders.just(gpu.minor, Some((*id, Some(ci.id)))),
            }
        };
        let devices = cells.iter().map(|(_, ci)| ci.map(|index| &compute[index]));
        let devices: Vec<_> = devices.map(|ci| ci.map(&mut device)).collect();
        let cells = cells.iter().zip(devices);
        Ok(Taken {
            cells: cells.map(|((at, _), device)| Cell { at: *at, device }).collect(),
            at: *placement,
            profile: profile_name(row.and_then(|row| row.name.as_ref()), *profile),
            memory_mib: row.map(|row| row.memory_mib),
            slices,
            holders: holders.just(gpu.minor, Some((*id, None))),
            key,
        })
    }
}

/// The name of a device that is still where it was when it was discovered.
fn name(known: &Gpu, instance: &GpuInstance, compute: &ComputeInstance) -> Option<String> {
    let gi = known.gpu_instances.iter().find(|gi| gi.id.0 == instance.id)?;
    let ci = gi.compute_instances.iter().find(|ci| ci.id.0 == compute.id)?;
    if gi.placement != Some(instance.placement) || ci.placement != Some(compute.placement) {
        return None;
    }
    preferred_name(&MigDevice { gpu: known, gi, ci }, Source::Nvml).map(|name| name.to_string())
}

fn profile_name(name: Option<&mig_cdi_model::Profile>, id: u32) -> String {
    name.map_or_else(|| format!("profile {id}"), ToString::to_string)
}

/// Slices `0..width`, each once: those of a place with its index, every other one by itself.
fn cover(width: u32, places: &[Placement]) -> Result<Vec<(Placement, Option<usize>)>, String> {
    if width == 0 || width > MOST {
        return Err(format!("the driver tells of {width}"));
    }
    let mut places: Vec<_> = places.iter().enumerate().collect();
    places.sort_by_key(|(_, at)| at.start);
    let (mut found, mut next) = (Vec::new(), 0);
    let free = |start| (Placement { start, size: 1 }, None);
    for (index, &at) in places {
        let end = at.start.checked_add(at.size).filter(|end| at.size > 0 && *end <= width);
        let end = end.ok_or_else(|| format!("the driver puts an instance at {at} of {width}"))?;
        if at.start < next {
            return Err(format!("the driver puts two instances at {}", at.start));
        }
        found.extend((next..at.start).map(free));
        found.push((at, Some(index)));
        next = end;
    }
    found.extend((next..width).map(free));
    Ok(found)
}

fn fits(gpu: &Division) -> Vec<Fit> {
    let mut rows: Vec<_> = gpu.profiles.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.slices, row.memory_mib)));
    let fit = |row: &&mig_cdi_sys::nvml::GpuProfile| Fit {
        profile: profile_name(row.name.as_ref(), row.id),
        starts: free(gpu, row).iter().map(|at| at.start).collect(),
    };
    rows.iter().map(fit).filter(|fit| !fit.starts.is_empty()).collect()
}

/// `A` to `Z`, then `AA`.
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
    fn every_slice_is_in_one_place() {
        let found = cover(8, &[at(4, 4), at(1, 2)]).unwrap();
        let expected =
            [(at(0, 1), None), (at(1, 2), Some(1)), (at(3, 1), None), (at(4, 4), Some(0))];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        for (width, places) in [
            (0, vec![]),
            (65, vec![]),
            (8, vec![at(0, 4), at(3, 1)]),
            (8, vec![at(8, 1)]),
            (8, vec![at(3, 0)]),
            (8, vec![at(u32::MAX, 2)]),
        ] {
            assert!(cover(width, &places).is_err(), "{width} {places:?}");
        }
    }

    #[test]
    fn keys_do_not_run_out() {
        let keys = [0, 25, 26, 51, 52, 701, 702].map(letters);
        assert_eq!(keys, ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }
}
