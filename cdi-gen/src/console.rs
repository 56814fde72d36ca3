//! Lines for people, on standard error. Colour only on a terminal, and never with `NO_COLOR`.

use std::io::{IsTerminal, Write};

/// Where messages go.
#[derive(Debug)]
pub(crate) struct Console {
    verbose: bool,
    color: bool,
    terminal: bool,
}

impl Console {
    pub(crate) fn new(verbose: bool) -> Console {
        let terminal = std::io::stderr().is_terminal();
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Console { verbose, color, terminal }
    }

    pub(crate) fn error(&self, message: &str) {
        self.line("error", "31", message);
    }

    pub(crate) fn warn(&self, message: &str) {
        self.line("warning", "33", message);
    }

    /// What was done.
    pub(crate) fn status(&self, message: &str) {
        put(&format!("{message}\n"));
    }

    /// Said to a person who watches, not to a log.
    pub(crate) fn hint(&self, message: &str) {
        if self.terminal {
            put(&format!("{message}\n"));
        }
    }

    pub(crate) fn detail(&self, message: &str) {
        if self.verbose {
            self.line("detail", "2", message);
        }
    }

    fn line(&self, label: &str, color: &str, message: &str) {
        // Texts from files and from the driver end up here: no control character reaches a terminal.
        let message: String =
            message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        match self.color {
            true => put(&format!("\x1b[{color}m{label}:\x1b[0m {message}\n")),
            false => put(&format!("{label}: {message}\n")),
        }
    }
}

fn put(text: &str) {
    // Nothing is left to tell when standard error is gone.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
