//! The OCI hook of mig-cdi: injects slices of NVIDIA GPUs into containers where the engine does not speak CDI, and refuses
//! to start a container whose slice does not match its spec. One static program with several [modes](cli::HookCommand).
//!
//! Three of the modes share one pipeline, request → resolve → verify → holders → plan → inject:
//!
//! 1. [`request`] reads what a container requests, and what the policy allows;
//! 2. [`resolve`] finds that in the spec that `mig-cdi generate` wrote;
//! 3. [`verify`] compares it with the driver as `/proc` shows it now ([`driver`]);
//! 4. [`holders`] refuses a slice that another container may open already;
//! 5. [`plan`] holds everything that the container gets;
//! 6. [`oci_config`] writes the plan into a configuration that no runtime has read yet, [`inject`] into a container that
//!    is created already.
//!
//! The crate never loads NVML, runs no program of a container and trusts no path of it. It depends on neither clap nor an
//! async runtime: every container of a node waits for it.
//!
//! The devices that a container requests, from its configuration alone:
//!
//! ```
//! use mig_cdi_config::Settings;
//! use mig_cdi_hook::{
//!     oci_config::OciConfig,
//!     request::{self, Request},
//! };
//!
//! let config = r#"{
//!     "ociVersion": "1.2.0",
//!     "process": { "args": ["sh"], "env": ["NVIDIA_VISIBLE_DEVICES=all"] },
//!     "root": { "path": "rootfs" },
//!     "linux": { "resources": { "devices": [{ "allow": true, "access": "rwm" }] } },
//!     "annotations": { "mig-cdi/devices": "0:2g.20gb:0,0:2g.20gb:2" }
//! }"#;
//! let config = OciConfig::parse(config.as_bytes())?;
//! let policy = Settings::parse("")?;
//! let request = request::read(&config, &policy.hook, "nvidia.com/mig")?;
//! let Request::Devices(devices) = request else { panic!("it requests nothing") };
//! let names: Vec<String> = devices.iter().map(ToString::to_string).collect();
//! assert_eq!(names, ["0:2g.20gb:0", "0:2g.20gb:2"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod cli;
pub mod driver;
mod error;
pub mod given_nodes;
pub mod holders;
pub mod inject;
mod modes;
pub mod oci_config;
pub mod plan;
pub mod raw_json;
pub mod request;
pub mod resolve;
pub mod runtime_args;
pub mod spec;
pub mod state;
pub mod unit_rules;
pub mod verify;

pub use error::{Error, ErrorCause, HookExit, Result};

use cli::HookCommand;
use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

/// Parses the command line, runs the mode, prints its output or its error, and returns the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> ExitCode {
    let command = cli::parse(args);
    // The input of a runtime belongs to the container; --help and a child of ours get no state.
    let is_hook = matches!(
        command,
        Err(_)
            | Ok(HookCommand::Precreate(_)
                | HookCommand::CreateRuntime(_)
                | HookCommand::Verify(_)
                | HookCommand::Ldcache(_))
    );
    let output = command.and_then(modes::run);
    if is_hook {
        // crun 1.8.1 fails a container with "Broken pipe" when a hook ends before it has read all of the state; runc
        // does not mind, later crun neither.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    }
    let done = output.and_then(|text| {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|cause| Error::refused("write to standard output", "", cause))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Runtimes show a hook's standard error, or drop it: a failure to write it has no other reader.
            let _ = io::stderr().write_all(format!("error: {error}\n").as_bytes());
            ExitCode::from(error.exit as u8)
        }
    }
}
