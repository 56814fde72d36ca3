//! State of a running watch.

use super::{
    engine_cache::EngineCache,
    options::{WatchEvent, WatchOptions, WatchSetup},
    refresh_trigger::RefreshTrigger,
    status::Status,
};
use crate::{MessageSink, Result, generate::SpecTargets};
use mig_cdi_sys::{FileStamp, Fingerprint, LifeLock, Root, SdNotify};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// State of a running watch.
pub(super) struct RunningWatch<'a> {
    pub options: &'a WatchOptions,
    pub setup: WatchSetup,
    pub read_setup: &'a dyn Fn() -> Result<WatchSetup>,
    pub messages: &'a dyn MessageSink,
    pub on_event: &'a mut dyn FnMut(WatchEvent),
    pub proc: Root,
    pub trigger: RefreshTrigger,
    pub manager: SdNotify,
    pub targets: SpecTargets,
    pub status: Status,
    /// Lock that shows that the status is of a watch that runs; `None` before its first status.
    pub lock: Option<LifeLock>,
    /// Driver's state in `/proc` when the specs were last written.
    pub written_state: Option<Fingerprint>,
    /// Stamps of the specs as the last refresh, or prune, left them.
    pub own_specs: Vec<Option<FileStamp>>,
    /// Stamps of the device nodes that the last refresh has changed, as it left them.
    pub own_nodes: BTreeMap<PathBuf, Option<FileStamp>>,
    /// True when the last refresh found devices and could confirm none of them.
    pub was_unconfirmed: bool,
    pub engines: EngineCache,
    /// Warnings that were logged already.
    pub warned: BTreeSet<String>,
}

impl<'a> RunningWatch<'a> {
    /// Makes the watch of a setup. Nothing is read yet but the roots.
    ///
    /// # Errors
    /// As [`super::run_watch`].
    pub fn new(
        options: &'a WatchOptions,
        setup: WatchSetup,
        read_setup: &'a dyn Fn() -> Result<WatchSetup>,
        messages: &'a dyn MessageSink,
        on_event: &'a mut dyn FnMut(WatchEvent),
    ) -> Result<RunningWatch<'a>> {
        let targets = setup.targets()?;
        Ok(RunningWatch {
            options,
            proc: Root::open(&setup.node.roots.proc)?,
            setup,
            read_setup,
            messages,
            on_event,
            trigger: RefreshTrigger::new(options.interval, options.resync)?,
            manager: SdNotify::from_env(),
            status: Status::new(targets.mig.file.path()),
            lock: None,
            targets,
            written_state: None,
            own_specs: Vec::new(),
            own_nodes: BTreeMap::new(),
            was_unconfirmed: false,
            engines: EngineCache::default(),
            warned: BTreeSet::new(),
        })
    }

    /// Stamps of the specs as they are now.
    pub fn spec_stamps(&self) -> Vec<Option<FileStamp>> {
        self.targets.iter().map(|target| FileStamp::of(&target.file.path())).collect()
    }
}
