//! The listener: a process that keeps NVML open and passes the driver's events to the watch that started it.
//!
//! Its standard output is the channel to the watch, and carries no text for people: each line is one [`ListenerMessage`].
//! Nothing else in this library writes to standard output; the program prints what the library returns.
//!
//! It does nothing else, and a signal ends it at once: the kernel closes what NVML holds open with the process.

use crate::{
    Error, Exit, NodeRoots, NodeSource, Result,
    child::{self, ChildOutput},
    discover::{self, Source},
};
use mig_cdi_sys::{
    Machine, die_with_parent,
    nvml::{self, DriverEvent},
};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// Events to report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenRequest {
    /// Roots of this machine.
    pub roots: NodeRoots,
    /// Whether critical errors of every GPU are reported, besides changes of MIG.
    pub wants_errors: bool,
}

/// Message of the listener, one a line, for as long as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerMessage {
    /// An event of the driver, or the start or end of the subscription.
    Event(DriverEvent),
    /// The listener has failed. It is the last message.
    Failed(Error),
}

/// Runs the parent's request: the body of the hidden subcommand `listen`. Returns when no GPU can send events, when
/// one has to be closed, or when NVML fails.
#[must_use]
pub fn run_child(message: &str) -> ChildOutput {
    let ended = child::parse(message).and_then(|request: ListenRequest| listen(&request));
    match ended {
        Ok(()) => ChildOutput { stdout: String::new(), exit: Exit::Success },
        Err(failure) => {
            let exit = failure.kind.into();
            ChildOutput { stdout: child::line(&ListenerMessage::Failed(failure)), exit }
        }
    }
}

fn listen(request: &ListenRequest) -> Result<()> {
    // An orphan would keep GPUs open, and so from being reset, without a visible reason.
    die_with_parent()?;
    let node = NodeSource { roots: request.roots.clone(), source: Source::Nvml, simulated: None };
    let host = node.host()?;
    let send = |message: &ListenerMessage| {
        // In one piece: the watch drops a line that was cut. Flushed: standard output is a pipe.
        let mut out = std::io::stdout().lock();
        out.write_all(child::line(message).as_bytes()).and_then(|()| out.flush()).is_ok()
    };
    let Some(driver) = host.driver() else {
        return Err(Error::no_driver("listen to", "the driver")
            .because("libnvidia-ml.so.1 is not found")
            .with_cure("install the driver"));
    };
    nvml::listen(driver, request.wants_errors, |event| send(&ListenerMessage::Event(event)))
        .map_err(discover::required_nvml_error)
}
