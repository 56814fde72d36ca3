//! Devices that tasks have open, whatever their cgroups allow.
//!
//! The device cgroup is consulted when a device is opened, and never again (`devcgroup_inode_permission`, called by
//! `inode_permission` in fs/namei.c): a container that receives a descriptor over a socket can use it whatever its rules are. An open
//! file is the only thing to look for: a capability node can be opened and closed, and not be mapped into memory (`nv-caps.c`,
//! `g_nv_cap_drv_fops`).

use super::{
    Access, AccessKinds, Accessor,
    scan::{Findings, Scan, accessor, in_parallel, processors},
    task::{DeviceRight, Examined, TaskStatus},
};
use mig_cdi_model::{Major, Minor};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

/// Number of descriptors of a task that are looked at in one go. A process may have a million, which are shared between processors.
const PART: u32 = 1 << 14;

/// Descriptors of a task, from a number on.
type FilesPart<'a> = (&'a Examined, u32);

/// Open files that were found.
#[derive(Default)]
struct OpenFiles<'a> {
    accessors: Vec<Accessor>,
    /// Processes that may not be examined by this user.
    forbidden: Vec<u32>,
    /// Descriptors that were not looked at yet.
    more: Vec<FilesPart<'a>>,
    /// The task with most descriptors, as far as is known, and their number.
    largest: Option<(usize, &'a Examined)>,
    /// True when the time was up.
    is_late: bool,
}

impl<'a> OpenFiles<'a> {
    fn count(&mut self, descriptors: usize, examined: &'a Examined) {
        if self.largest.is_none_or(|(most, _)| most < descriptors) {
            self.largest = Some((descriptors, examined));
        }
    }
}

impl Scan<'_> {
    /// Finds the tasks that have devices open.
    pub(super) fn open_files(&self, findings: &mut Findings) {
        let is_asked = |examined: &&Examined| {
            let has_more = || self.known(examined).len() < self.query.devices.len();
            examined.task.has_own_files && has_more()
        };
        let tasks = findings.tasks.iter().filter(is_asked);
        let mut parts: Vec<FilesPart<'_>> = tasks.map(|examined| (examined, 0)).collect();
        // The time may be up before the first is looked at.
        let largest = parts.first().map(|(examined, _)| (0, *examined));
        let mut all = OpenFiles { largest, ..OpenFiles::default() };
        while !parts.is_empty() && !all.is_late {
            let mut more = Vec::new();
            for found in self.look_at(&parts) {
                all.accessors.extend(found.accessors);
                all.forbidden.extend(found.forbidden);
                all.is_late |= found.is_late;
                more.extend(found.more);
                found.largest.into_iter().for_each(|(count, examined)| all.count(count, examined));
            }
            parts.clear();
            for (examined, first) in more {
                let size = self.status(examined.task).map_or(0, |status| status.descriptors);
                all.count(size as usize, examined);
                let rest = (first..size.max(first + 1)).step_by(PART as usize);
                parts.extend(rest.map(|first| (examined, first)));
            }
        }
        // Somebody makes the search slow: a device may be open by what was not looked at.
        let largest = all.largest.filter(|_| all.is_late);
        let unknown = largest.and_then(|(count, Examined { task, cgroup })| {
            let reason = format!(
                "the search for open files takes too long, and no process has more than this one, {count}"
            );
            accessor(*task, cgroup.container.clone(), self.all(), Access::Unknown(reason))
        });
        let OpenFiles { accessors, forbidden, .. } = all;
        findings.accessors.extend(accessors.into_iter().chain(unknown));
        findings.forbidden.extend(forbidden);
    }

    /// Positions of the devices of a task for which its open files do not matter: a rule allows them, and so they count already, or only
    /// containers are asked for, and it is a process of the host that may open them at any time.
    fn known(&self, Examined { task, cgroup }: &Examined) -> Vec<usize> {
        match (&cgroup.right, self.query.kinds) {
            (DeviceRight::Rule(allowed), _) => allowed.clone(),
            (DeviceRight::All, AccessKinds::Confined) => {
                let are_there = self.nodes.iter().all(|node| node.stat.is_some());
                let status = self.status(*task);
                let is_root = status.as_ref().is_none_or(TaskStatus::is_root);
                // Where the host's nodes cannot be seen, it is not known who may open them.
                if is_root || are_there { self.openable(|| status) } else { Vec::new() }
            }
            (DeviceRight::All | DeviceRight::Unknown(_), _) => Vec::new(),
        }
    }

    /// Looks at parts of the descriptors of tasks, on all processors.
    fn look_at<'a>(&self, parts: &[FilesPart<'a>]) -> Vec<OpenFiles<'a>> {
        let positions = self.query.devices.iter().enumerate().map(|(i, device)| (*device, i));
        let positions: BTreeMap<(Major, Minor), usize> = positions.collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut found = OpenFiles::default();
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                if Instant::now() >= self.end {
                    found.is_late = true;
                    break;
                }
                self.look_at_part(*part, &positions, &mut found);
            }
            found
        };
        in_parallel((0..processors()).map(|_| work))
    }

    fn look_at_part<'a>(
        &self,
        (examined, first): FilesPart<'a>,
        positions: &BTreeMap<(Major, Minor), usize>,
        found: &mut OpenFiles<'a>,
    ) {
        let Examined { task, cgroup } = examined;
        let is_wanted = |major, minor| positions.contains_key(&(major, minor));
        let end = first.saturating_add(PART);
        let (devices, access) =
            match self.host.open_devices(&task.file("fd"), first..end, is_wanted) {
                Ok(Some(open)) => {
                    found.count(open.descriptors, examined);
                    found.more.extend((open.has_more && first == 0).then_some((examined, end)));
                    let open = open.devices.iter().filter_map(|device| positions.get(device));
                    let mut devices: BTreeSet<usize> = open.copied().collect();
                    if !devices.is_empty() {
                        let known = self.known(examined);
                        devices.retain(|device| !known.contains(device));
                    }
                    (devices, Access::OpenFile)
                }
                Ok(None) => return,
                Err(error) if error.is_denied() => {
                    found.forbidden.extend(self.is_forbidden(*task).then_some(task.pid));
                    return;
                }
                // No descriptor of any process can be looked at.
                Err(error) if error.is_unknown_call() => {
                    (self.all().collect(), Access::Unknown(error.to_string()))
                }
                Err(error) => {
                    // What a rule allows, and what is openable where the rules are not known, is known to be held.
                    let may_open = match cgroup.right {
                        DeviceRight::All if self.query.kinds != AccessKinds::Confined => {
                            self.openable(|| self.status(*task))
                        }
                        _ => return,
                    };
                    (may_open.into_iter().collect(), Access::Unknown(error.to_string()))
                }
            };
        found.accessors.extend(accessor(*task, cgroup.container.clone(), devices, access));
    }
}
