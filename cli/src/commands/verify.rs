//! `mig-cdi verify`: the slices that a spec describes, compared with the node as it is now, NVML included. Hidden: the hook
//! of `generate --verify=full` runs it when a container starts, and users have `check`.

use super::CommandOutput;
use crate::{cli::VerifyArgs, console::Console};
use mig_cdi_gen::{Error, ErrorKind, Exit, NodeSource, spec};
use mig_cdi_model::{ExpectedSlice, SliceId, Topology};

pub(super) fn run(
    node: &NodeSource,
    args: &VerifyArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    match args.slices.iter().find_map(|expected| difference(expected, &discovery.topology)) {
        None => Ok(CommandOutput { stdout: String::new(), exit: Exit::Success }),
        Some((id, cause)) => Err(Error::of(ErrorKind::Stale, "verify slice", id)
            .because(cause)
            .cure("run mig-cdi generate")),
    }
}

/// Returns the first fact of a slice that differs from the node, or that cannot be confirmed.
fn difference(expected: &ExpectedSlice, topology: &Topology) -> Option<(SliceId, String)> {
    let devices = topology.mig_devices().map(|device| spec::expected_slice(&device));
    let Some(now) = devices.into_iter().find(|now| now.id == expected.id) else {
        return Some((expected.id, "it is gone, or no longer confirmed".to_owned()));
    };
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string);
    macro_rules! fact {
        ($field:ident) => {
            (
                text(expected.$field.as_ref().map(|v| v as _)),
                text(now.$field.as_ref().map(|v| v as _)),
            )
        };
    }
    let nodes = |slice: &ExpectedSlice| {
        let ExpectedSlice { gpu_major, caps_major, gi_cap, ci_cap, .. } = slice;
        Some(format!("{gpu_major}:{caps_major}:{gi_cap}:{ci_cap}"))
    };
    // Equal numbers do not prove that it is the same slice: the driver reuses ids, and with them the minors of the nodes
    // (nv-caps.c l.327-357). Therefore the other facts are compared too.
    let facts = [
        ("node numbers", (nodes(expected), nodes(&now))),
        ("gpu uuid", fact!(gpu)),
        ("profile", fact!(profile)),
        ("placement", fact!(placement)),
        ("placement of the compute instance", fact!(ci_placement)),
        ("uuid", fact!(mig)),
    ];
    facts.into_iter().find_map(|(what, (expected_fact, now))| {
        let expected_fact = expected_fact?;
        // NVML reports profiles and placements to root only (NVML_ERROR_NO_PERMISSION, nvml.h).
        let not_reported = || {
            "not reported (nvml reports it to root only; --verify=proc does not need it)".to_owned()
        };
        let now = now.unwrap_or_else(not_reported);
        (expected_fact != now)
            .then(|| (expected.id, format!("{what} is {now}, the spec has {expected_fact}")))
    })
}
