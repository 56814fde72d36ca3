//! The error of a settings file.

use std::fmt;

/// The part of a settings file that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsLocation {
    /// A line, from 1.
    Line(usize),
    /// A key, with its table: `hook.log`.
    Key(String),
}

impl fmt::Display for SettingsLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingsLocation::Line(line) => write!(f, "line {line}"),
            SettingsLocation::Key(key) => f.write_str(key),
        }
    }
}

/// A text that is not a settings file. Displayed as `location: cause; cure`, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// Line or key.
    pub location: SettingsLocation,
    /// The mistake in it.
    pub cause: String,
    /// Cure: the text to write, where the cause does not imply it.
    pub cure: Option<String>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_cure())?;
        self.cure.as_ref().map_or(Ok(()), |cure| write!(f, "; {cure}"))
    }
}

impl std::error::Error for SettingsError {}

impl SettingsError {
    /// An error in the value of a key.
    pub(crate) fn value(key: &str, cause: impl fmt::Display) -> SettingsError {
        let location = SettingsLocation::Key(key.to_owned());
        SettingsError { location, cause: cause.to_string(), cure: None }
    }

    /// Returns the message up to the cure: `location: cause`.
    #[must_use]
    pub fn without_cure(&self) -> String {
        format!("{}: {}", self.location, self.cause)
    }
}
