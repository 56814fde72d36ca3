//! Where instances sit on a GPU and which ids they get, or why they cannot be.

use crate::{
    Compute, Instance, Model, ProfileRow,
    description::{ComputeEntry, InstanceEntry},
};
use mig_cdi_model::Placement;
use std::collections::BTreeSet;

/// Gives every instance a start and an id.
pub(crate) fn place(model: &Model, wishes: &[InstanceEntry]) -> Result<Vec<Instance>, String> {
    let rows = wishes.iter().map(|wish| row(model, wish)).collect::<Result<Vec<_>, _>>()?;
    check_counts(model, &rows)?;
    let starts = find_starts(wishes, &rows).ok_or_else(|| {
        format!("no placement fits {}: {}", names(&rows), slices_of(model, &rows))
    })?;
    let mut taken = fixed_ids(model, wishes, &rows)?;
    let mut instances = Vec::new();
    for ((wish, row), start) in wishes.iter().zip(&rows).zip(starts) {
        let free = || model.instance_ids(row.size).find(|id| !taken.contains(id));
        let id = wish.id.or_else(free).ok_or_else(|| format!("no id is left for {}", row.name))?;
        taken.insert(id);
        let compute = compute_instances(row, wish.compute.as_deref())?;
        let placement = Placement { start, size: row.size };
        instances.push(Instance { id, profile: row, placement, compute });
    }
    Ok(instances)
}

/// The ids that the description asks for.
fn fixed_ids(
    model: &Model,
    wishes: &[InstanceEntry],
    rows: &[&ProfileRow],
) -> Result<BTreeSet<u32>, String> {
    let mut taken = BTreeSet::new();
    for (wish, row) in wishes.iter().zip(rows) {
        let Some(id) = wish.id else { continue };
        let range = model.instance_ids(row.size);
        if !range.contains(&id) {
            let (name, first, last) = (row.name, range.start(), range.end());
            return Err(format!(
                "{name} cannot have id {id}; the driver gives it {first} to {last}"
            ));
        }
        if !taken.insert(id) {
            return Err(format!("two instances have id {id}"));
        }
    }
    Ok(taken)
}

fn row(model: &Model, wish: &InstanceEntry) -> Result<&'static ProfileRow, String> {
    let row = model.profile(&wish.profile).ok_or_else(|| {
        let known: Vec<_> = model.profiles.iter().map(|row| row.name).collect();
        format!("{} has no profile {:?}; it has {}", model.product, wish.profile, known.join(", "))
    })?;
    match wish.start {
        Some(start) if !row.starts.contains(&start) => {
            Err(format!("{} cannot start at {start}; it can at {:?}", row.name, row.starts))
        }
        _ => Ok(row),
    }
}

fn names(rows: &[&ProfileRow]) -> String {
    rows.iter().map(|row| row.name).collect::<Vec<_>>().join(" + ")
}

fn slices_of(model: &Model, rows: &[&ProfileRow]) -> String {
    let wanted: u32 = rows.iter().map(|row| row.size).sum();
    format!(
        "they want {wanted} memory slices of {}, each profile at its own starts",
        model.memory_slices
    )
}

/// What does not depend on where instances sit.
pub(crate) fn check_counts(model: &Model, rows: &[&ProfileRow]) -> Result<(), String> {
    for row in rows {
        let count = rows.iter().filter(|other| other.name == row.name).count();
        if count > row.max as usize {
            return Err(format!(
                "{count} x {}; {} holds {} at most",
                row.name, model.product, row.max
            ));
        }
    }
    let of_model = [
        ("memory slices", rows.iter().map(|r| r.size).sum::<u32>(), model.memory_slices),
        ("compute slices", rows.iter().map(|r| r.slices).sum(), model.compute_slices),
        ("decoders", rows.iter().map(|r| r.decoders).sum(), model.decoders),
        ("optical flow engines", rows.iter().map(|r| r.ofa).sum(), 1),
    ];
    match of_model.iter().find(|(_, wanted, there)| wanted > there) {
        Some((what, wanted, there)) => {
            Err(format!("{} need {wanted} {what} of {there}", names(rows)))
        }
        None => Ok(()),
    }
}

/// Starts that do not overlap, given ones kept.
fn find_starts(wishes: &[InstanceEntry], rows: &[&ProfileRow]) -> Option<Vec<u32>> {
    let mut starts: Vec<_> = wishes.iter().map(|wish| wish.start).collect();
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

/// Fills the open starts in every way until one fits: there are eight memory slices at most.
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

/// The most compute instances of a GPU instance: those that capability minors are numbered for
/// (nv-caps.c l.57-148).
pub(crate) const MAX_COMPUTE: u32 = 8;

/// Compute instances where they are wished, the others side by side in the order given; one that
/// spans the GPU instance when none is given.
fn compute_instances(
    row: &ProfileRow,
    wishes: Option<&[ComputeEntry]>,
) -> Result<Vec<Compute>, String> {
    let whole = [ComputeEntry { profile: row.name.to_owned(), start: None, id: None }];
    let wishes = wishes.unwrap_or(&whole);
    let sizes = wishes.iter().map(|wish| {
        compute_slices(row, &wish.profile).ok_or_else(|| {
            let (wish, name) = (&wish.profile, row.name);
            format!("{wish:?} is no compute instance of {name}; write 1c or 1c.{name}")
        })
    });
    let sizes = sizes.collect::<Result<Vec<_>, _>>()?;
    let (wanted, there) = (sizes.iter().sum::<u32>(), row.slices);
    if wanted > there {
        return Err(format!("compute instances of {} need {wanted} slices of {there}", row.name));
    }
    let places = compute_places(row, wishes, &sizes)?;
    let ids = compute_ids(row, wishes)?;
    let mut instances: Vec<_> =
        ids.into_iter().zip(places).map(|(id, place)| Compute::unnamed(row, id, place)).collect();
    instances.sort_by_key(|instance| instance.id);
    Ok(instances)
}

fn compute_places(
    row: &ProfileRow,
    wishes: &[ComputeEntry],
    sizes: &[u32],
) -> Result<Vec<Placement>, String> {
    let mut used = 0;
    for (wish, &size) in wishes.iter().zip(sizes) {
        let Some(start) = wish.start else { continue };
        if !row.compute_places(size).any(|place| place.start == start) {
            let (wish, name) = (&wish.profile, row.name);
            return Err(format!("compute instance {wish:?} of {name} cannot start at {start}"));
        }
        if used & mask(start, size) != 0 {
            return Err(format!("two compute instances of {} have slice {start}", row.name));
        }
        used |= mask(start, size);
    }
    let place = |(wish, &size): (&ComputeEntry, &u32)| {
        let is_free = |place: &Placement| used & mask(place.start, size) == 0;
        let free = || row.compute_places(size).find(is_free);
        let place = match wish.start {
            Some(start) => Placement { start, size },
            None => free()
                .ok_or_else(|| format!("no {size} slices side by side are left in {}", row.name))?,
        };
        used |= mask(place.start, size);
        Ok(place)
    };
    wishes.iter().zip(sizes).map(place).collect()
}

fn compute_ids(row: &ProfileRow, wishes: &[ComputeEntry]) -> Result<Vec<u32>, String> {
    let mut taken = BTreeSet::new();
    for id in wishes.iter().filter_map(|wish| wish.id) {
        if id >= MAX_COMPUTE {
            return Err(format!("no compute instance has id {id}; the last one is 7"));
        }
        if !taken.insert(id) {
            return Err(format!("two compute instances of {} have id {id}", row.name));
        }
    }
    let id = |wish: &ComputeEntry| {
        let free = || (0..MAX_COMPUTE).find(|id| !taken.contains(id));
        let id = wish.id.or_else(free).ok_or_else(|| format!("no id is left in {}", row.name))?;
        taken.insert(id);
        Ok(id)
    };
    wishes.iter().map(id).collect()
}

/// Slices of `1c`, `1c.3g.40gb` or `3g.40gb` in a GPU instance that has such a profile.
fn compute_slices(row: &ProfileRow, wish: &str) -> Option<u32> {
    if wish == row.name {
        return Some(row.slices);
    }
    let prefix = wish.strip_suffix(row.name).map_or(wish, |rest| rest.trim_end_matches('.'));
    let size: u32 = prefix.strip_suffix('c')?.parse().ok()?;
    row.compute_sizes().contains(&size).then_some(size)
}
