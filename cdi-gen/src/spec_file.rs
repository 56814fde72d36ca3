//! Spec files of any tool: reading them from JSON or YAML, why engines refuse them, and what two of them differ in. Opens no file
//! itself.

mod diff;
mod refusal;

pub use diff::{
    ContainerItem, ContainerItems, differences, differences_without_placements, items_of,
};
pub use refusal::{refusal, version_refusal};

use mig_cdi_model::{
    cdi::{AsEngine, Lenient, Spec},
    one_line,
};
use serde::{Deserialize, de::DeserializeOwned};
use std::ffi::OsStr;

/// Maximum size of a spec file. A node of 448 devices in three name styles has 1 MB.
pub const SIZE_LIMIT: usize = 16 << 20;

/// True when engines read a file of this name as a spec (container-device-interface `pkg/cdi/spec-dirs.go`).
#[must_use]
pub fn is_spec_file(name: &OsStr) -> bool {
    // As bytes: Go takes a name with any of them, and `filepath.Ext` of a name that is the suffix alone is the suffix.
    let name = name.as_encoded_bytes();
    [".json", ".yaml"].iter().any(|suffix| name.ends_with(suffix.as_bytes()))
}

/// The names that a spec defines. No other field is read: whatever else an engine refuses in it, or is unknown here,
/// hides no name.
#[derive(Debug, Clone, Deserialize)]
pub struct DefinedNames {
    /// `vendor/class`.
    pub kind: String,
    #[serde(default)]
    devices: Option<Vec<NamedEntry>>,
}

#[derive(Debug, Clone, Deserialize)]
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

/// Reason why text is no spec: the parser's, with the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cdi spec in json or yaml: {0}")]
pub struct ParseError(String);

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
    let by_json = serde_json::from_slice::<AsEngine<Spec>>(bytes);
    // Only unknown fields are refused by one of the two readers. A large file takes seconds as YAML, which would refuse them too.
    if let Err(reason) = &by_json
        && let Ok(Lenient(spec)) = serde_json::from_slice(bytes)
    {
        return Ok(JudgedSpec { spec, refusal: Some(one_line(&reason.to_string())) });
    }
    match by_json.or_else(|_| parse_as(bytes)) {
        Ok(AsEngine(spec)) => {
            let refusal = refusal(&spec);
            Ok(JudgedSpec { spec, refusal })
        }
        Err(ParseError(reason)) => Ok(JudgedSpec { spec: parse(bytes)?, refusal: Some(reason) }),
    }
}

/// Upper bound for the values in a YAML file, those that aliases repeat included. 100,000 devices have two million.
const NODE_LIMIT: usize = 4 << 20;

fn parse_as<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ParseError> {
    let json = match serde_json::from_slice(bytes) {
        Ok(spec) => return Ok(spec),
        Err(error) => error,
    };
    // serde-saphyr bounds depth, nodes and what aliases expand to: a spec may be any user's. By default it
    // refuses 20,000 devices, which engines read.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: NODE_LIMIT, max_events: 2 * NODE_LIMIT },
    };
    serde_saphyr::from_slice_with_options(bytes, options).map_err(|yaml| {
        // YAML includes JSON: the first character tells which of the two reasons the writer understands.
        let is_json = bytes.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| *b == b'{');
        let cause = if is_json { json.to_string() } else { yaml.without_snippet().to_string() };
        ParseError(one_line(&cause))
    })
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
