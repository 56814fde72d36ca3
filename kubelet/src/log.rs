//! Lines on standard error, which the service manager or Kubernetes keeps as the log.

use mig_cdi_gen::{MessageLevel, MessageSink};
use mig_cdi_model::one_line;
use std::{collections::BTreeSet, fmt::Display, io::Write};

/// Writes one line to the log. Texts from files, processes and the driver end up there, and then on terminals.
pub fn log(line: &str) {
    let line = one_line(line);
    // `eprintln!` would panic once the reader of standard error has closed it.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Receiver of the watch's messages that writes them to the log.
#[derive(Debug, Clone, Copy)]
pub struct PluginLog {
    /// True when details are written too.
    pub verbose: bool,
}

impl MessageSink for PluginLog {
    fn message(&self, level: MessageLevel, text: &str) {
        match level {
            MessageLevel::Error => log(&format!("error: {text}")),
            MessageLevel::Warning => log(&format!("warning: {text}")),
            MessageLevel::Status => log(text),
            MessageLevel::Detail if self.verbose => log(&format!("detail: {text}")),
            MessageLevel::Hint | MessageLevel::Detail => {}
        }
    }
}

/// Log of failures that repeat: each is written once, until a success.
#[derive(Debug, Default)]
pub struct OnceLog(BTreeSet<String>);

impl OnceLog {
    /// Writes a failure that keeps something from working.
    pub fn error(&mut self, failure: &impl Display) {
        self.once("error", failure);
    }

    /// Writes a failure that the program can do without.
    pub fn warning(&mut self, failure: &impl Display) {
        self.once("warning", failure);
    }

    /// Records a success: every failure that follows is written again.
    pub fn reset(&mut self) {
        self.0.clear();
    }

    fn once(&mut self, level: &str, failure: &impl Display) {
        let line = format!("{level}: {failure}");
        if !self.0.contains(&line) {
            log(&line);
            self.0.insert(line);
        }
    }
}
