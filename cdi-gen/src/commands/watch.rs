//! `mig-cdi watch`: a refresh whenever something has changed, each in a process of its own, so that a
//! driver that hangs or crashes takes no watch with it and no memory of it stays.

mod told;

use super::{Context, Done, listen, plan::targets, refresh, settings};
use crate::{
    Exit, Failure, Look,
    cli::WatchArgs,
    spec_file::DefinedNames,
    watch::{
        engines::KnownEngines,
        foreign::{below, is_foreign, is_foreign_node},
        metrics,
        prune::{Truth, prune},
        status::{LastError, Mark, Report, State, Status, describe, now},
        wait::{Due, Waiter, settled},
    },
    write::Target,
};
use mig_cdi_config::Settings;
use mig_cdi_model::cdi::Kind;
use mig_cdi_sys::{
    Fingerprint, Manager, Outcome, Ran, Root, file_mark, is_root, own_image, run as run_program,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// NVML on a large machine without persistence takes seconds.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(
    context: &Context<'_>,
    args: &WatchArgs,
    looked: &mut dyn FnMut(Look),
) -> Result<Done, Failure> {
    if args.refresh {
        return refresh::run(context, args);
    }
    if args.listen {
        return listen::run(context, args.health);
    }
    if context.node.node.is_some() {
        let message = "watch follows a driver: a simulated node never changes";
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut watch = Watch::new(context, args, looked)?;
    (watch.looked)(Look::Begins);
    watch.manager.tell("STATUS=looking at the node for the first time\n");
    let done = watch.follow();
    watch.manager.tell("STOPPING=1\n");
    watch.status.state = State::Stopped;
    watch.publish();
    done.map(|()| Done { stdout: String::new(), exit: Exit::Success })
}

/// A watch at work.
struct Watch<'a> {
    /// As it was when watch began; [`Watch::context`] is that of now.
    begun: &'a Context<'a>,
    args: &'a WatchArgs,
    settings: Settings,
    proc: Root,
    waiter: Waiter,
    manager: Manager,
    targets: Vec<(Kind, Target)>,
    status: Status,
    /// What the node was like when the specs were written.
    good: Option<Fingerprint>,
    /// The specs as we left them.
    own: Vec<Mark>,
    /// The device nodes that the last refresh has changed, as it left them.
    own_nodes: BTreeMap<PathBuf, Mark>,
    /// There are devices, and none was certain at the last look.
    doubt: bool,
    /// What a refresh has learned of the engines.
    engines: KnownEngines,
    /// Who else wants to know.
    looked: &'a mut dyn FnMut(Look),
    /// What could not be said to others is said once.
    said: BTreeSet<String>,
}

impl<'a> Watch<'a> {
    fn new(
        context: &'a Context<'a>,
        args: &'a WatchArgs,
        looked: &'a mut dyn FnMut(Look),
    ) -> Result<Watch<'a>, Failure> {
        let targets = targets(context, &args.generate)?;
        let (interval, resync) = (args.interval, args.resync);
        let waiter = Waiter::new(Duration::from_millis(interval), Duration::from_secs(resync))?;
        Ok(Watch {
            begun: context,
            args,
            settings: context.settings.clone(),
            proc: Root::open(&context.roots().proc)?,
            waiter,
            manager: Manager::find(),
            status: Status::new(targets[0].1.path()),
            targets,
            good: None,
            own: Vec::new(),
            own_nodes: BTreeMap::new(),
            doubt: false,
            engines: KnownEngines::default(),
            looked,
            said: BTreeSet::new(),
        })
    }

    fn follow(&mut self) -> Result<(), Failure> {
        let mut goes_on = false;
        loop {
            self.read_settings();
            self.tell_errors();
            self.waiter.begin();
            let before = match goes_on {
                false => Fingerprint::take(&self.proc),
                true => settled(&self.proc),
            };
            self.refresh(&before);
            self.tend();
            self.publish();
            // One refresh may follow another without a wait between.
            self.manager.tell(&format!("READY=1\nWATCHDOG=1\nSTATUS={}\n", self.summary()));
            // Meanwhile the node has changed, or somebody has put another file there.
            goes_on = !before.holds(&self.proc);
            if goes_on {
                continue;
            }
            if self.marks() != self.own {
                self.waiter.hurry(Instant::now());
            }
            match self.wait(&before)? {
                Due::Stop => return Ok(()),
                Due::Reload => {
                    self.manager.tell_reloading();
                    self.tell_errors();
                    self.waiter.ear.stop();
                    (self.looked)(Look::Reload);
                }
                _ => {}
            }
        }
    }

    /// Until there is something to do.
    fn wait(&mut self, before: &Fingerprint) -> Result<Due, Failure> {
        loop {
            let dev = below(&self.context().roots().dev, "/dev");
            let is_foreign = |path: &Path| match path.strip_prefix(&dev) {
                Ok(name) => is_foreign_node(name, path, &self.own_nodes),
                Err(_) => is_foreign(path, &self.targets, &self.own),
            };
            match self.waiter.wait(before, &self.proc, &self.manager, is_foreign)? {
                Due::News(line) => {
                    self.begun.console.status(&line);
                    self.publish();
                }
                Due::Xid(xid) => self.tell_error(xid),
                due => return Ok(due),
            }
        }
    }

    fn context(&self) -> Context<'_> {
        Context { settings: &self.settings, ..*self.begun }
    }

    /// A refresh reads the settings of now, so that watch has to know them as well. When they are wrong, the
    /// refresh says so, and those of before hold here.
    fn read_settings(&mut self) {
        let Ok(settings) = settings(self.begun.config, false) else { return };
        if settings == self.settings {
            return;
        }
        let context = Context { settings: &settings, ..*self.begun };
        let (Ok(targets), Ok(proc)) =
            (targets(&context, &self.args.generate), Root::open(&context.roots().proc))
        else {
            return;
        };
        // Nobody would keep the old ones true, and they could define the same devices.
        for (kind, target) in &self.targets {
            let stays = targets.iter().any(|(_, new)| new.path() == target.path());
            if !stays && target.read().is_ok_and(|found| found.is_some()) {
                let path = target.path();
                match target.lock().and_then(|_lock| target.clear(kind)) {
                    Ok(_) => self.begun.console.status(&format!(
                        "removed {}: by the settings of now it is another file",
                        path.display()
                    )),
                    Err(failure) => self.begun.console.warn(&failure.message),
                }
            }
        }
        if settings.proc_root != self.settings.proc_root {
            self.good = None;
        }
        self.waiter.ear.stop();
        self.status.spec = targets[0].1.path();
        (self.targets, self.proc, self.settings) = (targets, proc, settings);
    }

    /// One refresh, and what comes of it.
    fn refresh(&mut self, before: &Fingerprint) {
        let begin = Instant::now();
        self.listen();
        let files = self.marks();
        let ran = self.child();
        self.status.refreshes += 1;
        self.status.refreshed = Some(now());
        let report: Option<Report> =
            ran.as_ref().ok().and_then(|ran| serde_json::from_str(&ran.stdout).ok());
        let good = match (&ran, report) {
            (Ok(Ran { code: Some(0 | 3), .. }), Some(report)) => {
                self.own = report.marks.clone();
                self.succeeded(report, before)
            }
            (ran, _) => {
                let failure = describe(ran);
                self.failed(failure, before);
                self.own = self.marks();
                false
            }
        };
        if self.own != files {
            self.status.changes += 1;
            self.status.changed = Some(now());
        }
        self.status.seconds = begin.elapsed().as_secs_f64();
        self.waiter.refreshed(good);
    }

    /// Files that matter: those in the directories of specs, and of the driver's libraries.
    fn listen(&mut self) {
        let spec_dirs = self.settings.spec_dirs.iter().map(PathBuf::as_path);
        let targets = self.targets.iter().map(|(_, target)| target.dir());
        let libraries = self.status.report.file_dirs.iter().map(PathBuf::as_path);
        spec_dirs.chain(targets).chain(libraries).for_each(|dir| self.waiter.listen(dir, true));
        if is_root() && !self.args.leave_nodes {
            for dir in ["/dev", "/dev/nvidia-caps"] {
                self.waiter.listen(&below(&self.context().roots().dev, dir), false);
            }
        }
    }

    /// The program itself, with the words that it was given.
    fn child(&mut self) -> mig_cdi_sys::Result<Ran> {
        let engines = self.engines.argument(&self.args.generate.spec);
        let words = self.begun.words.iter().cloned();
        let args: Vec<_> = words.chain(engines).chain(["--refresh".into()]).collect();
        run_program(&own_image()?, &args, LIMIT)
    }

    /// False when nothing was certain, so that another look is due soon.
    fn succeeded(&mut self, mut report: Report, before: &Fingerprint) -> bool {
        self.status.state = if report.left_out == 0 { State::Ok } else { State::Incomplete };
        self.status.succeeded = self.status.refreshed;
        for change in report.nodes.drain(..) {
            self.begun.console.status(&format!("device nodes: {change}"));
        }
        for complaint in report.complaints.drain(..) {
            self.say_once(&complaint);
        }
        self.engines.learn(report.engines.take());
        self.own_nodes = report.node_marks.drain(..).collect();
        let inventory = report.inventory.take();
        let nothing_written = report.devices.is_empty() && report.left_out > 0;
        self.status.report = report;
        if nothing_written {
            // The two views may have been read in the middle of a change. Twice, it is no change; nor is it
            // one that counts while the tree moves.
            let stands = before.holds(&self.proc);
            match self.doubt && stands {
                false => self.prune(before),
                true => self.take_all_away(),
            }
            self.doubt |= stands;
            self.own = self.marks();
            self.tell_failed("no slice is certain".to_owned());
        } else {
            self.doubt = false;
            if let Some(inventory) = inventory {
                (self.looked)(Look::Found(inventory));
            }
            self.good = Some(before.clone());
        }
        !nothing_written
    }

    /// The specs of before stay, without what is no longer so.
    fn failed(&mut self, failure: LastError, before: &Fingerprint) {
        self.status.failures += 1;
        let is_new = self.status.state != State::Failing
            || self.status.error.as_ref().map(|old| &old.message) != Some(&failure.message);
        if is_new {
            self.begun.console.error(&failure.message);
        }
        self.status.state = State::Failing;
        self.prune(before);
        self.tell_failed(failure.message.clone());
        self.status.error = Some(failure);
    }

    /// What the specs still offer, though the node cannot be asked.
    fn tell_failed(&mut self, why: String) {
        let mut standing = BTreeSet::new();
        for (kind, target) in &self.targets {
            let Some(names) =
                target.read().ok().flatten().and_then(|spec| DefinedNames::parse(&spec))
            else {
                continue;
            };
            standing.extend(names.devices().map(|name| format!("{kind}={name}")));
        }
        (self.looked)(Look::Failed { why, standing });
    }

    fn prune(&mut self, before: &Fingerprint) {
        if let Err(failure) = self.try_prune(before) {
            self.say_once(&failure.message);
        }
    }

    fn try_prune(&self, before: &Fingerprint) -> Result<(), Failure> {
        let machine = self.context().machine()?;
        let truth = Truth::read(machine.as_ref(), before.clone());
        for (kind, target) in &self.targets {
            let gone = prune(&truth, self.good.as_ref(), target, kind)?;
            if gone > 0 {
                let path = target.path();
                self.begun.console.status(&format!(
                    "took {gone} {kind} devices out of {}: they are gone, or may be others",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// No device is certain, and a spec promises some.
    fn take_all_away(&mut self) {
        let (kind, target) = &self.targets[0];
        let cleared = target.lock().and_then(|_lock| target.clear(kind));
        match cleared {
            Ok(Outcome::Changed) => {
                let path = target.path();
                let message = format!("removed {}: no {kind} device is certain", path.display());
                self.begun.console.status(&message);
            }
            Ok(Outcome::Unchanged) => {}
            Err(failure) => self.say_once(&failure.message),
        }
    }

    fn marks(&self) -> Vec<Mark> {
        self.targets.iter().map(|(_, target)| file_mark(&target.path())).collect()
    }

    /// Tells everybody who asked.
    fn publish(&mut self) {
        let Waiter { wakeups, told_changes, ear, .. } = &self.waiter;
        (self.status.wakeups, self.status.told_changes) = (*wakeups, *told_changes);
        (self.status.driver_events, self.status.listener) = (ear.hearing(), ear.pid());
        self.status.driver_errors = ear.errors();
        let written = self.status.write(&self.args.state.state_dir);
        let metrics = self.args.metrics_file.as_deref();
        let metrics = metrics.map_or(Ok(()), |path| metrics::write(&self.status, path));
        for failure in [written.err(), metrics.err()].into_iter().flatten() {
            self.say_once(&failure.message);
        }
    }

    fn say_once(&mut self, message: &str) {
        if self.said.insert(message.to_owned()) {
            self.begun.console.warn(message);
        }
    }

    fn summary(&self) -> String {
        let devices = self.status.report.devices.len();
        match (&self.status.state, &self.status.error) {
            (State::Failing, Some(error)) => format!("failing: {}", error.message),
            (State::Incomplete, _) => {
                format!("{devices} slices, {} left out", self.status.report.left_out)
            }
            _ => format!("{devices} slices"),
        }
    }
}
