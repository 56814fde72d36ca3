//! Formats of spec files.

use mig_cdi_model::cdi::Spec;
use serde::{Deserialize, Serialize};

/// Format of a spec file. Engines read both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML, with every string quoted.
    Yaml,
}

impl Format {
    /// The suffix that engines look for. They pass over files with any other (container-device-interface,
    /// `pkg/cdi/spec-dirs.go`).
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Yaml => "yaml",
        }
    }
}

/// Writes a spec as text.
///
/// # Errors
/// Never for a spec that was built here; the signature is serde's.
pub fn to_text(spec: &Spec, format: Format) -> serde_json::Result<String> {
    match format {
        Format::Json => spec.to_json(),
        Format::Yaml => spec.to_yaml(),
    }
}
