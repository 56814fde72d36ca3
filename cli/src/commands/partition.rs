//! The commands that partition GPUs or show how they are partitioned, and the arguments that they share.

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
    cli::{HoldersArgs, LayoutArgs},
    console::Console,
};
use mig_cdi_gen::{Error, MessageSink};
use mig_cdi_partition::{Goal, HolderOptions, LayoutFile};
use mig_cdi_sys::TrustedDir;
use std::path::Path;

/// Returns the goal of a change: the layout that `--file` and `--layout` name, or the assignments `GPU=LAYOUT`.
fn goal(args: &LayoutArgs) -> Result<Goal, Error> {
    match (&args.file, &args.layout) {
        (Some(file), Some(name)) => {
            Ok(Goal::File(LayoutFile { path: file.clone(), layout: name.clone() }))
        }
        (None, Some(_)) if !args.gpus.is_empty() => Err(Error::usage("", "--layout")
            .because("it names a layout in a file")
            .cure("add --file")),
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
) -> Result<(), Error> {
    let path = mig_cdi_sys::absolute(file)?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(Error::usage("write", path.display()).because("not the path of a file"));
    };
    let dir = open(dir).map_err(|error| match error {
        mig_cdi_sys::Error::UnsafeDir { path, .. } => Error::refused("write into", path.display())
            .because("users other than root can write there")
            .cure("use a directory that only root can write to"),
        error => error.into(),
    })?;
    dir.expect_file(name)?;
    dir.replace(name, text.as_bytes())?;
    console.status(&format!("wrote {}", path.display()));
    Ok(())
}
