//! Arguments of the watch, for `mig-cdi watch` and for programs that run it as a part of themselves.

use crate::{GenerateArgs, NodeArgs, node::read_settings};
use clap::{Args, Parser};
use mig_cdi_config::Settings;
use mig_cdi_gen::{
    Result,
    watch::{WatchOptions, WatchSetup},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Command line of a watch inside another program: the arguments of `mig-cdi watch` without the command itself.
#[derive(Debug, Parser)]
#[command(name = "mig-cdi watch", no_binary_name = true, disable_version_flag = true)]
pub struct WatchCommandLine {
    /// Print details on standard error
    #[arg(short, long)]
    pub verbose: bool,

    /// Read settings from FILE instead of /etc/mig-cdi/config.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Node to watch.
    #[command(flatten)]
    pub node: NodeArgs,

    /// Options of the watch.
    #[command(flatten)]
    pub watch: WatchArgs,
}

impl WatchCommandLine {
    /// Reads the configuration, and merges the arguments with it.
    ///
    /// # Errors
    /// When the configuration is wrong, or as [`WatchArgs::setup`].
    pub fn setup(&self) -> Result<WatchSetup> {
        let config = self.config.as_deref();
        self.watch.setup(&self.node, &read_settings(config, false)?, config)
    }
}

/// Arguments of the watch.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// State of the watch.
    #[command(flatten)]
    pub state: StateArgs,

    /// Write metrics into FILE, for the textfile collector of Prometheus' node exporter
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,

    /// Do not repair the host's device nodes; as root, watch does, like mig-cdi nodes
    #[arg(long)]
    pub leave_nodes: bool,

    // Wakeups are most of what an idle watch costs (`cargo bench -p mig-cdi-tests --bench watch`), so 170 is the longest time
    // that keeps two promises: half of it and a refresh are a tenth of a second, and the five of a full scan are below a second.
    /// Poll the driver's capability tree every MS milliseconds
    #[arg(long, value_name = "MS", default_value = "170", value_parser = clap::value_parser!(u64).range(10..=100_000))]
    pub interval: u64,

    /// Query NVML every S seconds even when nothing seems to have changed: only NVML reports a lost GPU
    #[arg(long, value_name = "S", default_value = "300", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub resync: u64,

    /// Subscribe to the driver's events of MIG changes, on GPUs whose MIG mode changes without a reset. A
    /// process then keeps NVML open, and the driver cannot be unloaded while it runs
    #[arg(long)]
    pub driver_events: bool,

    /// Subscribe to critical errors (XIDs) of every GPU too. A process then keeps NVML open on all of them,
    /// and none can be reset while it runs
    #[arg(long)]
    pub health: bool,

    // Last: clap lists the flags after a flattened struct below the heading of that struct.
    /// Spec to keep current.
    #[command(flatten)]
    pub generate: GenerateArgs,
}

/// Arguments of every command that reads or writes the state of the watch.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// Use DIR for status.json and leases
    #[arg(long, value_name = "DIR", default_value = "/run/mig-cdi")]
    pub state_dir: PathBuf,
}

impl WatchArgs {
    /// Returns the options that are fixed when the watch starts.
    #[must_use]
    pub fn options(&self) -> WatchOptions {
        WatchOptions {
            state_dir: self.state.state_dir.clone(),
            metrics_file: self.metrics_file.clone(),
            repair_nodes: !self.leave_nodes,
            interval: Duration::from_millis(self.interval),
            resync: Duration::from_secs(self.resync),
            wants_error_events: self.health,
            // Only the device plugin needs one, and sets this itself.
            wants_inventory: false,
        }
    }

    /// Resolves the setup, which a reload of the configuration may change. `config` is as for [`GenerateArgs::resolve`].
    ///
    /// # Errors
    /// As [`GenerateArgs::resolve`].
    pub fn setup(
        &self,
        node: &NodeArgs,
        settings: &Settings,
        config: Option<&Path>,
    ) -> Result<WatchSetup> {
        let node = node.resolve(settings)?;
        let generate = self.generate.resolve(&node, settings, config)?;
        let driver_events = self.driver_events || settings.driver_events;
        Ok(WatchSetup { node, generate, wants_driver_events: driver_events })
    }
}
