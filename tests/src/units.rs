//! The shipped services of systemd.

use crate::project;
use std::fs;

/// Service that watches.
pub const WATCH: &str = "mig-cdi.service";
/// Service that writes the spec once.
pub const REFRESH: &str = "mig-cdi-refresh.service";
/// Service that restores a checkpoint at boot.
pub const RESTORE: &str = "mig-cdi-restore.service";
/// Service of the device plugin.
pub const KUBELET: &str = "mig-cdi-kubelet.service";
/// Services of `mig-cdi`.
pub const UNITS: [&str; 3] = [WATCH, REFRESH, RESTORE];

/// Returns the text of a service.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn unit(name: &str) -> String {
    fs::read_to_string(project().join("config/systemd").join(name)).expect("a shipped service")
}

/// Returns the words of a setting of a unit, of all its lines.
#[must_use]
pub fn words<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).collect()
}
