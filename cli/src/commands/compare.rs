//! `mig-cdi compare FILE`: another tool's spec, compared with ours slice by slice, with reasons.

use crate::{
    cli::CompareArgs,
    command_output::{CommandOutput, to_json},
    compare::{HostView, Row, Side, compare},
    console::Console,
    table::wrapped_table,
};
use mig_cdi_gen::{
    Error, NodeSource,
    generate::{DeviceBuilder, DeviceOptions},
    spec::DeviceSet,
    spec_file::{self, SIZE_LIMIT},
};
use mig_cdi_sys::{Root, read_named};
use std::path::Path;

/// Width of the table in columns. `--json` breaks no path.
const WIDTH: usize = 100;

pub(super) fn run(
    node: &NodeSource,
    options: &DeviceOptions,
    args: &CompareArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let shown = args.file.display();
    let bytes = read_named(&args.file, SIZE_LIMIT).map_err(Error::of_input)?;
    let theirs = spec_file::judge(&bytes).map_err(|reason| {
        Error::usage("read", &shown)
            .because(reason)
            .with_cure("correct it, or name a file that an engine reads")
    })?;
    let builder = DeviceBuilder::new(node, options, console);
    let spec_options = builder.options()?;
    let machine = node.machine()?;
    let discovery = node.discover(machine.as_ref(), console)?;
    let topology = &discovery.topology;
    let files = builder.driver_files(machine.as_ref(), topology)?;
    let built = builder.build(topology, &files, DeviceSet::Mig, &spec_options)?;
    builder.report_unnamed(&built);
    let ours = built.spec.ok_or_else(|| {
        Error::failed("compare", &shown)
            .because("this node has no mig device")
            .with_cure("create one with mig-cdi apply")
    })?;
    let root = Root::open(Path::new("/"))?;
    let host = HostView::new(machine.as_ref(), root, topology, &options.capabilities);
    let rows = compare(&ours, &theirs, &host);
    let is_complete = discovery.problems.is_empty() && built.problems.is_empty();
    let stdout = match (args.json, rows.is_empty()) {
        (true, _) => to_json(&rows)?,
        (false, true) => "no difference\n".to_owned(),
        (false, false) => text(&rows),
    };
    Ok(CommandOutput::complete_if(is_complete, stdout))
}

fn text(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        let side = match row.only_in {
            Some(Side::Ours) => "ours",
            Some(Side::Theirs) => "theirs",
            None => "both",
        };
        [row.device.clone(), side.to_owned(), row.what.clone(), row.reason.clone()]
    };
    let cells: Vec<_> = rows.iter().map(cells).collect();
    wrapped_table(WIDTH, ["DEVICE", "IN", "WHAT", "REASON"], &cells)
}
