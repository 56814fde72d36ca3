//! What is deployed to Kubernetes, by Helm's own library.

use crate::{Run, project, run};
use serde_json::Value;
use std::process::Command;

/// What Helm says of the chart with these values: `lint` or `render`.
#[must_use]
pub fn helm(what: &str, values: &str) -> Run {
    let mut helm = Command::new(project().join("tests/helm"));
    run(helm.arg(what).arg(project().join("packaging/kubernetes/chart")).arg(values))
}

/// The chart as Helm renders it.
///
/// # Panics
/// When it does not, or complains.
#[must_use]
pub fn render(values: &str) -> String {
    let rendered = helm("render", values);
    assert_eq!((rendered.code, rendered.stderr.as_str()), (0, ""));
    rendered.stdout
}

/// The documents of YAML.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn documents(text: &str) -> Vec<Value> {
    let documents = format!("\n{text}").split("\n---\n").map(str::to_owned).collect::<Vec<_>>();
    let documents = documents.iter().filter(|text| !text.trim().is_empty());
    documents.map(|text| serde_saphyr::from_str(text).expect("it is YAML")).collect()
}
