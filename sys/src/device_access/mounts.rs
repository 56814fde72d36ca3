//! Devices that are mounted in mount namespaces, as rootless containers have them.

use super::{
    Access,
    scan::{Findings, Scan, accessor},
    task::{DeviceRight, Examined, Task},
};
use crate::{Error, mountinfo_from_root};
use std::collections::{BTreeMap, BTreeSet};

/// Largest mountinfo file that is read: 100,000 mounts (`fs.mount-max`) of some 80 bytes. A service with a mount namespace has
/// a copy of all mounts of the host's containers.
const MOUNTS_LIMIT: usize = 8 << 20;

/// Devices that are mounted one by one in a mount namespace.
#[derive(Default)]
struct DeviceMounts {
    /// Roots from which the namespace was looked at: each shows the mounts below it.
    roots: BTreeSet<String>,
    /// True when it was entered, or cannot be entered by this process.
    is_entered: bool,
    devices: BTreeSet<usize>,
    /// Those among them that are known to be held.
    held: BTreeSet<usize>,
    /// Reason why they are not known, and all count.
    failure: Option<String>,
}

impl DeviceMounts {
    fn fail(&mut self, scan: &Scan<'_>, error: &Error) {
        self.devices = scan.all().collect();
        self.failure = Some(error.to_string());
    }
}

impl Scan<'_> {
    /// Finds the mount namespaces of unrestricted tasks that have devices mounted one by one, as rootless containers have
    /// them. The host's own `/dev`, and a mount of all of it, shows every device to everybody: it is no hold.
    pub(super) fn mounts(&self, findings: &mut Findings) {
        let namespace = |task: Task| self.host.link(&task.file("ns/mnt"));
        let of_host = namespace(Task::process(1)).ok();
        let mut namespaces: BTreeMap<String, DeviceMounts> = BTreeMap::new();
        for Examined { task, cgroup } in &findings.tasks {
            if !matches!(cgroup.right, DeviceRight::All) {
                continue;
            }
            let name = match namespace(*task) {
                Ok(name) if of_host.as_ref() != Some(&name) => name,
                Err(error) if error.is_denied() && self.is_forbidden(*task) => {
                    findings.forbidden.insert(task.pid);
                    continue;
                }
                Ok(_) | Err(_) => continue,
            };
            // Any user can mount a node in a namespace of their own, also one that they may not open, and one that takes long to read.
            let openable = self.openable(|| self.status(*task));
            if openable.is_empty() {
                continue;
            }
            let mounts = namespaces.entry(name).or_default();
            self.look_from_root(*task, mounts);
            self.look_from(*task, mounts);
            // One that may partition GPUs has the nodes of all slices, and holds none by that.
            let may_partition =
                |config| mounts.devices.contains(&config) && openable.contains(&config);
            if mounts.failure.is_none() && self.query.config.is_some_and(may_partition) {
                continue;
            }
            let mounted =
                |device: &usize| mounts.devices.contains(device) && mounts.held.insert(*device);
            let devices: Vec<usize> = openable.iter().copied().filter(mounted).collect();
            let access = mounts.failure.clone().map_or(Access::Mount, Access::Unknown);
            findings.accessors.extend(accessor(*task, cgroup.container.clone(), devices, access));
        }
    }

    /// Looks at the mount namespace of a task from the namespace's own root, where this process may enter it. By a task that is
    /// ending it is not seen, and the next one is tried.
    fn look_from_root(&self, task: Task, mounts: &mut DeviceMounts) {
        if mounts.is_entered {
            return;
        }
        let text = mountinfo_from_root(self.host, &task.file("ns/mnt"), MOUNTS_LIMIT);
        mounts.is_entered = !matches!(&text, Err(error) if error.is_ending());
        match text {
            Ok(text) => {
                mounts.roots.insert("/".to_owned());
                mounts.devices.extend(self.mounted_in(&String::from_utf8_lossy(&text)));
            }
            Err(error @ Error::TooLarge { .. }) => mounts.fail(self, &error),
            Err(_) => {}
        }
    }

    /// Looks at the mount namespace of a task from the root that the task has.
    fn look_from(&self, task: Task, mounts: &mut DeviceMounts) {
        let root = self.host.link(&task.file("root")).unwrap_or_else(|_| "/".to_owned());
        if mounts.roots.contains(&root) {
            return;
        }
        match self.host.read(&task.file("mountinfo"), MOUNTS_LIMIT) {
            Ok(None) => {}
            Ok(Some(text)) => {
                mounts.roots.insert(root);
                mounts.devices.extend(self.mounted_in(&String::from_utf8_lossy(&text)));
            }
            Err(error) if error.is_ending() => {}
            Err(error) => mounts.fail(self, &error),
        }
    }

    /// Positions of the devices that are mounted one by one, by a mountinfo file: lines are
    /// `ID PARENT MAJOR:MINOR ROOT POINT …` (proc(5)), and the root of a bind mount of a file is that file.
    fn mounted_in(&self, mountinfo: &str) -> BTreeSet<usize> {
        let mounted = |line: &str| {
            let mut fields = line.split(' ').skip(2);
            let (file_system, root) = (fields.next()?, fields.next()?);
            self.nodes.iter().position(|node| node.is_root_of(file_system, root))
        };
        mountinfo.lines().filter_map(mounted).collect()
    }
}
