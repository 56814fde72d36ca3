//! Finding `libnvidia-ml.so.1` of the driver, and starting it.

use super::{Failure, failed};
use crate::DriverRoot;
use nvml_wrapper::{Nvml, error::NvmlError};

const NAME: &str = "libnvidia-ml.so.1";

/// NVML of the driver below `root`, started, and which file it is.
pub(super) fn start(root: &DriverRoot) -> Result<(Nvml, String), Failure> {
    let path = find(root)?;
    match Nvml::builder().lib_path(path.as_ref()).init() {
        Ok(nvml) => Ok((nvml, path)),
        Err(error) => Err(reason(path, error)),
    }
}

fn reason(path: String, error: NvmlError) -> Failure {
    match error {
        NvmlError::LibloadingError(_) if path == NAME => Failure::NoLibrary {
            searched: "the directories that the dynamic loader knows".to_owned(),
        },
        NvmlError::DriverNotLoaded => Failure::NotLoaded { path },
        NvmlError::LibRmVersionMismatch => Failure::VersionMismatch { path },
        NvmlError::LibloadingError(e) => Failure::Unusable { path, reason: e.to_string() },
        NvmlError::FailedToLoadSymbol(reason) => Failure::Unusable { path, reason },
        error => Failure::Call(failed("nvmlInit_v2", &error)),
    }
}

/// The file to load, links resolved within the root.
///
/// Below the machine's own root the dynamic loader's own search comes last.
fn find(root: &DriverRoot) -> Result<String, Failure> {
    let dirs = &root.library_dirs().wide;
    // The loader would wait for the writer of a pipe.
    let resolve = |dir: &String| root.root().resolve(&format!("{dir}/{NAME}")).ok();
    let found = dirs.iter().filter_map(resolve).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path.to_string_lossy().into_owned()),
        None if root.root().is_real() => Ok(NAME.to_owned()),
        None => Err(Failure::NoLibrary {
            searched: format!(
                "the usual directories and those of the loader's cache, below {}",
                root.show("").display()
            ),
        }),
    }
}
