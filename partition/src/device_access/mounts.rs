//! Devices that are mounted in mount namespaces, as rootless containers have them.

use super::{
    Access,
    scan::{Findings, Scan, Unrestricted, accessor},
    task::{HostNode, Task},
};
use std::collections::{BTreeMap, BTreeSet};

/// Largest `/proc/PID/mountinfo` that is read: 100,000 mounts (`fs.mount-max`) of some 80 bytes. A service with a mount namespace has
/// a copy of all mounts of the host's containers.
const MOUNTS_LIMIT: usize = 8 << 20;

impl Scan<'_> {
    /// Finds the mount namespaces of unrestricted tasks that have devices mounted one by one, as rootless containers have
    /// them. The host's own `/dev`, and a mount of all of it, shows every device to everybody: it is no hold.
    pub(super) fn mounts(&self, findings: &mut Findings) {
        let namespace = |task: Task| self.host.link(&task.file("ns/mnt"));
        let of_host = namespace(Task::process(1)).ok();
        // The devices of each namespace that nobody was found to hold yet.
        let mut namespaces: BTreeMap<String, (BTreeSet<usize>, Access)> = BTreeMap::new();
        for Unrestricted { task, container } in &findings.unrestricted {
            let name = match namespace(*task) {
                Ok(name) if of_host.as_ref() != Some(&name) => name,
                Err(error) if error.is_denied() && self.is_forbidden(*task) => {
                    findings.forbidden.insert(task.pid);
                    continue;
                }
                Ok(_) | Err(_) => continue,
            };
            if namespaces.get(&name).is_some_and(|(devices, _)| devices.is_empty()) {
                continue;
            }
            // Any user can mount a node in a namespace of their own, also one that they may not open, and one that takes long to read.
            let openable = self.openable(|| self.status(*task));
            if openable.is_empty() {
                continue;
            }
            let (mounted, access) =
                namespaces.entry(name).or_insert_with(|| self.mounted_for(*task));
            let devices: BTreeSet<usize> =
                openable.into_iter().filter(|device| mounted.remove(device)).collect();
            findings.accessors.extend(accessor(*task, container.clone(), devices, access.clone()));
        }
    }

    /// Positions of the devices that are mounted one by one in the mount namespace of a task, or of all when it cannot be read.
    fn mounted_for(&self, task: Task) -> (BTreeSet<usize>, Access) {
        match self.host.read(&task.file("mountinfo"), MOUNTS_LIMIT) {
            Ok(text) => {
                let text = text.unwrap_or_default();
                (self.mounted_in(&String::from_utf8_lossy(&text)), Access::Mount)
            }
            Err(error) => (self.all(), Access::Unknown(error.to_string())),
        }
    }

    /// Positions of the devices that are mounted one by one, by a mountinfo file: lines are
    /// `ID PARENT MAJOR:MINOR ROOT POINT …` (proc(5)), and the root of a bind mount of a file is that file. A container that has
    /// the node to partition GPUs has those of all slices, and holds none by that.
    fn mounted_in(&self, mountinfo: &str) -> BTreeSet<usize> {
        let mut devices = BTreeSet::new();
        for line in mountinfo.lines() {
            let mut fields = line.split(' ').skip(2);
            let (Some(file_system), Some(root)) = (fields.next(), fields.next()) else { continue };
            let is_mounted =
                |node: &HostNode| node.file_system == file_system && root.ends_with(&node.path);
            let position = self.nodes.iter().position(|node| node.as_ref().is_some_and(is_mounted));
            devices.extend(position);
        }
        if self.query.config.is_some_and(|config| devices.contains(&config)) {
            devices.clear();
        }
        devices
    }
}
