//! Discovers the MIG devices of a node and writes CDI specs for them. Data flows one way: discover → topology → spec → write.
//!
//! [`discover`] is the only stage that asks the machine, [`spec`] is pure and knows no path, [`write`] is the only stage that
//! writes specs. [`generate`] joins them, [`device_nodes`] repairs the host's device nodes, [`refresh`] does both, and [`watch`]
//! runs a refresh whenever MIG has changed. No stage knows a command line or a console: options come in as values, and messages
//! go to a [`MessageSink`].

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
pub mod spec;
pub mod spec_file;
pub mod watch;
pub mod write;

pub use error::{Error, Error as Failure, ErrorKind, Result};
pub use exit::Exit;
pub use message::{MessageLevel, MessageSink, NoMessages};
pub use mig_cdi_sys::nvml::Xid;
pub use node_source::{NodeRoots, NodeSource};
