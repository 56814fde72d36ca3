//! `mig-cdi watch`: a refresh whenever something has changed, each in a process of its own, so that a
//! driver that hangs or crashes takes no watch with it and no memory of it stays.

use super::{
    Context, Done, exit,
    generate::apply,
    nodes::{self, Change},
    plan::{Document, Plan, destination, text_of},
    settings,
};
use crate::{
    Exit, Failure,
    cli::WatchArgs,
    spec::{Format, handy_name},
    watch::{
        metrics,
        prune::{Truth, prune},
        status::{LastError, Mark, Report, Slice, State, Status, now},
        wait::{Due, Waiter},
    },
    write::Target,
};
use mig_cdi_config::Settings;
use mig_cdi_model::cdi::Kind;
use mig_cdi_sys::{
    Fingerprint, Manager, Outcome, Ran, Root, file_mark, is_root, own_program, run as run_program,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// NVML on a large machine without persistence takes seconds.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(context: &Context<'_>, args: &WatchArgs) -> Result<Done, Failure> {
    if args.refresh {
        return refresh(context, args);
    }
    if context.node.node.is_some() {
        let message = "watch follows a driver: a simulated node never changes";
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut watch = Watch::new(context, args)?;
    watch.manager.tell("STATUS=looking at the node for the first time\n");
    let done = watch.follow();
    watch.manager.tell("STOPPING=1\n");
    watch.status.state = State::Stopped;
    watch.publish();
    done.map(|()| Done { stdout: String::new(), exit: Exit::Success })
}

/// One refresh: what `nodes` and `generate` do, with a report for watch on standard output.
fn refresh(context: &Context<'_>, args: &WatchArgs) -> Result<Done, Failure> {
    let nodes = (is_root() && !args.leave_nodes).then(|| nodes::apply(context, false));
    let (_, plan) = apply(context, &args.generate)?;
    let mut report = report(context, &plan);
    match nodes {
        Some(Ok(changes)) => {
            report.nodes = changes.changes.iter().map(ToString::to_string).collect();
            let dev = context.roots().dev;
            let left = |change: &Change| {
                let path = below(&dev, change.path());
                // One that is made and has gone since then is not as it was left.
                let mark = file_mark(&path).or((!change.removes()).then_some(NO_FILE_S));
                (path, mark)
            };
            report.node_marks = changes.changes.iter().map(left).collect();
            report.complaints = changes.problems;
        }
        Some(Err(failure)) => report.complaints.push(failure.message),
        None => {}
    }
    let stdout = serde_json::to_string(&report)
        .map_err(|e| Failure::new(Exit::Failed, format!("write the report: {e}")))?;
    Ok(Done { stdout, exit: exit(plan.complete) })
}

fn report(context: &Context<'_>, plan: &Plan) -> Report {
    let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string);
    let slice = |device: &mig_cdi_model::MigDevice<'_>| Slice {
        name: text(handy_name(device, context.node.source).as_ref().map(|name| name as _)),
        uuid: text(device.ci.uuid.as_ref().map(|uuid| uuid as _)),
        profile: text(device.ci.profile.as_ref().map(|profile| profile as _)),
    };
    let specs = plan.documents.iter().filter_map(|document| document.built.spec.as_ref());
    let mounts = specs.flat_map(|spec| &spec.container_edits.mounts);
    let dirs: BTreeSet<_> =
        mounts.filter_map(|mount| Some(Path::new(&mount.host_path).parent()?.to_owned())).collect();
    Report {
        devices: plan.topology.mig_devices().map(|device| slice(&device)).collect(),
        left_out: plan.left_out,
        file_dirs: dirs.into_iter().collect(),
        marks: plan.documents.iter().map(|document| mark(document, plan.format)).collect(),
        ..Report::default()
    }
}

/// The mark that no file has.
const NO_FILE_S: [u64; 4] = [0; 4];

/// What tells the file that we have written. When another has taken its place since then, it is the mark of
/// no file: the mark is taken first, and the content is read after it.
fn mark(document: &Document, format: Format) -> Mark {
    let target = document.target.as_ref()?;
    let mark = file_mark(&target.path());
    let Some(spec) = &document.built.spec else { return mark };
    match (target.read(), text_of(spec, format)) {
        (Ok(Some(found)), Ok(text)) if found == text.as_bytes() => mark,
        _ => Some(NO_FILE_S),
    }
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
    /// What could not be said to others is said once.
    said: BTreeSet<String>,
}

impl<'a> Watch<'a> {
    fn new(context: &'a Context<'a>, args: &'a WatchArgs) -> Result<Watch<'a>, Failure> {
        let targets = targets(context, args)?;
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
            said: BTreeSet::new(),
        })
    }

    fn follow(&mut self) -> Result<(), Failure> {
        loop {
            self.read_settings();
            let before = Fingerprint::take(&self.proc);
            self.refresh(&before);
            self.publish();
            // One refresh may follow another without a wait between.
            self.manager.tell(&format!("READY=1\nWATCHDOG=1\nSTATUS={}\n", self.summary()));
            // Meanwhile the node has changed, or somebody has put another file there.
            if !before.holds(&self.proc) {
                continue;
            }
            if self.marks() != self.own {
                self.waiter.hurry();
            }
            let dev = below(&self.context().roots().dev, "/dev");
            let is_foreign = |path: &Path| match path.strip_prefix(&dev) {
                Ok(name) => is_foreign_node(name, path, &self.own_nodes),
                Err(_) => is_foreign(path, &self.targets, &self.own),
            };
            match self.waiter.wait(&before, &self.proc, &self.manager, is_foreign)? {
                Due::Refresh => {}
                Due::Reload => self.manager.tell_reloading(),
                Due::Stop => return Ok(()),
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
            (targets(&context, self.args), Root::open(&context.roots().proc))
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
    fn child(&self) -> mig_cdi_sys::Result<Ran> {
        let args = std::env::args_os().skip(1).chain(["--refresh".into()]);
        run_program(&own_program()?, &args.collect::<Vec<_>>(), LIMIT)
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
        self.own_nodes = report.node_marks.drain(..).collect();
        let nothing_written = report.devices.is_empty() && report.left_out > 0;
        self.status.report = report;
        if nothing_written {
            // The two views may have been read in the middle of a change. Twice, it is no change.
            match std::mem::replace(&mut self.doubt, true) {
                false => self.prune(before),
                true => self.take_all_away(),
            }
            self.own = self.marks();
        } else {
            self.doubt = false;
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
        self.status.error = Some(failure);
        self.prune(before);
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
        self.status.wakeups = self.waiter.wakeups;
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

/// The files that are written, that of MIG devices first.
fn targets(context: &Context<'_>, args: &WatchArgs) -> Result<Vec<(Kind, Target)>, Failure> {
    let options = context.options(&args.generate.spec)?;
    let (_, target) = destination(context, &args.generate, &options.kind)?;
    let target = target.ok_or_else(|| {
        Failure::new(Exit::Usage, "watch writes a file: it does not go with --output -")
    })?;
    let mut targets = vec![(options.kind.clone(), target)];
    if args.generate.gpus {
        let kind = options.gpu_kind();
        targets.push((kind.clone(), targets[0].1.beside(&kind)?));
    }
    Ok(targets)
}

/// What a refresh that failed says of itself, on one line.
fn describe(ran: &mig_cdi_sys::Result<Ran>) -> LastError {
    let (exit, message) = match ran {
        Ok(Ran { code, stderr, .. }) => {
            let line = stderr.lines().rfind(|line| line.starts_with("error: "));
            let line = line.map(|line| line.trim_start_matches("error: ").to_owned());
            (*code, line.unwrap_or_else(|| "the refresh was killed; see dmesg".to_owned()))
        }
        Err(error) => (None, error.to_string()),
    };
    LastError { time: now(), exit, message }
}

/// A path of the machine below a directory that stands for its `/`.
fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// A node of the driver that came or went by another hand than ours.
fn is_foreign_node(name: &Path, path: &Path, own: &BTreeMap<PathBuf, Mark>) -> bool {
    let is_driver_s =
        name.to_str().is_some_and(|name| name.starts_with("nvidia") && !name.contains("/."));
    is_driver_s && own.get(path) != Some(&file_mark(path))
}

/// A spec of ours that is as we left it, and what is on the way to become a file, are of no interest.
fn is_foreign(path: &Path, targets: &[(Kind, Target)], own: &[Mark]) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ours = targets.iter().position(|(_, target)| path == target.path());
    match ours {
        Some(index) => own.get(index) != Some(&file_mark(path)),
        None => !name.starts_with('.') && !name.ends_with(".params"),
    }
}
