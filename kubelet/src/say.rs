//! What is said to people: lines on standard error, which a service manager or Kubernetes keeps.

use mig_cdi_gen::{MessageLevel, MessageSink};
use std::{collections::BTreeSet, io::Write};

/// Says a line.
pub fn say(line: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The log as the receiver of the watch's messages.
#[derive(Debug, Clone, Copy)]
pub struct PluginLog {
    /// Whether details are logged too.
    pub verbose: bool,
}

impl MessageSink for PluginLog {
    fn message(&self, level: MessageLevel, text: &str) {
        // Texts from files and from the driver end up here: no control character reaches a terminal.
        let text: String =
            text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        match level {
            MessageLevel::Error => say(&format!("error: {text}")),
            MessageLevel::Warning => say(&format!("warning: {text}")),
            MessageLevel::Status => say(&text),
            MessageLevel::Detail if self.verbose => say(&format!("detail: {text}")),
            MessageLevel::Hint | MessageLevel::Detail => {}
        }
    }
}

/// Says each failure once, until things are well again.
#[derive(Debug, Default)]
pub struct Teller(BTreeSet<String>);

impl Teller {
    /// Says it if it was not said yet.
    pub fn once(&mut self, failure: &str) {
        if self.0.insert(failure.to_owned()) {
            say(&format!("error: {failure}"));
        }
    }

    /// Says what can be done without, once.
    pub fn warn(&mut self, what: &str) {
        if self.0.insert(what.to_owned()) {
            say(&format!("warning: {what}"));
        }
    }

    /// All is well: what fails from now on is news.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
