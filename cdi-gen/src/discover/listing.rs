//! Names in directories that may have files of the driver.

use crate::Result;
use mig_cdi_sys::DriverRoot;
use std::collections::BTreeSet;

/// Subdirectory of libraries for VDPAU.
pub(super) const VDPAU: &str = "/vdpau";

/// Path of a directory and the names in it.
pub(super) type Listing = (String, BTreeSet<String>);

/// Lists each directory that exists, and its directory of libraries for VDPAU, which is apart on most distributions.
///
/// # Errors
/// When one cannot be read.
pub(super) fn list_libraries(root: &DriverRoot, dirs: &[String]) -> Result<Vec<Listing>> {
    let mut listings = Vec::new();
    for dir in dirs.iter().flat_map(|dir| [dir.clone(), format!("{dir}{VDPAU}")]) {
        if let Some(names) = list_visible(root, &dir)? {
            listings.push((dir, names.into_iter().collect()));
        }
    }
    Ok(listings)
}

/// Lists a directory. One that this process may not enter counts as absent: systemd's `ProtectHome=` hides /home, in which
/// Google's Container-Optimized OS has the driver.
///
/// # Errors
/// When it cannot be read for another reason.
pub(super) fn list_visible(root: &DriverRoot, dir: &str) -> Result<Option<Vec<String>>> {
    match root.list(dir) {
        Err(error) if error.is_denied() => Ok(None),
        listed => Ok(listed?),
    }
}
