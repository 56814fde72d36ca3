//! Injects a plan into a container that is created and not started, whole or not at all. Never changes the environment of
//! its process: the runtime holds that in memory by the time a hook runs.

use crate::{
    error::{Error, Result},
    oci_config::ContainerUser,
    plan::InjectionPlan,
};
use mig_cdi_model::{Major, Minor, cdi::SpecNode};
use mig_cdi_sys::{
    ClosedUnit, Container, DeviceCgroup, MountSource, NewNode, Owner, Root, UnitRule,
};
use std::{os::fd::OwnedFd, path::Path};

/// File in the container with the variables that a hook cannot set: read-only, for a shell to source.
pub const ENVIRONMENT: &str = "/run/mig-cdi/environment";

const DIRECTORY: &str = "/run/mig-cdi";
const FILE: &str = "environment";

/// Injects the plan, and sets the device rules of the container's systemd scope if it has one of its own. What was done
/// before a failure is undone.
///
/// # Errors
/// Fails when a step fails, when the container could not open its nodes in the end, or when systemd would take them away later.
pub fn inject(
    plan: &InjectionPlan,
    pid: u32,
    root: &Path,
    user: ContainerUser,
    unit_rules: Option<&[UnitRule]>,
) -> Result<()> {
    // In the stage createContainer pid is 0 (crun) or 1 (runc, as seen from inside): process 1 of the host is neither.
    if pid < 2 {
        return Err(Error::refused("read the container's state", "", "it has no process")
            .with_cure("run the hook in the stage createRuntime or prestart"));
    }
    let sources = open_sources(plan)?;
    let cgroup = DeviceCgroup::of(&Root::open(Path::new("/"))?, pid)?;
    let scope = closed_scope(&cgroup, unit_rules)?;
    let mut container = Container::enter(pid, root)?;
    let unit = cgroup.unit_of_caller();
    let filled = create_nodes_and_mounts(&mut container, plan, &sources, user, unit);
    let allowed = filled.and_then(|nodes| {
        // systemd and the cgroup are those of the host, so the rules wait until the process is back there.
        container.leave()?;
        allow(&cgroup, plan, &nodes, scope)
    });
    allowed.map_err(|error| error.after_undo(container.undo()))
}

/// Reads the container's own systemd scope, where it has one that allows some devices only, with the rules to add to it.
///
/// # Errors
/// Fails when systemd cannot express the rules: it would deny the slice from the next `daemon-reload` on.
fn closed_scope<'r>(
    cgroup: &DeviceCgroup,
    unit_rules: Option<&'r [UnitRule]>,
) -> Result<Option<(ClosedUnit, &'r [UnitRule])>> {
    let scope = cgroup.own_scope().map(ClosedUnit::read).transpose()?.flatten();
    let Some(scope) = scope else { return Ok(None) };
    match unit_rules {
        Some(rules) => Ok(Some((scope, rules))),
        None => {
            let cause = "systemd cannot express the container's device rules, one of which denies after another that \
                         allows, or is for one minor of every major";
            let cure = "leave that rule out, or use precreate or runtime instead of create-runtime";
            let operation = "allow devices in the systemd unit";
            Err(Error::refused(operation, scope.name(), cause).with_cure(cure))
        }
    }
}

/// Opens every file of the host before the container is entered: paths mean the container's files afterwards.
fn open_sources(plan: &InjectionPlan) -> Result<Vec<(MountSource, &str)>> {
    let mut sources = Vec::with_capacity(plan.mounts.len() + 1);
    for mount in &plan.mounts {
        sources
            .push((MountSource::open(Path::new(&mount.host_path))?, mount.container_path.as_str()));
    }
    sources.push((MountSource::file(FILE, &shell_script(&plan.env))?, DIRECTORY));
    Ok(sources)
}

/// Lines that a POSIX shell can source.
fn shell_script(env: &[String]) -> String {
    let line = |variable: &String| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        // Nothing is special between single quotes but the quote itself.
        format!("export {name}='{}'\n", value.replace('\'', "'\\''"))
    };
    env.iter().map(line).collect()
}

/// Makes the nodes and mounts. Returns a handle of each node.
fn create_nodes_and_mounts(
    container: &mut Container,
    plan: &InjectionPlan,
    sources: &[(MountSource, &str)],
    user: ContainerUser,
    unit: Option<&str>,
) -> Result<Vec<OwnedFd>> {
    let mut nodes = Vec::with_capacity(plan.nodes.len());
    // mknod(2) takes a privilege, and the permission of our own device cgroup.
    let not_made = |error: mig_cdi_sys::Error, node| match unit {
        Some(unit) if error.is_not_permitted() => {
            let cure = format!("run it as root with all capabilities, or {}", in_unit(unit, node));
            Error::refused(error.operation(), error.path().display(), error.cause()).with_cure(cure)
        }
        _ => error.into(),
    };
    for node in &plan.nodes {
        let SpecNode { path, major, minor, uid, gid, .. } = node;
        let path = path
            .strip_prefix("/dev/")
            .ok_or_else(|| Error::refused("make node", path, "nodes are made only below /dev"))?;
        let owner = Owner { uid: uid.unwrap_or(user.uid), gid: gid.unwrap_or(user.gid) };
        let (major, minor) = (Major(*major), Minor(*minor));
        let new = NewNode { path, major, minor, mode: node.mode(), owner };
        nodes.push(container.node(&new).map_err(|error| not_made(error, node))?);
    }
    for (source, path) in sources {
        container.mount(source, path)?;
    }
    Ok(nodes)
}

/// Adds the device rules, then checks with the kernel that each node can be opened: every cgroup above must allow it
/// too.
fn allow(
    cgroup: &DeviceCgroup,
    plan: &InjectionPlan,
    nodes: &[OwnedFd],
    scope: Option<(ClosedUnit, &[UnitRule])>,
) -> Result<()> {
    let scope = scope.map(|(scope, rules)| scope.allow(rules)).transpose()?;
    let done = allow_in_cgroup(cgroup, plan, nodes, scope.is_some());
    match (done, scope) {
        (Err(error), Some(scope)) => Err(error.after_undo(scope.undo())),
        (done, _) => done,
    }
}

fn allow_in_cgroup(
    cgroup: &DeviceCgroup,
    plan: &InjectionPlan,
    nodes: &[OwnedFd],
    systemd_informed: bool,
) -> Result<()> {
    let devices: Vec<_> =
        plan.nodes.iter().map(|node| (Major(node.major), Minor(node.minor))).collect();
    let change = cgroup.allow(&devices, systemd_informed)?;
    let error = match cgroup.denies(nodes) {
        Ok(None) => return Ok(()),
        Ok(Some(index)) => denied(cgroup, plan.nodes.get(index)),
        Err(error) => error.into(),
    };
    Err(error.after_undo(change.undo()))
}

/// A node that the device cgroup denies in the end.
fn denied(cgroup: &DeviceCgroup, node: Option<&SpecNode>) -> Error {
    let path = cgroup.path().display();
    let cause = match cgroup.is_shared() {
        true => format!("{path} denies the device, and holds other processes too"),
        false => format!("a cgroup above {path} denies the device"),
    };
    let error = Error::refused("allow", node.map_or("", |node| &node.path), cause);
    match (cgroup.own_scope(), cgroup.unit(), node) {
        (None, Some(unit), Some(node)) => error.with_cure(in_unit(unit, node)),
        _ => error,
    }
}

fn in_unit(unit: &str, SpecNode { major, minor, .. }: &SpecNode) -> String {
    format!("allow each node of the slice in {unit}, as DeviceAllow=/dev/char/{major}:{minor} rwm")
}
