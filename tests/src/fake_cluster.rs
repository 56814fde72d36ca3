//! A cluster of one node for the plugin's part of it, whose API server does as it is told.

use crate::kube_api::ApiServer;
use mig_cdi_kubelet::cluster::{self, Cluster, Severity, Timing};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

/// What its node is called.
pub const NODE: &str = "node-1";
/// What a test can wait for.
pub const SOON: Duration = Duration::from_millis(20);
/// What no machine is too slow for.
pub const FOREVER: Duration = Duration::from_secs(60);

/// What was said.
pub type Lines = Arc<Mutex<Vec<String>>>;

/// A cluster of one node, and what was said.
#[derive(Debug)]
pub struct Town {
    /// Its API server.
    pub api: ApiServer,
    /// For files of the test.
    pub dir: TempDir,
    /// What was said.
    pub lines: Lines,
}

impl Default for Town {
    fn default() -> Town {
        Town::new()
    }
}

impl Town {
    /// Founds it.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn new() -> Town {
        let dir = tempfile::tempdir().expect("it works");
        Town { api: ApiServer::start(NODE), dir, lines: Lines::default() }
    }

    /// The plugin starts. Waits are short, and nothing is written twice in a row without one.
    #[must_use]
    pub fn connect(&self) -> Cluster {
        self.connect_for(Duration::from_secs(3600))
    }

    /// The same, with requests of a watch that last so long.
    #[must_use]
    pub fn connect_for(&self, watch: Duration) -> Cluster {
        let timing = Timing { watch, retry: (SOON, SOON * 4), gap: SOON };
        let kubeconfig = Some(self.api.kubeconfig(self.dir.path()));
        Cluster::connect(NODE, kubeconfig, timing, self.say())
    }

    /// Where words go.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn say(&self) -> cluster::Say {
        let lines = self.lines.clone();
        Arc::new(move |line: &str| lines.lock().expect("it works").push(line.to_owned()))
    }

    /// How many lines have this part.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn said(&self, part: &str) -> usize {
        self.lines.lock().expect("it works").iter().filter(|line| line.contains(part)).count()
    }

    /// Whatever was asked before this has been done: requests go out one by one.
    ///
    /// # Panics
    /// When that fails.
    pub async fn fence(&self, cluster: &Cluster, word: &str) {
        assert!(cluster.written(FOREVER).await);
        cluster.event("Fence", word, Severity::Normal);
        let is_there = |api: &ApiServer| {
            api.requests("POST").iter().any(|request| request.body["message"] == word)
        };
        self.api.until("the fence", is_there).await;
    }
}
