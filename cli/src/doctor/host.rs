//! The machine around it, and who is asking.

use super::{Facts, Verdict, error, note, ok, warning, with_cure};
use mig_cdi_gen::watch::status::{State, Status};

/// The file of our own.
pub(super) fn settings(facts: &Facts<'_>) -> Vec<Verdict> {
    match &facts.broken_settings {
        None => vec![ok("", format!("spec directories {}", super::engines::dirs(facts.settings)))],
        Some(message) => {
            vec![with_cure("", &format!("{message}, so the defaults are taken; correct the file"))]
        }
    }
}

/// True where systemd runs.
pub(super) fn systemd(facts: &Facts<'_>) -> bool {
    matches!(facts.host.list("/run/systemd/system"), Ok(Some(_)))
}

/// The version of cgroups, systemd, `SELinux`.
pub(super) fn host(facts: &Facts<'_>) -> Vec<Verdict> {
    let there = |path: &str| facts.host.identity(path).is_ok_and(|found| found.is_some());
    let crun = facts.engines.iter().any(|engine| engine.name == "crun");
    let cgroup = if there("/sys/fs/cgroup/cgroup.controllers") {
        ok("cgroup", "version 2")
    } else if there("/sys/fs/cgroup/unified") && crun {
        // Measured with crun 1.8.1, 1.21 and 1.28: "hybrid mode not supported".
        let cure = "use runc, or boot with systemd.unified_cgroup_hierarchy=1";
        warning("cgroup", "version 1 with /sys/fs/cgroup/unified, where crun starts nothing", cure)
    } else if there("/sys/fs/cgroup/devices") {
        ok("cgroup", "version 1")
    } else {
        note("cgroup", "/sys/fs/cgroup shows neither version 1 nor 2")
    };
    let systemd = match systemd(facts) {
        true => ok("systemd", "runs"),
        false => ok("systemd", "does not run"),
    };
    let selinux = match facts.text("/sys/fs/selinux/enforce") {
        None => ok("selinux", "off"),
        Some(Ok(text)) if text.trim() == "0" => ok("selinux", "permissive"),
        Some(Ok(text)) if text.trim() == "1" => note(
            "selinux",
            "enforcing: containers open no device before setsebool -P container_use_devices on \
             (container-selinux), or with --security-opt label=disable",
        ),
        Some(Ok(_)) => note("selinux", "/sys/fs/selinux/enforce says neither 0 nor 1"),
        Some(Err(reason)) => note("selinux", reason),
    };
    vec![cgroup, systemd, selinux]
}

/// Does the spec follow, by what watch says of itself.
pub(super) fn watch(facts: &Facts<'_>) -> Vec<Verdict> {
    const STATUS: &str = "/run/mig-cdi/status.json";
    const START: &str = "run systemctl restart mig-cdi";
    let status = match facts.text(STATUS) {
        None => {
            let evidence = "it has not run: a spec is as true as the last mig-cdi generate";
            return vec![note("", evidence)];
        }
        Some(text) => text.and_then(|text| {
            serde_json::from_str::<Status>(&text).map_err(|e| format!("parse {STATUS}: {e}"))
        }),
    };
    let runs =
        |pid: u32| facts.host.identity(&format!("/proc/{pid}")).is_ok_and(|found| found.is_some());
    vec![match status {
        Err(reason) => warning("", reason, START),
        Ok(status) if status.state == State::Stopped || !runs(status.pid) => {
            warning("", "it ran, and does not: no spec follows mig", START)
        }
        Ok(Status { state: State::Failing, error: Some(last), .. }) => {
            error("", format!("its last refresh failed: {}", last.message), "run mig-cdi status")
        }
        Ok(Status { pid, node, .. }) => {
            ok("", format!("pid {pid} keeps the spec true, {} slices", node.devices.len()))
        }
    }]
}

/// What others do not see.
pub(super) fn privilege(_: &Facts<'_>) -> Vec<Verdict> {
    vec![match mig_cdi_sys::is_root() {
        true => ok("", "root sees everything"),
        false => note(
            "",
            "without root, other users' containers, placements and files closed to you are not seen",
        ),
    }]
}
