//! JSON objects of which a few fields are changed and the rest survives byte for byte.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeOwned, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::{Result, value::RawValue};
use std::{borrow::Cow, fmt};

/// The fields of an object in their order, each as its text. A key that comes twice is an error: two
/// readers would not agree on what the object says.
#[derive(Debug, Clone, Default)]
pub struct Object<'a>(Vec<(String, Cow<'a, RawValue>)>);

impl<'a> Object<'a> {
    /// The text of a field; `null` is as good as none.
    fn get(&self, key: &str) -> Option<&RawValue> {
        let field = self.0.iter().find(|(name, _)| name == key);
        field.map(|(_, value)| &**value).filter(|value| value.get() != "null")
    }

    /// Reads a field.
    ///
    /// # Errors
    /// When it is there and not of this type.
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.get(key).map(|value| serde_json::from_str(value.get())).transpose()
    }

    /// Reads a field that is an object, or a list of such as are not looked into. The text must be
    /// that of the document, not one that was set.
    ///
    /// # Errors
    /// When it is there and of another type.
    pub fn part<T: Deserialize<'a> + Default>(&self, key: &str) -> Result<T> {
        let field = self.0.iter().find(|(name, _)| name == key);
        match field {
            Some((_, Cow::Borrowed(value))) if value.get() != "null" => {
                serde_json::from_str(value.get())
            }
            _ => Ok(T::default()),
        }
    }

    /// Gives a field a value, in its place or at the end.
    ///
    /// # Errors
    /// When the value has no JSON.
    pub fn set(&mut self, key: &str, value: &impl Serialize) -> Result<()> {
        let value = Cow::Owned(serde_json::value::to_raw_value(value)?);
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
        Ok(())
    }

    /// The names and texts of all fields.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), &**value))
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
                    fields.push((key, Cow::Borrowed(value)));
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

fn repeated<'f>(fields: &'f [(String, Cow<'_, RawValue>)]) -> Option<&'f str> {
    let mut keys: Vec<&str> = fields.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, &**value)?;
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
        object.set("c", &[1]).unwrap();
        object.set("e", &"new").unwrap();
        let expected = r#"{"a":1e400,"b":{"z":1,"y":[ 1.50, 12345678901234567890123 ]},"c":[1],"d":"\/","e":"new"}"#;
        assert_eq!(serde_json::to_string(&object).unwrap(), expected);
    }

    #[test]
    fn a_key_that_comes_twice_is_refused() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":1}"#, "[]", "{", ""] {
            assert!(serde_json::from_str::<Object<'_>>(text).is_err(), "{text}");
        }
    }
}
