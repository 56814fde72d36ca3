//! Lenient reading, of specs that any tool wrote, for those who compare them and inject nothing.
//!
//! Wraps the deserializer of a format and changes three things of what the strict types see: an unknown field is skipped,
//! and a field that is missing or null is an empty list, an empty struct or 0. Go reads and writes these alike. Text that
//! is missing stays an error: a spec has a kind, and a device a name.

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use std::{fmt, marker::PhantomData};

/// Deserialises a strict type from a spec of any tool.
#[derive(Debug, Clone)]
pub struct Lenient<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(LenientDeserializer(deserializer)).map(Lenient)
    }
}

struct LenientDeserializer<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for LenientDeserializer<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    // A hint is passed on where YAML depends on it: an unquoted 0 is text where text is expected.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(OrEmpty { visitor, shape: Shape::Option })
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(OrEmpty { visitor, shape: Shape::Number })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(OrEmpty { visitor, shape: Shape::List })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(OrEmpty { visitor, shape: Shape::Struct(name, fields) })
    }

    /// The only map of a spec is that of annotations, which no engine passes on and no command compares. They are skipped,
    /// since other tools put more than text into them.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        IgnoredAny::deserialize(self.0)?;
        visitor.visit_map(empty_map())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

fn empty_map<'de, E: Error>() -> impl MapAccess<'de, Error = E> {
    MapDeserializer::new(std::iter::empty::<(&str, ())>())
}

/// The value that a strict type expects.
#[derive(Clone, Copy)]
enum Shape {
    Option,
    Number,
    List,
    Struct(&'static str, &'static [&'static str]),
}

/// Visits a value that may be null or missing.
struct OrEmpty<V> {
    visitor: V,
    shape: Shape,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrEmpty<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        match self.shape {
            Shape::Option => self.visitor.visit_none(),
            Shape::Number => self.visitor.visit_u32(0),
            Shape::List => self.visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<()>())),
            Shape::Struct(_, fields) => self.visitor.visit_map(Fields::new(empty_map(), fields)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let OrEmpty { visitor, shape } = self;
        match shape {
            Shape::Option => visitor.visit_some(LenientDeserializer(deserializer)),
            Shape::Number => deserializer.deserialize_i64(Present { visitor, fields: &[] }),
            Shape::List => deserializer.deserialize_seq(Present { visitor, fields: &[] }),
            Shape::Struct(name, fields) => {
                deserializer.deserialize_struct(name, fields, Present { visitor, fields })
            }
        }
    }
}

/// Visits a value that is there. A value of another shape is an error, as with the strict types.
struct Present<V> {
    visitor: V,
    fields: &'static [&'static str],
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Present<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    // Go's numbers of nodes are int64. One that is no number of a Linux device becomes one that no driver has.
    fn visit_i64<E: Error>(self, number: i64) -> Result<V::Value, E> {
        self.visitor.visit_u32(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<V::Value, E> {
        self.visitor.visit_u32(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        // A struct that is written as a list of its fields, which serde allows, is no spec to an engine.
        match self.fields.is_empty() {
            true => self.visitor.visit_seq(Items(items)),
            false => Err(A::Error::custom("a list in the place of fields")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Fields::new(map, self.fields))
    }
}

struct Nested<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nested<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(LenientDeserializer(deserializer))
    }
}

struct Items<A>(A);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Nested(seed))
    }
}

/// The known fields of a map, then those that it lacks, as null.
struct Fields<A> {
    map: A,
    known: &'static [&'static str],
    missing: Vec<&'static str>,
    /// The missing field whose value comes next.
    current: &'static str,
    has_ended: bool,
}

impl<A> Fields<A> {
    fn new(map: A, known: &'static [&'static str]) -> Self {
        Fields { map, known, missing: known.to_vec(), current: "", has_ended: false }
    }
}

impl<'de, A: MapAccess<'de>> Fields<A> {
    /// Skips to the next known field of the map. One that comes twice is passed on twice: the strict type refuses it.
    fn next_known(&mut self) -> Result<Option<&'static str>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if let Some(field) = self.known.iter().find(|field| **field == key) {
                self.missing.retain(|missing| missing != field);
                return Ok(Some(field));
            }
            self.map.next_value::<IgnoredAny>()?;
        }
        self.has_ended = true;
        Ok(None)
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let present = if self.has_ended { None } else { self.next_known()? };
        let field = present.or_else(|| self.missing.pop());
        self.current = field.unwrap_or_default();
        field.map(|field| seed.deserialize(field.into_deserializer())).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match self.has_ended {
            true => seed.deserialize(LenientDeserializer(Missing::new(self.current))),
            false => self.map.next_value_seed(Nested(seed)),
        }
    }
}

/// The value of a field that is not there: null, but for text, whose absence is an error that names the field.
struct Missing<E> {
    field: &'static str,
    error: PhantomData<E>,
}

impl<E> Missing<E> {
    fn new(field: &'static str) -> Self {
        Missing { field, error: PhantomData }
    }
}

impl<'de, E: Error> Deserializer<'de> for Missing<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_unit()
    }

    fn deserialize_string<V: Visitor<'de>>(self, _: V) -> Result<V::Value, E> {
        Err(E::missing_field(self.field))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::{Spec, SpecNode};

    fn read(json: &str) -> Option<Spec> {
        serde_json::from_str::<Lenient<Spec>>(json).ok().map(|Lenient(spec)| spec)
    }

    #[test]
    fn what_a_spec_omits_is_empty() {
        let spec = read(r#"{"kind":"a.com/b"}"#).unwrap();
        assert_eq!((spec.cdi_version, spec.devices.len()), (None, 0));
        let spec = read(
            r#"{"cdiVersion":null,"kind":"a.com/b","devices":[{"name":"x"}],"containerEdits":null}"#,
        );
        let spec = spec.unwrap();
        assert_eq!(spec.devices[0].container_edits, spec.container_edits);
        assert_eq!(read(r#"{"kind":"a.com/b","devices":null}"#).unwrap().devices, []);
    }

    #[test]
    fn nodes_may_leave_their_numbers_to_the_host() {
        let node = |text: &str| {
            let json =
                format!(r#"{{"kind":"a.com/b","containerEdits":{{"deviceNodes":[{text}]}}}}"#);
            read(&json).map(|spec| spec.container_edits.device_nodes[0].clone())
        };
        let SpecNode { path, kind, major, permissions, uid, .. } =
            node(r#"{"path":"/dev/x"}"#).unwrap();
        assert_eq!((path.as_str(), kind, major, permissions, uid), ("/dev/x", None, 0, None, None));
        let numbers = |text: &str| node(text).map(|node| (node.major, node.minor, node.uid));
        let text = r#"{"path":"/dev/x","type":null,"major":-1,"minor":null,"uid":7}"#;
        assert_eq!(numbers(text), Some((u32::MAX, 0, Some(7))));
        let text =
            r#"{"minor":4294967296,"path":"/dev/x","gid":null,"major":18446744073709551615}"#;
        assert_eq!(numbers(text), Some((u32::MAX, u32::MAX, None)));
        for bad in
            [r#"{"path":"/dev/x","major":"1"}"#, r#"{"path":"/dev/x","major":1.5}"#, "{}", "null"]
        {
            assert_eq!(node(bad), None, "{bad}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let json = r#"{"x":[{"y":1}],"kind":"a.com/b","annotations":{"a":1},"devices":[{"name":"x","annotations":{"a":[1]},
            "containerEdits":{"netDevices":[{}],"mounts":[{"hostPath":"/h","containerPath":"/c","type":"bind"}],
            "hooks":[{"hookName":"createContainer","path":"/p","x":1}]}}]}"#;
        let spec = read(json).unwrap();
        let edits = &spec.devices[0].container_edits;
        assert_eq!((edits.mounts[0].options.len(), edits.hooks[0].args.len()), (0, 0));
    }

    #[test]
    fn missing_text_is_named() {
        let error =
            |json: &str| serde_json::from_str::<Lenient<Spec>>(json).unwrap_err().to_string();
        assert_eq!(error("{}"), "missing field `kind` at line 1 column 2");
        let json = "{\"kind\":\"a.com/b\",\n\"devices\":[{}]}";
        assert_eq!(error(json), "missing field `name` at line 2 column 13");
    }

    #[test]
    fn what_names_nothing_is_no_spec() {
        for bad in [
            "null",
            "{}",
            "[]",
            r#"["0.5.0","a.com/b",[],{}]"#,
            r#"{"kind":null}"#,
            r#"{"kind":1}"#,
            r#"{"kind":"a.com/b","kind":"a.com/b"}"#,
            r#"{"kind":"a.com/b","devices":{}}"#,
            r#"{"kind":"a.com/b","devices":[{}]}"#,
            r#"{"kind":"a.com/b","devices":[null]}"#,
            r#"{"kind":"a.com/b","containerEdits":[]}"#,
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
