//! Subscription to the driver's events, and the critical errors of GPUs (XIDs) among them.

use super::{driver_events::EventSelection, options::WatchEvent, running_watch::RunningWatch};
use crate::refresh::GpuInMode;
use mig_cdi_sys::nvml::Xid;

impl RunningWatch<'_> {
    /// Subscribes to the events of the GPUs that the last refresh found.
    pub(super) fn subscribe(&mut self) {
        let (changes, errors) = (self.setup.wants_driver_events, self.options.wants_error_events);
        let node = &self.status.node;
        // Only GPUs in MIG mode report changes, but each of them can have a critical error.
        let in_mig_mode = |uuid: &String| GpuInMode { uuid: uuid.clone(), is_mig_enabled: true };
        let gpus = match errors {
            true => node.all_gpus.clone(),
            false => node.mig_gpus.iter().map(in_mig_mode).collect(),
        };
        // Events that a listener has sent are lost when it is replaced.
        self.report_xids();
        let roots = &self.setup.node.roots;
        self.trigger.driver_events.subscribe(EventSelection { changes, errors }, &gpus, roots);
    }

    /// Reports the errors that the driver has sent by now.
    pub(super) fn report_xids(&mut self) {
        for xid in self.trigger.take_xids() {
            self.report_xid(xid);
        }
    }

    pub(super) fn report_xid(&mut self, error: Xid) {
        let Xid { gpu, gi, ci, xid } = &error;
        let instance = match (gi, ci) {
            (Some(gi), Some(ci)) => format!(", gi {gi} ci {ci}"),
            (Some(gi), None) => format!(", gi {gi}"),
            _ => String::new(),
        };
        self.messages.warn(&format!("the driver reports xid {xid} on {gpu}{instance}; see dmesg"));
        (self.on_event)(WatchEvent::Xid(error));
    }
}
