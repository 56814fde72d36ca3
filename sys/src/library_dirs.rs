//! The directories in which the driver's libraries may be, best first.
//!
//! No single source knows them all: a driver container has no loader cache, NixOS has no usual directories,
//! and a runfile driver may be in neither. In some directories there are only links to the libraries (Debian's
//! `update-alternatives`), so the directories where these links end are among them.

use crate::{Root, ldcache};
use std::path::PathBuf;

/// Directories of 64-bit libraries in distributions: Ubuntu, Debian (which links from the first to the
/// second when the package is configured), Fedora and SUSE, Arch, Talos, Flatcar (older ones without
/// `usr`), images with a private copy, NixOS, Bottlerocket, Google's Container-Optimized OS.
const USUAL_LIB64: [&str; 17] = [
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
    "/usr/local/glibc/usr/lib64",
    "/opt/nvidia/current/usr/lib64",
    "/opt/nvidia/current/lib64",
    "/usr/local/nvidia/lib64",
    "/run/opengl-driver/lib",
    "/usr/lib/nvidia/tesla",
    "/home/kubernetes/bin/nvidia/lib64",
];

/// Directories of 32-bit libraries in the same distributions.
const USUAL_LIB32: [&str; 6] = [
    "/usr/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu/nvidia/current",
    "/usr/lib",
    "/usr/lib32",
    "/run/opengl-driver-32/lib",
    "/home/kubernetes/bin/nvidia/lib32",
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
/// the driver, then the usual ones. Each is followed by those where its links to libraries of the driver end.
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
        let entries = entries.iter().filter(move |e| e.flags == flags && is_of_driver(&e.name));
        entries.filter_map(|e| e.path.rsplit_once('/').map(|(dir, _)| dir.to_owned()))
    };
    let named = || search_path.iter().map(|dir| dir.to_string_lossy().into_owned());
    let usual = |dirs: &'static [&str]| dirs.iter().map(|dir| (*dir).to_owned());
    let lib64 = distinct(named().chain(cached(ldcache::NATIVE)).chain(usual(&USUAL_LIB64)));
    let lib32 = distinct(named().chain(cached(ldcache::I386)).chain(usual(&USUAL_LIB32)));
    LibraryDirs {
        lib64: with_link_targets(root, lib64),
        lib32: with_link_targets(root, lib32),
        cache_problem,
    }
}

/// Adds the directories where links to libraries of the driver end, each after the directory of the link.
// A link `libcuda.so.1` is all that Debian has in the directory of its loader; `libcuda.so.VERSION`, by which
// libraries are found, is only where the alternative leads: nvidia/current, nvidia/tesla-570, nvidia/legacy-390xx.
fn with_link_targets(root: &Root, dirs: Vec<String>) -> Vec<String> {
    let target = |path: String| Some(root.resolve_below(&path)?.rsplit_once('/')?.0.to_owned());
    let targets = |dir: &str| {
        let names = root.list(dir).ok().flatten().unwrap_or_default().into_iter();
        let links = names.filter(|name| is_of_driver(name));
        links.filter_map(|link| target(format!("{dir}/{link}"))).collect::<Vec<_>>()
    };
    distinct(dirs.into_iter().flat_map(|dir| {
        // The directory itself may be a link, as /lib64 is: its own files are no targets.
        let own = root.resolve_below(&dir);
        let targets = targets(&dir).into_iter().filter(move |target| Some(target) != own.as_ref());
        std::iter::once(dir).chain(targets)
    }))
}

/// True for the name of a library of the driver. Others would only add directories in which the driver has nothing.
fn is_of_driver(name: &str) -> bool {
    const STEMS: [&str; 5] =
        ["libcuda.so", "libcudadebugger.so", "libnvidia-", "libnvcuvid.so", "libnvoptix.so"];
    STEMS.iter().any(|stem| name.starts_with(stem)) || name.contains("_nvidia.so")
}

/// Returns the directories in their order, each once.
#[must_use]
pub fn distinct(dirs: impl Iterator<Item = String>) -> Vec<String> {
    let mut distinct = Vec::new();
    for dir in dirs {
        if !distinct.contains(&dir) {
            distinct.push(dir);
        }
    }
    distinct
}
