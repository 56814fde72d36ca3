//! Requested edits of a configuration file, independent of its format: a key, the value that it needs, and the part
//! of that value that is missing. Reads and writes no text; `json` and `toml` apply the edits to text.

use crate::engine_files::KeyCase;
use serde_json::{Map, Value};

/// One requested value in a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edit {
    /// Path of the key, from the outermost table or object.
    pub keys: Vec<String>,
    /// Value that the key needs.
    pub value: EditValue,
}

/// Value that a key needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum EditValue {
    /// Exactly this value.
    Equals(Value),
    /// Any value; this one where the key is absent.
    Default(Value),
    /// A list that contains these strings. Where the key is absent, the list starts with `initial`.
    Contains { items: Vec<String>, initial: Vec<String> },
}

/// Part of an [`EditValue`] that a file does not have yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum MissingValue {
    /// The whole value; it replaces what the key has.
    Whole(Value),
    /// Items to append to the list that the key has.
    Items(Vec<String>),
}

/// Reason why a file cannot be edited or parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    /// The file does not parse.
    #[error("line {line}: {cause}")]
    Syntax {
        /// Line of the file, from 1.
        line: usize,
        /// Message of the parser, in one line.
        cause: String,
    },
    /// A key on the path has a value that can hold no keys.
    #[error("{key} is not a table")]
    NotATable {
        /// Path of the key, joined by dots.
        key: String,
    },
    /// A list is needed, and the key has something else.
    #[error("{key} is not a list")]
    NotAList {
        /// Path of the key, joined by dots.
        key: String,
    },
    /// A value is needed, and the key has a table.
    #[error("{key} is a table, not a value")]
    NotAValue {
        /// Path of the key, joined by dots.
        key: String,
    },
    /// The file is written in a way in which a change of one key may change another.
    #[error("its form does not allow a safe change")]
    Unsafe,
}

impl EditError {
    /// Line of the file that is wrong; `None` when the file parses.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            EditError::Syntax { line, .. } => Some(*line),
            _ => None,
        }
    }
}

impl Edit {
    pub(super) fn new(keys: &[&str], value: EditValue) -> Edit {
        Edit { keys: keys.iter().map(|key| (*key).to_owned()).collect(), value }
    }

    pub(super) fn set(keys: &[&str], value: impl Into<Value>) -> Edit {
        Edit::new(keys, EditValue::Equals(value.into()))
    }

    pub(super) fn set_default(keys: &[&str], value: impl Into<Value>) -> Edit {
        Edit::new(keys, EditValue::Default(value.into()))
    }

    pub(super) fn contains(keys: &[&str], items: Vec<String>, initial: Vec<String>) -> Edit {
        Edit::new(keys, EditValue::Contains { items, initial })
    }

    /// The edit of the key as a file spells it, so that no second one is written beside it.
    pub(super) fn spelled_in(&self, file: &Value, case: KeyCase) -> Edit {
        Edit { keys: case.spelled(file, &self.keys), value: self.value.clone() }
    }

    /// Path of the key for messages: `plugins.cri.enable_cdi`.
    pub(super) fn key(&self) -> String {
        self.keys.join(".")
    }

    /// Compares the needed value with the present one; `None` when nothing is missing. Docker takes a null for an absent value.
    pub(super) fn missing(&self, now: Option<&Value>) -> Result<Option<MissingValue>, EditError> {
        match (&self.value, now.filter(|now| !now.is_null())) {
            (EditValue::Equals(value), Some(now)) if value == now => Ok(None),
            (EditValue::Default(_), Some(_)) => Ok(None),
            (EditValue::Equals(value) | EditValue::Default(value), _) => {
                Ok(Some(MissingValue::Whole(value.clone())))
            }
            (EditValue::Contains { items, initial }, None) => {
                let mut list = initial.clone();
                list.extend(items.iter().filter(|item| !initial.contains(item)).cloned());
                Ok(Some(MissingValue::Whole(list.into())))
            }
            // Items of others stay, and ours go behind them: of two spec directories engines prefer the later one.
            (EditValue::Contains { items, .. }, Some(now)) => {
                let list = now.as_array().ok_or_else(|| EditError::NotAList { key: self.key() })?;
                let has = |item: &&String| list.iter().any(|one| one.as_str() == Some(item));
                let missing: Vec<_> = items.iter().filter(|item| !has(item)).cloned().collect();
                Ok((!missing.is_empty()).then_some(MissingValue::Items(missing)))
            }
        }
    }

    /// Applies the edit to a parsed file. The text that an editor writes has to parse to the result.
    pub(super) fn apply(&self, root: &mut Value) -> Result<(), EditError> {
        let (last, path) = self.keys.split_last().ok_or(EditError::Unsafe)?;
        let not_a_table = |depth: usize| EditError::NotATable { key: self.keys[..depth].join(".") };
        let mut parent = root;
        for (depth, key) in path.iter().enumerate() {
            let table = parent.as_object_mut().ok_or_else(|| not_a_table(depth))?;
            parent = table.entry(key).or_insert(Value::Null);
            if parent.is_null() {
                *parent = Value::Object(Map::new());
            }
        }
        let table = parent.as_object_mut().ok_or_else(|| not_a_table(path.len()))?;
        match self.missing(table.get(last))? {
            None => {}
            Some(MissingValue::Whole(value)) => drop(table.insert(last.clone(), value)),
            Some(MissingValue::Items(items)) => {
                let list = table.get_mut(last).and_then(Value::as_array_mut);
                let list = list.ok_or_else(|| EditError::NotAList { key: self.key() })?;
                list.extend(items.into_iter().map(Value::from));
            }
        }
        Ok(())
    }
}
