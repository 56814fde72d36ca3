//! A spec as text. The same spec is the same bytes, always.

use super::{ContainerEdits, Spec};
use serde_json::Value;
use std::fmt::Write;

impl Spec {
    /// Writes the spec as JSON, with one line for each device and for each file.
    ///
    /// # Errors
    /// Never for a spec of these types; the signature is serde's.
    // Engines read every spec at every start of a container, most of them through a YAML parser: white space costs them
    // time, and a line for each number costs a reader's.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let Spec { cdi_version, kind, devices, container_edits, .. } = self;
        // The rest is of no spec that is written.
        let ContainerEdits { env, device_nodes, mounts, hooks, .. } = container_edits;
        let lists = [
            ("env", list(env)?),
            ("deviceNodes", list(device_nodes)?),
            ("mounts", list(mounts)?),
            ("hooks", list(hooks)?),
        ];
        let edits =
            lists.into_iter().filter_map(|(key, list)| Some(format!("\"{key}\":{}", list?)));
        let edits = edits.collect::<Vec<_>>().join(",\n");
        let (version, kind) = (serde_json::to_string(cdi_version)?, serde_json::to_string(kind)?);
        let devices = list(devices)?.unwrap_or_else(|| "[]".to_owned());
        Ok(format!(
            "{{\"cdiVersion\":{version},\n\"kind\":{kind},\n\"devices\":{devices},\n\
             \"containerEdits\":{{\n{edits}}}}}\n",
        ))
    }

    /// Writes the spec as YAML in block style.
    ///
    /// # Errors
    /// Never for a spec of these types; the signature is serde's.
    pub fn to_yaml(&self) -> serde_json::Result<String> {
        let mut text = String::new();
        block(&serde_json::to_value(self)?, 0, &mut text);
        Ok(text)
    }
}

/// A list with one line for each item, `None` for an empty one.
fn list<T: serde::Serialize>(items: &[T]) -> serde_json::Result<Option<String>> {
    let lines = items.iter().map(serde_json::to_string);
    let lines = lines.collect::<serde_json::Result<Vec<_>>>()?.join(",\n");
    // Omitted, as Go's `omitempty` omits an empty list.
    Ok((!items.is_empty()).then(|| format!("[\n{lines}\n]")))
}

/// Block style in which every string is a JSON string. Plain strings of YAML 1.1 are a trap that engines are caught in:
/// `y` is true there, and `0:1` is a number to base sixty (<https://yaml.org/type/int.html>).
fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                text.push_str(&indent);
                entry(key, value, depth, text);
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

/// A key with its value: on the same line, or below it when it is a map or a list.
fn entry(key: &str, value: &Value, depth: usize, text: &mut String) {
    let is_nested = matches!(value, Value::Object(_) | Value::Array(_));
    let _ = match is_nested {
        true => writeln!(text, "{key}:"),
        false => writeln!(text, "{key}: {value}"),
    };
    if is_nested {
        block(value, depth + 1, text);
    }
}
