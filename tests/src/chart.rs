//! Manifests of the chart, rendered by Helm's own library.

use crate::{Run, project, run};
use serde_json::Value;
use std::process::Command;

/// Runs Helm on the chart with these values: `lint` or `render`.
#[must_use]
pub fn helm(what: &str, values: &str) -> Run {
    let mut helm = Command::new(project().join("tests/helm"));
    run(helm.arg(what).arg(project().join("packaging/kubernetes/chart")).arg(values))
}

/// Returns the chart as Helm renders it.
///
/// # Panics
/// When Helm fails or warns.
#[must_use]
pub fn render(values: &str) -> String {
    let rendered = helm("render", values);
    assert_eq!((rendered.code, rendered.stderr.as_str()), (0, ""));
    rendered.stdout
}

/// Parses the documents of a YAML stream.
///
/// # Panics
/// When it is not YAML.
#[must_use]
pub fn documents(text: &str) -> Vec<Value> {
    let documents = format!("\n{text}").split("\n---\n").map(str::to_owned).collect::<Vec<_>>();
    let documents = documents.iter().filter(|text| !text.trim().is_empty());
    documents.map(|text| serde_saphyr::from_str(text).expect("it is YAML")).collect()
}
