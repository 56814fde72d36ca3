//! The directories in which the driver's libraries may be, best first.

use crate::{Root, ldcache};
use std::path::PathBuf;

/// Where distributions put 64-bit libraries: Ubuntu, Debian (which links from the first to the
/// second when the package is configured), Fedora and SUSE, Arch, Talos, Flatcar (older ones without
/// `usr`), images with a private copy, NixOS.
const WIDE: [&str; 14] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/lib",
    "/usr/local/lib",
    "/usr/local/glibc/usr/lib",
    "/opt/nvidia/current/usr/lib64",
    "/opt/nvidia/current/lib64",
    "/usr/local/nvidia/lib64",
    "/run/opengl-driver/lib",
];

/// The same for 32-bit libraries.
const NARROW: [&str; 5] = [
    "/usr/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu/nvidia/current",
    "/usr/lib",
    "/usr/lib32",
    "/run/opengl-driver-32/lib",
];

/// Far above any cache: one of a desktop has 200 kB.
const CACHE_LIMIT: usize = 16 << 20;

/// Directories below a driver root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryDirs {
    /// For libraries of this machine's word size.
    pub wide: Vec<String>,
    /// For 32-bit libraries.
    pub narrow: Vec<String>,
    /// Why the loader's cache was not believed, when it was not.
    pub cache_problem: Option<String>,
}

/// What the user names, then where the loader's cache has libraries of the driver, then the usual
/// places.
pub(crate) fn find(root: &Root, search_path: &[PathBuf]) -> LibraryDirs {
    const CACHE: &str = "/etc/ld.so.cache";
    let (entries, cache_problem) = match root.read(CACHE, CACHE_LIMIT) {
        Ok(None) => (Vec::new(), None),
        Ok(Some(bytes)) => match ldcache::parse(&bytes) {
            Ok(entries) => (entries, None),
            Err(error) => {
                (Vec::new(), Some(format!("parse {}: {error}", root.show(CACHE).display())))
            }
        },
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let cached = |flags: u32| {
        let of_driver =
            |name: &str| name.starts_with("libcuda.so") || name.starts_with("libnvidia-");
        let entries = entries.iter().filter(move |e| e.flags == flags && of_driver(&e.name));
        entries.filter_map(|e| e.path.rsplit_once('/').map(|(dir, _)| dir.to_owned()))
    };
    let named = || search_path.iter().map(|dir| dir.to_string_lossy().into_owned());
    let usual = |dirs: &'static [&str]| dirs.iter().map(|dir| (*dir).to_owned());
    LibraryDirs {
        wide: distinct(named().chain(cached(ldcache::WIDE)).chain(usual(&WIDE))),
        narrow: distinct(named().chain(cached(ldcache::I386)).chain(usual(&NARROW))),
        cache_problem,
    }
}

fn distinct(dirs: impl Iterator<Item = String>) -> Vec<String> {
    let mut distinct = Vec::new();
    for dir in dirs {
        if !distinct.contains(&dir) {
            distinct.push(dir);
        }
    }
    distinct
}
