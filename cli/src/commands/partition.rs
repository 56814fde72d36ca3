//! The commands that partition GPUs, and the arguments that they share.

mod apply;
mod export;
mod map;
mod plan;
mod profiles;

pub(super) use apply::{apply, restore};
pub(super) use export::{checkpoint, export};
pub(super) use map::map;
pub(super) use plan::{assert, plan};
pub(super) use profiles::profiles;

use crate::{
    cli::{HoldersArgs, WishArgs},
    console::Console,
};
use mig_cdi_args::usage;
use mig_cdi_gen::{Exit, Failure, MessageSink};
use mig_cdi_partition::{Goal, LayoutFile, run::HolderOptions};
use mig_cdi_sys::{Error, TrustedDir};
use std::path::Path;

/// The goal that a command line names.
fn goal(args: &WishArgs) -> Result<Goal, Failure> {
    match (&args.file, &args.layout) {
        (Some(file), Some(name)) => {
            Ok(Goal::File(LayoutFile { path: file.clone(), layout: name.clone() }))
        }
        (None, Some(_)) if !args.gpus.is_empty() => {
            Err(usage("--layout names a layout of a file: give it with --file"))
        }
        _ => Ok(Goal::Assignments(args.gpus.clone())),
    }
}

fn holder_options(args: &HoldersArgs) -> HolderOptions {
    HolderOptions {
        host_root: args.host_root.clone(),
        in_use: args.in_use.clone(),
        state_dir: args.state.state_dir.clone(),
    }
}

/// Writes a file that the user names, whole or not at all. `open` decides who may own the directory.
fn write(
    console: &Console,
    file: &Path,
    text: &str,
    open: fn(&Path) -> mig_cdi_sys::Result<TrustedDir>,
) -> Result<(), Failure> {
    let path = mig_cdi_sys::absolute(file)?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(usage(format!("write {}: not the path of a file", path.display())));
    };
    let dir = open(dir).map_err(|error| match error {
        Error::UnsafeDir { path, .. } => {
            let path = path.display();
            let message =
                format!("write into {path}: others can; name a file where only root writes");
            Failure::new(Exit::Refused, message)
        }
        error => error.into(),
    })?;
    dir.expect_file(name)?;
    dir.replace(name, text.as_bytes())?;
    console.status(&format!("wrote {}", path.display()));
    Ok(())
}
