//! The spec and the device nodes during a change and after it.

use crate::{node_partitioner::NodePartitioner, options::ApplyOptions};
use mig_cdi_gen::{
    MessageSink, Result,
    device_nodes::{self, NodesMode},
    discover::{self, Source},
    generate::{Generator, OnConflict},
    watch::{self, status::Status},
};
use mig_cdi_sys::is_root;
use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

/// Longest wait for a running watch to refresh the spec. It takes a second at most, unless something is wrong.
const WATCH_LIMIT: Duration = Duration::from_secs(5);
/// Time between two reads of the watch's status.
const WATCH_POLL: Duration = Duration::from_millis(5);

/// State of the spec that a running watch keeps, with regard to the slices that exist.
enum WatchedSpec {
    /// It has all of them.
    Complete,
    /// It omits something that the watch could not confirm.
    Incomplete,
    /// The watch has not refreshed it in time.
    Late,
}

impl NodePartitioner<'_> {
    /// Takes the slices that were destroyed out of the spec, and out of that of a running watch, which may be another one.
    pub(crate) fn withdraw(&self, options: &ApplyOptions) {
        let Some(generate) = &options.refresh else { return };
        let withdrawn = watch::withdraw_gone(self.node, generate);
        let refreshed = self.await_watch(&options.holders.state_dir, self.messages);
        if let Err(error) = withdrawn.and(refreshed) {
            self.messages
                .warn(&format!("the spec may have names of slices that are gone: {error}"));
        }
    }

    /// Refreshes device nodes and spec. A running watch does that itself, with its own flags. Returns false when something is missing,
    /// which was reported.
    pub(crate) fn refresh(
        &self,
        options: &ApplyOptions,
        messages: &dyn MessageSink,
    ) -> Result<bool> {
        let Some(generate) = &options.refresh else { return Ok(true) };
        match self.await_watch(&options.holders.state_dir, messages)? {
            Some(WatchedSpec::Complete) => return Ok(true),
            Some(WatchedSpec::Incomplete) => {
                messages.warn("mig-cdi watch omits devices from the spec; run mig-cdi doctor");
                return Ok(false);
            }
            Some(WatchedSpec::Late) => return Ok(false),
            None => {}
        }
        // Nodes first. The driver creates none for a new instance (`nv-caps.c` has no `device_create`), and engines that bind-mount
        // the host's nodes would find none (NVIDIA/mig-parted issue 82).
        let nodes = match is_root() {
            true => device_nodes::apply(self.node, NodesMode::default(), messages)
                .map(|changes| changes.problems.is_empty()),
            false => Ok(true),
        };
        let generator = Generator::new(self.node, generate, messages);
        let specs = generator.generate(OnConflict::Refuse, || ())?;
        Ok(nodes? && specs.plan.is_complete())
    }

    /// Waits until a running watch reports the current slices, so that a container that is started next finds them in the spec.
    /// Returns `None` when no watch runs.
    fn await_watch(
        &self,
        state_dir: &Path,
        messages: &dyn MessageSink,
    ) -> Result<Option<WatchedSpec>> {
        let running_watch = || {
            let status = Status::read(state_dir).ok().flatten();
            status.filter(|status| status.is_running(state_dir))
        };
        if running_watch().is_none() {
            return Ok(None);
        }
        let topology = discover::discover(&self.node.host()?, Source::Nvml)?.topology;
        let uuids = topology.mig_devices().filter_map(|device| device.ci.uuid.as_ref());
        let current: BTreeSet<_> = uuids.map(ToString::to_string).collect();
        let end = Instant::now() + WATCH_LIMIT;
        while let Some(status) = running_watch() {
            // By UUID, which is independent of the styles of names. A slice that is recreated on the same engine has the UUID of
            // its predecessor (`gpu_uuid.c:91-245`): then the status may be a poll behind.
            let omitted = status.node.omitted;
            let reported = status.node.devices.into_iter().filter_map(|slice| slice.uuid);
            if reported.collect::<BTreeSet<_>>() == current {
                return Ok(Some(match omitted {
                    0 => WatchedSpec::Complete,
                    _ => WatchedSpec::Incomplete,
                }));
            }
            if Instant::now() >= end {
                let seconds = WATCH_LIMIT.as_secs();
                messages.warn(&format!(
                    "mig-cdi watch has not refreshed the spec after {seconds} s; run mig-cdi status"
                ));
                return Ok(Some(WatchedSpec::Late));
            }
            mig_cdi_sys::sleep(WATCH_POLL);
        }
        Ok(None)
    }
}
