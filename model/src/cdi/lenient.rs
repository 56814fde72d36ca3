//! Lenient reading, of specs that any tool wrote, for those who compare them and inject nothing.
//!
//! Wraps the deserializer of a format and changes what the strict types see: a field that is missing or null is an empty
//! list, an empty struct or 0, and the case of a field's letters does not matter. Go reads these alike (`encoding/json`, to which
//! sigs.k8s.io/yaml leads). Text that is missing stays an error: a spec has a kind, and a device a name. An unknown field is
//! skipped by [`Lenient`], and an error for [`AsEngine`], as for engines (container-device-interface `pkg/cdi/spec.go`,
//! `ParseSpec`). Numbers and text are those of [`super::scalar`].

use super::scalar::{Number, Range, Text};
use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// Deserialises a strict type from a spec of any tool, and skips unknown fields.
#[derive(Debug, Clone)]
pub struct Lenient<T>(pub T);

/// Deserialises a strict type from a spec of any tool, and refuses unknown fields, as engines do.
#[derive(Debug, Clone)]
pub struct AsEngine<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(LenientDeserializer(deserializer, Unknown::Skip)).map(Lenient)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for AsEngine<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(LenientDeserializer(deserializer, Unknown::Refuse)).map(AsEngine)
    }
}

/// Treatment of an unknown field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Skip,
    Refuse,
}

struct LenientDeserializer<D>(D, Unknown);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for LenientDeserializer<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    // Without a hint YAML distinguishes an unquoted 010, which is a number, from a quoted one.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Text(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(OrEmpty { visitor, shape: Shape::Option, unknown: self.1 })
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let shape = Shape::Number(Range::Uint32);
        self.0.deserialize_option(OrEmpty { visitor, shape, unknown: self.1 })
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let shape = Shape::Number(Range::Int64);
        self.0.deserialize_option(OrEmpty { visitor, shape, unknown: self.1 })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(OrEmpty { visitor, shape: Shape::List, unknown: self.1 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(OrEmpty {
            visitor,
            shape: Shape::Struct(name, fields),
            unknown: self.1,
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(OrEmpty { visitor, shape: Shape::Annotations, unknown: self.1 })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i128 u8 u16 u64 u128 f32 f64 char str bytes byte_buf unit unit_struct newtype_struct
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
    Number(Range),
    List,
    /// The only map of a spec.
    Annotations,
    Struct(&'static str, &'static [&'static str]),
}

/// Visits a value that may be null or missing.
struct OrEmpty<V> {
    visitor: V,
    shape: Shape,
    unknown: Unknown,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OrEmpty<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        match self.shape {
            Shape::Option => self.visitor.visit_none(),
            Shape::Number(_) => self.visitor.visit_u32(0),
            Shape::List => self.visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<()>())),
            Shape::Annotations => self.visitor.visit_map(empty_map()),
            Shape::Struct(_, fields) => {
                self.visitor.visit_map(Fields::new(empty_map(), fields, self.unknown))
            }
        }
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let OrEmpty { visitor, shape, unknown } = self;
        let present = |visitor, fields| Present { visitor, fields, unknown };
        match shape {
            Shape::Option => visitor.visit_some(LenientDeserializer(deserializer, unknown)),
            Shape::Number(range) => deserializer.deserialize_any(Number { visitor, range }),
            Shape::List => deserializer.deserialize_seq(present(visitor, &[])),
            Shape::Annotations => deserializer.deserialize_map(Keys { visitor, unknown }),
            Shape::Struct(name, fields) => {
                deserializer.deserialize_struct(name, fields, present(visitor, fields))
            }
        }
    }
}

/// Visits a value that is there. A value of another shape is an error, as with the strict types.
struct Present<V> {
    visitor: V,
    fields: &'static [&'static str],
    unknown: Unknown,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Present<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        // A struct that is written as a list of its fields, which serde allows, is no spec to an engine.
        match self.fields.is_empty() {
            true => self.visitor.visit_seq(Items(items, self.unknown)),
            false => Err(A::Error::custom("a list in the place of fields")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Fields::new(map, self.fields, self.unknown))
    }
}

/// Visits annotations. Their values become empty text: no engine passes them on, and no command compares them.
struct Keys<V> {
    visitor: V,
    unknown: Unknown,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Keys<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<V::Value, A::Error> {
        let mut keys = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            match self.unknown {
                // Other tools put more than text into them.
                Unknown::Skip => _ = map.next_value::<IgnoredAny>()?,
                Unknown::Refuse => _ = map.next_value::<AsEngine<Option<String>>>()?,
            }
            if keys.insert(key.clone(), "").is_some() && self.unknown == Unknown::Refuse {
                return Err(A::Error::custom(format_args!("two annotations have the key {key:?}")));
            }
        }
        self.visitor.visit_map(MapDeserializer::new(keys.into_iter()))
    }
}

struct Nested<S>(S, Unknown);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nested<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(LenientDeserializer(deserializer, self.1))
    }
}

struct Items<A>(A, Unknown);

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Nested(seed, self.1))
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
    unknown: Unknown,
}

impl<A> Fields<A> {
    fn new(map: A, known: &'static [&'static str], unknown: Unknown) -> Self {
        let missing = known.to_vec();
        Fields { map, known, missing, current: "", has_ended: false, unknown }
    }
}

impl<'de, A: MapAccess<'de>> Fields<A> {
    /// Reads up to the next known field of the map. One that comes twice is passed on twice: the strict type refuses it.
    fn next_known(&mut self) -> Result<Option<&'static str>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if let Some(field) = self.known.iter().find(|field| field.eq_ignore_ascii_case(&key)) {
                self.missing.retain(|missing| missing != field);
                return Ok(Some(field));
            }
            if self.unknown == Unknown::Refuse {
                return Err(A::Error::unknown_field(&key, self.known));
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
            true => {
                let value =
                    seed.deserialize(LenientDeserializer(Missing(PhantomData), self.unknown));
                value.map_err(|_: A::Error| A::Error::missing_field(self.current))
            }
            false => self.map.next_value_seed(Nested(seed, self.unknown)),
        }
    }
}

/// The value of a field that is not there: null, which is refused where text is expected.
struct Missing<E>(PhantomData<E>);

impl<'de, E: Error> Deserializer<'de> for Missing<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
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
        let text = r#"{"minor":4294967296,"path":"/dev/x","gid":null,"major":9223372036854775807}"#;
        assert_eq!(numbers(text), Some((u32::MAX, u32::MAX, None)));
        let text = r#"{"path":"/dev/x","major":1e2,"minor":3.0,"uid":4294967295}"#;
        assert_eq!(numbers(text), Some((100, 3, Some(u32::MAX))));
        for bad in ["{}", "null"] {
            assert_eq!(node(bad), None, "{bad}");
        }
        for bad in [
            r#""major":"1""#,
            r#""major":1.5"#,
            r#""major":true"#,
            r#""major":9223372036854775808"#,
            r#""major":1e21"#,
            r#""fileMode":-1"#,
            r#""fileMode":4294967296"#,
            r#""uid":-1"#,
            r#""gid":"0""#,
        ] {
            assert_eq!(node(&format!(r#"{{"path":"/dev/x",{bad}}}"#)), None, "{bad}");
        }
    }

    #[test]
    fn numbers_and_booleans_are_text_where_text_is_expected() {
        let json =
            r#"{"cdiVersion":0.5,"kind":true,"devices":[{"name":7},{"name":1e7},{"name":null}]}"#;
        let spec = read(json).unwrap();
        let names: Vec<_> = spec.devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!((spec.cdi_version.as_deref(), spec.kind.as_str()), (Some("0.5"), "true"));
        assert_eq!(names, ["7", "1e+07", ""]);
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let json = r#"{"x":[{"y":1}],"kind":"a.com/b","annotations":{"a":1},"devices":[{"name":"x","annotations":{"a":[1]},
            "containerEdits":{"other":[{}],"mounts":[{"hostPath":"/h","containerPath":"/c","other":"bind"}],
            "hooks":[{"hookName":"createContainer","path":"/p","x":1}]}}]}"#;
        let spec = read(json).unwrap();
        let edits = &spec.devices[0].container_edits;
        assert_eq!((edits.mounts[0].options.len(), edits.hooks[0].args.len()), (0, 0));
    }

    #[test]
    fn engines_refuse_unknown_fields() {
        let error = |json: &str| {
            let read = serde_json::from_str::<AsEngine<Spec>>(json);
            read.map(|AsEngine(spec)| spec).map_err(|error| error.to_string())
        };
        let device = |edits: &str| {
            error(&format!(
                r#"{{"kind":"a.com/b","devices":[{{"name":"x","containerEdits":{{{edits}}}}}]}}"#
            ))
        };
        for (edits, field) in [
            (r#""foo":1"#, "foo"),
            (r#""deviceNodes":[{"path":"/dev/x","foo":1}]"#, "foo"),
            (r#""mounts":[{"hostPath":"/h","containerPath":"/c","Foo":null}]"#, "Foo"),
            (r#""hooks":[{"hookName":"createContainer","path":"/p","x":1}]"#, "x"),
            (r#""intelRdt":{"x":1}"#, "x"),
        ] {
            let found = device(edits).unwrap_err();
            assert!(found.starts_with(&format!("unknown field `{field}`, expected ")), "{found}");
        }
        assert!(error(r#"{"kind":"a.com/b","x":1}"#).is_err());
        // Every field of CDI 1.1.0 and before, each in another case, is known.
        let all = r#""ENV":[],"netDevices":[{"hostInterfaceName":"a","NAME":"b"}],"additionalgids":[44],
            "intelRdt":{"closID":"x","l3CacheSchema":"","memBwSchema":"","enableCMT":true,"enableMBM":false,"schemata":[],
            "enableMonitoring":true},"mounts":[{"hostpath":"/h","containerPath":"/c","type":"bind","options":null}],
            "devicenodes":[{"path":"/dev/x","hostpath":"/dev/y","type":"c","fileMode":1,"permissions":"r"}]"#;
        let edits = device(all).unwrap().devices.remove(0).container_edits;
        assert_eq!(edits.device_nodes[0].host_path.as_deref(), Some("/dev/y"));
        assert_eq!((edits.mounts[0].host_path.as_str(), edits.additional_gids), ("/h", vec![44]));
        let json = r#"{"kind":"a.com/b","annotations":{"a":1},"devices":[{"name":"x","annotations":{"a":true,"b":null}}]}"#;
        let spec = error(json).unwrap();
        assert_eq!((spec.annotations.len(), spec.devices[0].annotations.len()), (1, 2));
        for bad in ["[]", r#"{"a":[1]}"#, r#"{"a":"b","a":"c"}"#] {
            assert!(
                error(&format!(r#"{{"kind":"a.com/b","annotations":{bad}}}"#)).is_err(),
                "{bad}"
            );
        }
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
            r#"{"kind":{}}"#,
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
