//! Finding `libnvidia-ml.so.1` of the driver.

use super::Failure;
use crate::DriverRoot;

pub(super) const NAME: &str = "libnvidia-ml.so.1";

/// The file to load, links resolved within the root.
///
/// Below the machine's own root the dynamic loader's own search comes last.
pub(super) fn find(root: &DriverRoot) -> Result<String, Failure> {
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
