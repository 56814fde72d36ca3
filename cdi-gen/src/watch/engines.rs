//! What refreshes have learned of the engines, so that not each of them asks again: a `--version` takes as
//! long as all the rest.

use super::status::Mark;
use crate::{cli::SpecArgs, engines::program_paths};
use mig_cdi_sys::{Root, file_mark};
use std::{ffi::OsString, path::Path};

/// Their versions, for as long as their programs are the same.
#[derive(Debug, Default)]
pub(crate) struct KnownEngines {
    /// As `--engines` says them, once a refresh had to know.
    said: Option<String>,
    /// Their programs, as they were before that refresh.
    marks: Vec<Mark>,
}

impl KnownEngines {
    /// What the next refresh is told: nothing when it has to ask, or has been told by somebody else.
    pub(crate) fn argument(&mut self, args: &SpecArgs) -> Option<OsString> {
        if args.engines.is_some() {
            return None;
        }
        let marks = marks(args.engines_root.as_deref().unwrap_or(Path::new("/")));
        if marks != self.marks {
            self.said = None;
            self.marks = marks;
        }
        self.said.as_ref().map(|said| format!("--engines={said}").into())
    }

    /// Takes what a refresh found.
    pub(crate) fn learn(&mut self, said: Option<String>) {
        self.said = said.or(self.said.take());
    }
}

fn marks(root: &Path) -> Vec<Mark> {
    let Ok(root) = Root::open(root) else { return Vec::new() };
    let mark = |program: String| file_mark(&root.resolve(&program).ok()?);
    program_paths().map(mark).collect()
}
