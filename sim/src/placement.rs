//! Gives the instances of a description their placements and ids, by the rules of the hardware.

use crate::{
    Error, Model, ProfileRow, SimulatedComputeInstance, SimulatedInstance,
    description::{ComputeDescription, InstanceDescription},
};
use mig_cdi_model::Placement;
use std::collections::BTreeSet;

/// Gives every instance of a description a start and an id.
pub(crate) fn place(
    model: &Model,
    entries: &[InstanceDescription],
) -> Result<Vec<SimulatedInstance>, Error> {
    let rows = entries.iter().map(|entry| row(model, entry)).collect::<Result<Vec<_>, _>>()?;
    // Counts first: their message has the numbers, where that of a failed search has none.
    check_counts(model, &rows)?;
    let starts = find_starts(entries, &rows).ok_or_else(|| {
        Error::new(format!("no placement fits {}", names(&rows)))
            .with_cure(slices_text(model, &rows))
    })?;
    let mut taken = fixed_ids(model, entries, &rows)?;
    let mut instances = Vec::new();
    for ((entry, row), start) in entries.iter().zip(&rows).zip(starts) {
        let free = || model.instance_ids(row.size).find(|id| !taken.contains(id));
        let id = entry
            .id
            .or_else(free)
            .ok_or_else(|| Error::new(format!("no id is left for {}", row.name)))?;
        taken.insert(id);
        let compute = compute_instances(row, entry.compute.as_deref())?;
        let placement = Placement { start, size: row.size };
        instances.push(SimulatedInstance { id, profile: row, placement, compute });
    }
    Ok(instances)
}

/// Returns the ids that the description gives.
fn fixed_ids(
    model: &Model,
    entries: &[InstanceDescription],
    rows: &[&ProfileRow],
) -> Result<BTreeSet<u32>, Error> {
    let mut taken = BTreeSet::new();
    for (entry, row) in entries.iter().zip(rows) {
        let Some(id) = entry.id else { continue };
        let range = model.instance_ids(row.size);
        if !range.contains(&id) {
            let (name, first, last) = (row.name, range.start(), range.end());
            let error = Error::new(format!("{name} cannot have id {id}"));
            return Err(error.with_cure(format!("the driver gives it {first} to {last}")));
        }
        if !taken.insert(id) {
            return Err(Error::new(format!("two instances have id {id}")));
        }
    }
    Ok(taken)
}

fn row(model: &Model, entry: &InstanceDescription) -> Result<&'static ProfileRow, Error> {
    let row = model.profile(&entry.profile).ok_or_else(|| {
        let known: Vec<_> = model.profiles.iter().map(|row| row.name).collect();
        Error::new(format!("{} has no profile {:?}", model.product, entry.profile))
            .with_cure(format!("it has {}", known.join(", ")))
    })?;
    match entry.start {
        Some(start) if !row.starts.contains(&start) => {
            let error = Error::new(format!("{} cannot start at {start}", row.name));
            Err(error.with_cure(format!("it can start at {:?}", row.starts)))
        }
        _ => Ok(row),
    }
}

fn names(rows: &[&ProfileRow]) -> String {
    rows.iter().map(|row| row.name).collect::<Vec<_>>().join(" + ")
}

fn slices_text(model: &Model, rows: &[&ProfileRow]) -> String {
    let needed: u32 = rows.iter().map(|row| row.size).sum();
    format!(
        "they need {needed} memory slices of {}, each profile at its own starts",
        model.memory_slices
    )
}

/// Checks the limits that do not depend on placements.
pub(crate) fn check_counts(model: &Model, rows: &[&ProfileRow]) -> Result<(), Error> {
    for row in rows {
        let count = rows.iter().filter(|other| other.name == row.name).count();
        if count > row.max as usize {
            let error = Error::new(format!("{count} x {}", row.name));
            return Err(error.with_cure(format!("{} holds {} at most", model.product, row.max)));
        }
    }
    // Encoders and JPEG engines are not here: see `ProfileRow::gpu_instance_profile`.
    let resources = [
        ("memory slices", rows.iter().map(|r| r.size).sum::<u32>(), model.memory_slices),
        ("compute slices", rows.iter().map(|r| r.slices).sum(), model.compute_slices),
        ("decoders", rows.iter().map(|r| r.decoders).sum(), model.decoders),
        // In every public table one instance has the only optical flow engine: +me exists once per GPU.
        ("optical flow engines", rows.iter().map(|r| r.ofa).sum(), 1),
    ];
    match resources.iter().find(|(_, needed, has)| needed > has) {
        Some((what, needed, has)) => {
            Err(Error::new(format!("{} need {needed} {what} of {has}", names(rows))))
        }
        None => Ok(()),
    }
}

/// Finds starts that do not overlap, with those of the description kept.
fn find_starts(entries: &[InstanceDescription], rows: &[&ProfileRow]) -> Option<Vec<u32>> {
    let mut starts: Vec<_> = entries.iter().map(|entry| entry.start).collect();
    let mut used = 0;
    for (start, row) in starts.iter().zip(rows) {
        let mask = start.map_or(0, |start| mask(start, row.size));
        if used & mask != 0 {
            return None;
        }
        used |= mask;
    }
    search(rows, &mut starts, used).then(|| starts.into_iter().flatten().collect())
}

/// Fills the open starts in every way until one fits. GPUs have eight memory slices at most, so trying all
/// is fast.
fn search(rows: &[&ProfileRow], starts: &mut [Option<u32>], used: u32) -> bool {
    let Some(i) = starts.iter().position(Option::is_none) else {
        return true;
    };
    for &start in rows[i].starts {
        let mask = mask(start, rows[i].size);
        if used & mask == 0 {
            starts[i] = Some(start);
            if search(rows, starts, used | mask) {
                return true;
            }
        }
    }
    starts[i] = None;
    false
}

pub(crate) fn mask(start: u32, size: u32) -> u32 {
    ((1 << size) - 1) << start
}

/// Most compute instances of a GPU instance: capability minors are numbered for ids 0 to 7 (`nv-caps.c:57-148`).
pub(crate) const MAX_COMPUTE: u32 = 8;

/// Places compute instances at the starts that the description gives, the others side by side in its
/// order; without any, one that spans the GPU instance.
fn compute_instances(
    row: &ProfileRow,
    entries: Option<&[ComputeDescription]>,
) -> Result<Vec<SimulatedComputeInstance>, Error> {
    let whole = [ComputeDescription { profile: row.name.to_owned(), start: None, id: None }];
    let entries = entries.unwrap_or(&whole);
    let sizes = entries.iter().map(|entry| {
        compute_slices(row, &entry.profile).ok_or_else(|| {
            let (entry, name) = (&entry.profile, row.name);
            Error::new(format!("{entry:?} is not a compute instance of {name}"))
                .with_cure(format!("write 1c or 1c.{name}"))
        })
    });
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let (needed, has) = (sizes.iter().sum::<u32>(), row.slices);
    if needed > has {
        let name = row.name;
        let cause = format!("compute instances of {name} need {needed} slices of {has}");
        return Err(Error::new(cause));
    }
    let places = place_compute(row, entries, &sizes)?;
    let ids = compute_ids(row, entries)?;
    let mut instances: Vec<_> = ids
        .into_iter()
        .zip(places)
        .map(|(id, place)| SimulatedComputeInstance::unnamed(row, id, place))
        .collect();
    instances.sort_by_key(|instance| instance.id);
    Ok(instances)
}

fn place_compute(
    row: &ProfileRow,
    entries: &[ComputeDescription],
    sizes: &[u32],
) -> Result<Vec<Placement>, Error> {
    let mut used = 0;
    for (entry, &size) in entries.iter().zip(sizes) {
        let Some(start) = entry.start else { continue };
        if !row.compute_placements(size).any(|place| place.start == start) {
            let (entry, name) = (&entry.profile, row.name);
            let cause = format!("compute instance {entry:?} of {name} cannot start at {start}");
            return Err(Error::new(cause));
        }
        if used & mask(start, size) != 0 {
            let cause = format!("two compute instances of {} have slice {start}", row.name);
            return Err(Error::new(cause));
        }
        used |= mask(start, size);
    }
    let place = |(entry, &size): (&ComputeDescription, &u32)| {
        let is_free = |place: &Placement| used & mask(place.start, size) == 0;
        let free = || row.compute_placements(size).find(is_free);
        let place = match entry.start {
            Some(start) => Placement { start, size },
            None => free().ok_or_else(|| {
                Error::new(format!("no {size} slices side by side are left in {}", row.name))
            })?,
        };
        used |= mask(place.start, size);
        Ok(place)
    };
    entries.iter().zip(sizes).map(place).collect()
}

fn compute_ids(row: &ProfileRow, entries: &[ComputeDescription]) -> Result<Vec<u32>, Error> {
    let mut taken = BTreeSet::new();
    for id in entries.iter().filter_map(|entry| entry.id) {
        if id >= MAX_COMPUTE {
            let error = Error::new(format!("no compute instance has id {id}"));
            return Err(error.with_cure("the last one is 7"));
        }
        if !taken.insert(id) {
            let cause = format!("two compute instances of {} have id {id}", row.name);
            return Err(Error::new(cause));
        }
    }
    let id = |entry: &ComputeDescription| {
        let free = || (0..MAX_COMPUTE).find(|id| !taken.contains(id));
        let id = entry
            .id
            .or_else(free)
            .ok_or_else(|| Error::new(format!("no id is left in {}", row.name)))?;
        taken.insert(id);
        Ok(id)
    };
    entries.iter().map(id).collect()
}

/// Returns the compute slices of `1c`, `1c.3g.40gb` or `3g.40gb` in a GPU instance that has this profile.
fn compute_slices(row: &ProfileRow, entry: &str) -> Option<u32> {
    if entry == row.name {
        return Some(row.slices);
    }
    let prefix = entry.strip_suffix(row.name).map_or(entry, |rest| rest.trim_end_matches('.'));
    let size: u32 = prefix.strip_suffix('c')?.parse().ok()?;
    row.compute_sizes().contains(&size).then_some(size)
}
