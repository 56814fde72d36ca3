//! Turns a description into a node, or into the reason why the hardware would refuse it.

use crate::{
    DescriptionPart, Error, Model, ProcessDescription, SimulatedGpu, SimulatedInstance,
    SimulatedNode,
    description::{self, Description, Faults, GpuDescription},
    gpu_models::MODELS,
    placement::place,
    uuid,
};
use mig_cdi_model::{IdError, PciAddress};
use std::collections::BTreeSet;

/// Largest file of a fault: above every limit that a reader of driver files has.
const MAX_FILE: usize = 16 << 20;

impl SimulatedNode {
    /// Parses a node description.
    ///
    /// # Errors
    /// [`Error`] for a text that is not a description, and for a partitioning that the hardware refuses.
    pub fn parse(toml: &str) -> Result<SimulatedNode, Error> {
        let Description { description, driver, machine, majors, gpus, faults } =
            description::parse(toml)?;
        let Faults { nvml, names_without_profile, hidden_from_nvml, .. } = faults;
        let Faults { missing_nodes, stale_caps_major, files, .. } = faults;
        // The driver numbers capability minors for 32 GPUs (`nv-caps.c:57-148`) and fails to register one
        // with a minor above 31 (`nv-caps.c:705-710`).
        if gpus.len() > 32 {
            let error = Error::new(format!("{} gpus", gpus.len()));
            return Err(error.with_cure("the driver knows 32 at most"));
        }
        if let Some(size) = files.iter().filter_map(|file| file.size).find(|size| *size > MAX_FILE)
        {
            let error = Error::new(format!("a file of {size} bytes"));
            return Err(error.with_cure(format!("{MAX_FILE} at most")));
        }
        let gpus = gpus.into_iter().enumerate();
        let gpus = gpus.map(|(index, entry)| {
            gpu(index, entry).map_err(|error| error.about(DescriptionPart::Gpu(index)))
        });
        let mut gpus = gpus.collect::<Result<Vec<_>, _>>()?;
        unique(&gpus)?;
        for gpu in &mut gpus {
            gpu.name_devices(names_without_profile);
        }
        hide(&mut gpus, &hidden_from_nvml)?;
        let missing_nodes = missing_nodes.into_iter().collect();
        Ok(SimulatedNode {
            description,
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

fn unique(gpus: &[SimulatedGpu]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for gpu in gpus {
        for key in [
            format!("minor {}", gpu.minor),
            format!("pci {}", gpu.pci),
            format!("uuid {}", gpu.uuid),
        ] {
            if !seen.insert(key.clone()) {
                return Err(Error::new(format!("two gpus have {key}")));
            }
        }
    }
    Ok(())
}

fn hide(gpus: &mut [SimulatedGpu], hidden: &[String]) -> Result<(), Error> {
    for path in hidden {
        let mut found = false;
        for gpu in gpus.iter_mut() {
            for gi in &mut gpu.instances {
                for ci in &mut gi.compute {
                    let is_named = format!("gpu{}/gi{}/ci{}", gpu.minor, gi.id, ci.id) == *path;
                    ci.is_hidden |= is_named;
                    found |= is_named;
                }
            }
        }
        if !found {
            let cause = format!("hidden-from-nvml names {path:?}, which does not exist");
            return Err(Error::new(cause));
        }
    }
    Ok(())
}

fn gpu(index: usize, entry: GpuDescription) -> Result<SimulatedGpu, Error> {
    let model = Model::find(&entry.model).ok_or_else(|| {
        let known: Vec<_> = MODELS.iter().map(|model| model.key).collect();
        Error::new(format!("unknown model {:?}", entry.model))
            .with_cure(format!("known are {}", known.join(", ")))
    })?;
    // Minor and index are independent numbers: NVML counts by PCI address.
    let minor = entry.minor.unwrap_or(index as u32);
    if minor > 31 {
        let cause = format!("minor {minor} is above 31, the last one that has capabilities");
        return Err(Error::new(cause));
    }
    // The first is at 0x07 as on a DGX A100, the 32nd at 0xff.
    let pci = entry.pci.unwrap_or_else(|| format!("0000:{:02x}:00.0", 7 + 8 * index));
    let pci: PciAddress = pci.parse().map_err(|e: IdError| Error::new(e.to_string()))?;
    let uuid = entry.uuid.map_or_else(|| Ok(uuid::gpu_uuid(pci)), |uuid| uuid.parse());
    let uuid = uuid.map_err(|e: IdError| Error::new(e.to_string()))?;
    // `mig = true` is the default, also for a GPU without MIG.
    let mig = entry.mig && !model.profiles.is_empty();
    if !mig && !entry.instances.is_empty() {
        return Err(Error::new("has instances but is not in mig mode"));
    }
    let mut instances = place(model, &entry.instances)?;
    // NVML numbers MIG devices in this order.
    instances.sort_by_key(|instance| instance.id);
    let processes = entry.processes;
    processes.iter().try_for_each(|process| check_process(process, &instances))?;
    let GpuDescription { numa, lost, drained, held, dri, .. } = entry;
    let mig_pending = entry.mig_pending.unwrap_or(mig);
    Ok(SimulatedGpu {
        model,
        minor,
        pci,
        uuid,
        numa,
        is_mig_enabled: mig,
        is_mig_enabled_after_reset: mig_pending,
        is_lost: lost,
        is_drained: drained,
        is_open: held,
        dri,
        instances,
        processes,
    })
}

fn check_process(
    process: &ProcessDescription,
    instances: &[SimulatedInstance],
) -> Result<(), Error> {
    let ProcessDescription { pid, gi, ci, .. } = *process;
    let existing = |gi| instances.iter().find(|instance| instance.id == gi);
    let has = |gi: &SimulatedInstance, ci| gi.compute.iter().any(|compute| compute.id == ci);
    match (gi, ci) {
        (None, None) => Ok(()),
        (None, Some(ci)) => Err(Error::new(format!("process {pid} has ci {ci} and no gi"))),
        (Some(gi), _) if existing(gi).is_none() => {
            let cause = format!("process {pid} is in gpu instance {gi}, which does not exist");
            Err(Error::new(cause))
        }
        (Some(gi), Some(ci)) if !existing(gi).is_some_and(|gi| has(gi, ci)) => {
            let place = format!("compute instance {ci} of gpu instance {gi}");
            Err(Error::new(format!("process {pid} is in {place}, which does not exist")))
        }
        _ => Ok(()),
    }
}
