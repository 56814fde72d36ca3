//! A whole run: GPUs are taken to their desired layouts under the journal's lock, and the spec and device nodes follow.

use crate::{
    apply::{Change, Worker},
    gpus::{DesiredGpu, DesiredGpus, Goal, Gpus},
    holders::{Asked, Holders},
    in_use::InUse,
    journal::Desk,
};
use mig_cdi_gen::{
    Error, ErrorKind, MessageSink, NodeSource, Result,
    device_nodes::{self, NodesMode},
    discover::{self, Source},
    generate::{GenerateOptions, Generator, OnConflict},
    watch::status::{State, Status},
};
use mig_cdi_sys::{Root, is_root, is_running};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Time between two looks whether holders have gone.
const HOLDER_POLL: Duration = Duration::from_millis(200);
/// Longest wait for a watch to follow: it does within a second, unless something is wrong.
const WATCH_LIMIT: Duration = Duration::from_secs(5);
/// Time between two readings of the watch's status.
const WATCH_POLL: Duration = Duration::from_millis(5);

/// Where holders of slices are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderOptions {
    /// Directory that stands for `/` when processes are looked up.
    pub host_root: PathBuf,
    /// Slices that are in use although nothing shows it.
    #[serde(default)]
    pub in_use: Vec<InUse>,
    /// Directory of the watch's state, with the leases in it.
    pub state_dir: PathBuf,
}

/// Options of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeOptions {
    /// Where holders are looked for.
    pub holders: HolderOptions,
    /// Directory of the journal.
    pub journal_dir: PathBuf,
    /// Longest wait for holders of a slice that has to go. Nobody is stopped.
    pub wait: Duration,
    /// Options of the spec that follows the change; `None` leaves the spec and the device nodes as they are.
    pub refresh: Option<GenerateOptions>,
}

/// Result of a run.
#[derive(Debug)]
pub struct Applied {
    /// Every GPU of the goal with its steps, those without a step included.
    pub changes: Vec<Change>,
    /// Whether every GPU could be described, and every GPU of a checkpoint is there.
    pub is_complete: bool,
}

/// Runs on one node.
pub struct Partitioning<'a> {
    /// The node.
    pub node: &'a NodeSource,
    /// Receiver of messages.
    pub messages: &'a dyn MessageSink,
}

impl Partitioning<'_> {
    /// Takes GPUs to their desired layouts. Tries again while a holder is in the way, until the time is up.
    ///
    /// # Errors
    /// When a GPU could not be changed: it is as it was before, unless the message says otherwise.
    pub fn apply(&self, goal: &Goal, options: &ChangeOptions) -> Result<Applied> {
        let end = Instant::now() + options.wait;
        let mut was_reported = false;
        loop {
            match self.attempt(goal, options) {
                Err(error) if error.kind == ErrorKind::Refused && Instant::now() < end => {
                    if !std::mem::replace(&mut was_reported, true) {
                        let seconds = options.wait.as_secs();
                        let message = format!("{error}; waiting up to {seconds} s");
                        self.messages.warn(&message);
                    }
                    mig_cdi_sys::sleep(HOLDER_POLL);
                }
                done => return done,
            }
        }
    }

    /// One attempt. NVML is open from here to the end of it, and not while holders are waited for: it would keep the driver from
    /// changing the MIG mode.
    fn attempt(&self, goal: &Goal, options: &ChangeOptions) -> Result<Applied> {
        if self.node.is_simulated() {
            return self.simulate(goal);
        }
        let host = Root::open(&options.holders.host_root)?;
        let desk = Desk::open(&options.journal_dir, &host)?;
        if desk.read()?.is_some() {
            let journal = options.journal_dir.join("apply.json");
            let cause = format!(
                "an earlier apply was cut off, and {} says what it was at",
                journal.display()
            );
            return Err(Error::failed("", "").because(cause).cure("run mig-cdi apply --resume"));
        }
        let gpus = Gpus::read(self.node, self.messages)?;
        let DesiredGpus { gpus: desired, absent } = gpus.desired(goal, self.messages)?;
        let all = &gpus.all;
        let held = Asked::new(|| self.holders(&gpus, &options.holders, true));
        let changes = plan(&desired, |gpu, goal| Change::new(gpu, all, &held, goal))?;
        let pending: Vec<_> = changes.iter().filter(|change| !change.is_empty()).cloned().collect();
        let worker = self.worker(&gpus, &held, &options.holders.in_use, Some(&host));
        let done = if pending.is_empty() { Ok(()) } else { worker.run(&pending, &desk) };
        let is_complete = gpus.lost + absent == 0;
        drop(held);
        drop(gpus);
        let refreshed = if pending.is_empty() { Ok(()) } else { self.refresh(options) };
        done.and(refreshed)?;
        Ok(Applied { changes, is_complete })
    }

    /// Takes the steps on a simulated node, of which nothing is kept: this shows that they would work.
    fn simulate(&self, goal: &Goal) -> Result<Applied> {
        let gpus = Gpus::read(self.node, self.messages)?;
        let DesiredGpus { gpus: desired, absent } = gpus.desired(goal, self.messages)?;
        let all = &gpus.all;
        let held = Asked::new(|| {
            let mut holders = Holders::default();
            holders.add_processes(all, None);
            Ok(holders)
        });
        let changes = plan(&desired, |gpu, goal| Change::new(gpu, all, &held, goal))?;
        let worker = self.worker(&gpus, &held, &[], None);
        for change in &changes {
            worker.reach(&change.gpu.uuid, &change.goal)?;
        }
        self.messages.warn("the node is simulated: it worked, and nothing of it is kept");
        let is_complete = gpus.lost + absent == 0;
        Ok(Applied { changes, is_complete })
    }

    /// Ends a run that was interrupted: each GPU reaches its desired layout, or else the one that it had. Returns the number of
    /// GPUs in the journal, or `None` when no run was interrupted.
    ///
    /// # Errors
    /// As [`Partitioning::apply`].
    pub fn resume(&self, options: &ChangeOptions) -> Result<Option<usize>> {
        if self.node.is_simulated() {
            return Err(Error::usage("", "--resume")
                .because("a simulated node has nothing that was cut off"));
        }
        let host = Root::open(&options.holders.host_root)?;
        let desk = Desk::open(&options.journal_dir, &host)?;
        let Some(journal) = desk.read()? else { return Ok(None) };
        let gpus = Gpus::read(self.node, self.messages)?;
        let held = Asked::new(|| self.holders(&gpus, &options.holders, true));
        let worker = self.worker(&gpus, &held, &options.holders.in_use, Some(&host));
        let done = worker.finish(&journal.gpus, &desk);
        drop(held);
        drop(gpus);
        let refreshed = self.refresh(options);
        done.and(refreshed)?;
        Ok(Some(journal.gpus.len()))
    }

    /// Plans the changes of a goal, and takes no step.
    ///
    /// # Errors
    /// When a layout cannot be reached, or it cannot be found out who holds the slices that have to go.
    pub fn plan(&self, goal: &Goal, options: &HolderOptions) -> Result<(Vec<Change>, Gpus)> {
        let gpus = Gpus::read(self.node, self.messages)?;
        let holders = self.holders(&gpus, options, false)?;
        let changes = gpus.changes(&gpus.desired(goal, self.messages)?.gpus, &holders)?;
        Ok((changes, gpus))
    }

    fn worker<'a>(
        &'a self,
        gpus: &'a Gpus,
        holders: &'a Asked<'a>,
        told: &'a [InUse],
        host: Option<&'a Root>,
    ) -> Worker<'a> {
        let partitioner = gpus.partitioner.as_ref();
        Worker { partitioner, all: &gpus.all, holders, told, host, messages: self.messages }
    }

    /// Finds who holds which slice. Where `must_see_all`, a process that cannot be looked into is a failure.
    ///
    /// # Errors
    /// When processes or leases cannot be read.
    pub fn holders(
        &self,
        gpus: &Gpus,
        options: &HolderOptions,
        must_see_all: bool,
    ) -> Result<Holders> {
        let mut holders = Holders::default();
        if self.node.is_simulated() {
            holders.add_processes(&gpus.all, None);
            return Ok(holders);
        }
        let root = Root::open(&options.host_root)?;
        holders.add_processes(&gpus.all, Some(&root));
        holders.add_leases(&options.state_dir.join("leases"), &gpus.all)?;
        let source = if options.in_use.is_empty() { Source::Proc } else { Source::Nvml };
        let topology = discover::discover(&self.node.host()?, source)?.topology;
        holders.add_told(&options.in_use, &topology)?;
        let closed = holders.add_host(&root, &topology)?;
        if closed > 0 {
            let error = Error::failed("look for who holds slices", "")
                .because(format!("{closed} processes cannot be looked into"))
                .cure("run it as root");
            match must_see_all {
                true => return Err(error),
                false => self.messages.warn(&error.to_string()),
            }
        }
        Ok(holders)
    }

    /// Makes device nodes and spec follow at once. A running watch does it, with the flags that it was given.
    fn refresh(&self, options: &ChangeOptions) -> Result<()> {
        let Some(generate) = &options.refresh else { return Ok(()) };
        if self.is_followed(&options.holders.state_dir)? {
            return Ok(());
        }
        let nodes = match is_root() {
            true => device_nodes::apply(self.node, NodesMode::default(), self.messages).map(drop),
            false => Ok(()),
        };
        Generator::new(self.node, generate, self.messages).generate(OnConflict::Refuse, || ())?;
        nodes
    }

    /// Waits until a running watch reports the slices that there are now, so that a container that is started next finds them.
    /// Returns false when no watch runs.
    fn is_followed(&self, state_dir: &Path) -> Result<bool> {
        let running_watch = || {
            let status = Status::read(state_dir).ok().flatten();
            status.filter(|status| status.state != State::Stopped && is_running(status.pid))
        };
        if running_watch().is_none() {
            return Ok(false);
        }
        let topology = discover::discover(&self.node.host()?, Source::Nvml)?.topology;
        let uuids = topology.mig_devices().filter_map(|device| device.ci.uuid.as_ref());
        let current: BTreeSet<_> = uuids.map(ToString::to_string).collect();
        let end = Instant::now() + WATCH_LIMIT;
        while let Some(status) = running_watch() {
            let reported = status.node.devices.into_iter().filter_map(|slice| slice.uuid);
            if reported.collect::<BTreeSet<_>>() == current {
                return Ok(true);
            }
            if Instant::now() >= end {
                self.messages.warn("watch has not followed yet: see mig-cdi status");
                return Ok(true);
            }
            mig_cdi_sys::sleep(WATCH_POLL);
        }
        Ok(false)
    }
}

fn plan(
    desired: &[DesiredGpu<'_>],
    change: impl Fn(
        &mig_cdi_sys::nvml::GpuPartitioning,
        &mig_cdi_config::layouts::Layout,
    ) -> Result<Change>,
) -> Result<Vec<Change>> {
    desired.iter().map(|desired| desired.change(&change)).collect()
}
