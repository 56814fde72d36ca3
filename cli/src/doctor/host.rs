//! Checks of the host: our settings, the watch, cgroups, systemd, SELinux, and the privilege of this process.

use super::{
    facts::NodeFacts,
    verdict::{Finding, Verdict, error, note, ok, warning},
};
use mig_cdi_gen::watch::status::{Status, WatchState};
use mig_cdi_model::counted;
use mig_cdi_partition::{Lease, interrupted_gpus};

/// Settings file of mig-cdi. With a bad one the other checks use the defaults.
pub(super) fn settings(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let Some(failure) = &facts.settings_error else {
        let dirs = facts.settings.spec_dirs.iter().map(|dir| dir.display().to_string());
        let dirs = dirs.collect::<Vec<_>>().join(", ");
        return vec![ok("", format!("spec directories {dirs}"))];
    };
    let Finding { evidence, cure } = failure.into();
    let cure = cure.unwrap_or_else(|| "correct the file".to_owned());
    vec![error("", format!("{evidence}; nothing else runs with it, here the defaults apply"), cure)]
}

/// True when systemd is the service manager (`sd_booted(3)`).
pub(super) fn has_systemd(facts: &NodeFacts<'_>) -> bool {
    matches!(facts.host.list("/run/systemd/system"), Ok(Some(_)))
}

/// Version of cgroups, systemd, SELinux.
pub(super) fn host(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let systemd = match has_systemd(facts) {
        true => ok("systemd", "runs"),
        false => ok("systemd", "does not run"),
    };
    vec![cgroup(facts), systemd, selinux(facts)]
}

fn cgroup(facts: &NodeFacts<'_>) -> Verdict {
    let exists = |path: &str| facts.host.identity(path).is_ok_and(|identity| identity.is_some());
    let has_crun = facts.engines.iter().any(|engine| engine.name == "crun");
    // Every cgroup of version 2 has this file, and none of version 1 (cgroups(7)).
    if exists("/sys/fs/cgroup/cgroup.controllers") {
        ok("cgroup", "version 2")
    } else if exists("/sys/fs/cgroup/unified") && has_crun {
        // Measured with crun 1.8.1, 1.21 and 1.28: "hybrid mode not supported".
        let evidence = "version 1 with /sys/fs/cgroup/unified, on which crun starts no container";
        let cure = "use runc, or boot with systemd.unified_cgroup_hierarchy=1";
        warning("cgroup", evidence, cure)
    } else if exists("/sys/fs/cgroup/devices") {
        ok("cgroup", "version 1")
    } else {
        note("cgroup", "/sys/fs/cgroup shows neither version 1 nor 2")
    }
}

fn selinux(facts: &NodeFacts<'_>) -> Verdict {
    // The kernel has selinuxfs only while SELinux is enabled (security/selinux/selinuxfs.c).
    match facts.text("/sys/fs/selinux/enforce") {
        None => ok("selinux", "off"),
        Some(Ok(text)) if text.trim() == "0" => ok("selinux", "permissive"),
        Some(Ok(text)) if text.trim() == "1" => note(
            "selinux",
            "enforcing: containers open no device before setsebool -P container_use_devices on is run \
             (package container-selinux), or with --security-opt label=disable",
        ),
        Some(Ok(_)) => note("selinux", "/sys/fs/selinux/enforce contains neither 0 nor 1"),
        Some(Err(reason)) => note("selinux", reason.to_string()),
    }
}

/// State of `mig-cdi watch`, by the file that it writes.
pub(super) fn watch(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    const DIR: &str = "/run/mig-cdi";
    const STATUS: &str = "/run/mig-cdi/status.json";
    const START: &str = "run systemctl restart mig-cdi";
    let Some(text) = facts.text(STATUS) else {
        let evidence =
            "mig-cdi watch has not run: a spec is as current as the last mig-cdi generate";
        return vec![note("", evidence)];
    };
    let status: Status = match text.map(|text| serde_json::from_str(&text)) {
        Ok(Ok(status)) => status,
        Ok(Err(e)) => return vec![warning("", format!("parse {STATUS}: {e}"), START)],
        Err(e) => return vec![warning("", e.to_string(), START)],
    };
    let is_running = status.is_running(&facts.host.display_path(DIR));
    vec![match status {
        _ if !is_running => {
            warning("", "mig-cdi watch has stopped: specs do not follow mig changes", START)
        }
        Status { state: WatchState::Failing, error: Some(last), .. } => {
            error("", format!("its last refresh failed: {}", last.message), "run mig-cdi status")
        }
        Status { pid, node, .. } => {
            let slices = counted(node.devices.len(), "slice");
            ok("", format!("pid {pid} keeps the spec current, {slices}"))
        }
    }]
}

/// Leases of slices that the node does not have: they keep nothing from being destroyed.
pub(super) fn leases(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    const DIR: &str = "/run/mig-cdi/leases";
    if facts.machine.driver().is_none() {
        return vec![note("", "a simulated node has none")];
    }
    let leases = match Lease::read_all(&facts.host.display_path(DIR)) {
        Ok(leases) if leases.is_empty() => return vec![ok("", "no slice has a lease")],
        Ok(leases) => leases,
        Err(failure) => {
            let Finding { evidence, cure } = (&failure).into();
            let cure = cure.unwrap_or_else(|| Lease::CURE.to_owned());
            return vec![warning("", evidence, cure)];
        }
    };
    let found = facts.proc_discovery.as_ref().ok().filter(|found| found.problems.is_empty());
    let Some(found) = found else {
        return vec![note("", "not compared with slices: not all of these are confirmed")];
    };
    let mismatches = leases.iter().filter_map(|lease| lease.mismatch(&found.topology));
    let verdicts: Vec<_> = mismatches.map(|text| warning("", text, Lease::CURE)).collect();
    match verdicts.is_empty() {
        true => vec![ok("", format!("{}, each of a slice", counted(leases.len(), "lease")))],
        false => verdicts,
    }
}

/// An apply that was interrupted, after which a GPU may have neither its old nor its new layout.
pub(super) fn journal(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    const PATH: &str = "/var/lib/mig-cdi/apply.json";
    if facts.machine.driver().is_none() {
        return vec![note("", "a simulated node has none")];
    }
    match interrupted_gpus(facts.host, PATH) {
        Ok(gpus) if gpus.is_empty() => vec![ok("", "no change of a gpu was interrupted")],
        Ok(gpus) => {
            let gpus = gpus.join(", ");
            let evidence = format!(
                "an apply was interrupted at {gpus}, as {PATH} records: no other apply changes it"
            );
            vec![error("", evidence, "run mig-cdi apply --resume")]
        }
        Err(failure) if !mig_cdi_sys::is_root() => vec![note("", failure.without_cure())],
        Err(failure) => {
            let cure = format!("remove {PATH}; the gpus then keep their present layouts");
            vec![error("", failure.without_cure(), cure)]
        }
    }
}

/// Privilege of this process, which limits what the other checks see.
pub(super) fn privilege(_: &NodeFacts<'_>) -> Vec<Verdict> {
    vec![match (mig_cdi_sys::is_root(), mig_cdi_sys::in_user_namespace()) {
        (true, false) => ok("", "running as root: every check is complete"),
        (true, true) => note(
            "",
            "as root of a user namespace: files, programs and containers of users outside of it are not checked",
        ),
        (false, _) => note(
            "",
            "without root, containers of other users, placements and unreadable files are not checked",
        ),
    }]
}
