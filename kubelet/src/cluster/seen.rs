//! The node as the API server has it, and what is to be written so that it says what we want. Pure.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Keys of the labels that we set, so that the next start of the plugin knows which of them to take back.
const MEMORY: &str = "nvidia.com/mig-cdi.labels";

/// Metadata of a node. What is not read is not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Seen {
    pub metadata: Metadata,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub resource_version: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

impl Seen {
    /// True unless `other` is known to be newer. Versions are numbers in every API server there is; of
    /// others nothing is assumed.
    pub(crate) fn follows(&self, other: &Seen) -> bool {
        let number = |seen: &Seen| seen.metadata.resource_version.parse::<u64>();
        match (number(self), number(other)) {
            (Ok(mine), Ok(theirs)) => mine >= theirs,
            _ => true,
        }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.get(key).map(String::as_str)
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.get(key).map(String::as_str)
    }
}

/// What the node shall say. `None` for a key takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// All labels that describe the node. Until they are known none is touched.
    pub labels: Option<BTreeMap<String, String>>,
    /// Labels by themselves, which a start of the plugin does not take back.
    pub states: BTreeMap<String, Option<String>>,
    pub annotations: BTreeMap<String, Option<String>>,
}

impl Wanted {
    /// The merge patch that makes it so, or nothing when it is so.
    pub(crate) fn patch(&self, seen: &Seen) -> Option<Value> {
        let (mut labels, mut annotations) = (Map::new(), Map::new());
        let mut notes = self.annotations.clone();
        if let Some(wanted) = &self.labels {
            let remembered = seen.annotation(MEMORY).unwrap_or_default().split(',');
            let gone = remembered.filter(|key| !key.is_empty() && !wanted.contains_key(*key));
            let gone = gone.filter(|key| !self.states.contains_key(*key));
            differences(gone.map(|key| (key, None)), &seen.metadata.labels, &mut labels);
            let pairs = wanted.iter().map(|(key, value)| (key.as_str(), Some(value.as_str())));
            differences(pairs, &seen.metadata.labels, &mut labels);
            let ours: Vec<_> = wanted.keys().map(String::as_str).collect();
            notes.insert(MEMORY.to_owned(), (!ours.is_empty()).then(|| ours.join(",")));
        }
        let pairs = |map| pairs(map).into_iter();
        differences(pairs(&self.states), &seen.metadata.labels, &mut labels);
        differences(pairs(&notes), &seen.metadata.annotations, &mut annotations);
        if labels.is_empty() && annotations.is_empty() {
            return None;
        }
        Some(json!({"metadata": {"labels": labels, "annotations": annotations}}))
    }
}

fn pairs(map: &BTreeMap<String, Option<String>>) -> Vec<(&str, Option<&str>)> {
    map.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect()
}

fn differences<'a>(
    wanted: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    is: &BTreeMap<String, String>,
    patch: &mut Map<String, Value>,
) {
    for (key, value) in wanted {
        if is.get(key).map(String::as_str) != value {
            patch.insert(key.to_owned(), json!(value));
        }
    }
}

/// Why the API server would not take a label, and with it all others of the request. The rules are those
/// of k8s.io/apimachinery, `IsQualifiedName` and `IsValidLabelValue`.
pub(crate) fn bad_label(key: &str, value: &str) -> Option<String> {
    let is_word = |text: &str| {
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let edge = |c: char| c.is_ascii_alphanumeric();
        text.len() <= 63 && text.chars().all(fit) && text.starts_with(edge) && text.ends_with(edge)
    };
    let is_domain = |text: &str| {
        let part = |part: &str| {
            let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !part.is_empty()
                && part.chars().all(fit)
                && !part.starts_with('-')
                && !part.ends_with('-')
        };
        text.len() <= 253 && text.split('.').all(part)
    };
    let key_is_fit = match key.split_once('/') {
        Some((domain, name)) => is_domain(domain) && is_word(name),
        None => is_word(key),
    };
    if !key_is_fit {
        return Some(format!("label {key:?}: kubernetes takes no such key; it is left out"));
    }
    let is_bad = !value.is_empty() && !is_word(value);
    is_bad.then(|| {
        format!("label {key}: kubernetes takes no such value as {value:?}; it is left out")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn wish(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), v.map(str::to_owned))).collect()
    }

    fn seen(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Seen {
        let metadata =
            Metadata { labels: map(labels), annotations: map(annotations), ..Metadata::default() };
        Seen { metadata }
    }

    #[test]
    fn only_differences_are_written() {
        let wanted = Wanted { labels: Some(map(&[("a", "1"), ("b", "2")])), ..Wanted::default() };
        let patch = wanted.patch(&seen(&[("a", "1"), ("foreign", "y")], &[]));
        let expected = json!({"metadata": {"labels": {"b": "2"},
            "annotations": {MEMORY: "a,b"}}});
        assert_eq!(patch, Some(expected));
        let patch =
            wanted.patch(&seen(&[("a", "1"), ("b", "2"), ("foreign", "y")], &[(MEMORY, "a,b")]));
        assert_eq!(patch, None);
    }

    #[test]
    fn what_an_earlier_start_has_set_is_taken_back() {
        let mut wanted = Wanted { labels: Some(map(&[("a", "1")])), ..Wanted::default() };
        wanted.states = wish(&[("state", Some("success"))]);
        let labels = [("a", "1"), ("old", "1"), ("state", "failed"), ("foreign", "y")];
        let patch = wanted.patch(&seen(&labels, &[(MEMORY, "a,old,lost,state")]));
        let expected = json!({"metadata": {"labels": {"old": null, "state": "success"},
            "annotations": {MEMORY: "a"}}});
        assert_eq!(patch, Some(expected));
        // Before the node is known nothing is taken back.
        wanted = Wanted::default();
        assert_eq!(wanted.patch(&seen(&labels, &[(MEMORY, "a,old")])), None);
        wanted.labels = Some(BTreeMap::new());
        let patch = wanted.patch(&seen(&[], &[(MEMORY, "a")]));
        assert_eq!(patch, Some(json!({"metadata": {"labels": {}, "annotations": {MEMORY: null}}})));
    }

    #[test]
    fn older_versions_do_not_follow() {
        let of = |version: &str| {
            let mut seen = Seen::default();
            seen.metadata.resource_version = version.to_owned();
            seen
        };
        assert!(
            of("10").follows(&of("9")) && of("9").follows(&of("9")) && of("x").follows(&of("9"))
        );
        assert!(!of("9").follows(&of("10")));
    }

    #[test]
    fn labels_that_kubernetes_refuses_are_known() {
        let long = "x".repeat(64);
        for (key, value) in [
            ("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB"),
            ("nvidia.com/mig-1g.10gb.count", "7"),
            ("plain", ""),
        ] {
            assert_eq!(bad_label(key, value), None, "{key}");
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
            assert!(bad_label(key, value).is_some(), "{key} {value}");
        }
    }
}
