//! The watch: a refresh whenever something has changed, each in a process of its own.
//!
//! `refresh_trigger` decides when one is due, [`crate::refresh`] does it, `outcome` records how it ended, and `prune` removes
//! devices from a spec when MIG state cannot be read. The watch itself never opens NVML.

mod driver_events;
mod engine_cache;
mod external_changes;
mod metrics;
mod options;
mod outcome;
mod prune;
mod refresh_trigger;
mod running_watch;
pub mod status;
mod status_output;
mod xid;

pub use mig_cdi_sys::nvml::EventCoverage;
pub use options::{WatchEvent, WatchOptions, WatchSetup};
pub use prune::withdraw_gone;

use crate::{
    Error, MessageSink, Result, child,
    generate::SpecTarget,
    refresh::{RefreshReply, RefreshReport, RefreshRequest},
};
use external_changes::{is_external_file, is_external_node};
use mig_cdi_sys::{DirEvents, Fingerprint, Root, is_root};
use outcome::RefreshFailure;
use refresh_trigger::{TriggerEvent, wait_until_stable};
use running_watch::RunningWatch;
use status::{WatchState, now};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Longest time that a refresh may take. NVML on a large machine without persistence mode takes seconds.
const REFRESH_LIMIT: Duration = Duration::from_secs(60);

/// Watches this machine until SIGTERM or SIGINT.
///
/// `read_setup` reads the configuration again, with the flags that win over it. `on_event` is called in this thread.
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
        return Err(Error::usage("watch", "a simulated node")
            .because("it never changes")
            .with_cure("omit --node"));
    }
    let mut watch = RunningWatch::new(options, setup, read_setup, messages, on_event)?;
    (watch.on_event)(WatchEvent::Started);
    watch.manager.notify("STATUS=reading the node for the first time\n");
    let ended = watch.run();
    watch.manager.notify("STOPPING=1\n");
    watch.status.state = WatchState::Stopped;
    watch.write_status();
    ended
}

impl RunningWatch<'_> {
    fn run(&mut self) -> Result<()> {
        let mut is_changing = false;
        loop {
            let setup = self.reload_setup();
            // Errors first: a refresh that the caller sees after an error was read after it.
            self.report_xids();
            self.trigger.refresh_begins();
            // Taken before the node is read, so that a change during the refresh makes a difference.
            let before = match is_changing {
                false => Fingerprint::take(&self.proc),
                true => wait_until_stable(&self.proc),
            };
            self.refresh(&before, setup);
            self.subscribe();
            self.write_status();
            // READY=1 ends a start or a reload (sd_notify(3)). WATCHDOG=1 as well: one refresh may follow another without a wait
            // between them, and only the wait sends it otherwise.
            self.manager.notify(&format!("READY=1\nWATCHDOG=1\nSTATUS={}\n", self.summary()));
            // Changed while it was read: the specs may mix two states of the node.
            is_changing = !before.is_unchanged(&self.proc);
            if is_changing {
                continue;
            }
            // Another program has replaced a spec during the refresh. inotify(7) may not have reported it: the first refresh makes
            // directories that could not be watched before.
            if self.spec_stamps() != self.own_specs {
                self.trigger.schedule_after_file_change(Instant::now());
            }
            match self.wait(&before)? {
                TriggerEvent::Stop => return Ok(()),
                TriggerEvent::Reload => {
                    self.manager.notify_reloading();
                    self.report_xids();
                    self.trigger.driver_events.stop();
                    (self.on_event)(WatchEvent::Reload);
                }
                _ => {}
            }
        }
    }

    /// Waits until a refresh is due, or the watch has to reload or stop.
    fn wait(&mut self, before: &Fingerprint) -> Result<TriggerEvent> {
        loop {
            let dev = self.setup.node.roots.dev_path("/dev");
            let is_external = |path: &Path| match path.strip_prefix(&dev) {
                Ok(name) => is_external_node(name, path, &self.own_nodes),
                Err(_) => is_external_file(path, &self.targets, &self.own_specs),
            };
            match self.trigger.wait(before, &self.proc, &self.manager, is_external)? {
                TriggerEvent::Message(text) => {
                    self.messages.status(&text);
                    self.write_status();
                }
                TriggerEvent::Xid(xid) => self.report_xid(xid),
                event => return Ok(event),
            }
        }
    }

    /// Reads the configuration again. While it is wrong, the earlier setup stays in force and each refresh fails with the cause.
    fn reload_setup(&mut self) -> Result<()> {
        let setup = (self.read_setup)()?;
        if setup == self.setup {
            return Ok(());
        }
        let targets = setup.targets()?;
        let proc = Root::open(&setup.node.roots.proc)?;
        // Nothing would keep the old files current, and where two files of one priority define a device, engines drop both
        // definitions (CDI specification, "Conflicts").
        for SpecTarget { kind, file } in self.targets.iter() {
            let stays = targets.iter().any(|new| new.file.path() == file.path());
            if !stays && file.read().is_ok_and(|found| found.is_some()) {
                match file.lock().and_then(|_lock| file.remove(kind)) {
                    Ok(_) => self.messages.status(&format!(
                        "removed {}: the current settings name another file",
                        file.path().display()
                    )),
                    Err(failure) => self.messages.warn(&failure.to_string()),
                }
            }
        }
        if setup.node.roots.proc != self.setup.node.roots.proc {
            // Inodes and times of two procfs cannot be compared.
            self.written_state = None;
        }
        self.trigger.driver_events.stop();
        self.status.spec = targets.mig.file.path();
        (self.targets, self.proc, self.setup) = (targets, proc, setup);
        Ok(())
    }

    /// Runs one refresh, unless the setup could not be read, and records its outcome.
    fn refresh(&mut self, before: &Fingerprint, setup: Result<()>) {
        let begin = Instant::now();
        self.watch_dirs();
        let stamps = self.spec_stamps();
        let reply = setup.map_err(RefreshFailure::reported).and_then(|()| self.call_refresh());
        self.status.refreshes += 1;
        self.status.refreshed = Some(now());
        let has_succeeded = match reply {
            Ok(report) => {
                self.own_specs.clone_from(&report.spec_stamps);
                self.succeeded(report, before)
            }
            Err(failure) => {
                self.failed(failure, before);
                // After the prune, which changes them.
                self.own_specs = self.spec_stamps();
                false
            }
        };
        if self.own_specs != stamps {
            self.status.changes += 1;
            self.status.changed = Some(now());
        }
        self.status.seconds = begin.elapsed().as_secs_f64();
        self.trigger.refresh_ended(has_succeeded);
    }

    /// Watches the directories of specs, driver files and device nodes. Before each refresh: directories may have been made
    /// since, and inotify(7) drops the watch of one that is removed.
    fn watch_dirs(&mut self) {
        let spec_dirs = self.setup.generate.spec_dirs.iter().map(PathBuf::as_path);
        let targets = self.targets.iter().map(|target| target.file.dir());
        let libraries = self.status.node.file_dirs.iter().map(PathBuf::as_path);
        let files = spec_dirs.chain(targets).chain(libraries);
        files.for_each(|dir| self.trigger.watch_dir(dir, DirEvents::Written));
        // The kernel makes a DRI node before udev sets its owner and mode and makes its link.
        let mut dev =
            vec![("/dev/dri", DirEvents::Attributes), ("/dev/dri/by-path", DirEvents::Names)];
        if is_root() && self.options.repair_nodes {
            // Without written files: programs write to other devices in /dev all the time.
            dev.extend([("/dev", DirEvents::Names), ("/dev/nvidia-caps", DirEvents::Names)]);
        }
        for (dir, events) in dev {
            self.trigger.watch_dir(&self.setup.node.roots.dev_path(dir), events);
        }
    }

    /// Runs the refresh in a child.
    fn call_refresh(&mut self) -> Result<RefreshReport, RefreshFailure> {
        let mut generate = self.setup.generate.clone();
        // A child starts without the versions that an earlier one has found out.
        generate.devices.engines = self.engines.lookup(&generate.devices.engines);
        let request = RefreshRequest {
            roots: self.setup.node.roots.clone(),
            source: self.setup.node.source,
            generate,
            repair_nodes: self.options.repair_nodes,
            wants_inventory: self.options.wants_inventory,
            wants_all_gpus: self.options.wants_error_events,
        };
        match child::call(child::REFRESH, &request, REFRESH_LIMIT) {
            Ok(RefreshReply::Done(report)) => Ok(*report),
            Ok(RefreshReply::Failed(error)) => Err(RefreshFailure::reported(error)),
            Err(error) => Err(RefreshFailure { exit: None, error: Box::new(error) }),
        }
    }
}
