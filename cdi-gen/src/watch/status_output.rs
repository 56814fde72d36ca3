//! Output of the watch: `status.json`, the metrics, and the line that `systemctl status` shows.

use super::{
    metrics, refresh_trigger::RefreshTrigger, running_watch::RunningWatch, status::WatchState,
};

use mig_cdi_model::{counted, one_line};

impl RunningWatch<'_> {
    /// Writes `status.json` and the metrics. A failure is logged and stops nothing: the specs matter more.
    pub(super) fn write_status(&mut self) {
        let RefreshTrigger { wakeups, change_events, driver_events, .. } = &self.trigger;
        (self.status.wakeups, self.status.change_events) = (*wakeups, *change_events);
        self.status.listener = driver_events.pid();
        self.status.driver_events = driver_events.change_coverage();
        self.status.driver_errors = driver_events.error_coverage();
        let status = self.status.write(&self.options.state_dir, &mut self.lock);
        let metrics = self.options.metrics_file.as_deref();
        let metrics = metrics.map_or(Ok(()), |path| metrics::write(&self.status, path));
        for failure in [status.err(), metrics.err()].into_iter().flatten() {
            self.warn_once(&failure.to_string());
        }
    }

    /// Logs a warning unless it was logged before: each refresh finds the same.
    pub(super) fn warn_once(&mut self, message: &str) {
        if self.warned.insert(message.to_owned()) {
            self.messages.warn(message);
        }
    }

    /// Text of `STATUS=` for the service manager (`sd_notify(3)`): one line.
    pub(super) fn summary(&self) -> String {
        let slices = counted(self.status.node.devices.len(), "slice");
        match (&self.status.state, &self.status.error) {
            (WatchState::Failing, Some(error)) => format!("failing: {}", one_line(&error.message)),
            (WatchState::Incomplete, _) => {
                format!("{slices}, {} omitted", self.status.node.omitted)
            }
            _ => slices,
        }
    }
}
