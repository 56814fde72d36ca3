//! Generates the CDI specs of a node: plans all of them, checks that each can be written, then writes.

mod options;
mod spec_plan;

pub use options::{DeviceBuilder, DeviceOptions, EngineLookup, GenerateOptions, SpecDestination};
pub use spec_plan::{PlannedSpec, SpecPlan, SpecTarget, SpecTargets, spec_targets, text_of};

use crate::{
    Error, ErrorKind, MessageSink, NodeSource, Result,
    engines::BASELINE_CDI,
    spec::{BuiltSpec, Format},
    write::SpecPath,
};
use mig_cdi_model::{
    HostNodeState, Major, Topology,
    cdi::{Kind, Spec, Version},
    counted,
};
use mig_cdi_sys::{KernelFiles, Outcome, text};

/// Policy for whole GPUs that a file of another tool defines too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// Nothing is written at all.
    Refuse,
    /// Our spec of whole GPUs yields to the other file, and that of the slices is written.
    YieldGpus,
}

/// Writes the specs of a node.
pub struct Generator<'a> {
    devices: DeviceBuilder<'a>,
    options: &'a GenerateOptions,
}

/// Result of [`Generator::generate`].
#[derive(Debug)]
pub struct GeneratedSpecs {
    /// Text for standard output, when the spec goes there.
    pub stdout: String,
    /// The specs that were written.
    pub plan: SpecPlan,
}

impl<'a> Generator<'a> {
    /// Makes a generator. Nothing is read yet.
    #[must_use]
    pub fn new(
        node: &'a NodeSource,
        options: &'a GenerateOptions,
        messages: &'a dyn MessageSink,
    ) -> Generator<'a> {
        Generator { devices: DeviceBuilder::new(node, &options.devices, messages), options }
    }

    /// Builder of the devices, which knows the engines if they were needed.
    #[must_use]
    pub fn devices(&self) -> &DeviceBuilder<'a> {
        &self.devices
    }

    /// Discovers, plans and writes. `before_write` runs once it is certain that everything can be written, and ends before
    /// the first file is.
    ///
    /// # Errors
    /// When nothing was written: the node cannot be read, a directory is unsafe, another file defines one of the devices.
    pub fn generate(
        &self,
        on_conflict: OnConflict,
        before_write: impl FnOnce(),
    ) -> Result<GeneratedSpecs> {
        let target = spec_plan::target(self.options, &self.options.devices.spec.kind)?;
        // Taken before the driver is read: of two runs at the same time, the later reading has to be the last that is written.
        let _lock = target.map(|target| target.lock_to_write()).transpose()?;
        let mut plan = self.plan()?;
        plan.specs().for_each(|planned| self.devices.report_unnamed(&planned.built));
        if on_conflict == OnConflict::YieldGpus {
            yield_gpus(&mut plan)?;
        }
        self.check(&plan)?;
        before_write();
        let stdout = self.write(&plan)?;
        Ok(GeneratedSpecs { stdout, plan })
    }

    /// Discovers the node and builds its specs.
    ///
    /// # Errors
    /// When the node cannot be read at all, when a needed driver file is missing, or when the options contradict each other.
    pub fn plan(&self) -> Result<SpecPlan> {
        spec_plan::plan(&self.devices, self.options)
    }

    /// Refuses a plan that must not be written, and warns of what engines will make of it.
    fn check(&self, plan: &SpecPlan) -> Result<()> {
        let has_unnamed = plan.specs().any(|spec| !spec.built.unnamed.is_empty());
        if self.options.strict && (!plan.is_complete() || has_unnamed) {
            return Err(Error::of(ErrorKind::Incomplete, "write", "the specs")
                .because("a device is incomplete or has no name, and --strict was given")
                .with_cure("follow the messages above, or omit --strict"));
        }
        warn_of_engines(&self.devices, plan)?;
        warn_of_host_nodes(self.devices.messages(), &plan.topology);
        // A spec that is printed reaches no engine by itself.
        if let Some(target) = plan.specs().find_map(|spec| spec.target.as_ref()) {
            refuse_real_majors(self.devices.node(), &plan.topology, target)?;
        }
        // All before the first is written: the specs of one run belong together.
        for PlannedSpec { built, target, .. } in plan.specs() {
            if let (Some(target), Some(spec)) = (target, &built.spec) {
                target.check(spec)?;
            }
        }
        Ok(())
    }

    fn write(&self, plan: &SpecPlan) -> Result<String> {
        let mut stdout = String::new();
        for planned in plan.specs() {
            let PlannedSpec { built, target, .. } = planned;
            // The spec mounts this file, so it has to exist before the spec does.
            if let (Some(target), Some(_), Some(text)) = (target, &built.spec, &plan.masked_params)
            {
                target.write_params_file(text)?;
            }
            stdout += &self.write_or_remove(planned, plan.format, plan.is_complete())?;
        }
        Ok(stdout)
    }

    /// Removes the specs, whatever devices the node has.
    ///
    /// # Errors
    /// When a file is no spec of its kind, or cannot be removed.
    pub fn remove(&self) -> Result<()> {
        for SpecTarget { kind, file } in spec_targets(self.options, "remove")?.iter() {
            let _lock = file.lock()?;
            let path = file.path();
            self.devices.messages().status(&match file.remove(kind)? {
                Outcome::Changed => format!("removed {}", path.display()),
                Outcome::Unchanged => format!("nothing to remove: {} is not there", path.display()),
            });
        }
        Ok(())
    }

    /// Writes one spec, prints it, or removes that of devices that are gone.
    fn write_or_remove(
        &self,
        planned: &PlannedSpec,
        format: Format,
        is_complete: bool,
    ) -> Result<String> {
        let PlannedSpec { built, kind, target } = planned;
        let messages = self.devices.messages();
        match (&built.spec, target) {
            (Some(spec), None) => text_of(spec, format),
            (Some(spec), Some(target)) => {
                let outcome = target.write(spec, &text_of(spec, format)?)?;
                report_written(self.devices.node(), messages, target, spec, built, outcome);
                Ok(String::new())
            }
            // The devices of an older spec may be those that could not be confirmed now.
            (None, _) if !is_complete => {
                messages.status(&format!(
                    "no {kind} device can be confirmed; nothing was written and an older spec stays as it is"
                ));
                Ok(String::new())
            }
            (None, target) => remove_spec(messages, target.as_ref(), kind),
        }
    }
}

/// Yields whole GPUs to a file of another tool. Our spec of them has to be removed: where two files of one priority define
/// a device, engines drop both definitions (CDI specification, "Conflicts").
fn yield_gpus(plan: &mut SpecPlan) -> Result<()> {
    let Some(PlannedSpec { built, kind, target }) = &mut plan.gpus else { return Ok(()) };
    let (Some(target), Some(spec)) = (&*target, &built.spec) else { return Ok(()) };
    if let Err(failure) = target.check(spec) {
        target.remove(kind)?;
        (built.spec, built.devices) = (None, Vec::new());
        plan.gpus_conflict = Some(failure);
    }
    Ok(())
}

/// Warns of engines that will not accept the spec's CDI version. They report `unresolvable CDI devices` for every device and
/// no cause, since their library drops a spec of an unknown version (container-device-interface, `specs-go/version.go`).
fn warn_of_engines(devices: &DeviceBuilder<'_>, plan: &SpecPlan) -> Result<()> {
    let specs = plan.specs().filter_map(|planned| planned.built.spec.as_ref());
    let versions = specs.filter_map(|spec| spec.cdi_version.as_ref()?.parse::<Version>().ok());
    let Some(version) = versions.max().filter(|version| *version > BASELINE_CDI) else {
        return Ok(());
    };
    for engine in devices.engines()? {
        let label = engine.label();
        match engine.max_cdi() {
            Some(limit) if limit < version => devices.messages().warn(&format!(
                "{label} accepts cdi up to {limit} and this spec needs {version}: it will resolve none of these devices; \
                 update it, or set max-cdi-version to {limit}"
            )),
            None if engine.has_cdi => devices
                .messages()
                .detail(&format!("whether {label} accepts cdi {version} is not known")),
            _ => {}
        }
    }
    Ok(())
}

/// Warns of nodes that are missing or wrong on the host. The spec carries the numbers, so engines that make the nodes need none
/// on the host. Rootless ones cannot make nodes (`user_namespaces(7)`) and bind the host's: a missing node fails the
/// container, and a wrong one is another device.
fn warn_of_host_nodes(messages: &dyn MessageSink, topology: &Topology) {
    let gpus = topology.gpus.iter().filter(|gpu| !gpu.gpu_instances.is_empty());
    let devices = topology.mig_devices().flat_map(|d| [&d.gi.cap, &d.ci.cap]);
    let nodes = topology.common.iter().chain(gpus.map(|gpu| &gpu.node)).chain(devices);
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for node in nodes {
        let list = match node.host {
            HostNodeState::Ok => continue,
            HostNodeState::Missing => &mut missing,
            HostNodeState::Wrong => &mut wrong,
        };
        if !list.contains(&node.path.as_str()) {
            list.push(node.path.as_str());
        }
    }
    warn_of(messages, "missing on the host", &missing);
    warn_of(messages, "on the host with other numbers", &wrong);
}

fn warn_of(messages: &dyn MessageSink, what: &str, paths: &[&str]) {
    let Some((first, others)) = paths.split_first() else {
        return;
    };
    let more =
        if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    messages.warn(&format!(
        "{what}: {first}{more}; rootless engines use the host's nodes, others make their own: run mig-cdi nodes \
         as root"
    ));
    others.iter().for_each(|path| messages.detail(&format!("{what}: {path}")));
}

/// Refuses to write the spec of a simulated node whose made-up major numbers belong to drivers of this machine: a container
/// would get one of their devices.
fn refuse_real_majors(node: &NodeSource, topology: &Topology, target: &SpecPath) -> Result<()> {
    const PATH: &str = "/proc/devices";
    if !node.is_simulated() {
        return Ok(());
    }
    let bytes = node.host()?.read(PATH, 1 << 20)?;
    let absent = || Error::refused("read", PATH).because("not there").with_cure("mount /proc");
    let bytes = bytes.ok_or_else(absent)?;
    let devices =
        text::char_devices(&bytes).map_err(|e| Error::refused("parse", PATH).because(e))?;
    let mut majors: Vec<Major> = Vec::new();
    topology.clone().for_each_node(|node| majors.push(node.major));
    for major in majors {
        if let Some(driver) = devices.names(major).next() {
            let cause = format!(
                "major {major} of the simulated node is {driver:?} on this machine, and a container would get that device"
            );
            let path = target.path();
            return Err(Error::refused("write", path.display())
                .because(cause)
                .with_cure("set other [majors] in the node description, or use --output -"));
        }
    }
    Ok(())
}

fn report_written(
    node: &NodeSource,
    messages: &dyn MessageSink,
    target: &SpecPath,
    spec: &Spec,
    built: &BuiltSpec,
    outcome: Outcome,
) {
    let done = match outcome {
        Outcome::Changed => "wrote",
        Outcome::Unchanged => "unchanged",
    };
    let simulated = if node.is_simulated() { " of a simulated node" } else { "" };
    let (path, kind, version) =
        (target.path(), &spec.kind, spec.cdi_version.as_deref().unwrap_or_default());
    let message = format!(
        "{done} {}: {}{simulated}, cdi {version}",
        path.display(),
        counted(built.devices.len(), &format!("{kind} device"))
    );
    messages.status(&message);
    // Only slices set a variable; whole GPUs and administrative capabilities do not.
    let slices = spec.devices.iter().filter(|device| !device.container_edits.env.is_empty());
    let names = slices.map(|device| device.name.as_str()).filter(|name| *name != "all");
    // The shortest is the one to type: a UUID has 40 characters.
    if let Some(name) = names.min_by_key(|name| name.len()) {
        messages.hint(&format!(
            "try: podman run --rm --device {kind}={name} IMAGE ls /dev/nvidia-caps"
        ));
    }
}

/// Removes the spec of a node without devices, which is a state of the node and no failure. Engines refuse a spec without devices.
fn remove_spec(
    messages: &dyn MessageSink,
    target: Option<&SpecPath>,
    kind: &Kind,
) -> Result<String> {
    let nothing = format!("no {kind} device on this node");
    let Some(target) = target else {
        messages.status(&format!("{nothing}: nothing to print, cdi has no empty spec"));
        return Ok(String::new());
    };
    let path = target.path();
    let message = match target.remove(kind)? {
        Outcome::Changed => format!("{nothing}: removed {}", path.display()),
        Outcome::Unchanged => {
            format!("{nothing}: {} is not written, cdi has no empty spec", path.display())
        }
    };
    messages.status(&message);
    Ok(String::new())
}
