//! The command lines of the commands that divide GPUs.

use super::StateArgs;
use crate::partition::told::InUse;
use clap::Args;
use mig_cdi_config::layouts::GpuSelector;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct ProfilesArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    /// Draw these only: index, UUID or PCI address, or all [default: all]
    #[arg(value_name = "GPU")]
    pub gpus: Vec<GpuSelector>,

    /// Write the picture as SVG, for documents (- for standard output)
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    #[command(flatten)]
    pub holders: HoldersArgs,
}

/// How GPUs are to be divided.
#[derive(Debug, Args)]
pub(crate) struct WishArgs {
    /// GPU=LAYOUT: the index, UUID or PCI address of a GPU, or all; and 3x2g.20gb,1g.10gb, none for MIG
    /// mode without instances, or off. Pin with 3g.40gb@4, divide further with 3g.40gb(1c,2c)
    #[arg(value_name = "GPU=LAYOUT")]
    pub gpus: Vec<String>,

    /// Take the layouts from FILE, in the format of mig-parted (- for standard input)
    #[arg(short, long, value_name = "FILE", requires = "layout", conflicts_with = "gpus")]
    pub file: Option<PathBuf>,

    /// The layout in FILE to take
    #[arg(
        short = 'c',
        long = "layout",
        value_name = "NAME",
        requires = "file",
        visible_alias = "selected-config"
    )]
    pub layout: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub wish: WishArgs,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub holders: HoldersArgs,
}

/// Where it is seen who holds what.
#[derive(Debug, Args)]
pub(crate) struct HoldersArgs {
    /// Look for processes below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,

    /// Take a slice for used although nothing shows it, as with a pod that is about to start: its UUID or
    /// another name of it, and by whom. The UUID or index of a GPU is the GPU as a whole
    #[arg(long, value_name = "SLICE=WHO")]
    pub in_use: Vec<InUse>,

    #[command(flatten)]
    pub state: StateArgs,
}

/// How GPUs are changed.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Wait so long for whoever holds a slice that has to go; nobody is stopped
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub evict: u64,

    /// Leave the spec and the device nodes as they are
    #[arg(long)]
    pub no_refresh: bool,

    /// Where it is written down what is done, until it is done
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mig-cdi")]
    pub journal_dir: PathBuf,

    #[command(flatten)]
    pub holders: HoldersArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub wish: WishArgs,

    /// End what an apply that was cut off has begun: as it was wished, or else as it was
    #[arg(long, conflicts_with_all = ["gpus", "file"])]
    pub resume: bool,

    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// With every placement, by UUID
    #[arg(long)]
    pub pinned: bool,

    /// The name of the layout
    #[arg(short = 'c', long = "layout", value_name = "NAME", default_value = "current")]
    pub layout: String,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// The file to write
    #[arg(value_name = "FILE", default_value = "/var/lib/mig-cdi/layout.yaml")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The file that checkpoint wrote
    #[arg(value_name = "FILE", default_value = "/var/lib/mig-cdi/layout.yaml")]
    pub file: PathBuf,

    #[command(flatten)]
    pub change: ChangeArgs,
}
