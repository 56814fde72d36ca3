//! Other containers that may open a slice which is to be given: the device cgroup of each is examined. Only rules for the slice count:
//! a privileged container may open every device, and has been given none.

use crate::{
    driver::{CapabilityMinors, Driver},
    error::{Error, Result},
    plan::InjectionPlan,
};
use mig_cdi_config::Settings;
use mig_cdi_model::{DeviceVariable, Major, Minor, SliceId};
use mig_cdi_sys::{
    device_access::{Access, AccessKinds, AccessQuery, AccessReport, Accessor},
    in_user_namespace, is_root,
    text::numbered,
};
use std::path::PathBuf;

/// Capability nodes of a slice, by their positions in a query.
struct SlicePositions {
    id: SliceId,
    /// GPU instance.
    gi: usize,
    /// Compute instance.
    ci: usize,
    /// All compute instances of the GPU instance.
    siblings: Vec<usize>,
}

/// Checks that no container but this one may open the slices of a plan, unless the settings allow that. `container` is its first
/// process, where it has one. Nothing is checked for a user who is not root, or only in a user namespace: the programs of other cgroups
/// are not shown to them, and the mode of the nodes lets all containers of that user open them.
///
/// # Errors
/// Fails when one may, and when the containers cannot be examined.
pub fn expect_none(
    driver: &Driver,
    slices: &[DeviceVariable],
    plan: &InjectionPlan,
    settings: &Settings,
    container: Option<u32>,
) -> Result<()> {
    if settings.hook.allow_shared || slices.is_empty() || !is_root() || in_user_namespace() {
        return Ok(());
    }
    let (query, wanted) = query(driver, slices, settings, container)?;
    let refused = |cause: String, cure: &str| {
        let setting = format!("set hook.allow-shared = true in {}", mig_cdi_config::PATH);
        Error::refused("inject", plan.devices.join(","), cause)
            .with_cure(format!("{cure}, or {setting} to let containers share slices"))
    };
    let AccessReport { accessors, forbidden, .. } = query.run().map_err(|error| {
        let cause = format!("its holders could not be searched for: {}", error.cause());
        refused(cause, error.cure().unwrap_or("try again"))
    })?;
    if forbidden > 0 {
        let cause = "the processes of other containers cannot be examined".to_owned();
        return Err(refused(cause, "run it as root with all capabilities"));
    }
    for slice in &wanted {
        let mut holders = accessors.iter().filter(|accessor| slice.is_held_by(accessor));
        if let Some(first) = holders.next() {
            // Messages of a hook reach the cluster, so they have no command line.
            let name = first.name(false);
            let cause = match first.access {
                Access::Unknown(_) => format!("{} may be in use by {name}", slice.id),
                _ => format!("{} is in use by {name}: its device cgroup allows it", slice.id),
            };
            return Err(refused(cause, "end it"));
        }
    }
    Ok(())
}

impl SlicePositions {
    /// Reports whether the slice is held. To use a compute instance takes its node and that of its GPU instance, which counts by itself
    /// only where it is alone: two compute instances of one GPU instance are two slices.
    fn is_held_by(&self, accessor: &Accessor) -> bool {
        let has = |position: &usize| accessor.devices.contains(position);
        has(&self.ci) || has(&self.gi) && !self.siblings.iter().any(has)
    }
}

/// Makes the query for the capability nodes of slices, and finds them in it.
fn query(
    driver: &Driver,
    slices: &[DeviceVariable],
    settings: &Settings,
    container: Option<u32>,
) -> Result<(AccessQuery, Vec<SlicePositions>)> {
    let major = driver.major("nvidia-caps")?;
    let mut devices: Vec<(Major, Minor)> = Vec::new();
    let mut position = |minor: Minor| {
        let known = devices.iter().position(|(_, known)| *known == minor);
        known.unwrap_or_else(|| {
            devices.push((major, minor));
            devices.len() - 1
        })
    };
    // Where the driver does not show it, no container may partition GPUs.
    let config = driver.access("mig/config").ok().map(&mut position);
    let mut wanted = Vec::new();
    for DeviceVariable { id, .. } in slices {
        let CapabilityMinors { gi, ci } = driver.capability_minors(*id)?;
        let instance = format!("gpu{}/mig/gi{}", id.gpu, id.gi);
        let names = driver.capabilities(&instance)?;
        let siblings = names.iter().filter(|name| numbered(name, "ci").is_some());
        // One that is gone by now is held by nobody.
        let siblings =
            siblings.filter_map(|name| driver.access(&format!("{instance}/{name}")).ok());
        let siblings = siblings.map(&mut position).collect();
        wanted.push(SlicePositions { id: *id, gi: position(gi), ci: position(ci), siblings });
    }
    let query = AccessQuery {
        host_root: PathBuf::from("/"),
        nodes: devices.iter().map(|(_, minor)| format!("nvidia-caps/nvidia-cap{minor}")).collect(),
        devices,
        dev_root: settings.dev_root.clone(),
        config,
        kinds: AccessKinds::Cgroup,
        describe: Vec::new(),
        has_hints: false,
        own: container,
        is_for_machine: true,
    };
    Ok((query, wanted))
}
