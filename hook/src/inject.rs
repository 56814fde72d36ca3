//! Gives a plan to a container that is made and not started, whole or not at all.

use crate::{Failure, plan::Plan};
use mig_cdi_model::{Major, Minor, cdi::SpecNode};
use mig_cdi_sys::{
    Container, DeviceCgroup, MountSource, NewNode, Root, exists, is_executable, run,
};
use std::{os::fd::OwnedFd, path::Path, time::Duration};

/// Where the variables are that a hook cannot give: in the container, read-only, for a shell to source.
pub const ENVIRONMENT: &str = "/run/mig-cdi/environment";

const DIRECTORY: &str = "/run/mig-cdi";
const FILE: &str = "environment";

/// systemd's own tool, by where distributions have it.
const SYSTEMCTL: [&str; 2] = ["/usr/bin/systemctl", "/bin/systemctl"];
/// There while systemd runs the machine: `sd_booted(3)`.
const SYSTEMD: &str = "/run/systemd/system";

/// Injects. What was done before a failure is undone.
///
/// # Errors
/// When a step fails, or when the container could not open its nodes in the end.
pub fn inject(plan: &Plan, pid: u32, root: &Path, user: (u32, u32)) -> Result<(), Failure> {
    if pid < 2 {
        let message = "read the container's state: it has no process; use the stage createRuntime or prestart";
        return Err(Failure::refused(message));
    }
    let sources = sources(plan)?;
    let cgroup = DeviceCgroup::of(&Root::open(Path::new("/"))?, pid)?;
    let mut container = Container::enter(pid, root)?;
    let given = fill(&mut container, plan, &sources, user);
    let allowed = given.and_then(|nodes| {
        container.leave()?;
        allow(&cgroup, plan, &nodes)
    });
    allowed.map_err(|failure| failure.after(container.undo()))
}

/// Everything of the machine, opened before the container is entered.
fn sources(plan: &Plan) -> Result<Vec<(MountSource, &str)>, Failure> {
    let mut sources = Vec::with_capacity(plan.mounts.len() + 1);
    for mount in &plan.mounts {
        sources
            .push((MountSource::open(Path::new(&mount.host_path))?, mount.container_path.as_str()));
    }
    sources.push((MountSource::file(FILE, &script(&plan.env))?, DIRECTORY));
    Ok(sources)
}

/// Lines that a shell can source.
fn script(env: &[String]) -> String {
    let line = |variable: &String| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        format!("export {name}='{}'\n", value.replace('\'', "'\\''"))
    };
    env.iter().map(line).collect()
}

fn fill(
    container: &mut Container,
    plan: &Plan,
    sources: &[(MountSource, &str)],
    user: (u32, u32),
) -> Result<Vec<OwnedFd>, Failure> {
    let mut nodes = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let SpecNode { path, major, minor, file_mode, uid, gid, .. } = node;
        let path = path.strip_prefix("/dev/").ok_or_else(|| {
            Failure::refused(format!("make {path}: nodes are made below /dev alone"))
        })?;
        let owner = (uid.unwrap_or(user.0), gid.unwrap_or(user.1));
        let (major, minor) = (Major(*major), Minor(*minor));
        nodes.push(container.node(&NewNode { path, major, minor, mode: *file_mode, owner })?);
    }
    for (source, path) in sources {
        container.mount(source, path)?;
    }
    Ok(nodes)
}

/// The rules, and the proof: what the cgroup denies in the end is no device.
fn allow(cgroup: &DeviceCgroup, plan: &Plan, nodes: &[OwnedFd]) -> Result<(), Failure> {
    let devices: Vec<_> =
        plan.nodes.iter().map(|node| (Major(node.major), Minor(node.minor))).collect();
    let told = tell_systemd(cgroup, &devices)?;
    let change = cgroup.allow(&devices, told)?;
    let denied = match cgroup.denies(nodes) {
        Ok(None) => return Ok(()),
        Ok(Some(index)) => {
            let path = plan.nodes.get(index).map_or("", |node| node.path.as_str());
            let cgroup = cgroup.show().display();
            Failure::refused(format!(
                "allow {path} in {cgroup}: a cgroup above it denies the device"
            ))
        }
        Err(error) => error.into(),
    };
    Err(denied.after(change.undo()))
}

/// What systemd does not know of, it takes away at its next daemon-reload.
fn tell_systemd(cgroup: &DeviceCgroup, devices: &[(Major, Minor)]) -> Result<bool, Failure> {
    let Some(unit) = cgroup.unit().filter(|_| exists(Path::new(SYSTEMD))) else {
        return Ok(false);
    };
    let systemctl = SYSTEMCTL.map(Path::new).into_iter().find(|path| is_executable(path));
    let systemctl = systemctl
        .ok_or_else(|| Failure::refused("tell systemd of the devices: no systemctl in /usr/bin"))?;
    let set = ["set-property", "--runtime", "--", unit].map(str::to_owned);
    let allow =
        devices.iter().map(|(major, minor)| format!("DeviceAllow=/dev/char/{major}:{minor} rw"));
    let ran =
        run(systemctl, &set.into_iter().chain(allow).collect::<Vec<_>>(), Duration::from_secs(10))?;
    match ran.code == Some(0) {
        true => Ok(true),
        false => Err(Failure::refused(format!(
            "tell systemd of the devices of {unit}: {}",
            ran.stderr.trim()
        ))),
    }
}
