//! Files of `docs/` that are made into pages.

use crate::{Error, Result, source_root};
use std::fs;

/// Page of section 5 that is made from a file of `docs/`.
pub(super) struct DocumentPage {
    /// Name of the page.
    pub(super) name: &'static str,
    /// Path of the file in the source tree.
    pub(super) file: &'static str,
    /// Description in its section NAME.
    pub(super) about: &'static str,
}

pub(super) const PAGES: [DocumentPage; 3] = [
    DocumentPage {
        name: "mig-cdi-layouts",
        file: "docs/layouts.md",
        about: "layouts of GPUs, on the command line and in files",
    },
    DocumentPage {
        name: "mig-cdi-node",
        file: "docs/node-description.md",
        about: "descriptions of simulated nodes with NVIDIA GPUs",
    },
    DocumentPage {
        name: "mig-cdi-spec",
        file: "docs/spec.md",
        about: "contents of the CDI specs that mig-cdi writes",
    },
];

/// Reads a file of `docs/`.
pub(super) fn read(file: &'static str) -> Result<String> {
    let text = fs::read_to_string(source_root().join(file));
    text.map_err(|e| Error { source: file, part: format!("read: {e}") })
}
