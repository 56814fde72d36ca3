//! Versions of the engines, kept from one refresh to the next: running `ENGINE --version` takes as long as the rest of a refresh.

use crate::{
    engines::{EngineList, program_paths},
    generate::EngineLookup,
};
use mig_cdi_sys::{FileStamp, Root};
use std::path::Path;

/// Versions of the engines, which hold as long as their programs stay the same files.
#[derive(Debug, Default)]
pub(crate) struct EngineCache {
    /// List from the last refresh that needed it.
    list: Option<EngineList>,
    /// Stamps of the engines' programs before that refresh.
    stamps: Vec<Option<FileStamp>>,
}

impl EngineCache {
    /// Lookup for the next refresh: the known list in place of `lookup`, unless a program has changed since.
    pub(crate) fn lookup(&mut self, lookup: &EngineLookup) -> EngineLookup {
        let EngineLookup::Installed(root) = lookup else { return lookup.clone() };
        // Before the refresh: a program that is upgraded while it runs has another stamp at the next one.
        let stamps = program_stamps(root);
        if stamps != self.stamps {
            self.list = None;
            self.stamps = stamps;
        }
        self.list.clone().map_or_else(|| lookup.clone(), EngineLookup::Listed)
    }

    /// Keeps the list that a refresh reports. A refresh that did not need the engines reports none.
    pub(crate) fn update(&mut self, list: Option<EngineList>) {
        self.list = list.or(self.list.take());
    }
}

fn program_stamps(root: &Path) -> Vec<Option<FileStamp>> {
    let Ok(root) = Root::open(root) else { return Vec::new() };
    let stamp = |program: String| FileStamp::of(&root.resolve(&program).ok()?);
    program_paths().map(stamp).collect()
}
