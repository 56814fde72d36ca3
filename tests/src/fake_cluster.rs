//! Fake cluster of one node for the plugin's cluster client, with a fake API server.

use crate::fake_api_server::FakeApiServer;
use mig_cdi_kubelet::cluster::{self, Cluster, EventType, RetryDelays, Timing};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

/// Name of its node.
pub const NODE: &str = "node-1";
/// Waiting time of a test.
pub const SOON: Duration = Duration::from_millis(20);
/// Time limit that fits the slowest machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Log lines.
pub type Lines = Arc<Mutex<Vec<String>>>;

/// Cluster of one node, and the log.
#[derive(Debug)]
pub struct FakeCluster {
    /// API server of the cluster.
    pub api: FakeApiServer,
    /// Directory for files of the test.
    pub dir: TempDir,
    /// Log lines.
    pub lines: Lines,
}

impl Default for FakeCluster {
    fn default() -> FakeCluster {
        FakeCluster::new()
    }
}

impl FakeCluster {
    /// Makes the cluster.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn new() -> FakeCluster {
        let dir = tempfile::tempdir().expect("it works");
        FakeCluster { api: FakeApiServer::start(NODE), dir, lines: Lines::default() }
    }

    /// Connects the plugin, with short delays, also between two writes.
    #[must_use]
    pub fn connect(&self) -> Cluster {
        self.connect_for(Duration::from_secs(3600))
    }

    /// Connects the plugin, with watch requests of this duration.
    #[must_use]
    pub fn connect_for(&self, watch: Duration) -> Cluster {
        let retry = RetryDelays { first: SOON, limit: SOON * 4 };
        let timing = Timing { watch, retry, write_interval: SOON };
        let kubeconfig = Some(self.api.kubeconfig(self.dir.path()));
        Cluster::connect(NODE, kubeconfig, timing, self.logger())
    }

    /// Returns the function that appends to the log.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn logger(&self) -> cluster::LogSink {
        let lines = self.lines.clone();
        Arc::new(move |line: &str| lines.lock().expect("it works").push(line.to_owned()))
    }

    /// Returns the number of log lines with this part.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn logged(&self, part: &str) -> usize {
        self.lines.lock().expect("it works").iter().filter(|line| line.contains(part)).count()
    }

    /// Waits until all earlier requests are done: requests are sent one at a time.
    ///
    /// # Panics
    /// When that fails.
    pub async fn flush(&self, cluster: &Cluster, message: &str) {
        assert!(cluster.wait_written(TIMEOUT).await);
        cluster.send_event("Flush", message, EventType::Normal);
        let is_there = |api: &FakeApiServer| {
            api.requests("POST").iter().any(|request| request.body["message"] == message)
        };
        self.api.until("the event of flush", is_there).await;
    }
}
