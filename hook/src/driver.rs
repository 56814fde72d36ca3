//! The NVIDIA driver as `/proc` and `/sys` show it now. Never loads NVML and never opens a device node.

use crate::error::{Error, Result};
use mig_cdi_model::{GpuMinor, Major, Minor, NumberedNode, PciAddress, SliceId};
use mig_cdi_sys::{
    HostDriNode, KernelFiles, NodeStat, Root, dri_nodes,
    text::{self, CharDevices, Information},
};
use std::{
    cell::OnceCell,
    fmt,
    path::{Path, PathBuf},
};

const DEVICES: &str = "/proc/devices";
const GPUS: &str = "/proc/driver/nvidia/gpus";
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
/// Size limit of a file in `/proc`, in bytes; the driver's have some hundred.
const LIMIT: usize = 64 << 10;

/// The driver of this machine. Facts about GPUs are read when they are first needed, and once.
#[derive(Debug)]
pub struct Driver {
    proc: Root,
    dev: PathBuf,
    devices: CharDevices,
    gpus: OnceCell<Vec<ProcGpu>>,
}

/// A GPU in `/proc/driver/nvidia/gpus`.
#[derive(Debug)]
pub struct ProcGpu {
    /// PCI address, as the driver writes it.
    pub pci: String,
    information: OnceCell<Result<Information>>,
}

/// Capability minors of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapabilityMinors {
    /// Minor of its GPU instance.
    pub gi: Minor,
    /// Minor of its compute instance.
    pub ci: Minor,
}

impl Driver {
    /// Opens the `/proc` below one directory and the `/dev` below another, each `/` on a real machine.
    ///
    /// # Errors
    /// Fails when `/proc` is missing, or when that of the machine is not a procfs: a hook that runs in the mount
    /// namespace of a container may see whatever its image put there.
    pub fn open(proc_root: &Path, dev_root: &Path) -> Result<Driver> {
        let proc = Root::open(proc_root)?;
        proc.check_proc()?;
        let bytes = proc.read(DEVICES, LIMIT)?;
        let bytes = bytes.ok_or_else(|| gone(DEVICES).with_cure("mount /proc"))?;
        let devices = text::char_devices(&bytes).map_err(|e| malformed(DEVICES, e))?;
        Ok(Driver { proc, dev: dev_root.to_owned(), devices, gpus: OnceCell::new() })
    }

    /// Major number of a character device driver: `nvidia-caps`, `nvidia-uvm`.
    ///
    /// # Errors
    /// Fails when `/proc/devices` does not list it: its module is not loaded.
    pub fn major(&self, name: &str) -> Result<Major> {
        self.devices.major(name).ok_or_else(|| no_device(name))
    }

    /// Major number of the GPUs' nodes.
    ///
    /// # Errors
    /// Fails when no driver is loaded.
    pub fn gpu_major(&self) -> Result<Major> {
        self.devices.gpu_major().ok_or_else(|| no_device("nvidia"))
    }

    /// Major number of `/dev/nvidiactl`.
    ///
    /// # Errors
    /// Fails when no driver is loaded.
    pub fn control_major(&self) -> Result<Major> {
        self.devices.control_major().ok_or_else(|| no_device("nvidia"))
    }

    /// Capability minors of a slice.
    ///
    /// # Errors
    /// Fails when the slice does not exist, or its `access` files have an unknown form.
    pub fn capability_minors(&self, id: SliceId) -> Result<CapabilityMinors> {
        let SliceId { gpu, gi, ci } = id;
        let gi = format!("gpu{gpu}/mig/gi{gi}");
        let ci = self.access(&format!("{gi}/ci{ci}"));
        // Without its GPU instance a compute instance is gone too: name the GPU instance first.
        Ok(CapabilityMinors { gi: self.access(&gi)?, ci: ci? })
    }

    /// Capability minor of a directory of the capability tree, or of `mig/config` and `mig/monitor`.
    ///
    /// # Errors
    /// Fails as [`Driver::capability_minors`] does.
    pub fn access(&self, dir: &str) -> Result<Minor> {
        // An instance is a directory with a file `access`; the two capabilities over all instances are files
        // (`nv-caps.c`).
        let file = if dir.starts_with("mig/") { "" } else { "/access" };
        let path = format!("{CAPABILITIES}/{dir}{file}");
        let bytes = self.proc.read(&path, LIMIT)?.ok_or_else(|| gone(&path))?;
        text::access(&bytes).map(|access| access.minor).map_err(|e| malformed(&path, e))
    }

    /// Every GPU that the driver lists.
    ///
    /// # Errors
    /// Fails when the list cannot be read.
    pub fn gpus(&self) -> Result<&[ProcGpu]> {
        if let Some(gpus) = self.gpus.get() {
            return Ok(gpus);
        }
        let names = self.proc.list(GPUS)?.unwrap_or_default();
        let names = names.into_iter().filter(|name| name.parse::<PciAddress>().is_ok());
        let gpus = names.map(|pci| ProcGpu { pci, information: OnceCell::new() });
        Ok(self.gpus.get_or_init(|| gpus.collect()))
    }

    /// The file `information` of a GPU: minor, UUID, PCI address.
    ///
    /// # Errors
    /// Fails when the file is gone or has an unknown form.
    pub fn information<'d>(&'d self, gpu: &'d ProcGpu) -> Result<&'d Information> {
        let read = || {
            let path = format!("{GPUS}/{}/information", gpu.pci);
            let bytes = self.proc.read(&path, LIMIT)?.ok_or_else(|| gone(&path))?;
            text::information(&bytes).map_err(|e| malformed(&path, e))
        };
        gpu.information.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    /// Facts about the GPU with this minor number.
    ///
    /// # Errors
    /// Fails when no GPU has it, or when a GPU that might have it cannot be read.
    pub fn gpu(&self, minor: GpuMinor) -> Result<&Information> {
        let mut unreadable = None;
        for gpu in self.gpus()? {
            match self.information(gpu) {
                Ok(information) if information.minor == minor => return Ok(information),
                Ok(_) => {}
                Err(error) => unreadable = Some(error),
            }
        }
        let missing = || Error::refused("read", GPUS, format!("no gpu has minor {minor}"));
        Err(unreadable.unwrap_or_else(missing))
    }

    /// DRI nodes of a GPU, card and render node, as the generator finds them: each with the node at the path of udev's link to it,
    /// which a spec may have.
    ///
    /// # Errors
    /// Fails when one of them is missing, or is not the one that the kernel has.
    pub fn dri(&self, gpu: GpuMinor) -> Result<[(NumberedNode, NumberedNode); 2]> {
        let files = ProcAndDev { proc: &self.proc, dev: Root::open(&self.dev)? };
        let nodes = dri_nodes(&files, self.gpu(gpu)?.pci)?;
        Ok(nodes.map(|HostDriNode { path, link, stat, .. }| {
            let at = |path| NumberedNode { path, major: stat.major, minor: stat.minor };
            (at(path), at(link))
        }))
    }

    /// Names in a directory of the capability tree; none when it is missing.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub fn capabilities(&self, dir: &str) -> Result<Vec<String>> {
        Ok(self.proc.list(&format!("{CAPABILITIES}/{dir}"))?.unwrap_or_default())
    }
}

/// The two roots as one tree.
struct ProcAndDev<'d> {
    proc: &'d Root,
    dev: Root,
}

impl KernelFiles for ProcAndDev<'_> {
    fn read(&self, path: &str, limit: usize) -> mig_cdi_sys::Result<Option<Vec<u8>>> {
        self.proc.read(path, limit)
    }

    fn list(&self, path: &str) -> mig_cdi_sys::Result<Option<Vec<String>>> {
        self.proc.list(path)
    }

    fn node(&self, path: &str) -> mig_cdi_sys::Result<Option<NodeStat>> {
        self.dev.node(path)
    }

    fn check_sys(&self) -> mig_cdi_sys::Result<()> {
        self.proc.check_sys()
    }
}

fn no_device(name: &str) -> Error {
    Error::refused("read", DEVICES, format!("there is no character device {name:?}"))
        .with_cure("load the nvidia driver")
}

fn gone(path: &str) -> Error {
    Error::refused("read", path, "the file is gone")
}

fn malformed(path: &str, cause: impl fmt::Display) -> Error {
    Error::refused("parse", path, cause)
}
