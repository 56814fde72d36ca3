//! Who is told of the node: its log, node feature discovery, and the cluster.

use crate::{
    cluster::{Cluster, Severity},
    feature_file,
    say::{Teller, say},
};
use std::{collections::BTreeMap, path::PathBuf};

/// Where words go.
pub struct Audience {
    /// Where labels go for Node Feature Discovery.
    pub feature_file: Option<PathBuf>,
    /// Where Events go.
    pub cluster: Option<Cluster>,
    /// Labels go there too.
    pub is_labelled: bool,
    /// What was said not to be offered.
    pub withheld: Vec<String>,
    /// What failed once.
    pub teller: Teller,
}

impl Audience {
    /// All labels of the node.
    pub fn labels(&mut self, labels: &BTreeMap<String, String>) {
        if let (Some(cluster), true) = (&self.cluster, self.is_labelled) {
            cluster.set_labels(labels);
        }
        if let Some(path) = &self.feature_file {
            match feature_file::write(path, labels) {
                Ok(_) => self.teller.forget(),
                Err(failure) => self.teller.once(&failure.to_string()),
            }
        }
    }

    /// What is there and not offered, all of it, a line each. Said when that is news.
    pub fn withheld(&mut self, lines: Vec<String>) {
        let news = lines.iter().filter(|line| !self.withheld.contains(line));
        let news: Vec<String> = news.cloned().collect();
        self.say("Withheld", &news, Severity::Warning);
        self.withheld = lines;
    }

    /// Devices that have become unhealthy, and those that are healthy again, a line each.
    pub fn health(&mut self, ill: &[String], well: &[String]) {
        self.say("Unhealthy", ill, Severity::Warning);
        self.say("Healthy", well, Severity::Normal);
    }

    /// The program ends. Labels of the node stay: whoever starts next mends them.
    pub fn leave(&mut self) {
        if let Some(Err(failure)) = self.feature_file.as_deref().map(feature_file::remove) {
            self.teller.once(&failure.to_string());
        }
    }

    /// Each line is one of the log; all together they are one Event.
    fn say(&self, reason: &str, lines: &[String], severity: Severity) {
        lines.iter().for_each(|line| say(line));
        if let (Some(cluster), false) = (&self.cluster, lines.is_empty()) {
            cluster.event(reason, &lines.join("; "), severity);
        }
    }
}
