//! The document as text. The same document is the same bytes, always.

use mig_cdi_model::cdi::Spec;
use serde_json::Value;
use std::fmt::Write;

/// How the document is written. Engines read both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
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
        Format::Json => Ok(serde_json::to_string_pretty(spec)? + "\n"),
        Format::Yaml => {
            let mut text = String::new();
            block(&serde_json::to_value(spec)?, 0, &mut text);
            Ok(text)
        }
    }
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
