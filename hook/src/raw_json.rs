//! JSON objects of which a few fields are edited and the rest survives byte for byte. Never interprets a field that
//! is not read.
//!
//! A type for the whole document would lose what it does not know: engines put fields into a configuration that are
//! newer than any library, and numbers that no Rust integer holds.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::{Result, value::RawValue};
use std::{borrow::Cow, fmt};

/// Fields of an object in their order. A key that comes twice is an error: Go's `encoding/json`, which runc reads
/// with, takes the last one, other readers the first (RFC 8259, section 4, does not decide).
///
/// ```
/// use mig_cdi_hook::raw_json::{RawJson, RawObject};
///
/// let mut object: RawObject<'_> = serde_json::from_str(r#"{"large":1e400,"env":null}"#)?;
/// object.set("env", RawJson::Strings(vec!["A=b".to_owned()]));
/// assert_eq!(serde_json::to_string(&object)?, r#"{"large":1e400,"env":["A=b"]}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct RawObject<'a>(Vec<(String, RawJson<'a>)>);

/// A list whose entries stay unparsed; new ones are appended.
pub type RawList<'a> = Vec<Cow<'a, RawValue>>;

/// Value of a field, as it was read or as it was set. A set value is serialized once, with the whole document.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum RawJson<'a> {
    /// Text as it was read.
    Text(&'a RawValue),
    /// Edited object.
    Object(RawObject<'a>),
    /// Edited list.
    List(RawList<'a>),
    /// List of strings.
    Strings(Vec<String>),
}

impl<'a> RawObject<'a> {
    /// Parses a field as it was in the document. `null` counts as absent, as in Go, which writes and reads nil
    /// slices and maps so.
    ///
    /// # Errors
    /// Fails when the field is present and has another type.
    pub fn read<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>> {
        let mut fields =
            self.fields().filter(|(name, value)| *name == key && value.get() != "null");
        fields.next().map(|(_, value)| serde_json::from_str(value.get())).transpose()
    }

    /// Parses a field that is an object or a list; an absent one is empty.
    ///
    /// # Errors
    /// Fails as [`RawObject::read`] does.
    pub fn part<T: Deserialize<'a> + Default>(&self, key: &str) -> Result<T> {
        self.read(key).map(Option::unwrap_or_default)
    }

    /// Sets a field, in its place or at the end.
    pub fn set(&mut self, key: &str, value: RawJson<'a>) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Names and texts of the fields that were read and not set since.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().filter_map(|(name, value)| match value {
            RawJson::Text(text) => Some((name.as_str(), *text)),
            _ => None,
        })
    }
}

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawObject<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(
                self,
                mut map: M,
            ) -> std::result::Result<RawObject<'de>, M::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((key, RawJson::Text(value)));
                }
                match repeated(&fields) {
                    Some(key) => Err(de::Error::custom(format!("the key {key:?} is there twice"))),
                    None => Ok(RawObject(fields)),
                }
            }
        }
        from.deserialize_map(Fields)
    }
}

fn repeated<'f>(fields: &'f [(String, RawJson<'_>)]) -> Option<&'f str> {
    // By the unescaped key: "\u0061" is "a".
    let mut keys: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

impl Serialize for RawObject<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unedited_fields_survive_byte_for_byte() {
        let text = r#"{"a":1e400,"b":{"z":1,"y":[ 1.50, 12345678901234567890123 ]},"c":null,"\u0064":"\/"}"#;
        let mut object: RawObject<'_> = serde_json::from_str(text).unwrap();
        let b: RawObject<'_> = object.part("b").unwrap();
        object.set("c", RawJson::List(b.part("y").unwrap()));
        object.set("e", RawJson::Strings(vec!["new".to_owned()]));
        let expected = r#"{"a":1e400,"b":{"z":1,"y":[ 1.50, 12345678901234567890123 ]},"c":[1.50,12345678901234567890123],"d":"\/","e":["new"]}"#;
        assert_eq!(serde_json::to_string(&object).unwrap(), expected);
    }

    #[test]
    fn a_repeated_key_is_refused() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":1}"#, "[]", "{", ""] {
            assert!(serde_json::from_str::<RawObject<'_>>(text).is_err(), "{text}");
        }
    }
}
