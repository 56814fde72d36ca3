//! JSON objects of which a few fields are changed and the rest survives byte for byte.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::{Result, value::RawValue};
use std::{borrow::Cow, fmt};

/// The fields of an object in their order. A key that comes twice is an error: two readers would not
/// agree on what the object says.
#[derive(Debug, Clone, Default)]
pub struct Object<'a>(Vec<(String, Value<'a>)>);

/// A list of which the entries are not looked into, but added to.
pub type List<'a> = Vec<Cow<'a, RawValue>>;

/// What a field is: as it was read, or as it was set. What was set is written once, with the whole.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Value<'a> {
    /// The text that was read.
    Text(&'a RawValue),
    /// An object.
    Object(Object<'a>),
    /// A list.
    List(List<'a>),
    /// A list of strings.
    Strings(Vec<String>),
}

impl<'a> Object<'a> {
    /// Reads a field as it was in the document; `null` is as good as none.
    ///
    /// # Errors
    /// When it is there and not of this type.
    pub fn read<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>> {
        let mut fields =
            self.fields().filter(|(name, value)| *name == key && value.get() != "null");
        fields.next().map(|(_, value)| serde_json::from_str(value.get())).transpose()
    }

    /// Reads a field that is an object or a list, and empty when it is not there.
    ///
    /// # Errors
    /// As [`Object::read`].
    pub fn part<T: Deserialize<'a> + Default>(&self, key: &str) -> Result<T> {
        self.read(key).map(Option::unwrap_or_default)
    }

    /// Gives a field a value, in its place or at the end.
    pub fn set(&mut self, key: &str, value: Value<'a>) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// The names and texts of the fields that were read.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().filter_map(|(name, value)| match value {
            Value::Text(text) => Some((name.as_str(), *text)),
            _ => None,
        })
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(
                self,
                mut map: M,
            ) -> std::result::Result<Object<'de>, M::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push((key, Value::Text(value)));
                }
                match repeated(&fields) {
                    Some(key) => Err(de::Error::custom(format!("the key {key:?} comes twice"))),
                    None => Ok(Object(fields)),
                }
            }
        }
        from.deserialize_map(Fields)
    }
}

fn repeated<'f>(fields: &'f [(String, Value<'_>)]) -> Option<&'f str> {
    let mut keys: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

impl Serialize for Object<'_> {
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
    fn what_is_not_changed_survives() {
        let text = r#"{"a":1e400,"b":{"z":1,"y":[ 1.50, 12345678901234567890123 ]},"c":null,"\u0064":"\/"}"#;
        let mut object: Object<'_> = serde_json::from_str(text).unwrap();
        let b: Object<'_> = object.part("b").unwrap();
        object.set("c", Value::List(b.part("y").unwrap()));
        object.set("e", Value::Strings(vec!["new".to_owned()]));
        let expected = r#"{"a":1e400,"b":{"z":1,"y":[ 1.50, 12345678901234567890123 ]},"c":[1.50,12345678901234567890123],"d":"\/","e":["new"]}"#;
        assert_eq!(serde_json::to_string(&object).unwrap(), expected);
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":1}"#, "[]", "{", ""] {
            assert!(serde_json::from_str::<Object<'_>>(text).is_err(), "{text}");
        }
    }
}
