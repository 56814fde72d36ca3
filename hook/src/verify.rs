//! What a spec says against what the driver says now.

use crate::{
    driver::{Caps, Driver},
    plan::Plan,
};
use mig_cdi_model::{DeviceVariable, ExpectedSlice, GpuUuid, Profile, SliceId};
use std::collections::BTreeSet;

/// Holds one claim against the driver. Gives what is not so.
///
/// # Errors
/// The first fact that is not so, or that nobody can confirm.
pub fn claim(driver: &Driver, claim: &ExpectedSlice) -> Result<(), String> {
    let facts = || {
        let caps = driver.caps(claim.id)?;
        same("the major of nvidia-caps", driver.major("nvidia-caps")?, claim.caps_major)?;
        same("the major of nvidia", driver.gpu_major()?, claim.gpu_major)?;
        same("the capability minor of the gpu instance", caps.gi, claim.gi_cap)?;
        same("the capability minor of the compute instance", caps.ci, claim.ci_cap)?;
        gpu(driver, claim.id, claim.gpu.as_ref())
    };
    facts().map_err(|why: String| format!("{}: {why}", claim.id))
}

fn same<T: PartialEq + std::fmt::Display>(what: &str, now: T, claimed: T) -> Result<(), String> {
    if now == claimed { Ok(()) } else { Err(format!("{what} is {now}, the spec says {claimed}")) }
}

fn gpu(driver: &Driver, id: SliceId, claimed: Option<&GpuUuid>) -> Result<(), String> {
    let claimed = claimed.ok_or("the spec does not say which gpu it is on")?;
    let now = driver.gpu(id.gpu)?.uuid.as_ref();
    let now = now.ok_or("the driver does not tell the uuid of its gpu")?;
    same(&format!("the gpu behind /dev/nvidia{}", id.gpu), now, claimed)
}

/// Holds the nodes of a plan against the driver: there is each node that its slices need, and none that
/// is not theirs.
///
/// # Errors
/// The first fact that is not so.
pub fn plan(
    driver: &Driver,
    plan: &Plan,
    slices: &[DeviceVariable],
    admin: &[&str],
) -> Result<(), String> {
    let mut needed = BTreeSet::new();
    let (nvidia, caps_major) = (driver.gpu_major()?, driver.major("nvidia-caps")?);
    for slice in slices {
        let SliceId { gpu: minor, .. } = slice.id;
        let facts = || {
            let caps = driver.caps(slice.id)?;
            gpu(driver, slice.id, slice.gpu.as_ref()).map(|()| caps)
        };
        let Caps { gi, ci } = facts().map_err(|why| format!("{}: {why}", slice.id))?;
        needed.insert((format!("/dev/nvidia{minor}"), nvidia.0, minor.0));
        needed.extend([gi, ci].map(|cap| capability(caps_major.0, cap.0)));
        if slice.profile.as_ref().is_some_and(Profile::has_graphics) {
            needed.extend(driver.dri(minor)?);
        }
    }
    for name in admin {
        needed.insert(capability(caps_major.0, driver.access(&format!("mig/{name}"))?.0));
    }
    needed.insert(("/dev/nvidiactl".to_owned(), driver.control_major()?.0, 255));
    let uvm = driver.major("nvidia-uvm")?.0;
    needed.insert(("/dev/nvidia-uvm".to_owned(), uvm, 0));
    let given: BTreeSet<_> =
        plan.nodes.iter().map(|node| (node.path.clone(), node.major, node.minor)).collect();
    if let Some((path, major, minor)) = needed.difference(&given).next() {
        return Err(format!("the spec lacks {path} {major}:{minor}"));
    }
    needed.insert(("/dev/nvidia-uvm-tools".to_owned(), uvm, 1));
    // An administrator has the divided GPUs as well.
    let is_gpu = |path: &str| {
        let minor = path.strip_prefix("/dev/nvidia").unwrap_or_default();
        !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit())
    };
    let spare = |(path, major, _): &&(String, u32, u32)| {
        admin.is_empty() || *major != nvidia.0 || !is_gpu(path)
    };
    match given.difference(&needed).find(spare) {
        Some((path, major, minor)) => {
            Err(format!("the spec has {path} {major}:{minor}, which is not of these slices"))
        }
        None => Ok(()),
    }
}

fn capability(major: u32, minor: u32) -> (String, u32, u32) {
    (format!("/dev/nvidia-caps/nvidia-cap{minor}"), major, minor)
}
