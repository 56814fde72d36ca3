//! Lines for people, on standard error. Colour only on a terminal, and never with `NO_COLOR`. And what the
//! terminal takes of a picture on standard output.

use crate::picture::Style;
use mig_cdi_gen::{MessageLevel, MessageSink};
use std::io::{IsTerminal, Write};
use terminal_size::{Width, terminal_size_of};

/// How wide pictures are where nobody says.
const WIDTH: usize = 80;
/// Wider ones are harder to read, narrower ones show nothing.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=120;

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

    /// What can be drawn on standard output.
    pub(crate) fn style(&self) -> Style {
        let variable = |name: &str| std::env::var(name).ok();
        let terminal = || terminal_size_of(std::io::stdout()).map(|(Width(width), _)| width.into());
        let told = variable("COLUMNS").and_then(|text| text.parse().ok()).or_else(terminal);
        let width = told.unwrap_or(WIDTH).clamp(*WIDTHS.start(), *WIDTHS.end());
        Style { utf8: is_utf8(variable), width }
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

impl MessageSink for Console {
    fn message(&self, level: MessageLevel, text: &str) {
        match level {
            MessageLevel::Error => self.line("error", "31", text),
            MessageLevel::Warning => self.line("warning", "33", text),
            MessageLevel::Status => put(&format!("{text}\n")),
            // Advice is for a person who watches, not for a log.
            MessageLevel::Hint if self.terminal => put(&format!("{text}\n")),
            MessageLevel::Detail if self.verbose => self.line("detail", "2", text),
            MessageLevel::Hint | MessageLevel::Detail => {}
        }
    }
}

fn put(text: &str) {
    // Nothing is left to tell when standard error is gone.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// The first of these that is set and not empty decides (POSIX, Base Definitions 8.2).
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let mut set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable);
    let locale = set.find(|value| !value.is_empty()).unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::is_utf8;

    #[test]
    fn the_first_locale_that_is_set_decides() {
        let with = |set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(known, _)| *known == name);
            is_utf8(|name| found(name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!with(&[("LC_ALL", "C"), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C.UTF-8")]));
        assert!(!with(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!with(&[]));
    }
}
