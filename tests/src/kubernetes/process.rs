//! Programs of a node.

use crate::daemon::child_of;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, process::Child, time::Duration};

/// A program that runs on a node; dropping it kills it.
#[derive(Debug)]
pub struct Process(pub(super) Child);

impl Process {
    /// The program itself: what was started has forked for it.
    fn pid(&self) -> Option<Pid> {
        child_of(self.0.id()).map(Pid::from_raw)
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()));
        // What has ended stays as a zombie until somebody waits for it.
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

impl Drop for Process {
    fn drop(&mut self) {
        // It may not have been forked yet.
        while self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            if let Some(pid) = self.pid() {
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
