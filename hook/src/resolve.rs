//! From names to what they stand for in the spec, verified: the plan.

use crate::{
    Failure,
    config::Config,
    driver::Driver,
    plan::Plan,
    request::{self, Wish},
    spec::{self, SpecFile},
    verify,
};
use mig_cdi_config::Settings;
use mig_cdi_model::{
    DeviceVariable, SliceId,
    cdi::{ContainerEdits, Device, UnreadEdits},
};
use mig_cdi_sys::text::{Information, numbered};

const CURE: &str = "run mig-cdi generate and start the container again";

/// What a container that asks gets, or `None` for one that asks for nothing.
///
/// # Errors
/// When it may not have it, when it is not there, or when the spec is not what the driver says.
pub fn plan(config: &Config<'_>, settings: &Settings) -> Result<Option<Plan>, Failure> {
    let wishes = request::read(config, &settings.hook, &settings.kind.to_string())?;
    if wishes.is_empty() {
        return Ok(None);
    }
    let driver = Driver::open(&settings.proc_root, &settings.dev_root)?;
    let specs = spec::read(settings)?;
    let mut plan = Plan::default();
    let (mut slices, mut admin) = (Vec::new(), Vec::new());
    for wish in &wishes {
        let (file, device) = find(wish, &specs, &driver)?;
        let unreadable =
            |why: String| Failure::refused(format!("read {}: {why}; {CURE}", file.path.display()));
        let edits = device.edits().map_err(|e| unreadable(format!("{}: {e}", device.name)))?;
        let own = edits.slices().map_err(|e| unreadable(e.to_string()))?;
        check_policy(wish, device, file, &own, settings)?;
        if own.is_empty() {
            admin.push(administrator(wish, device)?);
        }
        plan.devices.push(wish.to_string());
        for ContainerEdits { env, device_nodes, mounts, .. } in [&file.spec.container_edits, &edits]
        {
            plan.add(env, device_nodes, mounts).map_err(unreadable)?;
        }
        slices.extend(own.into_iter().filter(|slice| !slices.contains(slice)).collect::<Vec<_>>());
    }
    verify::plan(&driver, &plan, &slices, &admin).map_err(|why| {
        Failure::refused(format!("give the container {}: {why}; {CURE}", plan.devices.join(",")))
    })?;
    visible_to_cuda(&mut plan, config, &slices);
    if settings.hook.hide {
        plan.hide = others(&driver, &slices, &admin)
            .map_err(|why| Failure::refused(format!("hide other slices: {why}; {CURE}")))?;
    }
    Ok(Some(plan))
}

/// The entry that a wish names, in the spec that engines prefer.
fn find<'s>(
    wish: &Wish,
    specs: &'s [SpecFile],
    driver: &Driver,
) -> Result<(&'s SpecFile, &'s Device<UnreadEdits>), Failure> {
    let found = match wish {
        Wish::Name(name) => {
            specs.iter().find_map(|file| Some((file, file.spec.device(name.as_str())?)))
        }
        Wish::Legacy(uuid, gi, ci) => {
            let gpus = driver.gpus().map_err(Failure::refused)?;
            let mut gpus = gpus.iter().filter_map(|gpu| driver.information(gpu).ok());
            let gpu = gpus.find(|gpu| gpu.uuid.as_ref() == Some(uuid));
            let gpu = gpu.ok_or_else(|| {
                Failure::refused(format!("give the container {wish}: no gpu is {uuid}"))
            })?;
            let id = SliceId { gpu: gpu.minor, gi: *gi, ci: *ci };
            specs.iter().find_map(|file| Some((file, file.spec.devices_of(id).next()?)))
        }
    };
    found.ok_or_else(|| {
        let paths: Vec<_> = specs.iter().map(|file| file.path.display().to_string()).collect();
        Failure::refused(format!(
            "give the container {wish}: {} has no such device; mig-cdi list shows them, and mig-cdi generate \
             --names says which names they have",
            paths.join(" or ")
        ))
    })
}

/// A device may be asked for when one of its names may, whichever is used.
fn check_policy(
    wish: &Wish,
    device: &Device<UnreadEdits>,
    file: &SpecFile,
    slices: &[DeviceVariable],
    settings: &Settings,
) -> Result<(), Failure> {
    let same = slices.first().filter(|_| slices.len() == 1).map(|slice| slice.id);
    let others = same.into_iter().flat_map(|id| file.spec.devices_of(id));
    let names = [device].into_iter().chain(others).map(|device| device.name.as_str());
    if request::allowed(names, &settings.hook.devices) {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "give the container {wish}: hook.devices of {} does not allow it to be asked for",
        mig_cdi_config::PATH
    )))
}

/// A device without a slice is one of the two capabilities over all of them.
fn administrator(wish: &Wish, device: &Device<UnreadEdits>) -> Result<&'static str, Failure> {
    let known = ["config", "monitor"].into_iter().find(|name| device.name == *name);
    known.ok_or_else(|| {
        Failure::refused(format!(
            "give the container {wish}: the spec does not say which slice it is; {CURE}"
        ))
    })
}

/// CUDA sees the slices that were asked for, in their order, unless the container says itself what it
/// wants to see.
fn visible_to_cuda(plan: &mut Plan, config: &Config<'_>, slices: &[DeviceVariable]) {
    const NAME: &str = "CUDA_VISIBLE_DEVICES";
    let uuids: Vec<String> =
        slices.iter().filter_map(|slice| Some(slice.uuid.as_ref()?.to_string())).collect();
    plan.env.retain(|variable| !variable.starts_with("CUDA_VISIBLE_DEVICES="));
    if config.variable(NAME).is_none() && !uuids.is_empty() {
        plan.env.push(format!("{NAME}={}", uuids.join(",")));
    }
}

/// What the driver shows in `/proc` of the GPUs and slices that are not the container's.
fn others(
    driver: &Driver,
    slices: &[DeviceVariable],
    admin: &[&str],
) -> Result<Vec<String>, String> {
    const DRIVER: &str = "/proc/driver/nvidia";
    if !admin.is_empty() {
        return Ok(Vec::new());
    }
    let mut hide = vec![format!("{DRIVER}/capabilities/mig")];
    for gpu in driver.gpus()? {
        let is_ours = |gpu: &Information| slices.iter().any(|slice| slice.id.gpu == gpu.minor);
        if !driver.information(gpu).is_ok_and(is_ours) {
            hide.push(format!("{DRIVER}/gpus/{}", gpu.pci));
        }
    }
    // At each depth of the tree: is the directory on the way to a slice of ours?
    let paths: Vec<String> = slices
        .iter()
        .map(|DeviceVariable { id: SliceId { gpu, gi, ci }, .. }| {
            format!("gpu{gpu}/mig/gi{gi}/ci{ci}/")
        })
        .collect();
    let ours = |path: &str| paths.iter().any(|own| own.starts_with(&format!("{path}/")));
    let mut look = vec![String::new()];
    while let Some(dir) = look.pop() {
        for name in driver.capabilities(&dir)? {
            let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
            let instance = ["gpu", "gi", "ci"].iter().any(|p| numbered(&name, p).is_some());
            if !instance {
                continue;
            }
            match (ours(&path), name.starts_with("ci")) {
                (false, _) => hide.push(format!("{DRIVER}/capabilities/{path}")),
                (true, true) => {}
                (true, false) if name.starts_with("gpu") => look.push(format!("{path}/mig")),
                (true, false) => look.push(path),
            }
        }
    }
    hide.sort_unstable();
    Ok(hide)
}
