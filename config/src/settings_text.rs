//! The text of a settings file: its values, and the line and key of a bad one.

use crate::SettingsError;
use serde::de::DeserializeOwned;
use std::{fmt::Display, ops::Range, str::FromStr};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

/// A list whose values keep their places.
pub(crate) type SpannedList = Spanned<Vec<Spanned<String>>>;

/// Makes a default value. It needs no place, since it passes every check.
pub(crate) fn default(value: &str) -> Spanned<String> {
    Spanned::new(0..0, value.to_owned())
}

/// Makes a default list.
pub(crate) fn defaults(values: &[&str]) -> SpannedList {
    Spanned::new(0..0, values.iter().copied().map(default).collect())
}

/// Parses a value with [`FromStr`], for the checks of [`SettingsText`].
pub(crate) fn parse<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: T::Err| e.to_string())
}

/// The text of a settings file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SettingsText<'t>(pub &'t str);

impl SettingsText<'_> {
    /// Parses the text as TOML, without the keys in `ignored`.
    pub fn parse<T: DeserializeOwned>(self, ignored: &[&str]) -> Result<T, SettingsError> {
        // toml displays errors as a drawing of several lines; messages of mig-cdi have one.
        let error = |error: toml::de::Error| {
            self.error(error.span().unwrap_or(0..0), error.message().replace('\n', " "))
        };
        let mut table = DeTable::parse(self.0).map_err(error)?;
        for key in ignored {
            table.get_mut().remove(*key);
        }
        T::deserialize(Deserializer::from(table)).map_err(error)
    }

    /// Checks a value.
    pub fn value<T>(
        self,
        value: &Spanned<String>,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, SettingsError> {
        check(value.get_ref()).map_err(|cause| self.error(value.span(), cause))
    }

    /// Checks each value of a list.
    pub fn list<T>(
        self,
        list: &SpannedList,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, SettingsError> {
        list.get_ref().iter().map(|value| self.value(value, &check)).collect()
    }

    /// Checks each value of a list that must have one.
    pub fn non_empty_list<T>(
        self,
        list: &SpannedList,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, SettingsError> {
        match list.get_ref().is_empty() {
            true => {
                Err(self.error(list.span(), "the list is empty").with_cure("name at least one"))
            }
            false => self.list(list, check),
        }
    }

    /// Returns the error of a value at a place.
    pub fn error(self, at: Range<usize>, cause: impl Display) -> SettingsError {
        let before = self.0.get(..at.start).unwrap_or_default();
        let table = DeTable::parse(self.0).ok();
        SettingsError {
            line: before.matches('\n').count() + 1,
            key: table.and_then(|table| key_at(table.get_ref(), at.start)),
            cause: cause.to_string(),
            cure: None,
        }
    }
}

/// Returns the key whose value is at an offset, with its table: `hook.log`. A key itself is no value.
fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    table.iter().find_map(|(key, value)| match value.get_ref() {
        DeValue::Table(inner) => Some(format!("{}.{}", key.get_ref(), key_at(inner, offset)?)),
        _ => value.span().contains(&offset).then(|| key.get_ref().to_string()),
    })
}
