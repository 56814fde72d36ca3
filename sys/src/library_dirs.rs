//! The directories in which the driver's libraries may be, best first.
//!
//! No single source knows them all: a driver container has no loader cache, NixOS has no usual directories,
//! and a runfile driver may be in neither.

use crate::{
    Root,
    ldcache::{self, CacheEntry},
};
use std::path::PathBuf;

/// Directories of 64-bit libraries in distributions: Ubuntu, Debian (which links from the first to the
/// second when the package is configured), Fedora and SUSE, Arch, Talos, Flatcar (older ones without
/// `usr`), images with a private copy, NixOS.
const USUAL_LIB64: [&str; 14] = [
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

/// Directories of 32-bit libraries in the same distributions.
const USUAL_LIB32: [&str; 5] = [
    "/usr/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu/nvidia/current",
    "/usr/lib",
    "/usr/lib32",
    "/run/opengl-driver-32/lib",
];

/// Far above the size of any cache, in bytes: that of a desktop has 200 kB.
const CACHE_LIMIT: usize = 16 << 20;

/// Directories below a driver root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryDirs {
    /// Directories of 64-bit libraries.
    pub lib64: Vec<String>,
    /// Directories of 32-bit libraries.
    pub lib32: Vec<String>,
    /// Warning about a loader cache that could not be used, when there is one.
    pub cache_problem: Option<String>,
}

/// Finds the directories: those that the user names, then those in which the loader's cache has libraries of
/// the driver, then the usual ones.
pub(crate) fn find(root: &Root, search_path: &[PathBuf]) -> LibraryDirs {
    const CACHE: &str = "/etc/ld.so.cache";
    let (entries, cache_problem) = match root.read(CACHE, CACHE_LIMIT) {
        Ok(None) => (Vec::new(), None),
        Ok(Some(bytes)) => match ldcache::parse(&bytes) {
            Ok(entries) => (entries, None),
            Err(error) => {
                (Vec::new(), Some(format!("parse {}: {error}", root.display_path(CACHE).display())))
            }
        },
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let cached = |flags: u32| {
        let entries = entries.iter().filter(move |e| e.flags == flags && is_of_driver(e));
        entries.filter_map(|e| e.path.rsplit_once('/').map(|(dir, _)| dir.to_owned()))
    };
    let named = || search_path.iter().map(|dir| dir.to_string_lossy().into_owned());
    let usual = |dirs: &'static [&str]| dirs.iter().map(|dir| (*dir).to_owned());
    LibraryDirs {
        lib64: distinct(named().chain(cached(ldcache::NATIVE)).chain(usual(&USUAL_LIB64))),
        lib32: distinct(named().chain(cached(ldcache::I386)).chain(usual(&USUAL_LIB32))),
        cache_problem,
    }
}

/// Other libraries of the cache would only add directories in which the driver has nothing.
fn is_of_driver(entry: &CacheEntry) -> bool {
    entry.name.starts_with("libcuda.so") || entry.name.starts_with("libnvidia-")
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
