//! `mig-cdi verify`: what a spec claims of slices against the node as it is now, NVML included. The hook
//! of `generate --verify=full` runs it when a container starts; people have `check`.

use super::Done;
use crate::{cli::VerifyArgs, console::Console};
use mig_cdi_gen::{Error, ErrorKind, Exit, NodeSource, spec};
use mig_cdi_model::{ExpectedSlice, Topology};

pub(super) fn run(node: &NodeSource, args: &VerifyArgs, console: &Console) -> Result<Done, Error> {
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    match args.claims.iter().find_map(|claim| difference(claim, &discovery.topology)) {
        None => Ok(Done { stdout: String::new(), exit: Exit::Success }),
        Some(cause) => {
            Err(Error::of(ErrorKind::Stale, "", "").because(cause).cure("run mig-cdi generate"))
        }
    }
}

/// The first fact of a claim that is not so, or that nobody can confirm.
fn difference(claim: &ExpectedSlice, topology: &Topology) -> Option<String> {
    let devices = topology.mig_devices().map(|device| spec::claim(&device));
    let Some(now) = devices.into_iter().find(|now| now.id == claim.id) else {
        return Some(format!("{}: gone, or not certain any more", claim.id));
    };
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string);
    macro_rules! fact {
        ($field:ident) => {
            (text(claim.$field.as_ref().map(|v| v as _)), text(now.$field.as_ref().map(|v| v as _)))
        };
    }
    let nodes = |claim: &ExpectedSlice| {
        let ExpectedSlice { gpu_major, caps_major, gi_cap, ci_cap, .. } = claim;
        Some(format!("{gpu_major}:{caps_major}:{gi_cap}:{ci_cap}"))
    };
    let facts = [
        ("node numbers", (nodes(claim), nodes(&now))),
        ("gpu uuid", fact!(gpu)),
        ("profile", fact!(profile)),
        ("placement", fact!(placement)),
        ("placement of the compute instance", fact!(ci_placement)),
        ("uuid", fact!(mig)),
    ];
    facts.into_iter().find_map(|(what, (claimed, now))| {
        let claimed = claimed?;
        // Profiles and placements NVML tells to root alone (NVML_ERROR_NO_PERMISSION).
        let untold =
            || "not told (to others than root it may not be; --verify asks for less)".to_owned();
        let now = now.unwrap_or_else(untold);
        (claimed != now).then(|| format!("{}: {what} is {now}, the spec says {claimed}", claim.id))
    })
}
