//! One step of partitioning, in a process of its own: NVML may hang or crash there, and the plugin then kills it.

use mig_cdi_gen::{
    Error, Exit, NoMessages, NodeRoots, NodeSource, Result,
    child::{self, ChildOutput},
    discover::Source,
};
use mig_cdi_partition::{
    ApplyOptions, GpuChange, LayoutFile, LayoutSource, NodePartitioner, PlannedChanges,
    hide_command_lines,
};
use serde::{Deserialize, Serialize};
use std::{path::Path, time::Duration};

/// Name of the hidden subcommand that [`run_child`] is the body of.
const SUBCOMMAND: &str = "repartition";

/// Kind of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepartitionStep {
    /// Completes a change that was interrupted.
    Resume,
    /// Checks whether the layout is reached already.
    Plan,
    /// Partitions the GPUs to the layout.
    Apply,
}

/// Instructions for one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepartitionRequest {
    /// Kind of the step.
    pub step: RepartitionStep,
    /// Desired layout.
    pub layout: LayoutFile,
    /// Roots of this machine.
    pub roots: NodeRoots,
    /// Options of the change.
    pub options: ApplyOptions,
}

/// Outcome of one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum RepartitionReply {
    /// The step was taken.
    Done {
        /// True when the layout is reached, with nothing left to change.
        is_reached: bool,
    },
    /// The step could not be taken.
    Failed(Error),
}

/// Takes the step that the parent's message requests: the body of the hidden subcommand `repartition`.
#[must_use]
pub fn run_child(message: &str) -> ChildOutput {
    // The whole cluster can read what the plugin writes into its node and into Events.
    hide_command_lines();
    let reply = child::parse(message).and_then(|request: RepartitionRequest| take_step(request));
    let (reply, exit) = match reply {
        Ok(is_reached) => (RepartitionReply::Done { is_reached }, Exit::Success),
        Err(error) => (RepartitionReply::Failed(error.clone()), error.kind.into()),
    };
    ChildOutput { stdout: child::line(&reply), exit }
}

fn take_step(request: RepartitionRequest) -> Result<bool> {
    let RepartitionRequest { step, layout, roots, options } = request;
    // Only NVML partitions GPUs, whatever the watch reads.
    let node = NodeSource { roots, source: Source::Nvml, simulated: None };
    let partitioning = NodePartitioner { node: &node, messages: &NoMessages };
    let source = LayoutSource::File(layout);
    let (is_reached, omitted) = match step {
        RepartitionStep::Resume => {
            partitioning.resume(&options)?;
            (false, Vec::new())
        }
        RepartitionStep::Plan => {
            let PlannedChanges { changes, gpus } = partitioning.plan(&source, &options.holders)?;
            let is_reached = !changes.is_empty() && changes.iter().all(GpuChange::is_empty);
            (is_reached, gpus.unreadable)
        }
        RepartitionStep::Apply => (true, partitioning.apply(&source, &options)?.omitted),
    };
    // A layout is not reached while one of the GPUs cannot be compared with it.
    omitted.into_iter().next_back().map_or(Ok(is_reached), Err)
}

/// Runs a step in a child of `program`, or of the image of this process. Returns whether the layout is reached.
///
/// # Errors
/// When the step could not be taken, or the child did not end within `limit` and was killed.
pub fn call(program: Option<&Path>, request: &RepartitionRequest, limit: Duration) -> Result<bool> {
    let reply = match program {
        Some(program) => child::call_program(program, SUBCOMMAND, request, limit),
        None => child::call(SUBCOMMAND, request, limit),
    };
    match reply? {
        RepartitionReply::Done { is_reached } => Ok(is_reached),
        RepartitionReply::Failed(failure) => Err(failure),
    }
}
