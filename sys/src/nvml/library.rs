//! Finding `libnvidia-ml.so.1` of the driver, and starting it.
//!
//! The library's version must be that of the kernel module (`NVML_ERROR_LIB_RM_VERSION_MISMATCH`), so it is taken
//! from the same driver root as all other driver files.

use super::{NvmlError, error::failed};
use crate::DriverRoot;
use nvml_wrapper::{Nvml, error::NvmlError as WrapperError};

const NAME: &str = "libnvidia-ml.so.1";

/// Starts NVML of the driver below `root`, and returns it with the path of its library.
pub(super) fn start(root: &DriverRoot) -> Result<(Nvml, String), NvmlError> {
    let path = find(root)?;
    match Nvml::builder().lib_path(path.as_ref()).init() {
        Ok(nvml) => Ok((nvml, path)),
        Err(error) => Err(start_error(path, error)),
    }
}

fn start_error(path: String, error: WrapperError) -> NvmlError {
    match error {
        WrapperError::LibloadingError(_) if path == NAME => NvmlError::NoLibrary {
            searched: "the directories that the dynamic loader knows".to_owned(),
        },
        WrapperError::DriverNotLoaded => NvmlError::NotLoaded { path },
        WrapperError::LibRmVersionMismatch => NvmlError::VersionMismatch { path },
        WrapperError::LibloadingError(e) => NvmlError::Unusable { path, cause: e.to_string() },
        WrapperError::FailedToLoadSymbol(cause) => NvmlError::Unusable { path, cause },
        error => NvmlError::Call(failed("nvmlInit_v2", error)),
    }
}

/// Path of the file to load, every symbolic link resolved within the root.
///
/// Below the machine's own root the dynamic loader's search comes last, by the bare name.
fn find(root: &DriverRoot) -> Result<String, NvmlError> {
    let dirs = &root.library_dirs().lib64;
    let resolve = |dir: &String| root.root().resolve(&format!("{dir}/{NAME}")).ok();
    // Regular files only: dlopen(3) of a fifo waits for its writer.
    let file = dirs.iter().filter_map(resolve).find(|path| path.is_file());
    match file {
        Some(path) => Ok(path.to_string_lossy().into_owned()),
        None if root.root().is_real() => Ok(NAME.to_owned()),
        None => Err(NvmlError::NoLibrary {
            searched: format!(
                "the usual directories and those of the loader's cache, below {}",
                root.display_path("").display()
            ),
        }),
    }
}
