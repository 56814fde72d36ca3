//! The modes of the hook, one file each.

mod create_runtime;
mod ldcache;
mod output;
mod precreate;
mod runtime;
mod settings;
mod verify;

use crate::{
    cli::HookCommand,
    error::{Error, Result},
};
use mig_cdi_sys::device_access;

/// Runs a mode. Returns the text for standard output.
pub(crate) fn run(command: HookCommand) -> Result<String> {
    match command {
        HookCommand::Print(text) => Ok(text),
        HookCommand::Precreate(options) => precreate::run(&options),
        HookCommand::CreateRuntime(options) => create_runtime::run(&options),
        HookCommand::Runtime { options, args } => runtime::run(&options, args),
        HookCommand::Verify(options) => verify::run(&options),
        HookCommand::Ldcache(options) => ldcache::run(&options),
        HookCommand::DeviceAccess(message) => match device_access::run_child(&message) {
            true => Ok(String::new()),
            false => Err(Error::usage("search for holders", "", "standard output has the reason")),
        },
        HookCommand::CgroupAccess(message) => {
            device_access::run_cgroup_child(&message);
            Ok(String::new())
        }
    }
}
