//! Strict reading, of specs that mig-cdi wrote. An unknown field is an error: it may change what a container gets.

use super::{ContainerEdits, Device, Spec, SpecNode};
use crate::SliceId;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The edits of a device as JSON that is not parsed yet.
// A container requests a few of the devices, of which a node of 32 GPUs has hundreds, and the hook runs at every start.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct UnreadEdits(Box<RawValue>);

/// A spec that mig-cdi wrote. The edits of a device are parsed by [`Device::edits`].
pub type StrictSpec = Spec<UnreadEdits>;

/// A spec that does not have the form in which mig-cdi writes it.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The text is not JSON, or a field is missing, unknown or of another type.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The spec has no version.
    #[error("it has no cdiVersion")]
    NoVersion,
    /// The spec is of another kind.
    #[error("its kind is {found:?}, not {expected}")]
    Kind {
        /// The kind in the file.
        found: String,
        /// The kind that mig-cdi is configured to write.
        expected: String,
    },
    /// Two of its devices have one name.
    #[error("two devices have the name {0:?}")]
    DuplicateName(String),
    /// It has a field that mig-cdi never writes.
    #[error("unknown field `{0}`")]
    Field(&'static str),
    /// A device node is no character device that may be read and written.
    #[error("device node {path:?} has the {field} {found:?}, not {expected:?}")]
    Node {
        /// Path of the node.
        path: String,
        /// `type` or `permissions`.
        field: &'static str,
        /// The value in the file, empty when there is none.
        found: String,
        /// The only value that mig-cdi writes.
        expected: &'static str,
    },
}

impl StrictSpec {
    /// Reads a spec of this kind from JSON. What a spec of mig-cdi states is complete: every node has its type, numbers and
    /// mode.
    ///
    /// # Errors
    /// When mig-cdi would not have written it.
    pub fn parse(json: &[u8], kind: &str) -> Result<StrictSpec, SpecError> {
        let spec: StrictSpec = serde_json::from_slice(json)?;
        if spec.cdi_version.is_none() {
            return Err(SpecError::NoVersion);
        }
        if spec.kind != kind {
            return Err(SpecError::Kind { found: spec.kind, expected: kind.to_owned() });
        }
        // CDI rejects it too, and either of the two could be the slice of another tenant.
        let mut names: Vec<_> = spec.devices.iter().map(|device| device.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(SpecError::DuplicateName(pair[0].to_owned()));
        }
        if !spec.annotations.is_empty() {
            return Err(SpecError::Field("annotations"));
        }
        spec.container_edits.check()?;
        Ok(spec)
    }

    /// The entries that are this slice alone, one for each of its names.
    pub fn devices_of(&self, id: SliceId) -> impl Iterator<Item = &Device<UnreadEdits>> {
        let is_slice = move |device: &&Device<UnreadEdits>| {
            let slices = device.edits().ok().and_then(|edits| edits.slices().ok());
            slices.is_some_and(|slices| slices.len() == 1 && slices[0].id == id)
        };
        self.devices.iter().filter(is_slice)
    }
}

impl Device<UnreadEdits> {
    /// Parses the edits for a container with this device.
    ///
    /// # Errors
    /// When mig-cdi would not have written them.
    pub fn edits(&self) -> Result<ContainerEdits, SpecError> {
        let edits: ContainerEdits = serde_json::from_str(self.container_edits.0.get())?;
        edits.check()?;
        Ok(edits)
    }
}

impl ContainerEdits {
    fn check(&self) -> Result<(), SpecError> {
        // Every field is named, so that a new one is considered here.
        let ContainerEdits {
            env: _,
            hooks: _,
            device_nodes,
            mounts,
            net_devices,
            intel_rdt,
            additional_gids,
        } = self;
        let foreign = [
            ("netDevices", !net_devices.is_empty()),
            ("intelRdt", intel_rdt.is_some()),
            ("additionalGids", !additional_gids.is_empty()),
            ("hostPath", device_nodes.iter().any(|node| node.host_path.is_some())),
            ("type", mounts.iter().any(|mount| mount.kind.is_some())),
        ];
        if let Some((field, _)) = foreign.into_iter().find(|(_, is_there)| *is_there) {
            return Err(SpecError::Field(field));
        }
        device_nodes.iter().try_for_each(SpecNode::check)
    }
}

impl SpecNode {
    /// Checks what the type of a field does not: a block device, or the right to create nodes, is nothing that a slice
    /// has.
    fn check(&self) -> Result<(), SpecError> {
        if self.file_mode.is_none() {
            return Err(SpecError::Json(serde::de::Error::missing_field("fileMode")));
        }
        let fields = [("type", &self.kind, "c"), ("permissions", &self.permissions, "rw")];
        for (field, found, expected) in fields {
            if found.as_deref() != Some(expected) {
                let (path, found) = (self.path.clone(), found.clone().unwrap_or_default());
                return Err(SpecError::Node { path, field, found, expected });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "nvidia.com/mig";
    const NODE: &str = r#"{"path":"/dev/nvidia0","type":"c","major":195,"minor":0,"fileMode":438,"permissions":"rw"}"#;

    /// A spec of one device with this node.
    fn spec(node: &str) -> String {
        format!(
            r#"{{"cdiVersion":"0.5.0","kind":"{KIND}","devices":[{{"name":"a","containerEdits":{{"deviceNodes":[{node}]}}}}],"containerEdits":{{}}}}"#
        )
    }

    fn edits(text: &str) -> Result<ContainerEdits, String> {
        let spec = StrictSpec::parse(text.as_bytes(), KIND).map_err(|e| e.to_string())?;
        spec.devices[0].edits().map_err(|e| e.to_string())
    }

    #[test]
    fn nodes_of_another_form_are_refused() {
        assert_eq!(edits(&spec(NODE)).unwrap().device_nodes[0].major, 195);
        for (from, to, why) in [
            (r#""c""#, r#""b""#, "has the type \"b\", not \"c\""),
            (r#""type":"c","#, "", "has the type \"\""),
            (r#""rw""#, r#""rwm""#, "has the permissions \"rwm\", not \"rw\""),
            (r#""major":195,"#, "", "missing field `major`"),
            (r#""minor":0,"#, "", "missing field `minor`"),
            (r#""fileMode":438,"#, "", "missing field `fileMode`"),
            ("195", "null", "invalid type: null"),
            ("195", "-1", "invalid value"),
            ("195", "4294967296", "invalid value"),
            (r#""path""#, r#""hostPath":"/dev/mem","path""#, "unknown field `hostPath`"),
        ] {
            let error = edits(&spec(&NODE.replace(from, to))).unwrap_err();
            assert!(error.contains(why), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn specs_of_another_form_are_refused() {
        let good = spec(NODE);
        for (from, to, why) in [
            (r#""cdiVersion":"0.5.0","#, "", "no cdiVersion"),
            (KIND, "nvidia.com/gpu", "its kind is \"nvidia.com/gpu\", not nvidia.com/mig"),
            (r#","containerEdits":{}}"#, "}", "missing field `containerEdits`"),
            (r#","containerEdits":{}}"#, r#","containerEdits":null}"#, "invalid type: null"),
            (r#""containerEdits":{}"#, r#""containerEdits":{"foo":[]}"#, "unknown field `foo`"),
            (
                r#""containerEdits":{}"#,
                r#""containerEdits":{"netDevices":[{"hostInterfaceName":"a","name":"b"}]}"#,
                "unknown field `netDevices`",
            ),
            (
                r#""containerEdits":{}"#,
                r#""containerEdits":{"mounts":[{"hostPath":"/a","containerPath":"/b","options":[],"type":"tmpfs"}]}"#,
                "unknown field `type`",
            ),
            (
                r#""deviceNodes":["#,
                r#""additionalGids":[44],"deviceNodes":["#,
                "unknown field `additionalGids`",
            ),
            (
                r#""devices":["#,
                r#""annotations":{"a":"b"},"devices":["#,
                "unknown field `annotations`",
            ),
            (r#""name":"a""#, r#""name":"a","name2":1"#, "unknown field `name2`"),
            (r#""deviceNodes":["#, r#""env":null,"deviceNodes":["#, "invalid type: null"),
            (r#""deviceNodes":["#, r#""intelRdt":{},"deviceNodes":["#, "unknown field `intelRdt`"),
            (r#""devices":["#, r#""devices":[{"name":"a","containerEdits":{}},"#, "two devices"),
            (&good, "kind: nvidia.com/mig\n", "expected value"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = edits(&good.replace(from, to)).unwrap_err();
            assert!(error.contains(why), "{from} -> {to}: {error}");
        }
    }
}
