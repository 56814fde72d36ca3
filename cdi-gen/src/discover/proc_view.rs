//! The view of `/proc`: which GPUs there are, which instances live on them, and with which numbers.

use super::Problem;
use crate::{Exit, Failure};
use mig_cdi_model::{CiId, GiId, GpuMinor, Major, Minor, PciAddress, Topology};
use mig_cdi_sys::{
    Machine,
    text::{self, Access, CharDevices, Information, Malformed, MigMinors, Params, numbered},
};
use std::collections::{BTreeMap, BTreeSet};

const DEVICES: &str = "/proc/devices";
const VERSION: &str = "/proc/driver/nvidia/version";
const PARAMS: &str = "/proc/driver/nvidia/params";
const GPUS: &str = "/proc/driver/nvidia/gpus";
const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
const MIG_MINORS: &str = "/proc/driver/nvidia-caps/mig-minors";

/// Far above what the kernel prints: a node of 32 GPUs has 4,322 capability minors in 110 kB.
const LARGE: usize = 1 << 20;
/// Far above any file of a few lines.
const SMALL: usize = 16 << 10;

/// What `/proc` says. A part that cannot be read holds the reason in its place.
#[derive(Debug)]
pub(super) struct ProcView {
    pub driver_version: String,
    pub majors: Majors,
    pub params: Params,
    /// The file of these, with the making of nodes switched off.
    pub masked_params: Option<String>,
    /// By PCI address, which is the order of NVML's indices.
    pub gpus: BTreeMap<PciAddress, Result<Information, String>>,
    pub instances: BTreeMap<GpuMinor, Instances>,
    /// The capabilities of administrators that can be read.
    pub admin: Vec<(&'static str, Access)>,
}

/// GPU instances of one GPU.
pub(super) type Instances = BTreeMap<GiId, Instance>;

/// A GPU instance in the capability tree.
#[derive(Debug)]
pub(super) struct Instance {
    pub access: Result<Access, String>,
    pub compute: BTreeMap<CiId, Result<Access, String>>,
}

/// Major numbers that drivers have registered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Majors {
    pub gpu: Major,
    pub control: Major,
    pub caps: Option<Major>,
    pub uvm: Option<Major>,
}

/// Reads the whole view.
pub(super) fn read(machine: &dyn Machine) -> Result<ProcView, Failure> {
    let version = machine.read(VERSION, SMALL)?.ok_or_else(|| {
        Failure::new(
            Exit::NoDriver,
            format!(
                "read {VERSION}: not there, so no nvidia driver is loaded; run modprobe nvidia, or try \
                 a simulated node with --node a100-80gb"
            ),
        )
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

/// Nobody but who asks for one of these misses it.
fn admin(machine: &dyn Machine) -> Vec<(&'static str, Access)> {
    let access = |name: &'static str| {
        let bytes = machine.read(&format!("{CAPABILITIES}/mig/{name}"), SMALL).ok()??;
        Some((name, text::access(&bytes).ok()?))
    };
    ["config", "monitor"].into_iter().filter_map(access).collect()
}

fn required(machine: &dyn Machine, path: &str, limit: usize) -> Result<Vec<u8>, Failure> {
    let bytes = machine.read(path, limit)?;
    bytes.ok_or_else(|| Failure::new(Exit::Failed, format!("read {path}: not there; mount /proc")))
}

fn parsed<T>(path: &str, result: Result<T, Malformed>) -> Result<T, Failure> {
    result.map_err(|e| Failure::new(Exit::Failed, unknown_form(path, &e)))
}

/// The cure for a file of the driver that cannot be read is ours to find.
fn unknown_form(path: &str, error: &Malformed) -> String {
    format!(
        "parse {path}: {error}; mig-cdi does not know this form, please report it with the file"
    )
}

fn majors(devices: &CharDevices) -> Result<Majors, Failure> {
    let gpu = devices.gpu_major();
    let gpu = gpu.ok_or_else(|| {
        let message =
            format!("read {DEVICES}: no character device \"nvidia\"; run modprobe nvidia");
        Failure::new(Exit::NoDriver, message)
    })?;
    Ok(Majors {
        gpu,
        control: devices.control_major().unwrap_or(gpu),
        caps: devices.major("nvidia-caps"),
        uvm: devices.major("nvidia-uvm"),
    })
}

fn gpus(
    machine: &dyn Machine,
) -> Result<BTreeMap<PciAddress, Result<Information, String>>, Failure> {
    let mut gpus = BTreeMap::new();
    for name in machine.list(GPUS)?.unwrap_or_default() {
        // The driver makes no other entries; what is no PCI address is no GPU.
        if let Ok(pci) = name.parse::<PciAddress>() {
            gpus.insert(pci, information(machine, pci, &format!("{GPUS}/{name}/information")));
        }
    }
    Ok(gpus)
}

fn information(machine: &dyn Machine, pci: PciAddress, path: &str) -> Result<Information, String> {
    let bytes = machine.read(path, SMALL).map_err(|e| e.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("read {path}: not there"))?;
    let information = text::information(&bytes).map_err(|e| match e {
        Malformed::Empty => {
            format!("read {path}: empty; the driver cannot wake the gpu, see dmesg")
        }
        e => unknown_form(path, &e),
    })?;
    match information.pci == pci {
        true => Ok(information),
        false => Err(format!("parse {path}: it says Bus Location {}", information.pci)),
    }
}

/// The live instances: the capability tree has a directory for each, and the driver removes it when
/// the instance goes.
fn instances(
    machine: &dyn Machine,
    majors: Majors,
) -> Result<BTreeMap<GpuMinor, Instances>, Failure> {
    let mut gpus = BTreeMap::new();
    for name in machine.list(CAPABILITIES)?.unwrap_or_default() {
        let Some(minor) = numbered(&name, "gpu") else {
            continue;
        };
        let mig = format!("{CAPABILITIES}/{name}/mig");
        let gis = machine.list(&mig)?.unwrap_or_default();
        let gis: Vec<_> = gis.into_iter().filter(|gi| numbered(gi, "gi").is_some()).collect();
        if !gis.is_empty() {
            gpus.insert(GpuMinor(minor), (mig, gis));
        }
    }
    if gpus.is_empty() {
        return Ok(BTreeMap::new());
    }
    let table = minors_table(machine, majors)?;
    let mut tree = BTreeMap::new();
    for (minor, (mig, gis)) in gpus {
        let mut instances = Instances::new();
        for name in gis {
            let Some(gi) = numbered(&name, "gi").map(GiId) else {
                continue;
            };
            instances.insert(gi, instance(machine, &table, minor, gi, &format!("{mig}/{name}"))?);
        }
        tree.insert(minor, instances);
    }
    Ok(tree)
}

/// What a driver in dev mode has: the table of minors, and a major for them. R450 could run in proc
/// mode, where the capability files themselves are the tokens; no container engine can use those.
fn minors_table(machine: &dyn Machine, majors: Majors) -> Result<MigMinors, Failure> {
    let table = machine.read(MIG_MINORS, LARGE)?.ok_or_else(|| {
        proc_mode(&format!("read {MIG_MINORS}: not there although there are mig instances"))
    })?;
    if majors.caps.is_none() {
        let message = format!(
            "read {DEVICES}: no character device \"nvidia-caps\" although there are mig instances; \
             reload the nvidia module"
        );
        return Err(Failure::new(Exit::Failed, message));
    }
    parsed(MIG_MINORS, text::mig_minors(&table))
}

/// The minors of all instances that could be, each with whether the tree tells if it is: true for those
/// of a GPU whose part of the tree is there, and of no GPU at all. The driver makes that part when it
/// wakes the GPU, and keeps it.
///
/// # Errors
/// When the tree or the table of minors is not there or cannot be read.
pub fn capabilities_of_instances(
    machine: &dyn Machine,
    topology: &Topology,
) -> Result<BTreeMap<Minor, bool>, Problem> {
    let problem = |reason: String| Problem::new("nodes of vanished instances", reason);
    let there = |path: String| machine.list(&path).map(|names| names.is_some());
    let absent = |path: &str| problem(format!("read {path}: not there; they are left"));
    let failed = |e: mig_cdi_sys::Error| problem(e.to_string());
    if !there(CAPABILITIES.to_owned()).map_err(failed)? {
        return Err(absent(CAPABILITIES));
    }
    let mut asleep = BTreeSet::new();
    for gpu in &topology.gpus {
        if !there(format!("{CAPABILITIES}/gpu{}/mig", gpu.minor)).map_err(failed)? {
            asleep.insert(gpu.minor);
        }
    }
    let table = machine.read(MIG_MINORS, LARGE).map_err(failed)?;
    let table = text::mig_minors(&table.ok_or_else(|| absent(MIG_MINORS))?);
    let table = table.map_err(|e| problem(unknown_form(MIG_MINORS, &e)))?;
    Ok(table.instances().map(|(gpu, minor)| (minor, !asleep.contains(&gpu))).collect())
}

fn proc_mode(what: &str) -> Failure {
    let cure =
        "the driver is in the old proc mode; load nvidia with nv_cap_enable_devfs=1 or update it";
    Failure::new(Exit::Failed, format!("{what}; {cure}"))
}

fn instance(
    machine: &dyn Machine,
    table: &MigMinors,
    gpu: GpuMinor,
    gi: GiId,
    dir: &str,
) -> Result<Instance, Failure> {
    let mut compute = BTreeMap::new();
    for name in machine.list(dir)?.unwrap_or_default() {
        if let Some(ci) = numbered(&name, "ci").map(CiId) {
            let path = format!("{dir}/{name}/access");
            compute.insert(ci, access(machine, &path, table, (gpu, gi, Some(ci)))?);
        }
    }
    let access = access(machine, &format!("{dir}/access"), table, (gpu, gi, None))?;
    Ok(Instance { access, compute })
}

/// Reads a capability file and holds it against the driver's table.
fn access(
    machine: &dyn Machine,
    path: &str,
    table: &MigMinors,
    (gpu, gi, ci): (GpuMinor, GiId, Option<CiId>),
) -> Result<Result<Access, String>, Failure> {
    let bytes = match machine.read(path, SMALL) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            return Ok(Err(format!("read {path}: not there; the instance may just have gone")));
        }
        Err(error) => return Ok(Err(error.to_string())),
    };
    let access = match text::access(&bytes) {
        Ok(access) => access,
        Err(Malformed::Empty) => return Err(proc_mode(&format!("read {path}: empty"))),
        Err(error) => return Ok(Err(unknown_form(path, &error))),
    };
    Ok(match table.get(gpu, gi, ci) {
        Some(minor) if minor == access.minor => Ok(access),
        Some(minor) => {
            Err(format!("{path} says minor {}, {MIG_MINORS} says {minor}", access.minor))
        }
        None => Err(format!("{path} says minor {}, {MIG_MINORS} does not list it", access.minor)),
    })
}
