//! Subscription to the driver's events, and the XIDs (critical errors of a GPU) among them.

use super::{Watch, WatchEvent, driver_events::Wanted};
use mig_cdi_sys::nvml::Xid;

impl Watch<'_> {
    /// Subscribes to the events of the GPUs that the node has now.
    pub(super) fn subscribe(&mut self) {
        let (changes, errors) = (self.setup.driver_events, self.options.error_events);
        let node = &self.status.node;
        let gpus = if errors { node.all_gpus.clone() } else { node.mig_gpus.clone() };
        // A listener that is replaced takes along what has not been read from it.
        self.report_xids();
        let roots = &self.setup.node.roots;
        self.trigger.ear.tend(Wanted { changes, errors }, &gpus, roots);
    }

    /// Reports the errors that the driver has sent by now.
    pub(super) fn report_xids(&mut self) {
        for xid in self.trigger.errors() {
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
        self.messages.warn(&format!("the driver tells of xid {xid} of {gpu}{instance}; see dmesg"));
        (self.on_event)(WatchEvent::Xid(error));
    }
}
