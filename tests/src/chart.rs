//! Manifests of the chart, rendered by Helm's own library.

use crate::{Run, project, run};
use serde_json::Value;
use std::process::Command;

/// Runs Helm on the chart with these values: `lint` or `render`.
#[must_use]
pub fn helm(what: &str, values: &str) -> Run {
    run(&mut command(what, values))
}

/// Returns the chart as Helm renders it.
///
/// # Panics
/// When Helm fails or warns.
#[must_use]
pub fn render(values: &str) -> String {
    rendered(helm("render", values))
}

/// Returns the chart as Helm renders it for a version of Kubernetes: `v1.30.0`.
///
/// # Panics
/// When Helm fails or warns.
#[must_use]
pub fn render_for(kubernetes: &str, values: &str) -> String {
    rendered(run(command("render", values).arg(kubernetes)))
}

fn command(what: &str, values: &str) -> Command {
    let mut helm = Command::new(project().join("tests/helm"));
    helm.arg(what).arg(project().join("packaging/kubernetes/chart")).arg(values);
    helm
}

fn rendered(run: Run) -> String {
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    run.stdout
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
