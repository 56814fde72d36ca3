//! What the plugin allocates, compared with the specs on disk.

use crate::{
    FakeHost,
    fake_kubelet::{FakeKubelet, is_qualified},
};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
};

/// Returns all device names that specs on disk define, with their kinds.
///
/// # Panics
/// When a spec cannot be read.
#[must_use]
pub fn defined(host: &FakeHost) -> BTreeSet<String> {
    let files =
        fs::read_dir(host.out()).expect("a directory").map(|entry| entry.expect("it works").path());
    let specs = files.filter(|path| path.extension().is_some_and(|suffix| suffix == "json"));
    let names = specs.flat_map(|path| {
        let spec: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).expect("it works")).expect("it works");
        let kind = spec["kind"].as_str().expect("it works").to_owned();
        let devices = spec["devices"].as_array().expect("it works").clone();
        devices
            .into_iter()
            .map(move |device| format!("{kind}={}", device["name"].as_str().expect("it works")))
    });
    names.collect()
}

/// Returns the device names of CDI's annotations: a list with commas (`kubelet_api` in `tests/tests/host` parses them with CDI's
/// own library).
#[must_use]
pub fn annotated(annotations: &HashMap<String, String>) -> Vec<&str> {
    annotations.values().flat_map(|names| names.split(',')).collect()
}

/// Asserts that every advertised device can be allocated, by names that specs on disk define.
///
/// # Panics
/// When one cannot, or its answer is not that of a container.
pub fn all_resolve(host: &FakeHost, kubelet: &FakeKubelet) {
    let defined = defined(host);
    for resource in kubelet.alive() {
        for id in kubelet.healthy(&resource) {
            let answer = kubelet.allocate(&resource, &[&[&id]]).expect("it works");
            let container = &answer.container_responses[0];
            assert_eq!(container.cdi_devices.len(), 1, "{container:?}");
            assert!(defined.contains(&container.cdi_devices[0].name), "{container:?} {defined:?}");
            let annotations = &container.annotations;
            assert!(annotations.keys().all(|key| is_qualified(key)), "{annotations:?}");
            assert_eq!(annotated(annotations), [container.cdi_devices[0].name.as_str()]);
            assert!(container.envs.is_empty());
        }
    }
}
