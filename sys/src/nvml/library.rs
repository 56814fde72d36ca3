//! Finding `libnvidia-ml.so.1` below the driver root.

use super::Failure;
use crate::Root;

pub(super) const NAME: &str = "libnvidia-ml.so.1";

/// Where distributions put the driver's libraries: Ubuntu and Debian (which links the first to the
/// second when the package is configured), Fedora and SUSE, Arch, images with a private copy, NixOS.
const DIRECTORIES: [&str; 10] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "usr/lib64",
    "usr/lib",
    "lib64",
    "lib",
    "usr/local/nvidia/lib64",
    "run/opengl-driver/lib",
];

/// The file to load, links resolved within the root.
///
/// Below the machine's own root the dynamic loader's search comes after the known directories, so
/// that what `ldconfig` knows is found too.
pub(super) fn find(root: &Root) -> Result<String, Failure> {
    let candidates = DIRECTORIES.iter().map(|dir| format!("{dir}/{NAME}"));
    let found = candidates.into_iter().find_map(|path| root.resolve(&path).ok());
    match found {
        Some(path) => Ok(path.to_string_lossy().into_owned()),
        None if root.is_real() => Ok(NAME.to_owned()),
        None => Err(Failure::NoLibrary {
            searched: format!("{} below {}", DIRECTORIES.join(", "), root.show("").display()),
        }),
    }
}
