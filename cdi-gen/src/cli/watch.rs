//! The command lines of watch and of what looks at it.

use super::GenerateArgs;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub state: StateArgs,

    /// Write figures for Prometheus into FILE, for the textfile collector of its node exporter
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,

    /// Leave the host's device nodes as they are; as root, watch makes them as mig-cdi nodes does
    #[arg(long)]
    pub leave_nodes: bool,

    /// Look at the driver's capability tree every so many milliseconds
    #[arg(long, value_name = "MS", default_value = "170", value_parser = clap::value_parser!(u64).range(10..=100_000))]
    pub interval: u64,

    /// Ask NVML anew after so many seconds although nothing seems to have changed: it alone tells that a
    /// GPU is lost
    #[arg(long, value_name = "S", default_value = "300", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub resync: u64,

    /// Let the driver tell of changes, where that does no harm: on GPUs whose MIG mode changes without a
    /// reset. A process then keeps NVML open, and the driver cannot be unloaded while it runs
    #[arg(long)]
    pub driver_events: bool,

    /// Let the driver tell of critical errors (XIDs) of every GPU as well. A process then keeps NVML open
    /// on all of them, so that none can be reset while it runs
    #[arg(long)]
    pub health: bool,

    /// What watch runs to hear of them
    #[arg(long, hide = true)]
    pub listen: bool,

    /// Have each refresh say what there is to offer
    #[arg(long, hide = true)]
    pub inventory: bool,

    /// What watch runs for each refresh
    #[arg(long, hide = true)]
    pub refresh: bool,

    // Last, since what follows it would stand below its heading.
    #[command(flatten)]
    pub generate: GenerateArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    /// Where watch says what it did, for status
    #[arg(long, value_name = "DIR", default_value = "/run/mig-cdi")]
    pub state_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub state: StateArgs,
}
