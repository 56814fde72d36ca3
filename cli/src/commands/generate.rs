//! `mig-cdi generate`: writes the spec, or removes it.

use crate::{
    command_output::CommandOutput, console::Console, first_layout,
    pending_modes::warn_of_pending_modes,
};
use mig_cdi_gen::{
    Error, MessageSink, NodeSource,
    generate::{GenerateOptions, GeneratedSpecs, Generator, OnConflict},
};

pub(super) fn run(
    node: &NodeSource,
    options: &GenerateOptions,
    remove: bool,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let generator = Generator::new(node, options, console);
    if remove {
        generator.remove()?;
        return Ok(CommandOutput::success(String::new()));
    }
    // The user is there to resolve a conflict with another tool's file. `watch` has to go on without one.
    let GeneratedSpecs { stdout, plan } = generator.generate(OnConflict::Refuse, || ())?;
    warn_of_pending_modes(console, &plan.topology);
    // With --gpus a node without slices is no mistake.
    let has_slices = plan.topology.mig_devices().next().is_some();
    if !has_slices
        && !options.whole_gpus
        && let Some(advice) = first_layout::advice_beside(node, &plan.omitted)
    {
        console.status(&advice);
    }
    Ok(CommandOutput::complete_if(plan.is_complete(), stdout))
}
