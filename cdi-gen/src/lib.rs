//! Discovers the MIG devices of a node and writes CDI specs for them.
//!
//! Data flows one way: discover → topology → spec → write.
//!
//! | stage | does | reads or writes |
//! |---|---|---|
//! | [`discover`] | finds GPUs, MIG devices and driver files | reads `/proc`, NVML and the driver root |
//! | [`spec`] | turns a topology into a CDI spec | nothing: it is pure |
//! | [`write`](mod@write) | puts a spec into its file, after a search for conflicts | writes a spec directory |
//! | [`generate`] | runs these stages | |
//! | [`device_nodes`] | repairs the host's device nodes | writes `/dev` |
//! | [`refresh`] | repairs nodes and generates specs, in a child process | |
//! | [`watch`] | runs a refresh whenever MIG has changed | writes `status.json` and metrics |
//! | [`inventory`](mod@inventory) | lists the slices that can be advertised | nothing |
//!
//! No stage reads a command line or writes to a console: options come in as values ([`generate::GenerateOptions`],
//! [`watch::WatchOptions`]), messages go to a [`MessageSink`], and each failure is an [`Error`] with its cause and cure. One
//! stream is an exception: the standard output of a child process, which carries its messages to the parent ([`child`]).
//!
//! Messages and cures name flags: `--output`, `--kind`, `--source`. Both programs that link this library, `mig-cdi` and
//! `mig-cdi-kubelet`, take them from `mig-cdi-args` under these names, so a cure can be followed in either.
//!
//! # Example
//! The spec of a simulated node. For this machine, make a [`NodeSource`] without `simulated`.
//!
//! ```
//! use mig_cdi_gen::{
//!     NoMessages, NodeSource,
//!     generate::{DeviceBuilder, DeviceOptions},
//!     spec::DeviceSet,
//! };
//!
//! let node = NodeSource::simulate(
//!     r#"
//!     [[gpu]]
//!     model = "a100-80gb"
//!     instances = [{ profile = "3g.40gb", start = 4 }, { profile = "2g.20gb", start = 0 }]
//!     "#,
//! )?;
//! let machine = node.machine()?;
//! let topology = node.discover(&*machine, &NoMessages)?.topology;
//! assert_eq!(topology.mig_devices().count(), 2);
//!
//! let options = DeviceOptions::new("nvidia.com/mig".parse()?);
//! let builder = DeviceBuilder::new(&node, &options, &NoMessages);
//! let files = builder.driver_files(&*machine, &topology)?;
//! let built = builder.build(&topology, &files, DeviceSet::Mig, &builder.options()?)?;
//! let spec = built.spec.expect("a node with MIG devices has a spec");
//! assert!(spec.devices.iter().any(|device| device.name.as_str() == "0:3g.40gb:4"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod as_text;
pub mod child;
pub mod device_nodes;
pub mod discover;
pub mod engines;
mod error;
mod exit;
pub mod generate;
pub mod inventory;
pub mod listen;
mod message;
mod node_source;
pub mod refresh;
pub mod slice_names;
pub mod spec;
pub mod spec_file;
pub mod watch;
pub mod write;

pub use error::{Error, ErrorKind, Result, ownership_cure};
pub use exit::Exit;
pub use message::{MessageLevel, MessageSink, NoMessages};
pub use mig_cdi_sys::{NodeRoots, nvml::Xid};
pub use node_source::NodeSource;
