//! Command-line arguments that `mig-cdi` and `mig-cdi-kubelet` share, and what they and the configuration file resolve to.
//!
//! A flag wins over the file, the file over the defaults. The result are option values of [`mig_cdi_gen`], which knows neither.

mod node;
mod spec;
mod trusted_program;
mod watch;

pub use node::{NodeArgs, SourceArg, read_settings, simulated_node};
pub use spec::{AdminArg, FormatArg, GenerateArgs, NameStyleArg, SpecArgs, VerifyLevel};
pub use trusted_program::{installed_beside, utf8};
pub use watch::{StateArgs, WatchArgs, WatchCommandLine};

/// Bound on a configuration or a node description, far above any.
pub const TEXT_LIMIT: usize = 1 << 20;
