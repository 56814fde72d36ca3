//! Programs of a node.

use crate::{daemon::child_of, deadline};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    process::Child,
    time::{Duration, Instant},
};

/// Program that runs on a node; dropping it kills the program.
#[derive(Debug)]
pub struct NodeProcess(pub(super) Child);

impl NodeProcess {
    /// Returns the process id of the program, which is a child of the command that started it.
    fn pid(&self) -> Option<Pid> {
        child_of(self.0.id()).map(Pid::from_raw)
    }

    /// Returns whether it still runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()));
        // An ended process stays as a zombie until its parent waits for it.
        stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid().expect("it runs"), signal).expect("it takes signals");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let begin = Instant::now();
        // The program may not have been forked yet.
        while self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begin.elapsed() > deadline::PROGRAM {
                return deadline::kill_and_wait(&mut self.0);
            }
            if let Some(pid) = self.pid() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
