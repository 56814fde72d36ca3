//! Parts of the specs that a host has, as JSON.

use crate::FakeHost;
use serde_json::Value;
use std::fs;

/// Reads a spec by its file name; `None` when there is no such file.
///
/// # Panics
/// When it is not JSON.
#[must_use]
pub fn read(host: &FakeHost, name: &str) -> Option<Value> {
    let text = fs::read_to_string(host.out().join(name)).ok()?;
    Some(serde_json::from_str(&text).expect("a spec in JSON"))
}

/// Returns the names of the devices.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn names(spec: &Value) -> Vec<&str> {
    let devices = spec["devices"].as_array().expect("devices");
    devices.iter().map(|device| device["name"].as_str().expect("a name")).collect()
}

/// Returns the paths of a device's nodes.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn paths(device: &Value) -> Vec<&str> {
    let nodes = device["containerEdits"]["deviceNodes"].as_array().expect("nodes");
    nodes.iter().map(|node| node["path"].as_str().expect("a path")).collect()
}
