//! Finding `libnvidia-ml.so.1` of the driver, checking who could have put it there, and starting it.
//!
//! The library's version must be that of the kernel module (`NVML_ERROR_LIB_RM_VERSION_MISMATCH`), so it is taken
//! from the same driver root as all other driver files. The dynamic loader never searches for it: a library runs code
//! as soon as it is loaded (dlopen(3), "Initialization and finalization functions"), as root here, and the loader
//! asks nobody who owns it.

use super::{NvmlError, error::failed};
use crate::{
    DriverRoot,
    error::describe,
    trusted_path::{CheckedPath, Trust, check, kind, path_of},
};
use nix::sys::stat::SFlag;
use nvml_wrapper::{Nvml, error::NvmlError as WrapperError};
use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

const NAME: &str = "libnvidia-ml.so.1";

/// A library that only root and this process's user can change.
struct Library {
    file: OwnedFd,
    /// Path of the file, every symbolic link resolved.
    path: String,
}

/// Starts NVML of the driver below `root`, and returns it with the path of its library. One of another driver's version, which an
/// earlier installation left, is passed over.
pub(super) fn start(root: &DriverRoot) -> Result<(Nvml, String), NvmlError> {
    let mut mismatch = None;
    for below in candidates(root) {
        match load(root, &below) {
            Ok(started) => return Ok(started),
            Err(error @ NvmlError::VersionMismatch { .. }) => drop(mismatch.get_or_insert(error)),
            Err(error) if mismatch.is_none() => return Err(error),
            // Where the first is of another version, one that cannot be used says nothing, as that of 32 bits.
            Err(_) => {}
        }
    }
    Err(mismatch.unwrap_or_else(|| NvmlError::NoLibrary {
        searched: format!(
            "the usual directories and those of the loader's cache, below {}",
            root.display_path("").display()
        ),
    }))
}

fn load(root: &DriverRoot, below: &str) -> Result<(Nvml, String), NvmlError> {
    let Library { file, path } = open(root, below)?;
    // The file that was checked, whatever has its path by now: the loader opens what it is given, and follows the
    // kernel's link to the open file. NVML finds nothing by its own path: it needs the C library alone (its
    // `DT_NEEDED` entries, and no `DT_RUNPATH`).
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    match Nvml::builder().lib_path(handle.as_ref()).init() {
        Ok(nvml) => Ok((nvml, path)),
        Err(error) => Err(start_error(path, &handle, error)),
    }
}

fn start_error(path: String, handle: &str, error: WrapperError) -> NvmlError {
    match error {
        WrapperError::DriverNotLoaded => NvmlError::NotLoaded { path },
        WrapperError::LibRmVersionMismatch => NvmlError::VersionMismatch { path },
        WrapperError::LibloadingError(e) => {
            NvmlError::Unusable { cause: e.to_string().replace(handle, &path), path }
        }
        WrapperError::FailedToLoadSymbol(cause) => {
            NvmlError::Unusable { cause: cause.replace(handle, &path), path }
        }
        error => NvmlError::Call(failed("nvmlInit_v2", error)),
    }
}

/// Paths of the files of that name in the directories of the driver root.
fn candidates(root: &DriverRoot) -> impl Iterator<Item = String> {
    let paths = root.library_dirs().lib64.iter().map(|dir| format!("{dir}/{NAME}"));
    // Regular files only: dlopen(3) of a fifo waits for its writer.
    paths.filter(|path| root.root().stat(path).is_ok_and(|stat| kind(&stat) == SFlag::S_IFREG))
}

/// Opens a library. One that another user could have put there is refused, and not passed over for the next: it is the one that all
/// other programs would load.
fn open(root: &DriverRoot, below: &str) -> Result<Library, NvmlError> {
    let CheckedPath { file, dirs, content } =
        check(root.root().path(), Path::new(below), Trust::OwnNow);
    let refused = |cause| {
        let path = root.display_path(below).display().to_string();
        NvmlError::Untrusted { path, cause }
    };
    match (file, dirs.or(content)) {
        (Ok(file), None) => {
            Ok(Library { path: path_of(&file).to_string_lossy().into_owned(), file })
        }
        (_, Some(weakness)) => {
            Err(refused(format!("{weakness}, so another user could have replaced it")))
        }
        (Err(errno), None) => Err(refused(format!("cannot be examined: {}", describe(errno)))),
    }
}
