//! The driver: is it there, is it of one piece, what does it say, and has the host its nodes?

use super::{Facts, Verdict, error, note, ok, some, warning, with_cure};
use mig_cdi_model::DeviceNode;
use mig_cdi_sys::text::numbered;

const CAPABILITIES: &str = "/proc/driver/nvidia/capabilities";
/// It makes nodes and links, with numbers, mode and owner.
const NODES: &str = "run mig-cdi nodes as root";
/// Far above any of these files.
const LIMIT: usize = 1 << 20;

/// Loaded, and module and libraries of one version.
pub(super) fn driver(facts: &Facts<'_>) -> Vec<Verdict> {
    let version = match &facts.tree {
        Ok(found) => &found.topology.driver_version,
        Err(failure) => return vec![with_cure("", &failure.message)],
    };
    match &facts.libraries {
        None => vec![note("", format!("{version}; a simulated node has no libraries"))],
        Some(Err(failure)) => vec![with_cure("", &failure.message)],
        Some(Ok(_)) if facts.settings.capabilities.is_none() => {
            vec![ok("", format!("{version}; containers get no libraries: capabilities is none"))]
        }
        Some(Ok(found)) => {
            let cure = "install the driver's files anew";
            let warnings = found.warnings.iter().map(|line| warning("", line, cure));
            let agree = ok("", format!("{version}, module and libraries agree"));
            std::iter::once(agree).chain(warnings).collect()
        }
    }
}

/// The mode of capabilities: device nodes, or the files of R450's first releases, which no engine can
/// give. nv-caps.c has the first alone since `nv_cap_enable_devfs` went.
pub(super) fn capabilities(facts: &Facts<'_>) -> Vec<Verdict> {
    const CURE: &str = "load nvidia with nv_cap_enable_devfs=1, or update the driver";
    const MINORS: &str = "/proc/driver/nvidia-caps/mig-minors";
    let list = |path: &str| facts.machine.list(path).ok().flatten().unwrap_or_default();
    let gpus = list(CAPABILITIES);
    if gpus.is_empty() {
        return vec![note("", format!("{CAPABILITIES} is not there, or empty: no gpu is awake"))];
    }
    let old =
        |what: &str| vec![error("", format!("the driver is in the old proc mode: {what}"), CURE)];
    if let Ok(None) = facts.machine.read(MINORS, LIMIT) {
        return old(&format!("{MINORS} is not there"));
    }
    for gpu in gpus.iter().filter(|name| numbered(name, "gpu").is_some()) {
        for gi in list(&format!("{CAPABILITIES}/{gpu}/mig")) {
            let path = format!("{CAPABILITIES}/{gpu}/mig/{gi}/access");
            if facts
                .machine
                .read(&path, LIMIT)
                .is_ok_and(|bytes| bytes.is_some_and(|b| b.is_empty()))
            {
                return old(&format!("{path} is empty"));
            }
        }
    }
    match facts.caps_major() {
        Some(major) => vec![ok("", format!("device nodes, major {major}"))],
        None => {
            let evidence = "/proc/devices has no character device nvidia-caps";
            vec![error("", evidence, "reload the nvidia module")]
        }
    }
}

/// Can it be asked?
pub(super) fn nvml(facts: &Facts<'_>) -> Vec<Verdict> {
    vec![match (&facts.nvml, &facts.tree) {
        (Ok(report), _) => ok("", format!("{}, {} gpus", report.library, report.gpus.len())),
        (_, Err(_)) => note("", "not asked: there is no driver to ask, or not all of it"),
        (Err(failure), _) if failure.message.starts_with("not asked") => {
            note("", "not asked, by --source: neither mig mode, profiles nor uuids are known")
        }
        (Err(failure), _) => with_cure("", &failure.message),
    }]
}

/// The mode of each GPU, and the one that waits for a reset.
pub(super) fn mig(facts: &Facts<'_>) -> Vec<Verdict> {
    let Ok(report) = &facts.nvml else {
        return vec![note("", "the mig mode is not known without nvml")];
    };
    let mode = |on: bool| if on { "on" } else { "off" };
    let verdict = |(index, gpu): (usize, &_)| {
        let label = format!("gpu {index}");
        let gpu: &mig_cdi_sys::nvml::Gpu = match gpu {
            Ok(gpu) => gpu,
            Err(failed) => return with_cure(&label, &format!("nvml {failed}")),
        };
        match (gpu.mig, gpu.mig_pending, gpu.devices.len()) {
            (None, ..) => note(label, format!("{} cannot be divided", gpu.model)),
            (Some(now), Some(then), _) if now != then => {
                let evidence =
                    format!("mig mode is {}, and {} after a reset", mode(now), mode(then));
                let cure = format!(
                    "stop what uses the gpu and run nvidia-smi --gpu-reset -i {index}, or reboot"
                );
                warning(label, evidence, cure)
            }
            (Some(false), ..) => {
                note(label, format!("mig mode is off; nvidia-smi -i {index} -mig 1 switches it on"))
            }
            (Some(true), _, 0) => {
                let how = format!("nvidia-smi mig -i {index} -cgi PROFILE -C makes one");
                note(label, format!("mig mode is on, without a mig device; {how}"))
            }
            (Some(true), _, devices) => ok(label, format!("mig mode is on, {devices} mig devices")),
        }
    };
    let verdicts: Vec<_> = report.gpus.iter().enumerate().map(verdict).collect();
    if verdicts.is_empty() {
        vec![warning("", "nvml lists no gpu", "see dmesg and lspci")]
    } else {
        verdicts
    }
}

/// What was left out since the views differ.
pub(super) fn devices(facts: &Facts<'_>) -> Vec<Verdict> {
    match &facts.found {
        Err(_) if facts.tree.is_err() => vec![note("", "cannot be told without a driver")],
        Err(failure) => vec![with_cure("", &failure.message)],
        Ok(found) if found.problems.is_empty() => {
            vec![ok(
                "",
                format!("{} mig devices, all certain", found.topology.mig_devices().count()),
            )]
        }
        Ok(found) => {
            let problems = found.problems.iter();
            problems
                .map(|problem| with_cure(&problem.subject, &problem.reason.to_string()))
                .collect()
        }
    }
}

/// The host's nodes, which rootless engines bind: there, with these numbers and modes.
pub(super) fn nodes(facts: &Facts<'_>) -> Vec<Verdict> {
    let nodes = facts.nodes();
    let (mut missing, mut wrong, mut closed, mut unknown) = (vec![], vec![], vec![], vec![]);
    for (path, node) in &nodes {
        let DeviceNode { major, minor, mode, uid, gid, .. } = node;
        match facts.machine.node(path) {
            Ok(None) => missing.push((*path).to_owned()),
            Err(e) => unknown.push(e.to_string()),
            Ok(Some(stat)) if !stat.is_char => wrong.push(format!("{path} is no character device")),
            Ok(Some(stat)) if (stat.major, stat.minor) != (*major, *minor) => {
                let (is, at) = (stat.major, stat.minor);
                wrong.push(format!("{path} is {is}:{at}, should be {major}:{minor}"));
            }
            Ok(Some(stat)) if (stat.mode, stat.uid, stat.gid) != (*mode, *uid, *gid) => {
                let is = format!("{:04o} of {}:{}", stat.mode, stat.uid, stat.gid);
                closed.push(format!("{path} is {is}, the driver says {mode:04o} of {uid}:{gid}"));
            }
            Ok(Some(_)) => {}
        }
    }
    let mut verdicts = Vec::new();
    if !missing.is_empty() {
        let evidence = format!("not there: {}; rootless engines bind the host's", some(&missing));
        verdicts.push(warning("", evidence, NODES));
    }
    if !wrong.is_empty() {
        verdicts.push(error("", some(&wrong), NODES));
    }
    if !closed.is_empty() {
        verdicts.push(warning("", some(&closed), NODES));
    }
    if !unknown.is_empty() {
        verdicts.push(warning("", some(&unknown), "run it as root"));
    }
    if facts.topology().is_some_and(|topology| topology.common.len() < 3) {
        let evidence = "nvidia-uvm is not loaded: no cuda program starts";
        verdicts.push(warning("", evidence, "run modprobe nvidia-uvm"));
    }
    match (verdicts.is_empty(), nodes.is_empty()) {
        (true, true) => vec![note("", "cannot be told without a driver")],
        (true, false) => {
            vec![ok("", format!("{} nodes, with the driver's numbers and modes", nodes.len()))]
        }
        (false, _) => verdicts,
    }
}

/// systemd translates a device rule by `/dev/char/MAJOR:MINOR` (runc issues 3708, 4568): without the
/// link a container loses its device at the next `daemon-reload`.
pub(super) fn links(facts: &Facts<'_>) -> Vec<Verdict> {
    if facts.machine.driver().is_none() {
        return vec![note("", "a simulated node has none")];
    }
    let nodes = facts.nodes();
    if nodes.is_empty() {
        return vec![note("", "cannot be told without a driver")];
    }
    let lacks = |node: &&&DeviceNode| {
        let link = format!("/dev/char/{}:{}", node.major, node.minor);
        let leads = |stat: mig_cdi_sys::NodeStat| {
            stat.is_char && (stat.major, stat.minor) == (node.major, node.minor)
        };
        !facts.machine.node(&link).is_ok_and(|stat| stat.is_some_and(leads))
    };
    let lacking: Vec<_> = nodes.values().filter(lacks).collect();
    let link = |node: &DeviceNode| format!("/dev/char/{}:{}", node.major, node.minor);
    vec![match lacking.first() {
        None => ok("", format!("/dev/char leads to {} nodes", nodes.len())),
        Some(_) if !super::host::systemd(facts) => {
            ok("", "systemd does not run: nothing needs /dev/char")
        }
        Some(_) => {
            let links: Vec<_> = lacking.iter().map(|node| link(node)).collect();
            warning("", format!("missing or wrong: {}; systemd needs them", some(&links)), NODES)
        }
    }]
}
