//! A process that keeps NVML open and reports the driver's events, line by line, to the watch that started it. It does nothing
//! else, ends with that watch, and by a signal at once: what NVML holds goes with it.

use crate::{
    Error, Exit, NodeSource, Result,
    child::{self, ChildOutput},
    discover::Source,
    node_source::NodeRoots,
    watch::driver_events::{FAILED, line},
};
use mig_cdi_sys::{Machine, die_with_parent, nvml};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// Events to report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenRequest {
    /// Roots of this machine.
    pub roots: NodeRoots,
    /// Whether critical errors of every GPU are reported, besides changes of MIG.
    pub errors: bool,
}

/// Does what the parent's message asks: the body of the hidden subcommand `listen`. Returns when nothing can be listened to.
#[must_use]
pub fn run_child(message: &str) -> ChildOutput {
    let ended = child::parse(message).and_then(|request: ListenRequest| listen(&request));
    let exit = ended.map_or_else(|failure| failure.kind.into(), |()| Exit::Success);
    ChildOutput { stdout: String::new(), exit }
}

fn listen(request: &ListenRequest) -> Result<()> {
    die_with_parent()?;
    let node = NodeSource { roots: request.roots.clone(), source: Source::Nvml, simulated: None };
    let host = node.host()?;
    let write = |line: &str| {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_ok()
    };
    let Some(driver) = host.driver() else {
        return Err(Error::no_driver("listen to", "the driver").because("there is none"));
    };
    nvml::listen(driver, request.errors, |heard| write(&line(&heard))).map_err(|failure| {
        write(&format!("{FAILED}{failure}"));
        Error::no_driver("listen to", "the driver").because(failure)
    })
}
