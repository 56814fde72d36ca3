//! Checks of the driver: versions, capabilities, NVML, MIG modes, MIG devices, and the host's device nodes.

use super::{
    facts::{NodeFacts, NvmlUnavailable},
    host::has_systemd,
    verdict::{Verdict, error, first_few, from_error, note, ok, warning},
};
use crate::first_layout::{FirstLayout, has_slices};
use mig_cdi_gen::discover::{MissingFile, Problem};
use mig_cdi_model::{DeviceNode, counted};
use mig_cdi_sys::{
    in_user_namespace,
    nvml::{CallError, NvmlGpu},
    text::numbered,
};
use std::collections::BTreeMap;

const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
/// Upper bound for a file of the driver in bytes.
const LIMIT: usize = 1 << 20;
/// Cure for a machine whose driver finds no GPU.
pub(super) const NO_GPU: &str =
    "run lspci -d 10de: to see whether the gpu is connected, and see dmesg";
/// The kernel's default of `/proc/sys/kernel/overflowuid`.
const OVERFLOW_ID: u32 = 65534;

/// The command creates nodes and links, and corrects their numbers, mode and owner.
fn nodes_cure() -> &'static str {
    // The kernel makes no device node in a user namespace (`fs/namei.c`, `vfs_mknod`).
    match in_user_namespace() {
        true => "run mig-cdi nodes on the host, and bind its nodes into this user namespace",
        false => "run mig-cdi nodes as root",
    }
}

/// Versions of the kernel module and of the libraries.
pub(super) fn driver(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let version = match &facts.proc_discovery {
        Ok(discovery) => &discovery.topology.driver_version,
        Err(failure) => return vec![from_error("", failure)],
    };
    match &facts.libraries {
        None => vec![note("", format!("{version}; a simulated node has no libraries"))],
        Some(Err(failure)) => vec![from_error("", failure)],
        Some(Ok(_)) if facts.settings.capabilities.is_none() => {
            vec![ok("", format!("{version}; containers get no libraries: capabilities is none"))]
        }
        Some(Ok(libraries)) => {
            let cure = "remove it, and reinstall the nvidia driver";
            let warnings = libraries.warnings.iter().map(|line| warning("", line, cure));
            let sockets = libraries.omitted_sockets.iter().map(|line| note("", line));
            let is_needed = |file: &&MissingFile| {
                facts.topology().is_none_or(|topology| file.is_needed_by(topology))
            };
            let missing = libraries.missing.iter().filter(is_needed);
            let missing = missing.map(|file| warning("", file.to_string(), file.cure));
            let agree = ok("", format!("{version}, module and libraries agree"));
            std::iter::once(agree).chain(warnings).chain(missing).chain(sockets).collect()
        }
    }
}

/// Form of the capabilities: device nodes, or the files of R450's first releases, which no engine can pass to a
/// container. `nv-caps.c` knows only device nodes since its parameter `nv_cap_enable_devfs` was removed.
pub(super) fn capabilities(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    const CURE: &str =
        "update the driver, or load its module nvidia with the parameter nv_cap_enable_devfs=1";
    const MINORS: &str = "/proc/driver/nvidia-caps/mig-minors";
    let list = |path: &str| facts.machine.list(path).ok().flatten().unwrap_or_default();
    let gpus = list(CAPABILITIES);
    if gpus.is_empty() {
        // The driver adds the directory of a GPU when the GPU is first opened.
        let evidence = format!("{CAPABILITIES} is missing or empty: no gpu has been opened yet");
        return vec![note("", evidence)];
    }
    let old = |reason: &str| {
        vec![error("", format!("the driver is in the old proc mode: {reason}"), CURE)]
    };
    if let Ok(None) = facts.machine.read(MINORS, LIMIT) {
        return old(&format!("{MINORS} does not exist"));
    }
    for gpu in gpus.iter().filter(|name| numbered(name, "gpu").is_some()) {
        // The first releases of R450 have empty files here, whose permissions were the capability.
        for gi in list(&format!("{CAPABILITIES}/{gpu}/mig")) {
            let path = format!("{CAPABILITIES}/{gpu}/mig/{gi}/access");
            if facts
                .machine
                .read(&path, LIMIT)
                .is_ok_and(|bytes| bytes.is_some_and(|b| b.is_empty()))
            {
                return old(&format!("{path} is empty"));
            }
        }
    }
    match facts.caps_major() {
        Some(major) => vec![ok("", format!("device nodes, major {major}"))],
        None => {
            let evidence = "/proc/devices has no character device nvidia-caps";
            let cure = "stop all programs that use a gpu and reload the module nvidia, or reboot";
            vec![error("", evidence, cure)]
        }
    }
}

/// Result of the first NVML calls.
pub(super) fn nvml(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    vec![match &facts.nvml {
        Ok(report) => ok("", format!("{}, {}", report.library, counted(report.gpus.len(), "gpu"))),
        Err(NvmlUnavailable::NoDriver) => {
            note("", "not queried: the driver is not loaded, or not completely")
        }
        Err(NvmlUnavailable::NotRequested) => {
            note("", "not queried, by --source: mig mode, profiles and uuids are not known")
        }
        Err(NvmlUnavailable::Failed(failure)) => from_error("", failure),
    }]
}

/// MIG mode of each GPU, now and after its next reset.
pub(super) fn mig(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let Ok(report) = &facts.nvml else {
        return vec![note("", "the mig mode is not known without nvml")];
    };
    let verdict = |(index, gpu): (usize, &Result<NvmlGpu, CallError>)| match gpu {
        Ok(gpu) => {
            let first = facts.first_layouts.iter().find(|first| first.gpu as usize == index);
            let mut gpus = facts.gpus.iter();
            let hidden = gpus.any(|gpu| gpu.index as usize == index && has_slices(gpu));
            mig_mode(index, gpu, first, hidden && gpu.devices.is_empty())
        }
        Err(call) => from_error(&format!("gpu {index}"), call),
    };
    let verdicts: Vec<_> = report.gpus.iter().enumerate().map(verdict).collect();
    if verdicts.is_empty() {
        // 10de is NVIDIA's PCI vendor id. A GPU that has fallen off the bus leaves XID 79 in the kernel's log.
        vec![warning("", "nvml lists no gpu", NO_GPU)]
    } else {
        verdicts
    }
}

/// With `hides_slices` NVML reports compute instances of the GPU and lists no MIG device.
fn mig_mode(
    index: usize,
    gpu: &NvmlGpu,
    first: Option<&FirstLayout>,
    hides_slices: bool,
) -> Verdict {
    let label = format!("gpu {index}");
    match (gpu.mig, gpu.pending_mode, gpu.devices.len()) {
        (None, ..) => note(label, format!("{} does not support mig", gpu.model)),
        (Some(_), Some(pending), _) => {
            let how = first.map(|first| format!("; {}", first.advice())).unwrap_or_default();
            let evidence = format!("mig mode is {pending}{how}");
            warning(label, evidence, pending.cure(index as u32))
        }
        (Some(false), ..) => {
            let how = format!("nvidia-smi -i {index} -mig 1 enables it");
            let how = first.map_or(how, FirstLayout::advice);
            note(label, format!("mig mode is off; {how}"))
        }
        (Some(true), ..) if hides_slices => {
            note(label, "mig mode is on, and nvml lists no mig device for its compute instances")
        }
        (Some(true), _, 0) => {
            let how = format!("nvidia-smi mig -i {index} -cgi PROFILE -C creates one");
            let how = first.map_or(how, FirstLayout::advice);
            note(label, format!("mig mode is on, without a mig device; {how}"))
        }
        (Some(true), _, devices) => {
            ok(label, format!("mig mode is on, {}", counted(devices, "mig device")))
        }
    }
}

/// MIG devices on which NVML and `/proc` do not agree. `generate` omits them.
pub(super) fn devices(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    match &facts.discovery {
        Err(_) if facts.proc_discovery.is_err() => vec![note("", "not checked without a driver")],
        Err(failure) => vec![from_error("", failure)],
        Ok(discovery) if discovery.problems.is_empty() => {
            let count = discovery.topology.mig_devices().count();
            vec![ok("", format!("{}, all confirmed", counted(count, "mig device")))]
        }
        Ok(discovery) => {
            let verdict = |problem: &Problem| from_error(&problem.subject, problem);
            discovery.problems.iter().map(verdict).collect()
        }
    }
}

/// The host's device nodes: existence, numbers, mode and owner. Rootless engines bind-mount them.
pub(super) fn nodes(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let nodes = facts.nodes();
    // Nodes that the driver's tools leave to the administrator (`NVreg_ModifyDeviceFiles=0`), such as those of udev, have the mode and
    // owner that they are given.
    let (of_driver, of_admin): (BTreeMap<_, _>, BTreeMap<_, _>) =
        nodes.iter().partition(|(path, node)| node.modify || path.starts_with("/dev/dri/"));
    let mut verdicts = node_faults(facts, &of_driver).verdicts(nodes_cure());
    let faults = NodeFaults { access: Vec::new(), ..node_faults(facts, &of_admin) };
    verdicts.extend(faults.verdicts(
        "make them by the udev rules or scripts that do so here: the driver has NVreg_ModifyDeviceFiles=0, and mig-cdi nodes leaves them",
    ));
    verdicts.extend(closed_directory(facts));
    // nvidiactl, nvidia-uvm and nvidia-uvm-tools; the first needs no module of its own.
    if facts.topology().is_some_and(|topology| topology.common.len() < 3) {
        let evidence = "nvidia-uvm is not loaded: no cuda program starts";
        verdicts.push(warning("", evidence, "run modprobe nvidia-uvm as root"));
    }
    match (verdicts.is_empty(), nodes.is_empty()) {
        (true, true) => vec![note("", "not checked without a driver")],
        (true, false) => {
            let count = counted(nodes.len(), "node");
            vec![ok("", format!("{count}, with the driver's numbers and modes"))]
        }
        (false, _) => verdicts,
    }
}

/// A directory that lets other users reach none of the nodes in it, whatever their modes.
fn closed_directory(facts: &NodeFacts<'_>) -> Option<Verdict> {
    const DIR: &str = "/dev/nvidia-caps";
    let stat = facts.machine.node(DIR).ok().flatten().filter(|stat| !stat.is_char)?;
    let evidence = || {
        format!(
            "{DIR} has mode {:04o}: other users and rootless containers reach no node in it",
            stat.mode
        )
    };
    (stat.mode & 0o001 == 0)
        .then(|| warning("", evidence(), "run chmod a+x /dev/nvidia-caps as root"))
}

/// Faults of the host's device nodes, each with its path.
#[derive(Default)]
struct NodeFaults {
    missing: Vec<String>,
    /// Another device, or none.
    wrong: Vec<String>,
    /// Another mode or owner.
    access: Vec<String>,
    unreadable: Vec<String>,
}

fn node_faults(facts: &NodeFacts<'_>, nodes: &BTreeMap<&str, &DeviceNode>) -> NodeFaults {
    let mut faults = NodeFaults::default();
    for (path, node) in nodes {
        let DeviceNode { major, minor, mode, uid, gid, .. } = node;
        match facts.machine.node(path) {
            Ok(None) => faults.missing.push((*path).to_owned()),
            Err(e) => faults.unreadable.push(e.to_string()),
            Ok(Some(stat)) if !stat.is_char => {
                faults.wrong.push(format!("{path} is not a character device"));
            }
            Ok(Some(stat)) if (stat.major, stat.minor) != (*major, *minor) => {
                let (found_major, found_minor) = (stat.major, stat.minor);
                faults.wrong.push(format!(
                    "{path} is {found_major}:{found_minor}, should be {major}:{minor}"
                ));
            }
            // Owners that a user namespace does not map have this number in it.
            Ok(Some(stat))
                if stat.mode == *mode && stat.uid == OVERFLOW_ID && in_user_namespace() => {}
            Ok(Some(stat)) if (stat.mode, stat.uid, stat.gid) != (*mode, *uid, *gid) => {
                let found = format!("{:04o} of {}:{}", stat.mode, stat.uid, stat.gid);
                let expected = format!("{mode:04o} of {uid}:{gid}");
                faults.access.push(format!("{path} has mode {found}, should have {expected}"));
            }
            Ok(Some(_)) => {}
        }
    }
    faults
}

impl NodeFaults {
    fn verdicts(&self, cure: &'static str) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if !self.missing.is_empty() {
            // Engines of root create nodes from the numbers in the spec.
            let evidence = format!(
                "missing: {}; rootless engines need them on the host",
                first_few(&self.missing)
            );
            verdicts.push(warning("", evidence, cure));
        }
        if !self.wrong.is_empty() {
            verdicts.push(error("", first_few(&self.wrong), cure));
        }
        if !self.access.is_empty() {
            verdicts.push(warning("", first_few(&self.access), cure));
        }
        if !self.unreadable.is_empty() {
            verdicts.push(warning("", first_few(&self.unreadable), "run mig-cdi doctor as root"));
        }
        verdicts
    }
}

/// Links `/dev/char/MAJOR:MINOR`. systemd resolves a device rule through them (runc issues 3708, 4568): without the
/// link a container loses its device at the next `systemctl daemon-reload`.
pub(super) fn links(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    if facts.machine.driver().is_none() {
        return vec![note("", "a simulated node has none")];
    }
    let nodes = facts.nodes();
    if nodes.is_empty() {
        return vec![note("", "not checked without a driver")];
    }
    let link = |node: &DeviceNode| format!("/dev/char/{}:{}", node.major, node.minor);
    let is_wrong = |node: &&&DeviceNode| {
        let is_node = |stat: mig_cdi_sys::NodeStat| {
            stat.is_char && (stat.major, stat.minor) == (node.major, node.minor)
        };
        !facts.machine.node(&link(node)).is_ok_and(|stat| stat.is_some_and(is_node))
    };
    let wrong = nodes.values().filter(is_wrong);
    // udev makes the links to DRI nodes, as for any device that the kernel announces. mig-cdi makes those to nodes of the driver.
    let (dri, own): (Vec<&DeviceNode>, Vec<_>) =
        wrong.partition(|node| node.path.starts_with("/dev/dri/"));
    if own.is_empty() && dri.is_empty() {
        return vec![ok("", format!("/dev/char leads to {}", counted(nodes.len(), "node")))];
    }
    if !has_systemd(facts) {
        return vec![ok("", "systemd does not run: nothing needs /dev/char")];
    }
    let udev = "run udevadm trigger --subsystem-match=drm as root";
    let verdicts = [(own, nodes_cure()), (dri, udev)].into_iter();
    let verdicts = verdicts.filter(|(wrong, _)| !wrong.is_empty()).map(|(wrong, cure)| {
        let links: Vec<_> = wrong.into_iter().map(link).collect();
        let evidence = format!("missing or wrong: {}; systemd needs them", first_few(&links));
        warning("", evidence, cure)
    });
    verdicts.collect()
}
