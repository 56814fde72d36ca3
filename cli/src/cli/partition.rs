//! Arguments of the commands that partition GPUs.

use clap::Args;
use mig_cdi_args::StateArgs;
use mig_cdi_config::layouts::GpuSelector;
use mig_cdi_partition::InUse;
use std::path::PathBuf;

/// File that `mig-cdi-restore.service` reads at boot.
pub(crate) const CHECKPOINT_FILE: &str = "/var/lib/mig-cdi/layout.yaml";

/// Arguments of `profiles`.
#[derive(Debug, Args)]
pub(crate) struct ProfilesArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `map`.
#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    /// Draw these GPUs: index, UUID or PCI address, or all [default: all]
    #[arg(value_name = "GPU")]
    pub gpus: Vec<GpuSelector>,

    /// Write the picture as SVG into FILE (- for standard output)
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    #[command(flatten)]
    pub holders: HoldersArgs,
}

/// Desired layouts.
#[derive(Debug, Args)]
pub(crate) struct LayoutArgs {
    /// GPU is an index, a UUID, a PCI address, or all; LAYOUT is 3x2g.20gb,1g.10gb, none for MIG mode
    /// without instances, or off. Pin a start with 3g.40gb@4, choose compute instances with 3g.40gb(1c,2c)
    #[arg(value_name = "GPU=LAYOUT")]
    pub gpus: Vec<String>,

    /// Read layouts from FILE, in the format of mig-parted (- for standard input)
    #[arg(short, long, value_name = "FILE", requires = "layout", conflicts_with = "gpus")]
    pub file: Option<PathBuf>,

    /// Use the layout NAME of FILE
    #[arg(
        short = 'c',
        long = "layout",
        value_name = "NAME",
        requires = "file",
        visible_alias = "selected-config"
    )]
    pub layout: Option<String>,
}

/// Arguments of `plan` and `assert`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub layout: LayoutArgs,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub holders: HoldersArgs,
}

/// Arguments that select where holders of slices are looked for.
#[derive(Debug, Args)]
pub(crate) struct HoldersArgs {
    /// Look for processes below DIR
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,

    /// Treat SLICE as in use by HOLDER although nothing shows it, as for a pod that is about to start. SLICE
    /// is a UUID or another name of it, or the UUID or index of a whole GPU
    #[arg(long, value_name = "SLICE=HOLDER")]
    pub in_use: Vec<InUse>,

    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of the commands that partition GPUs.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Wait up to SECONDS for slices to be released; no holder is stopped
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    pub evict: u64,

    /// Do not refresh the spec and the device nodes
    #[arg(long)]
    pub no_refresh: bool,

    /// Keep the journal of a change in progress in DIR
    #[arg(long, value_name = "DIR", default_value = "/var/lib/mig-cdi")]
    pub journal_dir: PathBuf,

    #[command(flatten)]
    pub holders: HoldersArgs,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub layout: LayoutArgs,

    /// Finish an interrupted apply: reach its layout, or else the one before it
    #[arg(long, conflicts_with_all = ["gpus", "file"])]
    pub resume: bool,

    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Print every placement, by UUID
    #[arg(long)]
    pub pinned: bool,

    /// Name the layout NAME
    #[arg(short = 'c', long = "layout", value_name = "NAME", default_value = "current")]
    pub layout: String,
}

/// Arguments of `checkpoint`.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// File to write
    #[arg(value_name = "FILE", default_value = CHECKPOINT_FILE)]
    pub file: PathBuf,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// File that checkpoint wrote
    #[arg(value_name = "FILE", default_value = CHECKPOINT_FILE)]
    pub file: PathBuf,

    #[command(flatten)]
    pub change: ChangeArgs,
}
