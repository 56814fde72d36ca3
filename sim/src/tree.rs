//! The files and device nodes that the driver of a simulated node would show.

use crate::{FileFault, Gpu, Node};
use mig_cdi_model::{Major, Minor};
use mig_cdi_sys::NodeStat;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// Paths with their contents. Directories are those of the files and the ones in `dirs`.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Text files by absolute path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Directories that may be empty.
    pub dirs: BTreeSet<String>,
    /// Character devices by absolute path.
    pub nodes: BTreeMap<String, NodeStat>,
}

/// The capability minor of an instance: 135 for each GPU, 9 for each GPU instance
/// (open-gpu-kernel-modules `nv-caps.c` l.57-148). Only a simulated driver may compute it.
fn cap_minor(gpu: u32, gi: u32, ci: Option<u32>) -> u32 {
    3 + 135 * gpu + 9 * gi + ci.map_or(0, |ci| 1 + ci)
}

impl Tree {
    /// The tree of a node, faults applied.
    #[must_use]
    pub fn of(node: &Node) -> Tree {
        let mut tree = Tree::default();
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

    /// The directories of a GPU's capability tree, parents first, each with its `access` file: what
    /// changes when the GPU is divided.
    #[must_use]
    pub fn capabilities(node: &Node, gpu: &Gpu) -> BTreeMap<String, Option<Vec<u8>>> {
        let mut tree = Tree::default();
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

    fn whole_node(&mut self, node: &Node) {
        let majors = node.majors;
        self.file("/proc/devices", devices(node));
        self.file(
            "/proc/driver/nvidia/version",
            format!(
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build\nGCC version:  gcc version 12.2.0\n",
                node.driver
            ),
        );
        self.file(
            "/proc/driver/nvidia/params",
            "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n".into(),
        );
        if let Some(machine) = &node.machine {
            self.file("/sys/class/dmi/id/product_name", format!("{machine}\n"));
        }
        let caps = node.stale_caps_major.unwrap_or(majors.nvidia_caps);
        for (name, minor, mode) in [("config", 1, 0o400), ("monitor", 2, 0o444)] {
            let path = format!("/proc/driver/nvidia/capabilities/mig/{name}");
            self.file(path, access(minor, mode));
            self.node(format!("/dev/nvidia-caps/nvidia-cap{minor}"), caps, minor, mode);
        }
        self.file("/proc/driver/nvidia-caps/mig-minors", mig_minors());
        self.dirs.insert("/proc/driver/nvidia/gpus".into());
        self.node("/dev/nvidiactl", majors.nvidia, 255, 0o666);
        if majors.nvidia_uvm != 0 {
            self.node("/dev/nvidia-uvm", majors.nvidia_uvm, 0, 0o666);
            self.node("/dev/nvidia-uvm-tools", majors.nvidia_uvm, 1, 0o666);
        }
    }

    fn gpu(&mut self, node: &Node, gpu: &Gpu) {
        let Gpu { minor, pci, .. } = gpu;
        let majors = node.majors;
        self.file(format!("/proc/driver/nvidia/gpus/{pci}/information"), information(node, gpu));
        let numa = gpu.numa.map_or("-1".to_owned(), |numa| numa.to_string());
        self.file(format!("/sys/bus/pci/devices/{pci}/numa_node"), format!("{numa}\n"));
        // A 3D controller: none of these has a display.
        self.file(format!("/sys/bus/pci/devices/{pci}/class"), "0x030200\n".into());
        self.node(format!("/dev/nvidia{minor}"), majors.nvidia, *minor, 0o666);
        if let Some(dri) = gpu.dri {
            for (name, link, minor) in
                [("card", "card", dri.card), ("renderD", "render", dri.render)]
            {
                self.node(format!("/dev/dri/{name}{minor}"), majors.drm, minor, 0o660);
                self.node(format!("/dev/dri/by-path/pci-{pci}-{link}"), majors.drm, minor, 0o660);
            }
        }
        let caps = node.stale_caps_major.unwrap_or(majors.nvidia_caps);
        let tree = format!("/proc/driver/nvidia/capabilities/gpu{minor}/mig");
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
        self.file(format!("{dir}/access"), access(minor, 0o444));
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

    /// The sorted names in a directory, or `None` when it is not there.
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

fn access(minor: u32, mode: u32) -> String {
    format!("DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n")
}

/// The driver's table names every instance that could exist.
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

fn devices(node: &Node) -> String {
    let majors = node.majors;
    let mut lines = vec![
        (1, "mem"),
        (5, "/dev/tty"),
        (majors.nvidia, "nvidia"),
        (majors.nvidia, "nvidia-modeset"),
        (majors.nvidia, "nvidiactl"),
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
    format!("Character devices:\n{lines}\nBlock devices:\n  8 sd\n")
}

fn information(node: &Node, gpu: &Gpu) -> String {
    format!(
        "Model: \t\t {}\nIRQ:   \t\t 0\nGPU UUID: \t {}\nVideo BIOS: \t 00.00.00.00.00\nBus Type: \t PCIe\nDMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\nBus Location: \t {}\nDevice Minor: \t {}\nGPU Firmware: \t {}\nGPU Excluded:\t No\n",
        gpu.model.product, gpu.uuid, gpu.pci, gpu.minor, node.driver
    )
}
