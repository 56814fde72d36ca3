//! Spec files of any tool: reading them from JSON or YAML, and what two of them differ in. Opens no file itself.

mod diff;

pub use diff::{
    ContainerItem, ContainerItems, differences, differences_without_placements, items_of,
};

use mig_cdi_model::cdi::{Lenient, Spec};
use serde::{Deserialize, de::DeserializeOwned};
use std::path::Path;

/// Maximum size of a spec file. A node of 448 devices in three name styles has 1 MB.
pub const SIZE_LIMIT: usize = 16 << 20;

/// True when engines read a file of this name as a spec (container-device-interface `pkg/cdi/spec-dirs.go`).
#[must_use]
pub fn is_spec_file(name: &str) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| extension == "json" || extension == "yaml")
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
        parse_as(bytes)
    }

    /// The names of the devices.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().flatten().filter_map(|device| device.name.as_deref())
    }
}

/// Reads a spec of any tool from JSON or YAML, as [`Lenient`] does; `None` for text that is no spec.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Spec> {
    parse_as(bytes).map(|Lenient(spec)| spec)
}

fn parse_as<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    // serde-saphyr bounds depth, nodes and what aliases expand to (`Budget`): a spec may be any user's.
    let yaml = || serde_saphyr::from_slice(bytes).ok();
    serde_json::from_slice(bytes).ok().or_else(yaml)
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
            assert!(parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(parse(&[b"kind: ".as_slice(), &[b'['; 100_000]].concat()).is_none());
    }

    #[test]
    fn names_are_read_from_specs_that_no_engine_accepts() {
        let text = "kind: a.com/b\ndevices: [{}, {name: x, containerEdits: 7}]\n";
        let names = DefinedNames::parse(text.as_bytes()).unwrap();
        assert_eq!(names.devices().collect::<Vec<_>>(), ["x"]);
        assert!(parse(text.as_bytes()).is_none());
    }
}
