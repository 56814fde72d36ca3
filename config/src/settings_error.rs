//! The error of a settings file.

use std::fmt;

/// A text that is not a settings file. Displayed as `line N: key: cause; cure`, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// Line of the mistake, from 1.
    pub line: usize,
    /// Key whose value is wrong, with its table: `hook.log`. `None` when the text is wrong in another way.
    pub key: Option<String>,
    /// The mistake.
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
    /// The error with a cure.
    pub(crate) fn with_cure(self, cure: &str) -> SettingsError {
        SettingsError { cure: Some(cure.to_owned()), ..self }
    }

    /// Returns the message up to the cure: `line N: key: cause`.
    #[must_use]
    pub fn without_cure(&self) -> String {
        let SettingsError { line, key, cause, .. } = self;
        match key {
            Some(key) => format!("line {line}: {key}: {cause}"),
            None => format!("line {line}: {cause}"),
        }
    }
}
