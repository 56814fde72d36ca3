//! Reports about the node: to the log, to Node Feature Discovery, and to the cluster.

use crate::{
    cluster::{Cluster, EventType},
    feature_file,
    log::{OnceLog, log},
};
use std::{collections::BTreeMap, path::PathBuf};

/// Writer of labels, log lines and Events.
pub struct Reporter {
    /// Path of the feature file that labels are written to, for Node Feature Discovery.
    pub feature_file: Option<PathBuf>,
    /// Cluster that Events are sent to.
    pub cluster: Option<Cluster>,
    /// True when labels are written through the API server too.
    pub writes_node_labels: bool,
    /// Last report of what is withheld.
    pub withheld: Vec<String>,
    /// Failures to write the feature file.
    pub failures: OnceLog,
}

impl Reporter {
    /// Writes all labels of the node, wherever labels go.
    pub fn report_labels(&mut self, labels: &BTreeMap<String, String>) {
        if let (Some(cluster), true) = (&self.cluster, self.writes_node_labels) {
            cluster.set_labels(labels);
        }
        if let Some(path) = &self.feature_file {
            match feature_file::write(path, labels) {
                Ok(_) => self.failures.reset(),
                Err(error) => self.failures.error(&error),
            }
        }
    }

    /// Reports what exists and is not advertised, one line each. `lines` is the whole list; only lines that the
    /// last call did not have are written.
    pub fn report_withheld(&mut self, lines: Vec<String>) {
        let new = lines.iter().filter(|line| !self.withheld.contains(line));
        let new: Vec<String> = new.cloned().collect();
        self.report("Withheld", &new, EventType::Warning);
        self.withheld = lines;
    }

    /// Reports devices that have become unhealthy, and devices that are healthy again, one line each.
    pub fn report_health(&mut self, unhealthy: &[String], recovered: &[String]) {
        self.report("Unhealthy", unhealthy, EventType::Warning);
        self.report("Healthy", recovered, EventType::Normal);
    }

    /// Removes the feature file, at the end of the program. Labels that were written through the API server stay:
    /// the next start corrects them.
    pub fn close(&mut self) {
        if let Some(Err(error)) = self.feature_file.as_deref().map(feature_file::remove) {
            self.failures.error(&error);
        }
    }

    /// Writes each line to the log, and all of them as one Event, since the number of Events is limited.
    fn report(&self, reason: &str, lines: &[String], event_type: EventType) {
        lines.iter().for_each(|line| log(line));
        if let (Some(cluster), false) = (&self.cluster, lines.is_empty()) {
            cluster.send_event(reason, &lines.join("; "), event_type);
        }
    }
}
