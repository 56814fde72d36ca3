//! What the driver is asked to tell by itself, and the errors that it tells.

use super::Watch;
use crate::{
    Look, Xid,
    watch::{ear::Wanted, status::Report},
};

impl Watch<'_> {
    /// Listens to what there is to be listened to.
    pub(super) fn tend(&mut self) {
        let Watch { args, settings, status, begun, .. } = &*self;
        let (changes, errors) = (args.driver_events || settings.driver_events, args.health);
        let Report { divided, gpus, .. } = &status.report;
        let (gpus, words) = (if errors { gpus.clone() } else { divided.clone() }, begun.words);
        // One that ends takes with it what has not been read.
        self.tell_errors();
        self.waiter.ear.tend(Wanted { changes, errors }, &gpus, words);
    }

    /// What the driver has told by now.
    pub(super) fn tell_errors(&mut self) {
        for xid in self.waiter.errors() {
            self.tell_error(xid);
        }
    }

    pub(super) fn tell_error(&mut self, error: Xid) {
        let Xid { gpu, gi, ci, xid } = &error;
        let of = match (gi, ci) {
            (Some(gi), Some(ci)) => format!(", gi {gi} ci {ci}"),
            (Some(gi), None) => format!(", gi {gi}"),
            _ => String::new(),
        };
        self.begun.console.warn(&format!("the driver tells of xid {xid} of {gpu}{of}; see dmesg"));
        (self.looked)(Look::Xid(error));
    }
}
