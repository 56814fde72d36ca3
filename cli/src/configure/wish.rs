//! What a file is to say, and how it is made to say so. What is there stays as it is: order, comments,
//! spacing, line ends, keys that nobody here knows.

use super::{json, toml};
use serde_json::Value;

/// One thing that a file is to say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wish {
    /// From the outermost table or object to the key.
    pub keys: Vec<String>,
    pub what: What,
}

/// What is to be at a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// This.
    Is(Value),
    /// Anything; this when there is nothing.
    There(Value),
    /// A list that holds these texts. It is begun with others when there is none.
    Holds { items: Vec<String>, begin: Vec<String> },
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Toml,
    Json,
}

impl Wish {
    pub(super) fn new(keys: &[&str], what: What) -> Wish {
        Wish { keys: keys.iter().map(|key| (*key).to_owned()).collect(), what }
    }

    pub(super) fn is(keys: &[&str], value: impl Into<Value>) -> Wish {
        Wish::new(keys, What::Is(value.into()))
    }

    /// `plugins.cri.enable_cdi`, for messages.
    pub(super) fn key(&self) -> String {
        self.keys.join(".")
    }

    /// What has to be put at the key where `now` is there: nothing when it is as wished.
    pub(super) fn lacks(&self, now: Option<&Value>) -> Result<Option<Lack>, String> {
        match (&self.what, now) {
            (What::Is(value), Some(now)) if value == now => Ok(None),
            (What::There(_), Some(_)) => Ok(None),
            (What::Is(value) | What::There(value), _) => Ok(Some(Lack::Value(value.clone()))),
            (What::Holds { items, begin }, None) => {
                let mut list = begin.clone();
                list.extend(items.iter().filter(|item| !begin.contains(item)).cloned());
                Ok(Some(Lack::Value(list.into())))
            }
            (What::Holds { items, .. }, Some(now)) => {
                let list = now.as_array().ok_or_else(|| format!("{} is no list", self.key()))?;
                let has = |item: &&String| list.iter().any(|one| one.as_str() == Some(item));
                let more: Vec<_> = items.iter().filter(|item| !has(item)).cloned().collect();
                Ok(if more.is_empty() { None } else { Some(Lack::Items(more)) })
            }
        }
    }

    /// Does it to a value: what the file is to mean afterwards.
    fn apply(&self, value: &mut Value) -> Result<(), String> {
        let (last, path) = self.keys.split_last().expect("a wish names a key");
        let mut at = value;
        for key in path {
            let table = at.as_object_mut().ok_or_else(|| format!("{} is no table", self.key()))?;
            at = table.entry(key).or_insert_with(|| Value::Object(serde_json::Map::new()));
        }
        let table = at.as_object_mut().ok_or_else(|| format!("{} is no table", self.key()))?;
        match self.lacks(table.get(last))? {
            None => {}
            Some(Lack::Value(value)) => drop(table.insert(last.clone(), value)),
            Some(Lack::Items(items)) => {
                let list = table.get_mut(last).and_then(Value::as_array_mut);
                list.expect("it was a list").extend(items.into_iter().map(Value::from));
            }
        }
        Ok(())
    }
}

/// What is put at a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Lack {
    /// In the place of what is there.
    Value(Value),
    /// At the end of the list that is there.
    Items(Vec<String>),
}

/// The meaning of a text. The error names the line.
pub(super) fn parse(text: &str, language: Language) -> Result<Value, String> {
    match language {
        Language::Json if text.trim().is_empty() => Ok(Value::Object(serde_json::Map::new())),
        Language::Json => {
            let value: Value =
                serde_json::from_str(text).map_err(|e| format!("line {}: {e}", e.line()))?;
            let is = value.is_object();
            is.then_some(value).ok_or_else(|| "line 1: it is no object".to_owned())
        }
        Language::Toml => ::toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {}", e.message().replace('\n', " "))
        }),
    }
}

/// The text that says what is wished, and otherwise what it said.
///
/// Whatever the editors do: the result is parsed again, and has to mean what was there and what is wished,
/// and no more.
pub(super) fn edit(text: &str, language: Language, wishes: &[Wish]) -> Result<String, String> {
    let before = parse(text, language)?;
    let mut meant = before.clone();
    for wish in wishes {
        wish.apply(&mut meant)?;
    }
    if meant == before {
        return Ok(text.to_owned());
    }
    let edited = match language {
        Language::Toml => toml::edit(text, wishes)?,
        Language::Json => json::edit(text, wishes)?,
    };
    match parse(&edited, language) {
        Ok(means) if means == meant => Ok(edited),
        _ => Err("it is written in a way that cannot be added to without a risk".to_owned()),
    }
}
