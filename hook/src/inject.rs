//! Injects a plan into a container that is created and not started, whole or not at all. Never changes the environment of
//! its process: the runtime holds that in memory by the time a hook runs.

use crate::{
    error::{Error, Result},
    oci_config::ContainerUser,
    plan::InjectionPlan,
};
use mig_cdi_model::{Major, Minor, cdi::SpecNode};
use mig_cdi_sys::{
    Container, DeviceCgroup, MountSource, NewNode, Owner, Root, exists, is_executable, run,
};
use std::{os::fd::OwnedFd, path::Path, time::Duration};

/// File in the container with the variables that a hook cannot set: read-only, for a shell to source.
pub const ENVIRONMENT: &str = "/run/mig-cdi/environment";

const DIRECTORY: &str = "/run/mig-cdi";
const FILE: &str = "environment";

/// Paths of systemctl: on systems with a merged /usr, and without.
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];
/// Directory that exists while systemd is the init system: `sd_booted(3)`.
const SYSTEMD: &str = "/run/systemd/system";

/// Injects the plan. What was done before a failure is undone.
///
/// # Errors
/// Fails when a step fails, or when the container could not open its nodes in the end.
pub fn inject(plan: &InjectionPlan, pid: u32, root: &Path, user: ContainerUser) -> Result<()> {
    // In the stage createContainer pid is 0 (crun) or 1 (runc, as seen from inside): process 1 of the host is neither.
    if pid < 2 {
        return Err(Error::refused("read the container's state", "", "it has no process")
            .with_cure("run the hook in the stage createRuntime or prestart"));
    }
    let sources = open_sources(plan)?;
    let cgroup = DeviceCgroup::of(&Root::open(Path::new("/"))?, pid)?;
    let mut container = Container::enter(pid, root)?;
    let filled = create_nodes_and_mounts(&mut container, plan, &sources, user);
    let allowed = filled.and_then(|nodes| {
        // systemd and the cgroup are those of the host, so the rules wait until the process is back there.
        container.leave()?;
        allow(&cgroup, plan, &nodes)
    });
    allowed.map_err(|error| error.after_undo(container.undo()))
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
) -> Result<Vec<OwnedFd>> {
    let mut nodes = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let SpecNode { path, major, minor, file_mode, uid, gid, .. } = node;
        let path = path
            .strip_prefix("/dev/")
            .ok_or_else(|| Error::refused("make node", path, "nodes are made only below /dev"))?;
        let owner = Owner { uid: uid.unwrap_or(user.uid), gid: gid.unwrap_or(user.gid) };
        let (major, minor) = (Major(*major), Minor(*minor));
        nodes.push(container.node(&NewNode { path, major, minor, mode: *file_mode, owner })?);
    }
    for (source, path) in sources {
        container.mount(source, path)?;
    }
    Ok(nodes)
}

/// Adds the device rules, then checks with the kernel that each node can be opened: every cgroup above must allow it
/// too.
fn allow(cgroup: &DeviceCgroup, plan: &InjectionPlan, nodes: &[OwnedFd]) -> Result<()> {
    let devices: Vec<_> =
        plan.nodes.iter().map(|node| (Major(node.major), Minor(node.minor))).collect();
    let in_systemd = allow_in_systemd(cgroup, &devices)?;
    let change = cgroup.allow(&devices, in_systemd)?;
    let error = match cgroup.denies(nodes) {
        Ok(None) => return Ok(()),
        Ok(Some(index)) => {
            let path = plan.nodes.get(index).map_or("", |node| node.path.as_str());
            let cgroup = cgroup.path().display();
            let cause = format!("a cgroup above {cgroup} denies the device");
            Error::refused("allow", path, cause)
        }
        Err(error) => error.into(),
    };
    Err(error.after_undo(change.undo()))
}

/// Adds the devices to the systemd unit of the cgroup. Returns whether there is one. systemd sets the rules of its units
/// again at each daemon-reload, and drops those of others (NVIDIA/nvidia-docker#1730).
fn allow_in_systemd(cgroup: &DeviceCgroup, devices: &[(Major, Minor)]) -> Result<bool> {
    let Some(unit) = cgroup.unit().filter(|_| exists(Path::new(SYSTEMD))) else {
        return Ok(false);
    };
    let error = |cause: &str| Error::refused("allow devices in the systemd unit", unit, cause);
    let systemctl = SYSTEMCTL.map(Path::new).into_iter().find(|path| is_executable(path));
    let systemctl = systemctl
        .ok_or_else(|| error("there is no systemctl in /usr/bin").with_cure("install systemctl"))?;
    // --runtime: a container's unit does not outlive a reboot, nor should a drop-in file of it.
    let set = ["set-property", "--runtime", "--", unit].map(str::to_owned);
    // systemd takes the numbers from such a path, and needs no node there, since v240 (runc,
    // `libcontainer/cgroups/devices/systemd.go`).
    let rules =
        devices.iter().map(|(major, minor)| format!("DeviceAllow=/dev/char/{major}:{minor} rw"));
    let args: Vec<_> = set.into_iter().chain(rules).collect();
    let ran = run(systemctl, &args, Duration::from_secs(10))?;
    match ran.code == Some(0) {
        true => Ok(true),
        false => Err(error(ran.stderr.trim())),
    }
}
