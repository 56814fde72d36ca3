//! Outcome of a refresh: what becomes of the specs, the status and the caller when it has succeeded, has failed, or has
//! confirmed nothing.

use super::{
    options::WatchEvent,
    prune::{ProcState, prune},
    running_watch::RunningWatch,
    status::{LastError, NodeStatus, WatchState, now},
};
use crate::{
    Error, Exit, Result, generate::SpecTarget, refresh::RefreshReport, spec_file::DefinedNames,
};
use mig_cdi_sys::{Fingerprint, Outcome};
use std::collections::BTreeSet;

/// A refresh that failed.
pub(super) struct RefreshFailure {
    /// Exit code of the refresh; `None` when its process sent no reply.
    pub exit: Option<Exit>,
    /// Cause. Boxed, since every `Result` on the way carries it.
    pub error: Box<Error>,
}

impl RefreshFailure {
    /// A failure that the refresh has reported itself, or that came before it.
    pub fn reported(error: Error) -> RefreshFailure {
        RefreshFailure { exit: Some(error.kind.into()), error: Box::new(error) }
    }
}

impl RunningWatch<'_> {
    /// Records a refresh that did not fail. Returns false when it confirmed no device, so that another refresh is due soon.
    pub(super) fn succeeded(&mut self, mut report: RefreshReport, before: &Fingerprint) -> bool {
        let is_complete = report.omitted == 0;
        self.status.state = if is_complete { WatchState::Ok } else { WatchState::Incomplete };
        self.status.succeeded = self.status.refreshed;
        for change in &report.node_changes {
            self.messages.status(&format!("device nodes: {}", change.line));
        }
        let changed_nodes = report.node_changes.drain(..);
        self.own_nodes = changed_nodes.map(|node| (node.path, node.stamp)).collect();
        for warning in report.warnings.drain(..) {
            self.warn_once(&warning);
        }
        self.engines.update(report.engines.take());
        let inventory = report.inventory.take();
        // A node without devices is complete: only what was found and omitted makes the result doubtful.
        let has_confirmed_none = report.devices.is_empty() && report.omitted > 0;
        self.status.node = NodeStatus::from(report);
        if has_confirmed_none {
            self.confirmed_none(before);
        } else {
            self.was_unconfirmed = false;
            if let Some(inventory) = inventory {
                (self.on_event)(WatchEvent::Refreshed(inventory));
            }
            self.written_state = Some(before.clone());
        }
        !has_confirmed_none
    }

    /// Handles a refresh that found devices and could confirm none. NVML and `/proc` may have been read in the middle of a change:
    /// only the second time in a row, and only while the tree stays the same, is the spec removed.
    fn confirmed_none(&mut self, before: &Fingerprint) {
        let is_stable = before.is_unchanged(&self.proc);
        match self.was_unconfirmed && is_stable {
            false => self.prune(before),
            true => self.remove_spec(),
        }
        self.was_unconfirmed |= is_stable;
        self.own_specs = self.spec_stamps();
        self.report_failed("no slice can be confirmed".to_owned());
    }

    /// Records a refresh that failed. The specs stay, without devices that are gone.
    pub(super) fn failed(&mut self, failure: RefreshFailure, before: &Fingerprint) {
        let exit = failure.exit.map(|exit| exit as i32);
        let failure = LastError { time: now(), exit, message: failure.error.to_string() };
        self.status.failures += 1;
        // A driver that stays away fails each retry with the same message: it is logged once.
        let is_new = self.status.state != WatchState::Failing
            || self.status.error.as_ref().map(|old| &old.message) != Some(&failure.message);
        if is_new {
            self.messages.error(&failure.message);
        }
        self.status.state = WatchState::Failing;
        self.prune(before);
        self.report_failed(failure.message.clone());
        self.status.error = Some(failure);
    }

    /// Reports which devices the specs still define, though MIG state cannot be read.
    fn report_failed(&mut self, cause: String) {
        let mut still_defined = BTreeSet::new();
        for SpecTarget { kind, file } in self.targets.iter() {
            let Some(names) =
                file.read().ok().flatten().and_then(|spec| DefinedNames::parse(&spec))
            else {
                continue;
            };
            still_defined.extend(names.devices().map(|name| format!("{kind}={name}")));
        }
        (self.on_event)(WatchEvent::Failed { cause, still_defined });
    }

    fn prune(&mut self, before: &Fingerprint) {
        if let Err(failure) = self.try_prune(before) {
            self.warn_once(&failure.to_string());
        }
    }

    /// Removes the devices from the specs that `/proc` shows to be gone or recreated. The numbers of a removed instance go to the
    /// next one, and its node is valid for that: `nv_cap_validate_and_dup_fd` (`nv-caps.c:506-559`) compares minors alone.
    /// A container that started from the old spec would get another tenant's slice.
    fn try_prune(&self, before: &Fingerprint) -> Result<()> {
        let machine = self.setup.node.machine()?;
        let state = ProcState::read(machine.as_ref(), before.clone());
        for SpecTarget { kind, file } in self.targets.iter() {
            let gone = prune(&state, self.written_state.as_ref(), file, kind)?;
            if gone > 0 {
                self.messages.status(&format!(
                    "removed {gone} {kind} devices from {}: they are gone, or may have been recreated",
                    file.path().display()
                ));
            }
        }
        Ok(())
    }

    /// Removes the spec of the MIG devices, none of which can be confirmed.
    fn remove_spec(&mut self) {
        let SpecTarget { kind, file } = &self.targets.mig;
        // The lock that generate takes: a spec that it writes at this moment must not be removed.
        let cleared = file.lock().and_then(|_lock| file.remove(kind));
        match cleared {
            Ok(Outcome::Changed) => self.messages.status(&format!(
                "removed {}: no {kind} device can be confirmed",
                file.path().display()
            )),
            Ok(Outcome::Unchanged) => {}
            Err(failure) => self.warn_once(&failure.to_string()),
        }
    }
}
