//! `mig-cdi verify`: the slices that a spec describes, compared with the node as it is now, NVML included. Hidden from help:
//! the hook of `generate --verify=full` runs it when a container starts, and users have `check`.

use crate::{cli::VerifyArgs, command_output::CommandOutput, console::Console};
use mig_cdi_gen::{Error, ErrorKind, NodeSource, spec};
use mig_cdi_model::{ExpectedSlice, Topology};

pub(super) fn run(
    node: &NodeSource,
    args: &VerifyArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    for expected in &args.slices {
        if let Some(cause) = difference(expected, &discovery.topology) {
            return Err(Error::of(ErrorKind::Stale, "verify slice", expected.id)
                .because(cause)
                .with_cure("run mig-cdi generate"));
        }
    }
    Ok(CommandOutput::success(String::new()))
}

/// Returns the first fact of a slice that differs from the node, or that cannot be confirmed.
fn difference(expected: &ExpectedSlice, topology: &Topology) -> Option<String> {
    let mut devices = topology.mig_devices().map(|device| spec::expected_slice(&device));
    let Some(now) = devices.find(|now| now.id == expected.id) else {
        return Some("it is gone, or no longer confirmed".to_owned());
    };
    let nodes = |slice: &ExpectedSlice| {
        let ExpectedSlice { gpu_major, caps_major, gi_cap, ci_cap, .. } = slice;
        Some(format!("{gpu_major}:{caps_major}:{gi_cap}:{ci_cap}"))
    };
    // Equal numbers do not prove that it is the same slice: the driver reuses ids, and with them the minors of the nodes
    // (`nv-caps.c:327-357`). Therefore the other facts are compared too.
    let facts = [
        ("node numbers", nodes(expected), nodes(&now)),
        ("gpu uuid", text(&expected.gpu), text(&now.gpu)),
        ("profile", text(&expected.profile), text(&now.profile)),
        ("placement", text(&expected.placement), text(&now.placement)),
        (
            "placement of the compute instance",
            text(&expected.ci_placement),
            text(&now.ci_placement),
        ),
        ("uuid", text(&expected.mig), text(&now.mig)),
    ];
    facts.into_iter().find_map(|(what, expected_fact, now)| {
        let expected_fact = expected_fact?;
        // NVML reports profiles and placements to root only (NVML_ERROR_NO_PERMISSION, nvml.h).
        let not_reported = || {
            "not reported (nvml reports it to root only; --verify=proc does not need it)".to_owned()
        };
        let now = now.unwrap_or_else(not_reported);
        (expected_fact != now).then(|| format!("{what} is {now}, the spec has {expected_fact}"))
    })
}

fn text(value: &Option<impl ToString>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}
