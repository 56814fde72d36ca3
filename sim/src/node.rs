//! A description made into a node: every instance placed, numbered and named, or refused with the
//! reason.

use crate::{
    Dri, Error, FileFault, Majors, Model, NvmlFault, Process, ProfileRow,
    description::{self, Description, Faults, GpuEntry},
    geometry::MODELS,
    placement::place,
    uuid,
};
use mig_cdi_model::{GpuUuid, MigUuid, PciAddress, Placement};
use std::collections::BTreeSet;

/// Larger than any limit that a reader of driver files has.
const MAX_FILE: usize = 16 << 20;

/// A simulated node. GPUs stand in the order of their index in nvidia-smi.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// For people.
    pub about: String,
    /// Driver version.
    pub driver: String,
    /// What its maker calls the machine.
    pub machine: Option<String>,
    /// Major numbers.
    pub majors: Majors,
    /// By index.
    pub gpus: Vec<Gpu>,
    /// NVML does not start.
    pub nvml_fault: Option<NvmlFault>,
    pub(crate) names_without_profile: bool,
    pub(crate) missing_nodes: BTreeSet<String>,
    pub(crate) stale_caps_major: Option<u32>,
    pub(crate) files: Vec<FileFault>,
}

/// A GPU of a simulated node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// What it is.
    pub model: &'static Model,
    /// Number of its node.
    pub minor: u32,
    /// Where it is plugged in.
    pub pci: PciAddress,
    /// Its UUID.
    pub uuid: GpuUuid,
    /// Memory domain of the machine that it is plugged in at.
    pub numa: Option<u32>,
    /// Divided or not.
    pub mig: bool,
    /// What it becomes at the next reset.
    pub mig_pending: bool,
    /// Fallen off the bus: NVML says so, `/proc` still has it.
    pub lost: bool,
    /// Somebody has it open, though no process is reported: a monitor, a persistence daemon.
    pub held: bool,
    /// Its DRI nodes.
    pub dri: Option<Dri>,
    /// By GPU instance id.
    pub instances: Vec<Instance>,
    /// What NVML reports to run on it.
    pub processes: Vec<Process>,
}

/// A GPU instance of a simulated node.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compute {
    /// Its id.
    pub id: u32,
    /// Compute slices of the GPU instance.
    pub placement: Placement,
    /// `1c.3g.40gb`, or the name of the GPU instance's profile when it spans it.
    pub profile: String,
    /// The name that NVML gives the MIG device: product and profile.
    pub name: String,
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
        let Description { about, driver, machine, majors, gpus, faults } =
            description::parse(toml)?;
        let Faults { nvml, names_without_profile, hidden_from_nvml, .. } = faults;
        let Faults { missing_nodes, stale_caps_major, files, .. } = faults;
        // Capability minors are numbered for 32 GPUs (nv-caps.c l.57-148).
        if gpus.len() > 32 {
            return Err(Error::Impossible(format!(
                "{} gpus; the driver knows 32 at most",
                gpus.len()
            )));
        }
        if let Some(size) = files.iter().filter_map(|file| file.size).find(|size| *size > MAX_FILE)
        {
            return Err(Error::Impossible(format!("a file of {size} bytes; {MAX_FILE} at most")));
        }
        let gpus = gpus.into_iter().enumerate();
        let gpus = gpus.map(|(index, entry)| {
            gpu(index, entry).map_err(|reason| Error::Layout { gpu: index, reason })
        });
        let mut gpus = gpus.collect::<Result<Vec<_>, _>>()?;
        unique(&gpus)?;
        for gpu in &mut gpus {
            gpu.name(names_without_profile);
        }
        hide(&mut gpus, &hidden_from_nvml)?;
        let missing_nodes = missing_nodes.into_iter().collect();
        Ok(Node {
            about,
            driver,
            machine,
            majors,
            gpus,
            nvml_fault: nvml,
            names_without_profile,
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

impl Gpu {
    /// Gives every compute instance the UUID and the name that NVML gives its MIG device.
    pub(crate) fn name(&mut self, without_profile: bool) {
        let Gpu { model, uuid, .. } = self;
        for gi in &mut self.instances {
            for ci in &mut gi.compute {
                let syspipe = gi.placement.start + ci.placement.start;
                ci.uuid = uuid::mig_uuid(model.chip, uuid, gi.id, syspipe);
                ci.name = match without_profile {
                    true => model.product.to_owned(),
                    false => format!("{} MIG {}", model.product, ci.profile),
                };
            }
        }
    }
}

impl Compute {
    /// One that has yet to be named.
    pub(crate) fn unnamed(row: &ProfileRow, id: u32, placement: Placement) -> Compute {
        let uuid = "MIG-00000000-0000-0000-0000-000000000000".parse().expect("a UUID");
        let (profile, name) = (row.compute_name(placement.size), String::new());
        Compute { id, placement, profile, name, uuid, hidden: false }
    }
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
        format!("unknown model {:?}; known are {}", entry.model, known.join(", "))
    })?;
    let minor = entry.minor.unwrap_or(index as u32);
    if minor > 31 {
        return Err(format!("minor {minor} is above 31, the last one that has capabilities"));
    }
    let pci = entry.pci.unwrap_or_else(|| format!("0000:{:02x}:00.0", 7 + 8 * index));
    let pci: PciAddress = pci.parse().map_err(|e| format!("{e}"))?;
    let uuid = entry.uuid.map_or_else(|| Ok(uuid::gpu_uuid(pci)), |uuid| uuid.parse());
    let uuid = uuid.map_err(|e| format!("{e}"))?;
    let mig = entry.mig && !model.profiles.is_empty();
    if !mig && !entry.instances.is_empty() {
        return Err("has instances but is not in mig mode".to_owned());
    }
    let mut instances = place(model, &entry.instances)?;
    instances.sort_by_key(|instance| instance.id);
    let processes = entry.processes;
    processes.iter().try_for_each(|process| check_process(process, &instances))?;
    let GpuEntry { numa, lost, held, dri, .. } = entry;
    let mig_pending = entry.mig_pending.unwrap_or(mig);
    Ok(Gpu {
        model,
        minor,
        pci,
        uuid,
        numa,
        mig,
        mig_pending,
        lost,
        held,
        dri,
        instances,
        processes,
    })
}

fn check_process(process: &Process, instances: &[Instance]) -> Result<(), String> {
    let Process { pid, gi, ci, .. } = *process;
    let there = |gi| instances.iter().find(|there| there.id == gi);
    let has = |gi: &Instance, ci| gi.compute.iter().any(|there| there.id == ci);
    match (gi, ci) {
        (None, None) => Ok(()),
        (None, Some(ci)) => Err(format!("process {pid} has ci {ci} and no gi")),
        (Some(gi), _) if there(gi).is_none() => {
            Err(format!("process {pid} is in gpu instance {gi}, which is not there"))
        }
        (Some(gi), Some(ci)) if !there(gi).is_some_and(|there| has(there, ci)) => Err(format!(
            "process {pid} is in compute instance {ci} of gpu instance {gi}, which is not there"
        )),
        _ => Ok(()),
    }
}
