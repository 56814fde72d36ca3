//! `mig-cdi check`: the specs on disk, compared with those that `generate` would write now.

use crate::{command_output::CommandOutput, console::Console};
use mig_cdi_gen::{
    Error, Exit, MessageSink, NodeSource,
    generate::{GenerateOptions, Generator, PlannedSpec},
    slice_names::lacks_placements,
    spec_file::{self, JudgedSpec},
};

/// Message for a caller to whom NVML reports no placements.
const NOT_COMPARED: &str =
    "drift is checked by uuid alone, since names by slot follow from placements; run it as root";

pub(super) fn run(
    node: &NodeSource,
    options: &GenerateOptions,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let plan = Generator::new(node, options, console).plan()?;
    let has_placements = !lacks_placements(&plan.topology, node.source);
    if !has_placements {
        console.status(NOT_COMPARED);
    }
    let mut differences = Vec::new();
    for planned in plan.specs() {
        differences.extend(check(planned, has_placements)?);
    }
    let exit = match (differences.is_empty(), plan.is_complete() && has_placements) {
        (false, _) => Exit::Stale,
        (true, false) => Exit::Incomplete,
        (true, true) => Exit::Success,
    };
    Ok(CommandOutput { stdout: differences.into_iter().map(|line| line + "\n").collect(), exit })
}

/// Returns every difference of one file, as a line.
fn check(planned: &PlannedSpec, has_placements: bool) -> Result<Vec<String>, Error> {
    let target = planned.target.as_ref().ok_or_else(|| {
        Error::usage("accept", "--output -")
            .because("standard output holds no spec to check")
            .with_cure("name the file with --output")
    })?;
    let path = target.path();
    let path = path.display();
    let stale = |line: String| Ok(vec![format!("{path}: {line}; run mig-cdi generate")]);
    let (bytes, expected) = match (target.read()?, &planned.built.spec) {
        (None, None) => return Ok(Vec::new()),
        (None, Some(_)) => return stale("not there, and the node has devices".to_owned()),
        (Some(_), None) => {
            return stale(format!("it is there, and the node has no {} device", planned.kind));
        }
        (Some(bytes), Some(expected)) => (bytes, expected),
    };
    let JudgedSpec { spec: file, refusal } = match spec_file::judge(&bytes) {
        Ok(judged) => judged,
        Err(reason) => return stale(reason.to_string()),
    };
    if file.kind != expected.kind {
        return stale(format!("its kind is {}, not {}", file.kind, expected.kind));
    }
    if let Some(reason) = refusal {
        return stale(format!("engines refuse it: {reason}"));
    }
    let lines = match has_placements {
        true => spec_file::differences(&file, expected),
        false => spec_file::differences_without_placements(&file, expected),
    };
    Ok(lines.into_iter().map(|line| format!("{path}: {line}")).collect())
}
