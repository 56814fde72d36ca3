//! A cgroup that allows some devices, as that of a container.

use crate::watch::until;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Cgroup of version 1, in the machine's own hierarchy, whose processes may use the devices of some rules and no others.
#[derive(Debug)]
pub struct ClosedCgroup(PathBuf);

impl ClosedCgroup {
    /// Makes the cgroup.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn new(name: &str, rules: &[&str]) -> ClosedCgroup {
        let name = format!("mig-cdi-{name}-{}", std::process::id());
        let cgroup = ClosedCgroup(Path::new("/sys/fs/cgroup/devices").join(name));
        fs::create_dir(&cgroup.0).expect("the devices controller of cgroup v1");
        fs::write(cgroup.0.join("devices.deny"), "a").expect("deny all devices");
        for rule in rules {
            fs::write(cgroup.0.join("devices.allow"), rule).expect("allow a device");
        }
        cgroup
    }

    /// Moves a process into it.
    ///
    /// # Panics
    /// When that fails.
    pub fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("move a process");
    }
}

impl Drop for ClosedCgroup {
    /// Moves its processes up: they may be those of a plugin that still runs.
    fn drop(&mut self) {
        let pids = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            let _ = fs::write("/sys/fs/cgroup/devices/cgroup.procs", pid);
        }
        until("the cgroup is empty", || !self.0.exists() || fs::remove_dir(&self.0).is_ok());
    }
}
