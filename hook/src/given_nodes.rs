//! Device nodes of the driver that a container has from elsewhere than its request: named to the engine, by path, by a device of
//! any CDI spec, or in a device rule. A request adds no slice to these. Pure.
//!
//! Only what names one device counts. A rule for many devices names none: the container may open what it allows anyway.

use crate::{
    error::{Error, Result},
    oci_config::{DeviceRule, OciConfig},
    plan::InjectionPlan,
};
use mig_cdi_model::Major;
use mig_cdi_sys::text::numbered;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Largest minor of a GPU; modeset and control device are above (`nv-chardev-numbers.h`).
const LAST_GPU: u32 = 247;
/// Names of nodes, before their minor.
const CAPABILITY: &str = "nvidia-cap";
const GPU: &str = "nvidia";

/// Places of the driver's nodes on this machine.
#[derive(Debug)]
pub struct NodePlaces<'a> {
    /// Major of the GPUs.
    pub gpus: Major,
    /// Major of the capabilities.
    pub capabilities: Major,
    /// Directory that has the machine's `dev`.
    pub dev_root: &'a Path,
}

/// Minors of GPUs and of capabilities.
#[derive(Debug, Default, PartialEq, Eq)]
struct Nodes {
    gpus: BTreeSet<u32>,
    capabilities: BTreeSet<u32>,
}

/// Checks that a plan adds no slice to what the container has from elsewhere. A container that may open every device is not
/// checked: engines give it every node of the machine (podman, `AddPrivilegedDevices` in `pkg/util/utils_linux.go`; containerd and
/// Docker, `HostDevices` in containerd's `pkg/oci/utils_unix.go`), so that they name none.
///
/// # Errors
/// Fails when it would, and when the configuration has another form than the specification's.
pub fn expect_no_addition(
    config: &OciConfig<'_>,
    plan: &InjectionPlan,
    places: &NodePlaces<'_>,
) -> Result<()> {
    if config.may_open_every_device()? {
        return Ok(());
    }
    let given = given(config, places)?;
    let mut planned = Nodes::default();
    plan.nodes.iter().for_each(|node| planned.insert(places, node.major.into(), node.minor.into()));
    // A GPU without a capability is no slice, but the user has chosen that GPU and no other.
    let has_slice = !given.capabilities.is_empty();
    let adds = match has_slice {
        true => !planned.capabilities.is_subset(&given.capabilities),
        false => !given.gpus.is_subset(&planned.gpus),
    };
    if !adds {
        return Ok(());
    }
    let names = |nodes: &Nodes| match has_slice {
        true => names(CAPABILITY, &nodes.capabilities),
        false => names(GPU, &nodes.gpus),
    };
    let (given, planned) = (names(&given), names(&planned));
    let cause =
        format!("the engine has given the container {given}, and the request is for {planned}");
    Err(Error::refused("inject", plan.devices.join(","), cause)
        .with_cure("request slices either from the engine or by an annotation or a variable"))
}

/// Checks that a container has the capability nodes of a plan. Its variables say so, and an image can write these.
///
/// # Errors
/// Fails when it has not, and when the configuration has another form than the specification's.
pub fn expect_given(
    config: &OciConfig<'_>,
    plan: &InjectionPlan,
    places: &NodePlaces<'_>,
) -> Result<()> {
    let given = given(config, places)?;
    let mut planned = Nodes::default();
    plan.nodes.iter().for_each(|node| planned.insert(places, node.major.into(), node.minor.into()));
    let missing: BTreeSet<u32> =
        planned.capabilities.difference(&given.capabilities).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let cause = format!(
        "the container has the MIG_CDI_DEVICE_ variables of these slices, and not their nodes: {}",
        names(CAPABILITY, &missing)
    );
    Err(Error::refused("inject", plan.devices.join(","), cause)
        .with_cure("remove the variables from the image, or from the command that starts it"))
}

fn given(config: &OciConfig<'_>, places: &NodePlaces<'_>) -> Result<Nodes> {
    let mut given = Nodes::default();
    for node in config.device_nodes()? {
        // `u` is an unbuffered character device.
        if let (Some("c" | "u"), Some(major), Some(minor)) =
            (node.kind.as_deref(), node.major, node.minor)
        {
            given.insert(places, major, minor);
        }
    }
    for rule in config.device_rules()?.iter().filter(|rule| lets_open(rule)) {
        if let (Some(major), Some(minor)) = (rule.major, rule.minor) {
            given.insert(places, major, minor);
        }
    }
    // Rootless podman mounts the nodes of --device (`addDevice` in `pkg/specgen/generate/config_linux.go`).
    for source in config.mount_sources()? {
        given.insert_path(places, &source);
    }
    Ok(given)
}

/// Reports whether a rule allows more than to make a character device: every runtime allows that for all (runc,
/// `AllowedDevices`).
fn lets_open(rule: &DeviceRule) -> bool {
    rule.allow
        && matches!(rule.kind.as_deref(), None | Some("" | "a" | "c" | "u"))
        && (rule.access.is_empty() || rule.access.contains(['r', 'w']))
}

impl Nodes {
    fn insert(&mut self, places: &NodePlaces<'_>, major: i64, minor: i64) {
        // -1 is any.
        let Ok(minor) = u32::try_from(minor) else { return };
        let is = |other: Major| i64::from(other.0) == major;
        if is(places.capabilities) {
            self.capabilities.insert(minor);
        } else if is(places.gpus) && minor <= LAST_GPU {
            self.gpus.insert(minor);
        }
    }

    /// Adds the node at a path of the machine. The path is that of a mount, which only the user of the engine writes.
    fn insert_path(&mut self, places: &NodePlaces<'_>, path: &Path) {
        let dirs = [PathBuf::from("/dev"), places.dev_root.join("dev")];
        let below = dirs.iter().find_map(|dir| path.strip_prefix(dir).ok()?.to_str());
        let Some(below) = below else { return };
        let capability = below.strip_prefix("nvidia-caps/").map(|name| numbered(name, CAPABILITY));
        match capability {
            Some(minor) => self.capabilities.extend(minor),
            None => self.gpus.extend(numbered(below, GPU)),
        }
    }
}

fn names(prefix: &str, minors: &BTreeSet<u32>) -> String {
    let names: Vec<_> = minors.iter().map(|minor| format!("{prefix}{minor}")).collect();
    names.join(", ")
}
