//! From requested devices to an injection plan: finds the devices in the spec, compares them with the driver, and
//! collects their edits. Reads the machine, never changes it.

use crate::{
    driver::Driver,
    error::{Error, REGENERATE, Result},
    given_nodes::{self, NodePlaces},
    holders,
    oci_config::OciConfig,
    plan::InjectionPlan,
    request::{self, Request, RequestedDevice},
    spec::{self, SpecFile},
    verify,
};
use mig_cdi_config::Settings;
use mig_cdi_model::{
    DeviceVariable, GoneName, SliceId,
    cdi::{ContainerEdits, Device, UnreadEdits},
};
use mig_cdi_sys::text::{Information, numbered};
use std::collections::BTreeSet;

/// Result of a container's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Nothing: it requests nothing.
    NoRequest,
    /// Nothing: what it says is no request. The text is a line for the log.
    Ignored(String),
    /// Nothing: it has the requested devices, which are named here, already.
    Given(String),
    /// The devices of this plan.
    Plan(Box<InjectionPlan>),
}

/// Returns what a container gets for its request. `container` is its first process, where it has one.
///
/// # Errors
/// Fails when the request is not allowed, when a device does not exist, when the spec is stale, or when another container may open
/// the slice.
pub fn resolve(
    config: &OciConfig<'_>,
    settings: &Settings,
    container: Option<u32>,
) -> Result<Resolution> {
    // Before any file is opened: a container that requests nothing starts whatever the state of driver and spec.
    let requested = match request::read(config, &settings.hook, &settings.kind.to_string())? {
        Request::None => return Ok(Resolution::NoRequest),
        Request::Ignored(line) => return Ok(Resolution::Ignored(line)),
        Request::Devices(devices) => devices,
    };
    let driver = Driver::open(&settings.proc_root, &settings.dev_root)?;
    let specs = spec::read(settings)?;
    let mut plan = InjectionPlan::default();
    let (mut slices, mut admin) = (Vec::new(), Vec::new());
    for request in &requested {
        let (file, device) = find(request, &specs, &driver)?;
        let own = add_edits(&mut plan, file, device)?;
        check_policy(request, device, file, &own, settings)?;
        if own.is_empty() {
            admin.push(admin_capability(request, device)?);
        }
        plan.devices.push(request.to_string());
        slices.extend(own.into_iter().filter(|slice| !slices.contains(slice)).collect::<Vec<_>>());
    }
    let is_given = slices_are_given(config, &slices, &plan)?;
    // Kept until the process ends: musl's allocator would give the pages back to the kernel, and then map and unmap one for
    // almost every entry that is serialized into the configuration, which costs a tenth of the time of the hook.
    std::mem::forget(specs);
    verify::plan(&driver, &plan, &slices, &admin)?;
    let places = NodePlaces {
        gpus: driver.gpu_major()?,
        capabilities: driver.major("nvidia-caps")?,
        dev_root: &settings.dev_root,
    };
    given_nodes::expect_no_addition(config, &plan, &places)?;
    if is_given {
        // The variables may be the image's: nothing is added for them.
        given_nodes::expect_given(config, &plan, &places)?;
        return Ok(Resolution::Given(plan.devices.join(",")));
    }
    holders::expect_none(&driver, &slices, &plan, settings, container)?;
    set_cuda_visible_devices(&mut plan, config, &slices);
    if settings.hook.hide {
        let other = other_slices(&driver, &slices, &admin);
        plan.hide = other.map_err(|e| e.during("hide other slices", "").with_cure(REGENERATE))?;
    }
    Ok(Resolution::Plan(Box::new(plan)))
}

/// Reports whether the engine has given the container these slices already, from the spec: a request does not add to those that its user
/// has named to the engine. Devices of our specs set a variable for each slice; an image can set it too.
///
/// # Errors
/// Fails when there are variables of other slices.
fn slices_are_given(
    config: &OciConfig<'_>,
    requested: &[DeviceVariable],
    plan: &InjectionPlan,
) -> Result<bool> {
    let injected = config.env.iter().filter_map(|text| DeviceVariable::parse(text)?.ok());
    let injected: BTreeSet<SliceId> = injected.map(|variable| variable.id).collect();
    let requested: BTreeSet<SliceId> = requested.iter().map(|variable| variable.id).collect();
    if injected.is_empty() || injected == requested {
        return Ok(!injected.is_empty());
    }
    let names: Vec<_> = injected.iter().map(ToString::to_string).collect();
    let cause = format!(
        "the container has MIG_CDI_DEVICE_ variables of other slices, which the engine has given it: {}",
        names.join(", ")
    );
    Err(Error::refused("inject", plan.devices.join(","), cause).with_cure(
        "request slices either from the engine or by an annotation or a variable; if the image sets these variables, remove them from it",
    ))
}

/// Adds what a container with the device gets. Returns the slices that the device is.
fn add_edits(
    plan: &mut InjectionPlan,
    file: &SpecFile,
    device: &Device<UnreadEdits>,
) -> Result<Vec<DeviceVariable>> {
    let unreadable =
        |cause: String| Error::refused("read", file.path.display(), cause).with_cure(REGENERATE);
    let edits = device.edits().map_err(|e| unreadable(format!("{}: {e}", device.name)))?;
    let slices = edits.slices().map_err(|e| unreadable(e.to_string()))?;
    for ContainerEdits { env, device_nodes, mounts, .. } in [&file.spec.container_edits, &edits] {
        plan.add(env, device_nodes, mounts)
            .map_err(|e| e.during("read", file.path.display()).with_cure(REGENERATE))?;
    }
    Ok(slices)
}

fn inject_error(request: &RequestedDevice, cause: impl std::fmt::Display) -> Error {
    Error::refused("inject", request, cause)
}

/// Finds a device in the specs, the one that engines prefer first.
fn find<'s>(
    request: &RequestedDevice,
    specs: &'s [SpecFile],
    driver: &Driver,
) -> Result<(&'s SpecFile, &'s Device<UnreadEdits>)> {
    let found = match request {
        RequestedDevice::Name(name) => {
            specs.iter().find_map(|file| Some((file, file.spec.device(name.as_str())?)))
        }
        RequestedDevice::Legacy { gpu: uuid, gi, ci } => {
            let mut gpus = driver.gpus()?.iter().filter_map(|gpu| driver.information(gpu).ok());
            let gpu = gpus.find(|gpu| gpu.uuid.as_ref() == Some(uuid));
            let gpu =
                gpu.ok_or_else(|| inject_error(request, format!("no gpu has the uuid {uuid}")))?;
            let id = SliceId { gpu: gpu.minor, gi: *gi, ci: *ci };
            specs.iter().find_map(|file| Some((file, file.spec.devices_of(id).next()?)))
        }
    };
    found.ok_or_else(|| {
        let paths: Vec<_> = specs.iter().map(|file| file.path.display().to_string()).collect();
        let devices = specs.iter().flat_map(|file| &file.spec.devices);
        let names = devices.map(|device| device.name.as_str());
        let cure = match GoneName::new(&request.to_string(), names) {
            // Whether there was such a slice is not known here.
            Some(gone) => gone.now,
            None => {
                "list the devices with mig-cdi list; mig-cdi generate --names chooses their names"
                    .to_owned()
            }
        };
        inject_error(request, format!("{} has no such device", paths.join(" or "))).with_cure(cure)
    })
}

/// Checks that the policy allows one of the device's names, not only the one that is requested.
fn check_policy(
    request: &RequestedDevice,
    device: &Device<UnreadEdits>,
    file: &SpecFile,
    slices: &[DeviceVariable],
    settings: &Settings,
) -> Result<()> {
    let same = slices.first().filter(|_| slices.len() == 1).map(|slice| slice.id);
    let aliases = same.into_iter().flat_map(|id| file.spec.devices_of(id));
    let names = [device].into_iter().chain(aliases).map(|device| device.name.as_str());
    if request::is_allowed(names, &settings.hook.devices) {
        return Ok(());
    }
    let cure = format!("list it in hook.devices of {}", settings.file.display());
    Err(inject_error(request, "hook.devices does not allow it").with_cure(cure))
}

/// Name of the capability that a device without a slice is: one of the two over all slices.
fn admin_capability(
    request: &RequestedDevice,
    device: &Device<UnreadEdits>,
) -> Result<&'static str> {
    let known = ["config", "monitor"].into_iter().find(|name| device.name == *name);
    known.ok_or_else(|| {
        inject_error(request, "the device has no MIG_CDI_DEVICE_ variable").with_cure(REGENERATE)
    })
}

/// Makes CUDA enumerate the requested slices, in their order, unless the container chooses itself.
fn set_cuda_visible_devices(
    plan: &mut InjectionPlan,
    config: &OciConfig<'_>,
    slices: &[DeviceVariable],
) {
    const NAME: &str = "CUDA_VISIBLE_DEVICES";
    let uuids: Vec<String> =
        slices.iter().filter_map(|slice| Some(slice.uuid.as_ref()?.to_string())).collect();
    // The edits of each device set it to that device alone.
    plan.env.retain(|variable| !variable.starts_with("CUDA_VISIBLE_DEVICES="));
    if config.variable(NAME).is_none() && !uuids.is_empty() {
        plan.env.push(format!("{NAME}={}", uuids.join(",")));
    }
}

/// Directories in `/proc/driver/nvidia` of the GPUs and slices that are not the container's.
fn other_slices(driver: &Driver, slices: &[DeviceVariable], admin: &[&str]) -> Result<Vec<String>> {
    const DRIVER: &str = "/proc/driver/nvidia";
    // A container that partitions GPUs has to see all of them.
    if !admin.is_empty() {
        return Ok(Vec::new());
    }
    // config and monitor are capabilities over every slice.
    let mut hide = vec![format!("{DRIVER}/capabilities/mig")];
    for gpu in driver.gpus()? {
        let is_own = |gpu: &Information| slices.iter().any(|slice| slice.id.gpu == gpu.minor);
        // One that cannot be read is hidden too: the GPUs of the plan have been read.
        if !driver.information(gpu).is_ok_and(is_own) {
            hide.push(format!("{DRIVER}/gpus/{}", gpu.pci));
        }
    }
    let own: Vec<String> = slices
        .iter()
        .map(|DeviceVariable { id: SliceId { gpu, gi, ci }, .. }| {
            format!("gpu{gpu}/mig/gi{gi}/ci{ci}/")
        })
        .collect();
    let leads_to_own = |path: &str| own.iter().any(|own| own.starts_with(&format!("{path}/")));
    let mut unvisited = vec![String::new()];
    while let Some(dir) = unvisited.pop() {
        for name in driver.capabilities(&dir)? {
            // Files such as access, and directories of other capabilities, belong to no slice.
            if !["gpu", "gi", "ci"].iter().any(|prefix| numbered(&name, prefix).is_some()) {
                continue;
            }
            let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
            match leads_to_own(&path) {
                false => hide.push(format!("{DRIVER}/capabilities/{path}")),
                true if name.starts_with("ci") => {}
                // gpuN/mig/giM/ciC: only the level mig has no number.
                true if name.starts_with("gpu") => unvisited.push(format!("{path}/mig")),
                true => unvisited.push(path),
            }
        }
    }
    hide.sort_unstable();
    Ok(hide)
}
