//! Files and device nodes that the driver of a simulated node would show.

use crate::{FileFault, SimulatedGpu, SimulatedNode};
use mig_cdi_model::{Major, Minor};
use mig_cdi_sys::NodeStat;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// The part of a file system that the driver fills: `/proc/driver/nvidia…`, `/proc/devices`, `/dev`, and what
/// `/sys` has of its GPUs. Directories are those of the files and the ones in `dirs`.
#[derive(Debug, Clone, Default)]
pub struct ProcTree {
    /// Text files by absolute path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Directories that may be empty.
    pub dirs: BTreeSet<String>,
    /// Character devices by absolute path.
    pub nodes: BTreeMap<String, NodeStat>,
}

/// Returns the capability minor of an instance: 135 for each GPU, 9 for each GPU instance
/// (`nv-caps.c:57-148`). Only a simulated driver may compute it: the order of that
/// table is an implementation detail, so real minors are read from the `access` files.
fn cap_minor(gpu: u32, gi: u32, ci: Option<u32>) -> u32 {
    3 + 135 * gpu + 9 * gi + ci.map_or(0, |ci| 1 + ci)
}

impl ProcTree {
    /// Creates the tree of a node, with its faults.
    #[must_use]
    pub fn of(node: &SimulatedNode) -> ProcTree {
        let mut tree = ProcTree::default();
        tree.whole_node(node);
        for gpu in &node.gpus {
            tree.gpu(node, gpu);
        }
        for fault in &node.files {
            tree.apply(fault);
        }
        tree.nodes.retain(|path, _| !node.missing_nodes.contains(path));
        tree
    }

    /// Returns the directories of a GPU's capability tree, parents first, each with its `access` file: the
    /// part that changes when the GPU is partitioned.
    #[must_use]
    pub fn capabilities(
        node: &SimulatedNode,
        gpu: &SimulatedGpu,
    ) -> BTreeMap<String, Option<Vec<u8>>> {
        let mut tree = ProcTree::default();
        tree.gpu(node, gpu);
        for fault in &node.files {
            tree.apply(fault);
        }
        let root = format!("/proc/driver/nvidia/capabilities/gpu{}/mig", gpu.minor);
        let mut dirs = BTreeMap::new();
        for (path, content) in tree.files {
            let Some(dir) = path.strip_suffix("/access").filter(|dir| dir.starts_with(&root))
            else {
                continue;
            };
            for (end, _) in dir.match_indices('/').filter(|(end, _)| *end > root.len()) {
                dirs.entry(dir[..end].to_owned()).or_insert(None);
            }
            dirs.insert(dir.to_owned(), Some(content));
        }
        dirs
    }

    fn file(&mut self, path: impl Into<String>, text: String) {
        self.files.insert(path.into(), text.into_bytes());
    }

    fn node(&mut self, path: impl Into<String>, major: u32, minor: u32, mode: u32) {
        let stat = NodeStat {
            is_char: true,
            major: Major(major),
            minor: Minor(minor),
            mode,
            uid: 0,
            gid: 0,
        };
        self.nodes.insert(path.into(), stat);
    }

    fn whole_node(&mut self, node: &SimulatedNode) {
        let majors = node.majors;
        self.file("/proc/devices", devices(node));
        // As the open module prints it (nv-procfs.c); the proprietary one has other text before the version.
        self.file(
            "/proc/driver/nvidia/version",
            format!(
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build\nGCC version:  gcc version 12.2.0\n",
                node.driver
            ),
        );
        self.file(
            "/proc/driver/nvidia/params",
            // 438 is 0666 in decimal.
            "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n".into(),
        );
        if let Some(machine) = &node.machine {
            self.file("/sys/class/dmi/id/product_name", format!("{machine}\n"));
        }
        // Device nodes outlive the module: nvidia-modprobe never deletes them, and a reloaded module may get another
        // major number.
        let caps = node.stale_caps_major.unwrap_or(majors.nvidia_caps);
        // Modes as the driver registers them: config for root only, monitor for all (`os.c:4952,4961`).
        for (name, minor, mode) in [("config", 1, 0o400), ("monitor", 2, 0o444)] {
            let path = format!("/proc/driver/nvidia/capabilities/mig/{name}");
            self.file(path, access_file(minor, mode));
            self.node(format!("/dev/nvidia-caps/nvidia-cap{minor}"), caps, minor, mode);
        }
        self.file("/proc/driver/nvidia-caps/mig-minors", mig_minors());
        self.dirs.insert("/proc/driver/nvidia/gpus".into());
        // Minor 255 of 195 is nvidiactl in the kernel's devices.txt.
        self.node("/dev/nvidiactl", majors.nvidia, 255, 0o666);
        // nvidia-uvm is a module of its own, which is not loaded on every machine.
        if majors.nvidia_uvm != 0 {
            self.node("/dev/nvidia-uvm", majors.nvidia_uvm, 0, 0o666);
            self.node("/dev/nvidia-uvm-tools", majors.nvidia_uvm, 1, 0o666);
        }
    }

    fn gpu(&mut self, node: &SimulatedNode, gpu: &SimulatedGpu) {
        let SimulatedGpu { minor, pci, .. } = gpu;
        let majors = node.majors;
        self.file(format!("/proc/driver/nvidia/gpus/{pci}/information"), information(node, gpu));
        // The kernel shows -1 for a device without a NUMA node.
        let numa = gpu.numa.map_or("-1".to_owned(), |numa| numa.to_string());
        self.file(format!("/sys/bus/pci/devices/{pci}/numa_node"), format!("{numa}\n"));
        // 0x0302xx is a 3D controller in the PCI class codes: none of these has a display.
        self.file(format!("/sys/bus/pci/devices/{pci}/class"), "0x030200\n".into());
        self.node(format!("/dev/nvidia{minor}"), majors.nvidia, *minor, 0o666);
        if let Some(dri) = gpu.dri {
            for (name, link, minor) in
                [("card", "card", dri.card), ("renderD", "render", dri.render)]
            {
                let numbers = format!("{}:{minor}\n", majors.drm);
                self.file(format!("/sys/bus/pci/devices/{pci}/drm/{name}{minor}/dev"), numbers);
                self.node(format!("/dev/dri/{name}{minor}"), majors.drm, minor, 0o660);
                self.node(format!("/dev/dri/by-path/pci-{pci}-{link}"), majors.drm, minor, 0o660);
            }
        }
        let caps = node.stale_caps_major.unwrap_or(majors.nvidia_caps);
        let tree = format!("/proc/driver/nvidia/capabilities/gpu{minor}/mig");
        // The driver registers it for every GPU, with MIG mode off too (`os.c:4707-4717`).
        self.dirs.insert(tree.clone());
        for gi in &gpu.instances {
            self.cap(&format!("{tree}/gi{}", gi.id), caps, cap_minor(*minor, gi.id, None));
            for ci in &gi.compute {
                let path = format!("{tree}/gi{}/ci{}", gi.id, ci.id);
                self.cap(&path, caps, cap_minor(*minor, gi.id, Some(ci.id)));
            }
        }
    }

    fn cap(&mut self, dir: &str, major: u32, minor: u32) {
        self.file(format!("{dir}/access"), access_file(minor, 0o444));
        self.node(format!("/dev/nvidia-caps/nvidia-cap{minor}"), major, minor, 0o444);
    }

    fn apply(&mut self, fault: &FileFault) {
        let below = format!("{}/", fault.path);
        if fault.remove {
            self.files.retain(|path, _| *path != fault.path && !path.starts_with(&below));
            self.dirs.retain(|path| *path != fault.path && !path.starts_with(&below));
            return;
        }
        let file = self.files.entry(fault.path.clone()).or_default();
        // In this order, so that a new content can be filled up or cut too.
        if let Some(text) = &fault.text {
            *file = text.clone().into_bytes();
        }
        if let Some(bytes) = &fault.bytes {
            file.clone_from(bytes);
        }
        if let Some(size) = fault.size {
            file.resize(size, b'\n');
        }
        if let Some(length) = fault.truncate {
            file.truncate(length);
        }
    }

    /// Returns the sorted names in a directory; `None` when it does not exist.
    #[must_use]
    pub fn list(&self, path: &str) -> Option<Vec<String>> {
        let below = format!("{path}/");
        let paths = self.files.keys().chain(&self.dirs);
        let name = |entry: &str| entry.strip_prefix(&below)?.split('/').next().map(str::to_owned);
        let names: BTreeSet<_> = paths.filter_map(|entry| name(entry)).collect();
        let there = !names.is_empty() || self.dirs.contains(path);
        there.then(|| names.into_iter().collect())
    }
}

/// Formats an `access` file. Numbers are decimal, the mode too: 292 is 0444 (`nv-caps.c:421-423`).
fn access_file(minor: u32, mode: u32) -> String {
    format!("DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n")
}

/// Formats `mig-minors`: the driver's table names every instance that could exist, 32 GPUs x 15 GPU instances x
/// (1 + 8 compute instances), not those that do (`nv-caps.c:57-148`).
fn mig_minors() -> String {
    let mut text = String::from("config 1\nmonitor 2\n");
    for gpu in 0..32 {
        for gi in 0..15 {
            let minor = cap_minor(gpu, gi, None);
            let _ = writeln!(text, "gpu{gpu}/gi{gi}/access {minor}");
            for ci in 0..8 {
                let minor = cap_minor(gpu, gi, Some(ci));
                let _ = writeln!(text, "gpu{gpu}/gi{gi}/ci{ci}/access {minor}");
            }
        }
    }
    text
}

fn devices(node: &SimulatedNode) -> String {
    let majors = node.majors;
    let mut lines = vec![
        (1, "mem"),
        (5, "/dev/tty"),
        // Three names of one major since R550; before it was `nvidia-frontend` alone.
        (majors.nvidia, "nvidia"),
        (majors.nvidia, "nvidia-modeset"),
        (majors.nvidia, "nvidiactl"),
        // Its name begins with that of nvidia-caps (`nv-caps-imex.c:185`): a reader has to match whole names.
        (507, "nvidia-caps-imex-channels"),
        (majors.nvidia_caps, "nvidia-caps"),
        (majors.nvidia_uvm, "nvidia-uvm"),
    ];
    if node.gpus.iter().any(|gpu| gpu.dri.is_some()) {
        lines.push((majors.drm, "drm"));
    }
    lines.retain(|(major, _)| *major != 0);
    lines.sort_by_key(|(major, _)| *major);
    let lines: String = lines.iter().map(|(major, name)| format!("{major:3} {name}\n")).collect();
    // The numbers of block devices mean something else: a reader has to stop at the empty line.
    format!("Character devices:\n{lines}\nBlock devices:\n  8 sd\n")
}

fn information(node: &SimulatedNode, gpu: &SimulatedGpu) -> String {
    // Lines and blanks are those of nv-procfs.c.
    format!(
        "Model: \t\t {}\nIRQ:   \t\t 0\nGPU UUID: \t {}\nVideo BIOS: \t 00.00.00.00.00\nBus Type: \t PCIe\nDMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\nBus Location: \t {}\nDevice Minor: \t {}\nGPU Firmware: \t {}\nGPU Excluded:\t No\n",
        gpu.model.product, gpu.uuid, gpu.pci, gpu.minor, node.driver
    )
}
