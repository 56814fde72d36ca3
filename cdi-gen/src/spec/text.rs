//! The document as text. The same document is the same bytes, always.

use mig_cdi_model::cdi::{ContainerEdits, Spec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write;

/// How the document is written. Engines read both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML, with every string quoted.
    Yaml,
}

impl Format {
    /// The suffix that engines look for.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Yaml => "yaml",
        }
    }
}

/// Writes the document down.
///
/// # Errors
/// Never for a document that was built here; serde's signature.
pub fn to_text(spec: &Spec, format: Format) -> serde_json::Result<String> {
    match format {
        Format::Json => lines(spec),
        Format::Yaml => {
            let mut text = String::new();
            block(&serde_json::to_value(spec)?, 0, &mut text);
            Ok(text)
        }
    }
}

/// JSON with one line for each device and for each file. Engines read every spec at every start of a
/// container, most of them through a YAML parser: white space costs them time, and a line for each
/// number costs a reader's.
fn lines(spec: &Spec) -> serde_json::Result<String> {
    fn list<T: serde::Serialize>(items: &[T]) -> serde_json::Result<String> {
        let items = items.iter().map(serde_json::to_string);
        Ok(format!("[\n{}\n]", items.collect::<Result<Vec<_>, _>>()?.join(",\n")))
    }
    let Spec { cdi_version, kind, devices, container_edits } = spec;
    let ContainerEdits { env, device_nodes, mounts, hooks } = container_edits;
    let mut edits = Vec::new();
    if !env.is_empty() {
        edits.push(format!("\"env\":{}", list(env)?));
    }
    if !device_nodes.is_empty() {
        edits.push(format!("\"deviceNodes\":{}", list(device_nodes)?));
    }
    if !mounts.is_empty() {
        edits.push(format!("\"mounts\":{}", list(mounts)?));
    }
    if !hooks.is_empty() {
        edits.push(format!("\"hooks\":{}", list(hooks)?));
    }
    Ok(format!(
        "{{\"cdiVersion\":\"{cdi_version}\",\n\"kind\":\"{kind}\",\n\"devices\":{},\n\
         \"containerEdits\":{{\n{}}}}}\n",
        list(devices)?,
        edits.join(",\n")
    ))
}

/// Block style YAML in which every string is a JSON string. Plain YAML 1.1 strings are a trap that
/// engines are caught in: `y` is true there, and `0:1` is a number to base sixty.
fn block(value: &Value, depth: usize, text: &mut String) {
    let entry = |key: &str, value: &Value, text: &mut String| {
        let nested = matches!(value, Value::Object(_) | Value::Array(_));
        let _ = match nested {
            true => writeln!(text, "{key}:"),
            false => writeln!(text, "{key}: {value}"),
        };
        if nested {
            block(value, depth + 1, text);
        }
    };
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.push_str(&indent);
                entry(key, value, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut nested = String::new();
                block(item, depth + 1, &mut nested);
                // The dash takes the place of the item's own indentation.
                let _ = writeln!(text, "{indent}- {}", nested.trim());
            }
        }
        scalar => {
            let _ = writeln!(text, "{indent}{scalar}");
        }
    }
}
