//! The command line of `configure`.

use clap::Args;
use mig_cdi_gen::engines::{self, EngineVersion};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // Flags are.
pub(crate) struct ConfigureArgs {
    /// The engine
    #[arg(value_enum)]
    pub engine: Engine,

    /// Show what would change, as diff -u does, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Take back all that configure wrote for this engine. Refused where somebody else has changed a file
    /// since
    #[arg(long, conflicts_with_all = ["runtime", "hook", "quadlet"])]
    pub undo: bool,

    /// Of the user who runs this, not of root: podman, docker
    #[arg(long)]
    pub rootless: bool,

    /// Make mig-cdi-runtime known too, as a runtime called mig-cdi
    #[arg(long)]
    pub runtime: bool,

    /// Have mig-cdi-hook run for each container too: podman's precreate, CRI-O's create-runtime
    #[arg(long)]
    pub hook: bool,

    /// Print a systemd unit of a container with a slice, for podman's Quadlet, and change nothing
    #[arg(long, conflicts_with_all = ["runtime", "hook", "dry_run"])]
    pub quadlet: bool,

    /// Configure for this release, without asking the engine for its version
    #[arg(long, value_name = "VERSION", value_parser = release)]
    pub engine_version: Option<EngineVersion>,

    /// Change files below DIR, and look for the engine there
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,
}

/// An engine that can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Engine {
    Podman,
    Containerd,
    Crio,
    Docker,
}

fn release(text: &str) -> Result<EngineVersion, String> {
    engines::parse_version(text)
        .ok_or_else(|| "a release is two or three numbers, as 5.4.2".to_owned())
}
