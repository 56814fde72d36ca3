//! Spec files of any tool: reading them from JSON or YAML, why engines refuse them, and what two of them differ in. Opens no file
//! itself.

mod diff;
mod refusal;
mod syntax;

pub use diff::{
    ContainerItem, ContainerItems, differences, differences_without_placements, items_of,
};
pub use refusal::{refusal, version_refusal};
pub use syntax::ParseError;

use mig_cdi_model::cdi::{AsEngine, Lenient, Spec};
use serde::Deserialize;
use std::ffi::OsStr;
use syntax::parse_as;

/// Maximum size of a spec file. A node of 448 devices in three name styles has 1 MB.
pub const SIZE_LIMIT: usize = 16 << 20;

/// True when engines read a file of this name as a spec (container-device-interface `pkg/cdi/spec-dirs.go`).
#[must_use]
pub fn is_spec_file(name: &OsStr) -> bool {
    // As bytes: Go takes a name with any of them, and `filepath.Ext` of a name that is the suffix alone is the suffix.
    let name = name.as_encoded_bytes();
    [".json", ".yaml"].iter().any(|suffix| name.ends_with(suffix.as_bytes()))
}

/// Returns the name that a file needs for engines to read it, where its suffix differs only in spelling: `a.yaml` of `a.yml` and
/// `a.YAML`. `None` for a name that they read, and for one of another kind of file.
#[must_use]
pub fn corrected_name(name: &OsStr) -> Option<String> {
    let (stem, suffix) = name.to_str()?.rsplit_once('.')?;
    let right = match suffix.to_ascii_lowercase().as_str() {
        "yml" | "yaml" => "yaml",
        "json" => "json",
        _ => return None,
    };
    (suffix != right).then(|| format!("{stem}.{right}"))
}

/// The names that a spec defines. No other field is read: whatever else an engine refuses in it, or is unknown here,
/// hides no name.
#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "an object")]
pub struct DefinedNames {
    /// `vendor/class`.
    pub kind: String,
    #[serde(default)]
    devices: Option<Vec<NamedEntry>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(expecting = "an object")]
struct NamedEntry {
    name: Option<String>,
}

impl DefinedNames {
    /// Reads the names from JSON or YAML; `None` for text that is no spec, which engines pass over as well.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<DefinedNames> {
        parse_as(bytes).ok().map(|Lenient(names)| names)
    }

    /// The names of the devices.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().flatten().filter_map(|device| device.name.as_deref())
    }
}

/// Reads a spec of any tool from JSON or YAML, as [`Lenient`] does.
///
/// # Errors
/// When the text is in neither format, or lacks a field that every spec has.
pub fn parse(bytes: &[u8]) -> Result<Spec, ParseError> {
    parse_as(bytes).map(|Lenient(spec)| spec)
}

/// A spec of any tool, and the reason why every engine refuses its file.
#[derive(Debug, Clone)]
pub struct JudgedSpec {
    /// The spec without what is unknown in it.
    pub spec: Spec,
    /// Reason why every engine refuses it.
    pub refusal: Option<String>,
}

/// Reads a spec as engines do.
///
/// # Errors
/// As [`parse`]: a file that engines refuse for another reason is read.
pub fn judge(bytes: &[u8]) -> Result<JudgedSpec, ParseError> {
    match parse_as(bytes) {
        Ok(AsEngine(spec)) => {
            let refusal = refusal(&spec);
            Ok(JudgedSpec { spec, refusal })
        }
        // An unknown field, which the other reader skips.
        Err(reason) => Ok(JudgedSpec { spec: parse(bytes)?, refusal: Some(reason.cause) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_read_as_leniently_as_json() {
        let text = "cdiVersion: 0.7.0\nkind: a.com/b\nannotations: {1: [x]}\ncontainerEdits: ~\ndevices:\n\
                    - name: 0\n  annotations: {a: 1}\n  containerEdits:\n    env:\n    deviceNodes:\n\
                    \x20   - {path: /dev/x, hostPath: /dev/y}\n    - {path: /dev/z, major: 1, minor: 0x10}\n";
        let spec = parse(text.as_bytes()).unwrap();
        assert_eq!((spec.cdi_version.as_deref(), spec.kind.as_str()), (Some("0.7.0"), "a.com/b"));
        assert_eq!(spec.devices[0].name, "0");
        let nodes = &spec.devices[0].container_edits.device_nodes;
        let numbers: Vec<_> = nodes.iter().map(|node| (node.major, node.minor)).collect();
        assert_eq!(numbers, [(0, 0), (1, 16)]);
        for bad in ["", "x", "- a", "kind: {}", "kind: a.com/b\ndevices: [{}]"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(parse(&[b"kind: ".as_slice(), &[b'['; 100_000]].concat()).is_err());
    }

    fn spec(text: &str) -> String {
        format!(
            "cdiVersion: 0.5.0\nkind: a.com/b\ndevices:\n- name: x\n  containerEdits:\n    {text}\n"
        )
    }

    // The expected values are those of sigs.k8s.io/yaml 1.3.0 and 1.6.0 and CDI's own types.
    #[test]
    fn numbers_are_those_of_yaml_1_1() {
        let mode = |number: &str| {
            let text = spec(&format!("deviceNodes: [{{path: /dev/x, fileMode: {number}}}]"));
            parse(text.as_bytes()).ok()?.devices[0].container_edits.device_nodes.pop()
        };
        for (number, expected) in [
            ("0666", Some(0o666)),
            ("0o666", Some(0o666)),
            ("0x1ff", Some(0x1ff)),
            ("0b11", Some(3)),
            ("1_000", Some(1000)),
            ("+5", Some(5)),
            ("1.0", Some(1)),
            ("1e2", Some(100)),
            ("08", Some(8)),
            ("!!int '5'", Some(5)),
            ("~", None),
        ] {
            assert_eq!(mode(number).map(|node| node.file_mode), Some(expected), "{number}");
        }
        for bad in ["'0666'", "\"5\"", "-1", "1.5", "4294967296", "true", "_1", "12:30", "x"] {
            assert_eq!(mode(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_unquoted_name_is_text_of_the_value_that_engines_take_it_for() {
        for (name, expected) in [
            ("010", "8"),
            ("'010'", "010"),
            ("0x10", "16"),
            ("1_000", "1000"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("yes", "true"),
            ("\"yes\"", "yes"),
            ("0:1", "0:1"),
            ("2026-01-01", "2026-01-01"),
            ("!!str 5", "5"),
        ] {
            let text = spec("env: [A=b]").replace("name: x", &format!("name: {name}"));
            let names = DefinedNames::parse(text.as_bytes()).unwrap();
            assert_eq!(names.devices().collect::<Vec<_>>(), [expected], "{name}");
            assert_eq!(parse(text.as_bytes()).unwrap().devices[0].name, expected);
        }
    }

    /// JSON is held to the characters that YAML allows, as podman 4.3.1 does.
    #[test]
    fn characters_are_those_of_yaml_in_json_too() {
        let json = |tail: &str| {
            format!("{{\"cdiVersion\":\"0.5.0\",\"kind\":\"a.com/b\",\"devices\":[]}}{tail}")
        };
        assert!(parse(json("\n").as_bytes()).is_ok());
        for tail in ["\0\0\0\0", "\x0c", "\x0b"] {
            let reason = parse(json(tail).as_bytes()).unwrap_err().to_string();
            assert!(reason.contains("control characters"), "{tail:?}: {reason}");
        }
        for character in ['\u{7f}', '\u{80}', '\u{9f}', '\u{fffe}'] {
            let text = json("").replace("a.com", &format!("a{character}.com"));
            assert!(parse(text.as_bytes()).is_err(), "{character:?}");
        }
        for character in ['\u{85}', '\u{a0}', '\u{fffd}', '\u{10000}'] {
            let text = json("").replace("a.com", &format!("a{character}.com"));
            assert!(parse(text.as_bytes()).is_ok(), "{character:?}");
        }
        for (mark, bytes) in [
            ([0xff, 0xfe], u16::to_le_bytes as fn(u16) -> [u8; 2]),
            ([0xfe, 0xff], u16::to_be_bytes),
        ] {
            for text in [json(""), "cdiVersion: 0.5.0\nkind: a.com/b\ndevices: []\n".to_owned()] {
                let mut utf16 = mark.to_vec();
                utf16.extend(text.encode_utf16().flat_map(bytes));
                assert_eq!(parse(&utf16).unwrap().kind, "a.com/b");
                utf16.push(0);
                assert!(parse(&utf16).is_err());
            }
        }
    }

    #[test]
    fn engines_read_the_first_document_and_nothing_after_it() {
        let yaml = spec("env: [A=b]");
        let json = r#"{"cdiVersion":"0.5.0","kind":"a.com/b","devices":[{"name":"x","containerEdits":{"env":["A=b"]}}]}"#;
        let expected = parse(json.as_bytes()).unwrap();
        for text in [
            format!("{yaml}---\nkind: [\n"),
            format!("{yaml}...\n}}}} more"),
            format!("\u{feff}# more\n%YAML 1.1\n---\n{yaml}--- x\n"),
            format!("%YAML  1.1\t# more\n---\n{yaml}"),
            format!("%YAML 1.1#\n---\n{yaml}"),
            format!("# x\n%YAML 1.1#%YAML 1.2\r\n---\n{yaml}"),
            format!("%TAG !a! tag:a.com:\n---\n{yaml}"),
            format!("--- {json}\n---\n"),
            format!("\u{feff}{json} more"),
            format!("{json}\n{json}"),
            format!("{json}}}"),
            format!("{json},"),
            yaml.replace('\n', "\r\n"),
            yaml.replace("cdiVersion:", "\"cdiVersion\":").replace("kind:", "'kind':"),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(expected.clone()), "{text}");
        }
        for bad in [
            format!("---\n---\n{yaml}"),
            format!("%YAML 1.2\n---\n{yaml}"),
            format!("%YAML 1.2 # 1.1\n---\n{yaml}"),
            format!("%YAML 1.1 1.1\n---\n{yaml}"),
            format!("%YAML 1.1.1#\n---\n{yaml}"),
            format!("%YAML1.1#\n---\n{yaml}"),
            format!("%YAML 1#.1\n---\n{yaml}"),
            format!("%YAML#1.1\n---\n{yaml}"),
            format!("%YAMLX 1.1\n---\n{yaml}"),
            format!("%FOO bar\n---\n{yaml}"),
            format!("%YAML 1.1\n%YAML 1.1\n---\n{yaml}"),
            format!("{json} @"),
            format!("{json}: 5"),
            format!("{json} 'x"),
            json.replace("A=b", r"A=\/"),
            json.replace("A=b", r"A=\ud83d\ude00"),
            json.replace("A=b", r"A=\\\/"),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        for good in [r"A=\\/", r"A=\u00e4", r"\\ud800=\\"] {
            assert!(parse(json.replace("A=b", good).as_bytes()).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_reason_says_nothing_about_our_parser() {
        for (text, reason) in [
            (
                "kind: a.com/b\nkind: a.com/b\n",
                "duplicate mapping key `kind` is not allowed here at line 2, column 1",
            ),
            (
                r#"{"kind":"a.com/b","devices":[3]}"#,
                "invalid type: integer `3`, expected an object at line 1 column 30",
            ),
            ("%YAML 1.2\n---\n", "engines read only YAML 1.1, and %YAML is another"),
            ("%FOO 1.1\n---\n", "engines know only the directives %YAML and %TAG"),
        ] {
            let found = parse(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(found, format!("not a cdi spec in json or yaml: {reason}"));
        }
    }

    #[test]
    fn names_are_read_from_specs_that_no_engine_accepts() {
        for text in [
            "kind: a.com/b\ndevices: [{}, {name: x, containerEdits: 7}]\n",
            "Kind: a.com/b\nDevices: [{}, {NAME: x, containerEdits: 7}]\n",
        ] {
            let names = DefinedNames::parse(text.as_bytes()).unwrap();
            assert_eq!(names.devices().collect::<Vec<_>>(), ["x"]);
            assert!(parse(text.as_bytes()).is_err());
        }
    }
}
