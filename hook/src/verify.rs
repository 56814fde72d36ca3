//! The spec against the driver: the numbers and GPUs of slices, and the nodes of an injection plan. Never calls NVML:
//! profiles and placements are not in `/proc`.

use crate::{
    driver::{CapabilityMinors, Driver},
    error::{Error, REGENERATE, Result},
    plan::InjectionPlan,
};
use mig_cdi_model::{
    DeviceVariable, ExpectedSlice, GpuUuid, Major, Minor, NumberedNode, Profile, SliceId,
    cdi::SpecNode,
};
use std::{collections::BTreeSet, fmt::Display};

/// Compares a slice as the spec describes it with the driver.
///
/// # Errors
/// Fails with the first fact that differs, or that cannot be established.
pub fn slice(driver: &Driver, expected: &ExpectedSlice) -> Result<()> {
    let id = expected.id;
    let during = |error| during_verify(error, id);
    // First: whether the slice exists at all matters more than its numbers.
    let caps = driver.capability_minors(id).map_err(during)?;
    let caps_major = driver.major("nvidia-caps").map_err(during)?;
    let gpu_major = driver.gpu_major().map_err(during)?;
    let facts = [
        ("major of nvidia-caps", caps_major.0, expected.caps_major.0),
        ("major of nvidia", gpu_major.0, expected.gpu_major.0),
        ("capability minor of the gpu instance", caps.gi.0, expected.gi_cap.0),
        ("capability minor of the compute instance", caps.ci.0, expected.ci_cap.0),
    ];
    match facts.into_iter().find(|(_, now, expected)| now != expected) {
        Some((fact, now, expected)) => {
            Err(mismatch(id, format!("the {fact} is {now}, the spec has {expected}")))
        }
        None => gpu(driver, id, expected.gpu.as_ref()),
    }
}

fn during_verify(error: Error, id: SliceId) -> Error {
    error.during("verify slice", id).with_cure(REGENERATE)
}

fn mismatch(id: SliceId, cause: impl Display) -> Error {
    Error::refused("verify slice", id, cause).with_cure(REGENERATE)
}

/// Compares the GPU behind a slice's minor number with that of the spec. The number alone names no GPU: `gpuN` and
/// `/dev/nvidiaN` move to another one when a GPU is bound again or removed.
fn gpu(driver: &Driver, id: SliceId, expected: Option<&GpuUuid>) -> Result<()> {
    let expected = expected.ok_or_else(|| mismatch(id, "the spec has no uuid of its gpu"))?;
    let now = driver.gpu(id.gpu).map_err(|error| during_verify(error, id))?.uuid.as_ref();
    let now = now.ok_or_else(|| mismatch(id, "the driver does not report the uuid of its gpu"))?;
    if now == expected {
        return Ok(());
    }
    let node = format!("/dev/nvidia{}", id.gpu);
    Err(mismatch(id, format!("the gpu behind {node} is {now}, the spec has {expected}")))
}

/// Compares the nodes of a plan with the driver: each node that the slices need is there, and none that belongs to
/// something else.
///
/// # Errors
/// Fails with the first node that is missing or should not be there.
pub fn plan(
    driver: &Driver,
    plan: &InjectionPlan,
    slices: &[DeviceVariable],
    admin: &[&str],
) -> Result<()> {
    let devices = plan.devices.join(",");
    let during = |error: Error| error.during("inject", &devices).with_cure(REGENERATE);
    let stale = |cause| Error::refused("inject", &devices, cause).with_cure(REGENERATE);
    let gpu_major = driver.gpu_major().map_err(during)?;
    let mut needed = needed_nodes(driver, slices, admin).map_err(during)?;
    let planned = plan.nodes.iter().map(|SpecNode { path, major, minor, .. }| NumberedNode {
        path: path.clone(),
        major: Major(*major),
        minor: Minor(*minor),
    });
    let planned: BTreeSet<NumberedNode> = planned.collect();
    if let Some(node) = needed.difference(&planned).next() {
        return Err(stale(format!("the spec lacks {node}")));
    }
    for slice in slices.iter().filter(|slice| renders(slice)) {
        // Allowed, not needed: programs that do not look for a PCI address render without.
        needed.extend(driver.dri(slice.id.gpu).map_err(during)?.map(|(_, link)| link));
    }
    // Allowed, not needed: only debuggers and profilers open it.
    let uvm = driver.major("nvidia-uvm").map_err(during)?;
    needed.insert(node("/dev/nvidia-uvm-tools", uvm, 1));
    // An administrator's container also has the partitioned GPUs, to partition them.
    let is_foreign = |node: &&NumberedNode| {
        admin.is_empty() || node.major != gpu_major || !is_gpu_node(&node.path)
    };
    match planned.difference(&needed).find(is_foreign) {
        Some(node) => {
            Err(stale(format!("the spec has {node}, which does not belong to these slices")))
        }
        None => Ok(()),
    }
}

/// Nodes that a container with these slices and capabilities cannot do without.
fn needed_nodes(
    driver: &Driver,
    slices: &[DeviceVariable],
    admin: &[&str],
) -> Result<BTreeSet<NumberedNode>> {
    let mut needed = BTreeSet::new();
    for slice in slices {
        needed.extend(slice_nodes(driver, slice)?);
    }
    let caps_major = driver.major("nvidia-caps")?;
    for name in admin {
        needed.insert(capability(caps_major, driver.access(&format!("mig/{name}"))?));
    }
    // These two minors are constants of the driver (nv.h, uvm_common.h); the majors are not.
    needed.insert(node("/dev/nvidiactl", driver.control_major()?, 255));
    needed.insert(node("/dev/nvidia-uvm", driver.major("nvidia-uvm")?, 0));
    Ok(needed)
}

/// Nodes of one slice: its GPU, both capabilities, and for graphics the DRI nodes.
fn slice_nodes(driver: &Driver, slice: &DeviceVariable) -> Result<Vec<NumberedNode>> {
    let id = slice.id;
    let during = |error| during_verify(error, id);
    let CapabilityMinors { gi, ci } = driver.capability_minors(id).map_err(during)?;
    gpu(driver, id, slice.gpu.as_ref())?;
    let (gpu_major, caps_major) = (driver.gpu_major()?, driver.major("nvidia-caps")?);
    let mut nodes = vec![node(format!("/dev/nvidia{}", id.gpu), gpu_major, id.gpu.0)];
    nodes.extend([gi, ci].map(|minor| capability(caps_major, minor)));
    // Only profiles with +gfx render; the spec has no DRI node for the others.
    if renders(slice) {
        nodes.extend(driver.dri(id.gpu).map_err(during)?.map(|(node, _)| node));
    }
    Ok(nodes)
}

fn renders(slice: &DeviceVariable) -> bool {
    slice.profile.as_ref().is_some_and(Profile::has_graphics)
}

fn capability(major: Major, minor: Minor) -> NumberedNode {
    node(format!("/dev/nvidia-caps/nvidia-cap{minor}"), major, minor.0)
}

fn node(path: impl Into<String>, major: Major, minor: u32) -> NumberedNode {
    NumberedNode { path: path.into(), major, minor: Minor(minor) }
}

/// Returns whether a path is that of a GPU: `/dev/nvidia0`, not `/dev/nvidiactl`.
fn is_gpu_node(path: &str) -> bool {
    let minor = path.strip_prefix("/dev/nvidia").unwrap_or_default();
    !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit())
}
