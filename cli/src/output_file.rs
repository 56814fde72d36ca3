//! Files that a command writes because the user names them: pictures and checkpoints.

use crate::console::Console;
use mig_cdi_gen::{Error, MessageSink};
use mig_cdi_sys::TrustedDir;
use std::path::Path;

/// Writes a file that the user names, whole or not at all. `open` decides who may own the directory.
///
/// # Errors
/// When the path names no file, when users other than root can write to the directory, and when the write fails.
pub(crate) fn write_output_file(
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
            .with_cure("use a directory that only root can write to"),
        error => error.into(),
    })?;
    dir.expect_file(name)?;
    dir.replace(name, text.as_bytes())?;
    console.status(&format!("wrote {}", path.display()));
    Ok(())
}
