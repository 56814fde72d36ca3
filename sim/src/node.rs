//! A description made into a node: every instance placed, numbered and named, or refused with the
//! reason.

use crate::{
    Dri, Error, FileFault, Majors, Model, NvmlFault, ProfileRow,
    description::{self, Description, Faults, GpuEntry, InstanceEntry},
    geometry::MODELS,
    uuid,
};
use mig_cdi_model::{GpuUuid, MigUuid, PciAddress, Placement};
use std::collections::BTreeSet;

/// A simulated node. GPUs stand in the order of their index in nvidia-smi.
#[derive(Debug, Clone)]
pub struct Node {
    /// Driver version.
    pub driver: String,
    /// Major numbers.
    pub majors: Majors,
    /// By index.
    pub gpus: Vec<Gpu>,
    /// NVML does not start.
    pub nvml_fault: Option<NvmlFault>,
    pub(crate) missing_nodes: BTreeSet<String>,
    pub(crate) stale_caps_major: Option<u32>,
    pub(crate) files: Vec<FileFault>,
}

/// A GPU of a simulated node.
#[derive(Debug, Clone)]
pub struct Gpu {
    /// What it is.
    pub model: &'static Model,
    /// Number of its node.
    pub minor: u32,
    /// Where it is plugged in.
    pub pci: PciAddress,
    /// Its UUID.
    pub uuid: GpuUuid,
    /// Divided or not.
    pub mig: bool,
    /// Fallen off the bus: NVML says so, `/proc` still has it.
    pub lost: bool,
    /// Its DRI nodes.
    pub dri: Option<Dri>,
    /// By GPU instance id.
    pub instances: Vec<Instance>,
}

/// A GPU instance of a simulated node.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its id.
    pub id: u32,
    /// What it is.
    pub profile: &'static ProfileRow,
    /// Memory slices.
    pub placement: Placement,
    /// By id.
    pub compute: Vec<Compute>,
}

/// A compute instance of a simulated node.
#[derive(Debug, Clone)]
pub struct Compute {
    /// Its id.
    pub id: u32,
    /// Compute slices of the GPU instance.
    pub placement: Placement,
    /// `1c.3g.40gb`, or the name of the GPU instance's profile when it spans it.
    pub profile: String,
    /// Its UUID.
    pub uuid: MigUuid,
    /// NVML does not list it, though the capability tree has it.
    pub hidden: bool,
}

impl Node {
    /// Reads a node description.
    ///
    /// # Errors
    /// When it is no description, or when no GPU could be divided in this way; the reason is said.
    pub fn parse(toml: &str) -> Result<Node, Error> {
        let Description {
            _about,
            driver,
            majors,
            gpus,
            faults,
        } = description::parse(toml)?;
        let Faults {
            nvml,
            hidden_from_nvml,
            missing_nodes,
            stale_caps_major,
            files,
        } = faults;
        // Capability minors are numbered for 32 GPUs (nv-caps.c l.57-148).
        if gpus.len() > 32 {
            return Err(Error::Impossible(format!(
                "{} gpus; the driver knows 32 at most",
                gpus.len()
            )));
        }
        let gpus = gpus.into_iter().enumerate();
        let gpus = gpus.map(|(index, entry)| {
            gpu(index, entry).map_err(|reason| Error::Layout { gpu: index, reason })
        });
        let mut gpus = gpus.collect::<Result<Vec<_>, _>>()?;
        unique(&gpus)?;
        hide(&mut gpus, &hidden_from_nvml)?;
        let missing_nodes = missing_nodes.into_iter().collect();
        Ok(Node {
            driver,
            majors,
            gpus,
            nvml_fault: nvml,
            missing_nodes,
            stale_caps_major,
            files,
        })
    }
}

fn unique(gpus: &[Gpu]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for gpu in gpus {
        for key in [
            format!("minor {}", gpu.minor),
            format!("pci {}", gpu.pci),
            format!("uuid {}", gpu.uuid),
        ] {
            if !seen.insert(key.clone()) {
                return Err(Error::Impossible(format!("two gpus have {key}")));
            }
        }
    }
    Ok(())
}

fn hide(gpus: &mut [Gpu], hidden: &[String]) -> Result<(), Error> {
    for path in hidden {
        let mut found = false;
        for gpu in gpus.iter_mut() {
            for gi in &mut gpu.instances {
                for ci in &mut gi.compute {
                    let here = format!("gpu{}/gi{}/ci{}", gpu.minor, gi.id, ci.id) == *path;
                    ci.hidden |= here;
                    found |= here;
                }
            }
        }
        if !found {
            return Err(Error::Impossible(format!(
                "hidden-from-nvml names {path:?}, which is not there"
            )));
        }
    }
    Ok(())
}

fn gpu(index: usize, entry: GpuEntry) -> Result<Gpu, String> {
    let model = Model::find(&entry.model).ok_or_else(|| {
        let known: Vec<_> = MODELS.iter().map(|model| model.key).collect();
        format!(
            "unknown model {:?}; known are {}",
            entry.model,
            known.join(", ")
        )
    })?;
    let minor = entry.minor.unwrap_or(index as u32);
    if minor > 31 {
        return Err(format!(
            "minor {minor} is above 31, the last one that has capabilities"
        ));
    }
    let pci = entry
        .pci
        .unwrap_or_else(|| format!("0000:{:02x}:00.0", 7 + 8 * index));
    let pci: PciAddress = pci.parse().map_err(|e| format!("{e}"))?;
    let uuid = entry
        .uuid
        .map_or_else(|| Ok(uuid::gpu_uuid(pci)), |uuid| uuid.parse());
    let uuid = uuid.map_err(|e| format!("{e}"))?;
    let mig = entry.mig && !model.profiles.is_empty();
    if !mig && !entry.instances.is_empty() {
        return Err("has instances but is not in mig mode".to_owned());
    }
    let mut instances = place(model, &entry.instances)?;
    instances.sort_by_key(|instance| instance.id);
    for gi in &mut instances {
        for ci in &mut gi.compute {
            let syspipe = gi.placement.start + ci.placement.start;
            ci.uuid = uuid::mig_uuid(model.chip, &uuid, gi.id, syspipe);
        }
    }
    Ok(Gpu {
        model,
        minor,
        pci,
        uuid,
        mig,
        lost: entry.lost,
        dri: entry.dri,
        instances,
    })
}

/// Gives every instance a start and an id.
fn place(model: &Model, wishes: &[InstanceEntry]) -> Result<Vec<Instance>, String> {
    let rows = wishes
        .iter()
        .map(|wish| row(model, wish))
        .collect::<Result<Vec<_>, _>>()?;
    check_counts(model, &rows)?;
    let starts = find_starts(wishes, &rows).ok_or_else(|| {
        format!(
            "no placement fits {}: {}",
            names(&rows),
            slices_of(model, &rows)
        )
    })?;
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    for (wish, row) in wishes.iter().zip(&rows) {
        if let Some(id) = wish.id {
            let range = model.instance_ids(row.size);
            if !range.contains(&id) {
                let (first, last) = (range.start(), range.end());
                return Err(format!(
                    "{} cannot have id {id}; the driver gives it {first} to {last}",
                    row.name
                ));
            }
            if !taken.insert(id) {
                return Err(format!("two instances have id {id}"));
            }
        }
    }
    let mut instances = Vec::new();
    for ((wish, row), start) in wishes.iter().zip(&rows).zip(starts) {
        let free = || model.instance_ids(row.size).find(|id| !taken.contains(id));
        let id = wish
            .id
            .or_else(free)
            .ok_or_else(|| format!("no id is left for {}", row.name))?;
        taken.insert(id);
        let compute = compute_instances(row, wish.compute.as_deref())?;
        let placement = Placement {
            start,
            size: row.size,
        };
        instances.push(Instance {
            id,
            profile: row,
            placement,
            compute,
        });
    }
    Ok(instances)
}

fn row(model: &Model, wish: &InstanceEntry) -> Result<&'static ProfileRow, String> {
    let row = model.profile(&wish.profile).ok_or_else(|| {
        let known: Vec<_> = model.profiles.iter().map(|row| row.name).collect();
        format!(
            "{} has no profile {:?}; it has {}",
            model.product,
            wish.profile,
            known.join(", ")
        )
    })?;
    match wish.start {
        Some(start) if !row.starts.contains(&start) => Err(format!(
            "{} cannot start at {start}; it can at {:?}",
            row.name, row.starts
        )),
        _ => Ok(row),
    }
}

fn names(rows: &[&ProfileRow]) -> String {
    rows.iter()
        .map(|row| row.name)
        .collect::<Vec<_>>()
        .join(" + ")
}

fn slices_of(model: &Model, rows: &[&ProfileRow]) -> String {
    let wanted: u32 = rows.iter().map(|row| row.size).sum();
    format!(
        "they want {wanted} memory slices of {}, each profile at its own starts",
        model.memory_slices
    )
}

/// What does not depend on where instances sit.
fn check_counts(model: &Model, rows: &[&ProfileRow]) -> Result<(), String> {
    for row in rows {
        let count = rows.iter().filter(|other| other.name == row.name).count();
        if count > row.max as usize {
            return Err(format!(
                "{count} x {}; a {} holds {} at most",
                row.name, model.product, row.max
            ));
        }
    }
    let of_model = [
        (
            "memory slices",
            rows.iter().map(|r| r.size).sum::<u32>(),
            model.memory_slices,
        ),
        (
            "compute slices",
            rows.iter().map(|r| r.slices).sum(),
            model.compute_slices,
        ),
        (
            "decoders",
            rows.iter().map(|r| r.decoders).sum(),
            model.decoders,
        ),
        ("optical flow engines", rows.iter().map(|r| r.ofa).sum(), 1),
    ];
    match of_model.iter().find(|(_, wanted, there)| wanted > there) {
        Some((what, wanted, there)) => {
            Err(format!("{} need {wanted} {what} of {there}", names(rows)))
        }
        None => Ok(()),
    }
}

/// Starts that do not overlap, given ones kept: a search over at most eight memory slices.
fn find_starts(wishes: &[InstanceEntry], rows: &[&ProfileRow]) -> Option<Vec<u32>> {
    fn search(
        wishes: &[InstanceEntry],
        rows: &[&ProfileRow],
        starts: &mut Vec<Option<u32>>,
        used: u32,
    ) -> bool {
        let Some(i) = starts.iter().position(Option::is_none) else {
            return true;
        };
        for &start in rows[i].starts {
            let mask = mask(start, rows[i].size);
            if used & mask == 0 {
                starts[i] = Some(start);
                if search(wishes, rows, starts, used | mask) {
                    return true;
                }
                starts[i] = None;
            }
        }
        false
    }
    fn mask(start: u32, size: u32) -> u32 {
        ((1 << size) - 1) << start
    }
    let mut starts: Vec<_> = wishes.iter().map(|wish| wish.start).collect();
    let mut used = 0;
    for (start, row) in starts.iter().zip(rows) {
        let mask = start.map_or(0, |start| mask(start, row.size));
        if used & mask != 0 {
            return None;
        }
        used |= mask;
    }
    search(wishes, rows, &mut starts, used).then(|| starts.into_iter().flatten().collect())
}

/// Compute instances side by side in the order given; one that spans the GPU instance when none is
/// given.
fn compute_instances(row: &ProfileRow, wishes: Option<&[String]>) -> Result<Vec<Compute>, String> {
    let whole = [row.name.to_owned()];
    let mut start = 0;
    let mut instances = Vec::new();
    for (id, wish) in wishes.unwrap_or(&whole).iter().enumerate() {
        let size = compute_slices(row, wish).ok_or_else(|| {
            format!(
                "{wish:?} is no compute instance of {}; write 1c or 1c.{}",
                row.name, row.name
            )
        })?;
        if start + size > row.slices {
            let wanted = start + size;
            return Err(format!(
                "compute instances of {} need {wanted} slices of {}",
                row.name, row.slices
            ));
        }
        let profile = if size == row.slices {
            row.name.to_owned()
        } else {
            format!("{size}c.{}", row.name)
        };
        let placement = Placement { start, size };
        let uuid = "MIG-00000000-0000-0000-0000-000000000000"
            .parse()
            .expect("a UUID");
        instances.push(Compute {
            id: id as u32,
            placement,
            profile,
            uuid,
            hidden: false,
        });
        start += size;
    }
    Ok(instances)
}

/// Slices of `1c`, `1c.3g.40gb` or `3g.40gb` in a GPU instance that has such a profile
/// (nvidia-smi mig -lcip: 3 slices on no 4g, 5 and 6 on no 7g).
fn compute_slices(row: &ProfileRow, wish: &str) -> Option<u32> {
    if wish == row.name {
        return Some(row.slices);
    }
    let prefix = wish
        .strip_suffix(row.name)
        .map_or(wish, |rest| rest.trim_end_matches('.'));
    let size: u32 = prefix.strip_suffix('c')?.parse().ok()?;
    let offered: &[u32] = match row.slices {
        7 => &[1, 2, 3, 4, 7],
        4 => &[1, 2, 4],
        3 => &[1, 2, 3],
        2 => &[1, 2],
        _ => &[1],
    };
    offered.contains(&size).then_some(size)
}
