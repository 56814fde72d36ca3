//! Messages for people, on standard error, and the width and character set of the terminal. Writes colour only
//! to a terminal, and never with `NO_COLOR` (<https://no-color.org>). Writes nothing to standard output.

use crate::picture::Style;
use mig_cdi_gen::{MessageLevel, MessageSink};
use mig_cdi_model::one_line;
use std::io::{IsTerminal, Write};
use terminal_size::{Width, terminal_size_of};

/// Width of a picture in columns where neither `COLUMNS` nor the terminal gives one.
const DEFAULT_WIDTH: usize = 80;
/// Widths that pictures are drawn in: wider ones are harder to read, narrower ones have no room for a profile.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=120;

/// Standard error, and the options that apply to messages on it.
#[derive(Debug)]
pub(crate) struct Console {
    verbose: bool,
    color: bool,
    is_terminal: bool,
}

impl Console {
    pub(crate) fn new(verbose: bool) -> Console {
        let is_terminal = std::io::stderr().is_terminal();
        // no-color.org: the variable counts when it is present and not empty.
        let color =
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Console { verbose, color, is_terminal }
    }

    /// Width and character set for pictures on standard output.
    pub(crate) fn style(&self) -> Style {
        let variable = |name: &str| std::env::var(name).ok();
        let terminal = || terminal_size_of(std::io::stdout()).map(|(Width(width), _)| width.into());
        // COLUMNS is the width that the user prefers to that of the terminal (POSIX, Base Definitions 8.3).
        let columns = variable("COLUMNS").and_then(|text| text.parse().ok()).or_else(terminal);
        let width = columns.unwrap_or(DEFAULT_WIDTH).clamp(*WIDTHS.start(), *WIDTHS.end());
        Style { utf8: is_utf8(variable), width }
    }

    fn line(&self, label: &str, color: &str, message: &str) {
        match self.color {
            true => put(&format!("\x1b[{color}m{label}:\x1b[0m {message}\n")),
            false => put(&format!("{label}: {message}\n")),
        }
    }
}

impl MessageSink for Console {
    fn message(&self, level: MessageLevel, text: &str) {
        // Messages contain text from files, processes and the driver. An escape sequence in it would drive the terminal.
        let text = &one_line(text);
        match level {
            MessageLevel::Error => self.line("error", "31", text),
            MessageLevel::Warning => self.line("warning", "33", text),
            MessageLevel::Status => put(&format!("{text}\n")),
            // In a log a suggestion would be noise.
            MessageLevel::Hint if self.is_terminal => put(&format!("{text}\n")),
            MessageLevel::Detail if self.verbose => self.line("detail", "2", text),
            MessageLevel::Hint | MessageLevel::Detail => {}
        }
    }
}

fn put(text: &str) {
    // There is no other place to report that standard error is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// True when the locale is UTF-8. The first variable that is set and not empty decides (POSIX, Base
/// Definitions 8.2).
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
            let variable = |name: &str| set.iter().find(|(known, _)| *known == name);
            is_utf8(|name| variable(name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(with(&[("LANG", "de_DE.UTF-8")]));
        assert!(with(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(!with(&[("LC_ALL", "C"), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C.UTF-8")]));
        assert!(!with(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!with(&[]));
    }
}
