//! Arguments of `status`.

use clap::Args;
use mig_cdi_args::StateArgs;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub state: StateArgs,
}
