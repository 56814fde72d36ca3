//! Reads the view of `/proc`: the GPUs of the node, their instances, and the numbers of both.

use super::{
    LOAD_DRIVER,
    problem::{Problem, Reason},
};
use crate::{Error, Result};
use mig_cdi_model::{CiId, GiId, GpuMinor, Major, Minor, PciAddress, Topology};
use mig_cdi_sys::{
    Machine,
    text::{self, Access, CharDevices, Information, MigMinors, Params, ParseError, numbered},
};
use std::collections::{BTreeMap, BTreeSet};

const DEVICES: &str = "/proc/devices";
const VERSION: &str = "/proc/driver/nvidia/version";
const PARAMS: &str = "/proc/driver/nvidia/params";
const GPUS: &str = "/proc/driver/nvidia/gpus";
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
const MIG_MINORS: &str = "/proc/driver/nvidia-caps/mig-minors";

/// Maximum size of a table. The largest is that of capability minors: 4,322 lines, 110 kB, whatever the node has.
const LARGE: usize = 1 << 20;
/// Maximum size of a file of a few lines.
const SMALL: usize = 16 << 10;

/// Content of `/proc`. A part that cannot be read holds the reason in its place.
#[derive(Debug)]
pub(super) struct ProcView {
    pub driver_version: String,
    pub majors: ProcMajors,
    pub params: Params,
    /// Text of the parameters with `ModifyDeviceFiles` set to 0.
    pub masked_params: Option<String>,
    /// GPUs by PCI address, which is the order of NVML's indices.
    pub gpus: BTreeMap<PciAddress, Result<Information, Reason>>,
    pub instances: BTreeMap<GpuMinor, ProcInstances>,
    /// Administrative capabilities that can be read.
    pub admin: Vec<ProcAdmin>,
}

impl ProcView {
    /// Returns warnings about the driver's parameters.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.params.misread_mode.map(misread_mode).into_iter().collect()
    }
}

/// Says what a mode means that somebody has written in octal.
fn misread_mode(mode: u32) -> String {
    let meant = u32::from_str_radix(&mode.to_string(), 8).ok().filter(|meant| *meant <= 0o777);
    let cure = match meant {
        Some(meant) => format!("for mode 0{meant:o} load it with NVreg_DeviceFileMode={meant}"),
        None => "438 is mode 0666".to_owned(),
    };
    format!(
        "{PARAMS}: DeviceFileMode is {mode}, which the nvidia module takes for a decimal number, mode 0{mode:o}; {cure}"
    )
}

/// An administrative capability: `mig/config` or `mig/monitor`.
#[derive(Debug)]
pub(super) struct ProcAdmin {
    pub name: &'static str,
    pub access: Access,
}

/// GPU instances of one GPU.
pub(super) type ProcInstances = BTreeMap<GiId, ProcInstance>;

/// A GPU instance in the capability tree.
#[derive(Debug)]
pub(super) struct ProcInstance {
    pub access: Result<Access, Reason>,
    pub compute: BTreeMap<CiId, Result<Access, Reason>>,
}

/// Major numbers that the driver's modules registered.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcMajors {
    pub gpu: Major,
    pub control: Major,
    pub caps: Option<Major>,
    pub uvm: Option<Major>,
}

/// Reads the whole view.
pub(super) fn read(machine: &dyn Machine) -> Result<ProcView> {
    let version = machine.read(VERSION, SMALL)?.ok_or_else(|| {
        Error::no_driver("read", VERSION)
            .because("not there, so no nvidia driver is loaded")
            .with_cure(LOAD_DRIVER)
    })?;
    let driver_version = parsed(VERSION, text::driver_version(&version))?;
    let devices = required(machine, DEVICES, LARGE)?;
    let majors = majors(&parsed(DEVICES, text::char_devices(&devices))?)?;
    let (params, masked_params) = match machine.read(PARAMS, SMALL)? {
        Some(bytes) => {
            (parsed(PARAMS, text::params(&bytes))?, text::params_without_node_making(&bytes).ok())
        }
        None => (Params::default(), None),
    };
    let gpus = gpus(machine)?;
    let instances = instances(machine, majors)?;
    let admin = admin(machine);
    Ok(ProcView { driver_version, majors, params, masked_params, gpus, instances, admin })
}

/// Reads the administrative capabilities. One that cannot be read is skipped: only a user who requests it needs it.
fn admin(machine: &dyn Machine) -> Vec<ProcAdmin> {
    let access = |name: &'static str| {
        let bytes = machine.read(&format!("{CAPABILITIES}/mig/{name}"), SMALL).ok()??;
        Some(ProcAdmin { name, access: text::access(&bytes).ok()? })
    };
    ["config", "monitor"].into_iter().filter_map(access).collect()
}

fn required(machine: &dyn Machine, path: &str, limit: usize) -> Result<Vec<u8>> {
    let bytes = machine.read(path, limit)?;
    bytes.ok_or_else(|| Error::failed("read", path).because("not there").with_cure("mount /proc"))
}

fn parsed<T>(path: &str, result: Result<T, ParseError>) -> Result<T> {
    result.map_err(|e| Error::failed("parse", path).because(e).with_cure(UNKNOWN_FORM))
}

const UNKNOWN_FORM: &str = "report this unknown format to mig-cdi, with the file";

/// The reason for a file of a form that no known driver writes.
fn unknown_form(path: &str, error: &ParseError) -> Reason {
    Reason::with_cure(format!("parse {path}: {error}"), UNKNOWN_FORM)
}

/// The major numbers.
// All are read: that of capability nodes is dynamic (`alloc_chrdev_region`, `nv-caps.c:823-826`), and may differ
// after each load of the module.
fn majors(devices: &CharDevices) -> Result<ProcMajors> {
    let gpu = devices.gpu_major();
    let gpu = gpu.ok_or_else(|| {
        let cause = "no character device \"nvidia\"";
        Error::no_driver("read", DEVICES).because(cause).with_cure(LOAD_DRIVER)
    })?;
    Ok(ProcMajors {
        gpu,
        control: devices.control_major().unwrap_or(gpu),
        caps: devices.major("nvidia-caps"),
        uvm: devices.major("nvidia-uvm"),
    })
}

fn gpus(machine: &dyn Machine) -> Result<BTreeMap<PciAddress, Result<Information, Reason>>> {
    let mut gpus = BTreeMap::new();
    for name in machine.list(GPUS)?.unwrap_or_default() {
        // The driver creates no other entries.
        if let Ok(pci) = name.parse::<PciAddress>() {
            gpus.insert(pci, information(machine, pci, &format!("{GPUS}/{name}/information")));
        }
    }
    Ok(gpus)
}

fn information(machine: &dyn Machine, pci: PciAddress, path: &str) -> Result<Information, Reason> {
    let bytes = machine.read(path, SMALL)?;
    let bytes = bytes.ok_or_else(|| format!("read {path}: not there"))?;
    let information = text::information(&bytes).map_err(|e| match e {
        ParseError::Empty => Reason::with_cure(
            format!("read {path}: empty"),
            "see dmesg for the reason why the driver cannot initialise the gpu",
        ),
        e => unknown_form(path, &e),
    })?;
    match information.pci == pci {
        true => Ok(information),
        false => Err(format!("parse {path}: its Bus Location is {}", information.pci).into()),
    }
}

/// Reads the existing instances.
// The capability tree has a directory for each, and the driver removes it when the instance is destroyed
// (`osRmCapUnregister`, `os.c:4593`). A node in /dev proves nothing: nothing removes it.
fn instances(
    machine: &dyn Machine,
    majors: ProcMajors,
) -> Result<BTreeMap<GpuMinor, ProcInstances>> {
    let dirs = instance_dirs(machine)?;
    // A driver that cannot partition any GPU may have no table.
    if dirs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let table = minors_table(machine, majors)?;
    let mut tree = BTreeMap::<GpuMinor, ProcInstances>::new();
    for ((minor, gi), dir) in dirs {
        let instance = instance(machine, &table, minor, gi, &dir)?;
        tree.entry(minor).or_default().insert(gi, instance);
    }
    Ok(tree)
}

/// The directories of GPU instances in the capability tree.
fn instance_dirs(machine: &dyn Machine) -> Result<BTreeMap<(GpuMinor, GiId), String>> {
    let mut dirs = BTreeMap::new();
    for gpu in machine.list(CAPABILITIES)?.unwrap_or_default() {
        // The number is the minor of /dev/nvidiaN, not the index of nvidia-smi (`os.c:4668`).
        let Some(minor) = numbered(&gpu, "gpu").map(GpuMinor) else { continue };
        let mig = format!("{CAPABILITIES}/{gpu}/mig");
        for name in machine.list(&mig)?.unwrap_or_default() {
            // `gpuN/mig` exists with MIG off too: only a `giM` below it is an instance (`os.c:4707-4717`).
            if let Some(gi) = numbered(&name, "gi").map(GiId) {
                dirs.insert((minor, gi), format!("{mig}/{name}"));
            }
        }
    }
    Ok(dirs)
}

/// Reads the table of minors.
// Only a driver in dev mode has it, and a major for it. R450 could run in proc mode, where the capability files
// themselves are the tokens; no container engine can use those.
fn minors_table(machine: &dyn Machine, majors: ProcMajors) -> Result<MigMinors> {
    let table = machine
        .read(MIG_MINORS, LARGE)?
        .ok_or_else(|| proc_mode(MIG_MINORS, "not there although there are mig instances"))?;
    if majors.caps.is_none() {
        let cause = "no character device \"nvidia-caps\" although there are mig instances";
        let error = Error::failed("read", DEVICES).because(cause);
        return Err(error.with_cure("reload the nvidia module"));
    }
    parsed(MIG_MINORS, text::mig_minors(&table))
}

/// Returns the capability minors of all instances that could exist (the table is static: `nv-caps.c:57-148`), each
/// with whether the tree shows if it does. That is false for the instances of a GPU that has no `gpuN` in the tree yet:
/// the driver creates it at the first attach of the GPU (`_gpumgrRegisterRmCapsForGpu`, `gpu_mgr.c:94-132`).
///
/// # Errors
/// When the tree or the table of minors is not there or cannot be read.
pub fn capabilities_of_instances(
    machine: &dyn Machine,
    topology: &Topology,
) -> Result<BTreeMap<Minor, bool>, Problem> {
    let problem = |reason: Reason| Problem::new("nodes of vanished instances", reason);
    let exists = |path: String| machine.list(&path).map(|names| names.is_some());
    let absent = |path: &str| {
        let cause = format!("read {path}: not there, so these nodes are kept");
        problem(Reason::with_cure(cause, "load the nvidia module"))
    };
    let failed = |e: mig_cdi_sys::Error| problem(e.into());
    if !exists(CAPABILITIES.to_owned()).map_err(failed)? {
        return Err(absent(CAPABILITIES));
    }
    let mut unattached = BTreeSet::new();
    for gpu in &topology.gpus {
        if !exists(format!("{CAPABILITIES}/gpu{}/mig", gpu.minor)).map_err(failed)? {
            unattached.insert(gpu.minor);
        }
    }
    let table = machine.read(MIG_MINORS, LARGE).map_err(failed)?;
    let table = text::mig_minors(&table.ok_or_else(|| absent(MIG_MINORS))?);
    let table = table.map_err(|e| problem(unknown_form(MIG_MINORS, &e)))?;
    Ok(table.capabilities().map(|c| (c.minor, !unattached.contains(&c.gpu))).collect())
}

fn proc_mode(path: &str, cause: &str) -> Error {
    let cause = format!("{cause}, so the driver is in its old proc mode");
    let cure = "load nvidia with nv_cap_enable_devfs=1, or update the driver";
    Error::failed("read", path).because(cause).with_cure(cure)
}

fn instance(
    machine: &dyn Machine,
    table: &MigMinors,
    gpu: GpuMinor,
    gi: GiId,
    dir: &str,
) -> Result<ProcInstance> {
    let mut compute = BTreeMap::new();
    for name in machine.list(dir)?.unwrap_or_default() {
        if let Some(ci) = numbered(&name, "ci").map(CiId) {
            let path = format!("{dir}/{name}/access");
            compute.insert(ci, access(machine, &path, table, (gpu, gi, Some(ci)))?);
        }
    }
    let access = access(machine, &format!("{dir}/access"), table, (gpu, gi, None))?;
    Ok(ProcInstance { access, compute })
}

/// Reads a capability file, and compares its minor with the driver's table.
fn access(
    machine: &dyn Machine,
    path: &str,
    table: &MigMinors,
    (gpu, gi, ci): (GpuMinor, GiId, Option<CiId>),
) -> Result<Result<Access, Reason>> {
    let bytes = match machine.read(path, SMALL) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let cause =
                format!("read {path}: not there; the instance may just have been destroyed");
            return Ok(Err(Reason::with_cure(cause, "run it again")));
        }
        Err(error) => return Ok(Err(error.into())),
    };
    let access = match text::access(&bytes) {
        Ok(access) => access,
        // In proc mode the files are empty.
        Err(ParseError::Empty) => return Err(proc_mode(path, "empty")),
        Err(error) => return Ok(Err(unknown_form(path, &error))),
    };
    // The file and the table print one static map of the driver (`nv-caps.c:57-148,421-423`).
    let other = match table.get(gpu, gi, ci) {
        Some(minor) if minor == access.minor => return Ok(Ok(access)),
        Some(minor) => format!("has {minor}"),
        None => "does not list it".to_owned(),
    };
    Ok(Err(format!("{path} has minor {}, {MIG_MINORS} {other}", access.minor).into()))
}
