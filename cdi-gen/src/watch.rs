//! The watch: a refresh whenever something has changed, each in a process of its own.
//!
//! [`RefreshTrigger`] decides when one is due, [`crate::refresh`] does it, [`prune`] takes devices out of a spec when the driver
//! cannot be asked. The watch itself never opens NVML.

pub(crate) mod driver_events;
mod engine_cache;
pub(crate) mod external_changes;
pub(crate) mod metrics;
pub(crate) mod prune;
pub(crate) mod refresh_trigger;
pub use driver_events::Hearing;
pub mod status;
mod xid;

use crate::{
    Error, Exit, MessageSink, NodeSource, Result, child,
    generate::{GenerateOptions, SpecTarget, SpecTargets, spec_targets},
    inventory::Inventory,
    refresh::{Mark, RefreshReply, RefreshReport, RefreshRequest},
    spec_file::DefinedNames,
};
use engine_cache::EngineCache;
use external_changes::{below, is_foreign, is_foreign_node};
use mig_cdi_sys::{FileStamp, Fingerprint, Outcome, Root, SdNotify, is_root, nvml::Xid};
use prune::{Truth, prune};
use refresh_trigger::{Due, RefreshTrigger, settled};
use status::{LastError, NodeStatus, State, Status, now};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest time that a refresh may take. NVML on a large machine without persistence mode takes seconds.
const REFRESH_LIMIT: Duration = Duration::from_secs(60);

/// An event of the watch, for the program that it is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The watch has begun: from now on SIGTERM, SIGINT and SIGHUP are its own.
    Started,
    /// The specs are current, and these are the slices that they define.
    Refreshed(Inventory),
    /// The node could not be asked.
    Failed {
        /// Cause, on one line.
        cause: String,
        /// CDI names that the specs on disk still define: as far as `/proc` shows, they are what they were.
        standing: BTreeSet<String>,
    },
    /// A GPU has an error that the driver calls critical. Sent at once, and only with [`WatchOptions::error_events`]. What is
    /// refreshed next was read after it.
    Xid(Xid),
    /// SIGHUP: what was held against a device may be forgotten. What is refreshed next was read after it.
    Reload,
}

/// Options of the watch that last as long as it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchOptions {
    /// Directory of `status.json`.
    pub state_dir: PathBuf,
    /// File of metrics for Prometheus' node exporter.
    pub metrics_file: Option<PathBuf>,
    /// Whether the host's device nodes are repaired too. Only root can.
    pub repair_nodes: bool,
    /// Time between two polls of the driver's capability tree.
    pub interval: Duration,
    /// Time after which NVML is asked although nothing seems to have changed.
    pub resync: Duration,
    /// Whether the driver's critical errors (XIDs) are reported, of every GPU.
    pub error_events: bool,
    /// Whether refreshes are to report an [`Inventory`].
    pub inventory: bool,
}

/// Settings of the watch that a reload may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSetup {
    /// Node that is watched.
    pub node: NodeSource,
    /// Options of the specs.
    pub generate: GenerateOptions,
    /// Whether the driver's events of MIG changes are subscribed to.
    pub driver_events: bool,
}

impl WatchSetup {
    fn targets(&self) -> Result<SpecTargets> {
        spec_targets(&self.generate, "watch writes a file")
    }
}

/// Watches this machine until SIGTERM or SIGINT.
///
/// `read_setup` reads the configuration anew, with the flags that win over it. `on_event` is called in this thread.
///
/// # Errors
/// When the setup names no file to write, or the kernel refuses to report events.
pub fn run_watch(
    options: &WatchOptions,
    read_setup: &dyn Fn() -> Result<WatchSetup>,
    messages: &dyn MessageSink,
    on_event: &mut dyn FnMut(WatchEvent),
) -> Result<()> {
    let setup = read_setup()?;
    if setup.node.is_simulated() {
        return Err(
            Error::usage("", "watch follows a driver").because("a simulated node never changes")
        );
    }
    let mut watch = Watch::new(options, setup, read_setup, messages, on_event)?;
    (watch.on_event)(WatchEvent::Started);
    watch.manager.notify("STATUS=looking at the node for the first time\n");
    let ended = watch.run();
    watch.manager.notify("STOPPING=1\n");
    watch.status.state = State::Stopped;
    watch.publish();
    ended
}

/// State of a running watch.
struct Watch<'a> {
    options: &'a WatchOptions,
    setup: WatchSetup,
    read_setup: &'a dyn Fn() -> Result<WatchSetup>,
    messages: &'a dyn MessageSink,
    on_event: &'a mut dyn FnMut(WatchEvent),
    proc: Root,
    trigger: RefreshTrigger,
    manager: SdNotify,
    targets: SpecTargets,
    status: Status,
    /// The capability tree when the specs were last written.
    good: Option<Fingerprint>,
    /// Specs as the last refresh, or prune, left them.
    own: Vec<Mark>,
    /// Device nodes that the last refresh has changed, as it left them.
    own_nodes: BTreeMap<PathBuf, Mark>,
    /// The last refresh found devices, and could confirm none of them.
    was_uncertain: bool,
    engines: EngineCache,
    /// Warnings that were given already.
    warned: BTreeSet<String>,
}

impl<'a> Watch<'a> {
    fn new(
        options: &'a WatchOptions,
        setup: WatchSetup,
        read_setup: &'a dyn Fn() -> Result<WatchSetup>,
        messages: &'a dyn MessageSink,
        on_event: &'a mut dyn FnMut(WatchEvent),
    ) -> Result<Watch<'a>> {
        let targets = setup.targets()?;
        Ok(Watch {
            options,
            proc: Root::open(&setup.node.roots.proc)?,
            setup,
            read_setup,
            messages,
            on_event,
            trigger: RefreshTrigger::new(options.interval, options.resync)?,
            manager: SdNotify::from_env(),
            status: Status::new(targets.mig.file.path()),
            targets,
            good: None,
            own: Vec::new(),
            own_nodes: BTreeMap::new(),
            was_uncertain: false,
            engines: EngineCache::default(),
            warned: BTreeSet::new(),
        })
    }

    fn run(&mut self) -> Result<()> {
        let mut is_changing = false;
        loop {
            let setup = self.reload_setup();
            self.report_xids();
            self.trigger.begin();
            let before = match is_changing {
                false => Fingerprint::take(&self.proc),
                true => settled(&self.proc),
            };
            self.refresh(&before, setup);
            self.subscribe();
            self.publish();
            // WATCHDOG as well: one refresh may follow another without a wait between them.
            self.manager.notify(&format!("READY=1\nWATCHDOG=1\nSTATUS={}\n", self.summary()));
            // The node has changed while it was read, or another program has replaced a file.
            is_changing = !before.is_unchanged(&self.proc);
            if is_changing {
                continue;
            }
            if self.marks() != self.own {
                self.trigger.hurry(Instant::now());
            }
            match self.wait(&before)? {
                Due::Stop => return Ok(()),
                Due::Reload => {
                    self.manager.notify_reloading();
                    self.report_xids();
                    self.trigger.ear.stop();
                    (self.on_event)(WatchEvent::Reload);
                }
                _ => {}
            }
        }
    }

    /// Waits until a refresh is due, or the watch has to reload or stop.
    fn wait(&mut self, before: &Fingerprint) -> Result<Due> {
        loop {
            let dev = below(&self.setup.node.roots.dev, "/dev");
            let is_foreign = |path: &Path| match path.strip_prefix(&dev) {
                Ok(name) => is_foreign_node(name, path, &self.own_nodes),
                Err(_) => is_foreign(path, &self.targets, &self.own),
            };
            match self.trigger.wait(before, &self.proc, &self.manager, is_foreign)? {
                Due::News(line) => {
                    self.messages.status(&line);
                    self.publish();
                }
                Due::Xid(xid) => self.report_xid(xid),
                due => return Ok(due),
            }
        }
    }

    /// Reads the configuration again. While it is wrong, the setup of before stays in force and each refresh fails with the cause.
    fn reload_setup(&mut self) -> Result<()> {
        let setup = (self.read_setup)()?;
        if setup == self.setup {
            return Ok(());
        }
        let targets = setup.targets()?;
        let proc = Root::open(&setup.node.roots.proc)?;
        // Nothing would keep the old files current, and they could define the same devices.
        for SpecTarget { kind, file } in self.targets.iter() {
            let stays = targets.iter().any(|new| new.file.path() == file.path());
            if !stays && file.read().is_ok_and(|found| found.is_some()) {
                match file.lock().and_then(|_lock| file.clear(kind)) {
                    Ok(_) => self.messages.status(&format!(
                        "removed {}: by the settings of now it is another file",
                        file.path().display()
                    )),
                    Err(failure) => self.messages.warn(&failure.to_string()),
                }
            }
        }
        if setup.node.roots.proc != self.setup.node.roots.proc {
            self.good = None;
        }
        self.trigger.ear.stop();
        self.status.spec = targets.mig.file.path();
        (self.targets, self.proc, self.setup) = (targets, proc, setup);
        Ok(())
    }

    /// Runs one refresh, unless the setup could not be read, and records its outcome.
    fn refresh(&mut self, before: &Fingerprint, setup: Result<()>) {
        let begin = Instant::now();
        self.watch_dirs();
        let files = self.marks();
        let reply =
            setup.map_err(|failure| (Some(Exit::from(failure.kind) as i32), failure.to_string()));
        let reply = reply.and_then(|()| self.call_refresh());
        self.status.refreshes += 1;
        self.status.refreshed = Some(now());
        let is_good = match reply {
            Ok(report) => {
                self.own.clone_from(&report.spec_marks);
                self.succeeded(report, before)
            }
            Err((exit, message)) => {
                self.failed(LastError { time: now(), exit, message }, before);
                self.own = self.marks();
                false
            }
        };
        if self.own != files {
            self.status.changes += 1;
            self.status.changed = Some(now());
        }
        self.status.seconds = begin.elapsed().as_secs_f64();
        self.trigger.refreshed(is_good);
    }

    /// Watches the directories whose files matter: those of specs, of driver files and of device nodes.
    fn watch_dirs(&mut self) {
        let spec_dirs = self.setup.generate.spec_dirs.iter().map(PathBuf::as_path);
        let targets = self.targets.iter().map(|target| target.file.dir());
        let libraries = self.status.node.file_dirs.iter().map(PathBuf::as_path);
        spec_dirs.chain(targets).chain(libraries).for_each(|dir| self.trigger.listen(dir, true));
        if is_root() && self.options.repair_nodes {
            for dir in ["/dev", "/dev/nvidia-caps"] {
                self.trigger.listen(&below(&self.setup.node.roots.dev, dir), false);
            }
        }
    }

    /// Runs the refresh in a child. The error is its exit code, unless it was killed, with its cause.
    fn call_refresh(&mut self) -> Result<RefreshReport, (Option<i32>, String)> {
        let mut generate = self.setup.generate.clone();
        generate.devices.engines = self.engines.lookup(&generate.devices.engines);
        let request = RefreshRequest {
            roots: self.setup.node.roots.clone(),
            source: self.setup.node.source,
            generate,
            repair_nodes: self.options.repair_nodes,
            inventory: self.options.inventory,
            all_gpus: self.options.error_events,
        };
        match child::call(child::REFRESH, &request, REFRESH_LIMIT) {
            Ok(RefreshReply::Done(report)) => Ok(*report),
            Ok(RefreshReply::Failed(failure)) => {
                Err((Some(Exit::from(failure.kind) as i32), failure.to_string()))
            }
            Err(failure) => Err((None, failure.to_string())),
        }
    }

    /// Records a refresh that did not fail. Returns false when nothing was certain, so that another refresh is due soon.
    fn succeeded(&mut self, mut report: RefreshReport, before: &Fingerprint) -> bool {
        self.status.state = if report.omitted == 0 { State::Ok } else { State::Incomplete };
        self.status.succeeded = self.status.refreshed;
        for change in report.node_changes.drain(..) {
            self.messages.status(&format!("device nodes: {change}"));
        }
        for warning in report.warnings.drain(..) {
            self.warn_once(&warning);
        }
        self.engines.update(report.engines.take());
        self.own_nodes = report.node_marks.drain(..).collect();
        let inventory = report.inventory.take();
        let nothing_written = report.devices.is_empty() && report.omitted > 0;
        self.status.node = NodeStatus::from(report);
        if nothing_written {
            self.nothing_certain(before);
        } else {
            self.was_uncertain = false;
            if let Some(inventory) = inventory {
                (self.on_event)(WatchEvent::Refreshed(inventory));
            }
            self.good = Some(before.clone());
        }
        !nothing_written
    }

    /// Handles a refresh that found devices and could confirm none. The two views may have been read in the middle of a change:
    /// only the second time, and only while the tree stands still, is the spec removed.
    fn nothing_certain(&mut self, before: &Fingerprint) {
        let stands_still = before.is_unchanged(&self.proc);
        match self.was_uncertain && stands_still {
            false => self.prune(before),
            true => self.remove_spec(),
        }
        self.was_uncertain |= stands_still;
        self.own = self.marks();
        self.report_failed("no slice is certain".to_owned());
    }

    /// Records a refresh that failed. The specs stay, without devices that are gone.
    fn failed(&mut self, failure: LastError, before: &Fingerprint) {
        self.status.failures += 1;
        let is_new = self.status.state != State::Failing
            || self.status.error.as_ref().map(|old| &old.message) != Some(&failure.message);
        if is_new {
            self.messages.error(&failure.message);
        }
        self.status.state = State::Failing;
        self.prune(before);
        self.report_failed(failure.message.clone());
        self.status.error = Some(failure);
    }

    /// Reports which devices the specs still define, though the node cannot be asked.
    fn report_failed(&mut self, cause: String) {
        let mut standing = BTreeSet::new();
        for SpecTarget { kind, file } in self.targets.iter() {
            let Some(names) =
                file.read().ok().flatten().and_then(|spec| DefinedNames::parse(&spec))
            else {
                continue;
            };
            standing.extend(names.devices().map(|name| format!("{kind}={name}")));
        }
        (self.on_event)(WatchEvent::Failed { cause, standing });
    }

    fn prune(&mut self, before: &Fingerprint) {
        if let Err(failure) = self.try_prune(before) {
            self.warn_once(&failure.to_string());
        }
    }

    fn try_prune(&self, before: &Fingerprint) -> Result<()> {
        let machine = self.setup.node.machine()?;
        let truth = Truth::read(machine.as_ref(), before.clone());
        for SpecTarget { kind, file } in self.targets.iter() {
            let gone = prune(&truth, self.good.as_ref(), file, kind)?;
            if gone > 0 {
                self.messages.status(&format!(
                    "took {gone} {kind} devices out of {}: they are gone, or may be others",
                    file.path().display()
                ));
            }
        }
        Ok(())
    }

    /// Removes the spec of the MIG devices: it defines devices of which none is certain.
    fn remove_spec(&mut self) {
        let SpecTarget { kind, file } = &self.targets.mig;
        let cleared = file.lock().and_then(|_lock| file.clear(kind));
        match cleared {
            Ok(Outcome::Changed) => {
                let path = file.path();
                let message = format!("removed {}: no {kind} device is certain", path.display());
                self.messages.status(&message);
            }
            Ok(Outcome::Unchanged) => {}
            Err(failure) => self.warn_once(&failure.to_string()),
        }
    }

    fn marks(&self) -> Vec<Mark> {
        self.targets.iter().map(|target| FileStamp::of(&target.file.path())).collect()
    }

    /// Writes `status.json` and the metrics.
    fn publish(&mut self) {
        let RefreshTrigger { wakeups, told_changes, ear, .. } = &self.trigger;
        (self.status.wakeups, self.status.told_changes) = (*wakeups, *told_changes);
        (self.status.driver_events, self.status.listener) = (ear.hearing(), ear.pid());
        self.status.driver_errors = ear.errors();
        let written = self.status.write(&self.options.state_dir);
        let metrics = self.options.metrics_file.as_deref();
        let metrics = metrics.map_or(Ok(()), |path| metrics::write(&self.status, path));
        for failure in [written.err(), metrics.err()].into_iter().flatten() {
            self.warn_once(&failure.to_string());
        }
    }

    fn warn_once(&mut self, message: &str) {
        if self.warned.insert(message.to_owned()) {
            self.messages.warn(message);
        }
    }

    fn summary(&self) -> String {
        let devices = self.status.node.devices.len();
        match (&self.status.state, &self.status.error) {
            (State::Failing, Some(error)) => format!("failing: {}", error.message),
            (State::Incomplete, _) => {
                format!("{devices} slices, {} left out", self.status.node.omitted)
            }
            _ => format!("{devices} slices"),
        }
    }
}
