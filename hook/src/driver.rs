//! What the driver says now, from `/proc` alone.

use crate::Failure;
use mig_cdi_model::{GpuMinor, Major, Minor, PciAddress, SliceId};
use mig_cdi_sys::{
    Root,
    text::{self, CharDevices, Information},
};
use std::{
    cell::OnceCell,
    path::{Path, PathBuf},
};

const DEVICES: &str = "/proc/devices";
const GPUS: &str = "/proc/driver/nvidia/gpus";
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
/// Far above what the kernel prints.
const LIMIT: usize = 64 << 10;

/// The driver of this machine. What it says of a GPU is read once, and not before it is needed.
#[derive(Debug)]
pub struct Driver {
    proc: Root,
    dev: PathBuf,
    devices: CharDevices,
    gpus: OnceCell<Vec<Gpu>>,
}

/// A GPU.
#[derive(Debug)]
pub struct Gpu {
    /// Its PCI address, as the driver writes it.
    pub pci: String,
    information: OnceCell<Result<Information, String>>,
}

/// Capability minors of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of its GPU instance.
    pub gi: Minor,
    /// Of its compute instance.
    pub ci: Minor,
}

impl Driver {
    /// Opens the `/proc` that is below a directory. Below the other is `/dev`.
    ///
    /// # Errors
    /// When it is not there, or when that of the machine is not the kernel's.
    pub fn open(proc_root: &Path, dev_root: &Path) -> Result<Driver, Failure> {
        let proc = Root::open(proc_root)?;
        proc.check_proc()?;
        let bytes = proc.read(DEVICES, LIMIT)?;
        let bytes = bytes
            .ok_or_else(|| Failure::refused(format!("read {DEVICES}: not there; mount /proc")))?;
        let devices = text::char_devices(&bytes)
            .map_err(|e| Failure::refused(format!("parse {DEVICES}: {e}")))?;
        Ok(Driver { proc, dev: dev_root.to_owned(), devices, gpus: OnceCell::new() })
    }

    /// The major number of a driver: `nvidia-caps`, `nvidia-uvm`.
    ///
    /// # Errors
    /// When it has none, for want of its module.
    pub fn major(&self, name: &str) -> Result<Major, String> {
        self.devices.major(name).ok_or_else(|| no_device(name))
    }

    /// The major number of GPUs, which was registered as `nvidia-frontend` before R550.
    ///
    /// # Errors
    /// When no driver is loaded.
    pub fn gpu_major(&self) -> Result<Major, String> {
        self.devices.gpu_major().ok_or_else(|| no_device("nvidia"))
    }

    /// The major number of `/dev/nvidiactl`.
    ///
    /// # Errors
    /// When no driver is loaded.
    pub fn control_major(&self) -> Result<Major, String> {
        self.devices.control_major().ok_or_else(|| no_device("nvidia"))
    }

    /// The capability minors of a slice that is there.
    ///
    /// # Errors
    /// When it is not, or the driver does not say it in a known form.
    pub fn caps(&self, id: SliceId) -> Result<Caps, String> {
        let SliceId { gpu, gi, ci } = id;
        let gi = format!("gpu{gpu}/mig/gi{gi}");
        let ci = self.access(&format!("{gi}/ci{ci}"));
        // Without its GPU instance a compute instance is gone too: name what is missing first.
        Ok(Caps { gi: self.access(&gi)?, ci: ci? })
    }

    /// The capability minor of a directory of the capability tree, or of `mig/config`.
    ///
    /// # Errors
    /// As [`Driver::caps`].
    pub fn access(&self, dir: &str) -> Result<Minor, String> {
        let file = if dir.starts_with("mig/") { "" } else { "/access" };
        let path = format!("{CAPABILITIES}/{dir}{file}");
        let bytes = self.proc.read(&path, LIMIT).map_err(|e| e.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("{path} is gone"))?;
        text::access(&bytes).map(|access| access.minor).map_err(|e| format!("parse {path}: {e}"))
    }

    /// Every GPU.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn gpus(&self) -> Result<&[Gpu], String> {
        if let Some(gpus) = self.gpus.get() {
            return Ok(gpus);
        }
        let names = self.proc.list(GPUS).map_err(|e| e.to_string())?.unwrap_or_default();
        let names = names.into_iter().filter(|name| name.parse::<PciAddress>().is_ok());
        let gpus = names.map(|pci| Gpu { pci, information: OnceCell::new() });
        Ok(self.gpus.get_or_init(|| gpus.collect()))
    }

    /// What the driver says of a GPU.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn information<'d>(&'d self, gpu: &'d Gpu) -> Result<&'d Information, String> {
        let read = || {
            let path = format!("{GPUS}/{}/information", gpu.pci);
            let bytes = self.proc.read(&path, LIMIT).map_err(|e| e.to_string())?;
            let bytes = bytes.ok_or_else(|| format!("{path} is gone"))?;
            text::information(&bytes).map_err(|e| format!("parse {path}: {e}"))
        };
        gpu.information.get_or_init(read).as_ref().map_err(Clone::clone)
    }

    /// The GPU behind a minor number.
    ///
    /// # Errors
    /// When no GPU has it, or a GPU that might cannot be read.
    pub fn gpu(&self, minor: GpuMinor) -> Result<&Information, String> {
        let mut unknown = None;
        for gpu in self.gpus()? {
            match self.information(gpu) {
                Ok(information) if information.minor == minor => return Ok(information),
                Ok(_) => {}
                Err(error) => unknown = Some(error),
            }
        }
        Err(unknown.unwrap_or_else(|| format!("no gpu has minor {minor}")))
    }

    /// The nodes with which a GPU draws, by udev's links: path, major and minor number.
    ///
    /// # Errors
    /// When one is not there.
    pub fn dri(&self, gpu: GpuMinor) -> Result<[(String, u32, u32); 2], String> {
        let pci = &self.gpu(gpu)?.pci;
        let dev = Root::open(&self.dev).map_err(|e| e.to_string())?;
        let node = |kind: &str, name: &str| {
            let link = format!("/dev/dri/by-path/pci-{pci}-{kind}");
            let stat = dev.node(&link).map_err(|e| e.to_string())?;
            let stat = stat.filter(|stat| stat.is_char).ok_or_else(|| format!("{link} is gone"))?;
            Ok::<_, String>((format!("/dev/dri/{name}{}", stat.minor), stat.major.0, stat.minor.0))
        };
        Ok([node("card", "card")?, node("render", "renderD")?])
    }

    /// The names below a directory of the capability tree.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn capabilities(&self, dir: &str) -> Result<Vec<String>, String> {
        let names = self.proc.list(&format!("{CAPABILITIES}/{dir}"));
        Ok(names.map_err(|e| e.to_string())?.unwrap_or_default())
    }
}

fn no_device(name: &str) -> String {
    format!("{DEVICES} has no character device {name:?}: is the nvidia driver loaded?")
}
