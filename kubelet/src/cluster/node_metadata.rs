//! The node as the API server has it, and the patch that writes the desired labels and annotations. Pure.

use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Label that names the desired layout, by the contract of the GPU operator's MIG manager.
pub const CONFIG: &str = "nvidia.com/mig.config";
/// Label with the progress of that layout: `pending`, `success` or `failed`.
pub const STATE: &str = "nvidia.com/mig.config.state";
/// Annotation with the reason why the layout failed.
pub const REASON: &str = "nvidia.com/mig-cdi.config.reason";
/// Annotation with the layout that was applied last, and the boot id of the machine then.
pub const LAST: &str = "nvidia.com/mig-cdi.config.last";
/// Annotation with the keys of the labels that we set: the next run of the plugin removes those that it does not set.
const OWN_LABELS: &str = "nvidia.com/mig-cdi.labels";

/// Request for a layout, in the node's labels and annotations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayoutRequest {
    /// Value of the label [`CONFIG`].
    pub config: Option<String>,
    /// Value of the label [`STATE`].
    pub state: Option<String>,
    /// Value of the annotation [`LAST`].
    pub last: Option<String>,
}

/// A node, as far as it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct NodeObject {
    pub metadata: NodeMetadata,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeMetadata {
    pub resource_version: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

impl NodeObject {
    /// Returns false when `other` is known to be newer.
    ///
    /// Resource versions of a built-in kind compare as numbers (KEP-5504, Kubernetes 1.35; before that they did in
    /// every API server on etcd). Of versions that are no numbers nothing is assumed.
    pub(crate) fn follows(&self, other: &NodeObject) -> bool {
        let number = |object: &NodeObject| object.metadata.resource_version.parse::<u64>();
        match (number(self), number(other)) {
            (Ok(own), Ok(others)) => own >= others,
            _ => true,
        }
    }

    pub(crate) fn layout_request(&self) -> LayoutRequest {
        let label = |key| self.metadata.labels.get(key).cloned();
        let last = self.annotation(LAST).map(str::to_owned);
        LayoutRequest { config: label(CONFIG), state: label(STATE), last }
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.get(key).map(String::as_str)
    }
}

/// Labels and annotations that the node is to have. `None` for a key removes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DesiredMetadata {
    /// All labels that describe the node; `None` until they are known, and then no such label is changed.
    pub labels: Option<BTreeMap<String, String>>,
    /// Labels with the progress of a layout, which a later run does not remove.
    pub states: BTreeMap<String, Option<String>>,
    pub annotations: BTreeMap<String, Option<String>>,
}

impl DesiredMetadata {
    /// Merge patch of what differs on a node; `None` when nothing does.
    pub(crate) fn patch(&self, node: &NodeObject) -> Option<Value> {
        let (mut labels, mut annotations) = (Map::new(), Map::new());
        let mut desired_annotations = self.annotations.clone();
        if let Some(desired) = &self.labels {
            let own = node.annotation(OWN_LABELS).unwrap_or_default().split(',');
            let outdated = own.filter(|key| !key.is_empty() && !desired.contains_key(*key));
            // A progress label has its value below; in one patch a key has one value.
            let outdated = outdated.filter(|key| !self.states.contains_key(*key));
            add_changes(outdated.map(|key| (key, None)), &node.metadata.labels, &mut labels);
            let pairs = desired.iter().map(|(key, value)| (key.as_str(), Some(value.as_str())));
            add_changes(pairs, &node.metadata.labels, &mut labels);
            let keys: Vec<_> = desired.keys().map(String::as_str).collect();
            let own = (!keys.is_empty()).then(|| keys.join(","));
            desired_annotations.insert(OWN_LABELS.to_owned(), own);
        }
        let pairs = |map| pairs(map).into_iter();
        add_changes(pairs(&self.states), &node.metadata.labels, &mut labels);
        add_changes(pairs(&desired_annotations), &node.metadata.annotations, &mut annotations);
        if labels.is_empty() && annotations.is_empty() {
            return None;
        }
        Some(json!({"metadata": {"labels": labels, "annotations": annotations}}))
    }
}

fn pairs(map: &BTreeMap<String, Option<String>>) -> Vec<(&str, Option<&str>)> {
    map.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect()
}

/// Adds to a patch each desired value that differs from the current one.
fn add_changes<'a>(
    desired: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    current: &BTreeMap<String, String>,
    patch: &mut Map<String, Value>,
) {
    for (key, value) in desired {
        if current.get(key).map(String::as_str) != value {
            // In a merge patch null removes a key (RFC 7396).
            patch.insert(key.to_owned(), json!(value));
        }
    }
}

/// Checks that the API server accepts a label, by the rules of k8s.io/apimachinery, `IsQualifiedName` and
/// `IsValidLabelValue`. It would refuse the whole patch for one label that it does not accept.
pub(crate) fn check_label(key: &str, value: &str) -> Result<()> {
    let is_key = match key.split_once('/') {
        Some((domain, name)) => is_domain(domain) && is_name(name),
        None => is_name(key),
    };
    if !is_key {
        return Err(Error::LabelKey { key: key.to_owned() });
    }
    if !value.is_empty() && !is_name(value) {
        return Err(Error::LabelValue { key: key.to_owned(), value: value.to_owned() });
    }
    Ok(())
}

/// Returns true for the name part of a key, and for a value that is not empty.
fn is_name(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_end = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.chars().all(is_allowed)
        && text.starts_with(is_end)
        && text.ends_with(is_end)
}

/// Returns true for a DNS subdomain.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty()
            && label.chars().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn states(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect()
    }

    fn node(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> NodeObject {
        let metadata = NodeMetadata {
            labels: map(labels),
            annotations: map(annotations),
            ..NodeMetadata::default()
        };
        NodeObject { metadata }
    }

    #[test]
    fn only_differences_are_written() {
        let desired = DesiredMetadata {
            labels: Some(map(&[("a", "1"), ("b", "2")])),
            ..DesiredMetadata::default()
        };
        let patch = desired.patch(&node(&[("a", "1"), ("foreign", "y")], &[]));
        let expected = json!({"metadata": {"labels": {"b": "2"},
            "annotations": {OWN_LABELS: "a,b"}}});
        assert_eq!(patch, Some(expected));
        let patch = desired
            .patch(&node(&[("a", "1"), ("b", "2"), ("foreign", "y")], &[(OWN_LABELS, "a,b")]));
        assert_eq!(patch, None);
    }

    #[test]
    fn labels_of_an_earlier_run_are_removed() {
        let mut desired =
            DesiredMetadata { labels: Some(map(&[("a", "1")])), ..DesiredMetadata::default() };
        desired.states = states(&[("state", Some("success"))]);
        let labels = [("a", "1"), ("old", "1"), ("state", "failed"), ("foreign", "y")];
        let patch = desired.patch(&node(&labels, &[(OWN_LABELS, "a,old,lost,state")]));
        let expected = json!({"metadata": {"labels": {"old": null, "state": "success"},
            "annotations": {OWN_LABELS: "a"}}});
        assert_eq!(patch, Some(expected));
        // Before the labels are known none is removed.
        desired = DesiredMetadata::default();
        assert_eq!(desired.patch(&node(&labels, &[(OWN_LABELS, "a,old")])), None);
        desired.labels = Some(BTreeMap::new());
        let patch = desired.patch(&node(&[], &[(OWN_LABELS, "a")]));
        assert_eq!(
            patch,
            Some(json!({"metadata": {"labels": {}, "annotations": {OWN_LABELS: null}}}))
        );
    }

    #[test]
    fn an_older_version_does_not_follow() {
        let node = |version: &str| {
            let mut node = NodeObject::default();
            node.metadata.resource_version = version.to_owned();
            node
        };
        assert!(
            node("10").follows(&node("9"))
                && node("9").follows(&node("9"))
                && node("x").follows(&node("9"))
        );
        assert!(!node("9").follows(&node("10")));
    }

    #[test]
    fn labels_that_kubernetes_does_not_accept_are_rejected() {
        let long = "x".repeat(64);
        for (key, value) in [
            ("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB"),
            ("nvidia.com/mig-1g.10gb.count", "7"),
            ("plain", ""),
        ] {
            assert_eq!(check_label(key, value), Ok(()), "{key}");
        }
        for (key, value) in [
            ("nvidia.com/gpu.product", "NVIDIA A100"),
            ("nvidia.com/gpu.product", "-x"),
            ("nvidia.com/gpu.product", long.as_str()),
            ("nvidia.com/", "x"),
            ("Nvidia.com/x", "x"),
            ("nvidia.com/a/b", "x"),
            ("", "x"),
        ] {
            assert!(check_label(key, value).is_err(), "{key} {value}");
        }
    }
}
