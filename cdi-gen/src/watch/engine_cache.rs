//! Versions of the engines, kept from one refresh to the next: running `ENGINE --version` takes as long as all the rest of one.

use crate::{
    engines::{EngineList, program_paths},
    generate::EngineLookup,
    refresh::Mark,
};
use mig_cdi_sys::{FileStamp, Root};
use std::path::Path;

/// Versions of the engines, for as long as their programs stay the same files.
#[derive(Debug, Default)]
pub(crate) struct EngineCache {
    /// List from the last refresh that needed it.
    list: Option<EngineList>,
    /// Marks of the engines' programs before that refresh.
    marks: Vec<Mark>,
}

impl EngineCache {
    /// Lookup for the next refresh: the known list in place of `lookup`, unless a program has changed since.
    pub(crate) fn lookup(&mut self, lookup: &EngineLookup) -> EngineLookup {
        let EngineLookup::Installed(root) = lookup else { return lookup.clone() };
        let marks = marks(root);
        if marks != self.marks {
            self.list = None;
            self.marks = marks;
        }
        self.list.clone().map_or_else(|| lookup.clone(), EngineLookup::Listed)
    }

    /// Keeps the list that a refresh reports.
    pub(crate) fn update(&mut self, list: Option<String>) {
        let list = list.and_then(|list| list.parse().ok());
        self.list = list.or(self.list.take());
    }
}

fn marks(root: &Path) -> Vec<Mark> {
    let Ok(root) = Root::open(root) else { return Vec::new() };
    let mark = |program: String| FileStamp::of(&root.resolve(&program).ok()?);
    program_paths().map(mark).collect()
}
