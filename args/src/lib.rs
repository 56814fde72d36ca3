//! Command-line arguments that `mig-cdi` and `mig-cdi-kubelet` share, and their resolution with the configuration file.
//!
//! A flag takes precedence over the file, the file over the defaults. [`NodeArgs`] selects the node, [`SpecArgs`] and
//! [`GenerateArgs`] the contents of a spec and its file, [`WatchArgs`] the options of the watch. Each resolves to option values of
//! [`mig_cdi_gen`], which knows neither the command line nor the file. This crate reads the configuration and node descriptions,
//! and nothing of the driver.
//!
//! ```
//! use clap::Parser;
//! use mig_cdi_args::{NodeArgs, SpecArgs, read_settings};
//! # use std::path::Path;
//!
//! #[derive(Parser)]
//! struct Arguments {
//!     #[command(flatten)]
//!     node: NodeArgs,
//!     #[command(flatten)]
//!     spec: SpecArgs,
//! }
//!
//! # fn main() -> mig_cdi_gen::Result<()> {
//! let arguments = ["example", "--node", "hgx-h100", "--names", "slot"];
//! let arguments = Arguments::parse_from(arguments);
//! let settings = read_settings(Some(Path::new("/dev/null")), false)?;
//! let node = arguments.node.resolve(&settings)?;
//! assert!(node.is_simulated());
//! let devices = arguments.spec.resolve(&node, &settings, None)?;
//! assert_eq!(devices.spec.kind.to_string(), "nvidia.com/mig");
//! # Ok(())
//! # }
//! ```

mod node;
mod spec;
mod trusted_program;
mod watch;

pub use node::{NodeArgs, SourceArg, read_settings, simulated_node};
pub use spec::{AdminArg, FormatArg, GenerateArgs, NameStyleArg, SpecArgs, VerifyLevel};
pub use trusted_program::installed_beside;
pub use watch::{StateArgs, WatchArgs, WatchCommandLine};

/// Upper bound for a configuration file or a node description in bytes, far above any.
pub const TEXT_LIMIT: usize = 1 << 20;

/// Returns the list of a flag, or the setting when the flag was not given.
fn flag_or_setting<T: Clone>(flag: &[T], setting: &[T]) -> Vec<T> {
    if flag.is_empty() { setting.to_vec() } else { flag.to_vec() }
}
