//! The settings of the services. systemd's own checks of them, and their sandbox, are tests of the host.

use mig_cdi_tests::{
    run,
    units::{KUBELET, REFRESH, RESTORE, UNITS, WATCH, unit, words},
};
use std::process::Command;

/// All services have the same sandbox.
#[test]
fn the_services_share_one_sandbox() {
    let sandbox = |name| {
        let unit = unit(name);
        let begin = unit.find("# The settings below are the same").expect("its first line");
        let lines = unit[begin..].lines().take_while(|line| !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let [watch, refresh, restore] = UNITS.map(sandbox);
    assert_eq!(watch, sandbox(KUBELET));
    assert!(watch.len() > 20);
    assert_eq!(watch, refresh);
    assert_eq!(watch, restore);
    // Each of these settings would deny what the program needs: docs/watch.md.
    for key in ["PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock", "ProcSubset"] {
        assert!(!watch.iter().any(|line| line.starts_with(key)), "{key}");
    }
}

/// The service for Kubernetes has the sandbox of the watch, and in addition the sockets for the kubelet and what reads device rules.
#[test]
fn the_kubernetes_service_differs_only_where_needed() {
    let (watch, kubelet) = (unit(WATCH), unit(KUBELET));
    let device_plugins = "/var/lib/kubelet/device-plugins";
    assert_eq!(words(&kubelet, "ReadWritePaths"), [&format!("-{device_plugins}"), "-/run/cdi"]);
    assert_eq!(words(&kubelet, "RestrictAddressFamilies"), ["AF_UNIX"]);
    assert_eq!(words(&kubelet, "SystemCallFilter"), ["bpf", "@system-service"]);
    let capabilities = [&["CAP_NET_ADMIN"], &*words(&watch, "CapabilityBoundingSet")].concat();
    assert_eq!(words(&kubelet, "CapabilityBoundingSet"), capabilities);
    assert!(words(&kubelet, "ExecStartPre").ends_with(&["-p", "-m", "750", device_plugins]));
    // Only one of them may run.
    assert_eq!(words(&kubelet, "Conflicts"), [WATCH]);
    for key in
        ["Type", "ExecReload", "WatchdogSec", "TimeoutStartSec", "KillMode", "RuntimeDirectory"]
    {
        assert_eq!(words(&kubelet, key), words(&watch, key), "{key}");
    }
    for before in words(&kubelet, "Before") {
        assert!(words(&watch, "Before").contains(&before), "{before}");
    }
    // The directory in the unit is the default of the program.
    let help = run(Command::new(mig_cdi_tests::program("mig-cdi-kubelet")).arg("--help"));
    assert!(help.stdout.contains(&format!("[default: {device_plugins}]")), "{}", help.stdout);
}

/// GPUs are partitioned before any program can open one, and before a spec is written.
#[test]
fn the_restore_runs_before_users_of_gpus() {
    let restore = unit(RESTORE);
    let before = words(&restore, "Before");
    let engines = unit(WATCH);
    for unit in words(&engines, "Before").into_iter().chain([WATCH, REFRESH]) {
        assert!(before.contains(&unit), "{unit}");
    }
    for driver in words(&engines, "After") {
        assert!(words(&restore, "After").contains(&driver), "{driver}");
    }
    assert_eq!(
        words(&restore, "ExecStart"),
        ["-/usr/bin/mig-cdi", "nodes", "/usr/bin/mig-cdi", "restore"]
    );
    // This file is the default of the checkpoint, and the sandbox lets it be written.
    let conditions = words(&restore, "ConditionPathExists");
    assert_eq!(conditions, ["/var/lib/mig-cdi/layout.yaml", "/proc/driver/nvidia/version"]);
    assert_eq!(words(&restore, "StateDirectory"), ["mig-cdi"]);
    let module = words(&unit(REFRESH), "WantedBy")[0].to_owned();
    assert_eq!(words(&restore, "WantedBy"), ["multi-user.target", module.as_str()]);
}

/// The watchdog does not kill watch while a refresh hangs.
#[test]
fn the_watchdog_outlasts_a_refresh() {
    let unit = unit("mig-cdi.service");
    let minutes = |key| match words(&unit, key)[..] {
        [value] => value.strip_suffix("min").unwrap().parse::<u64>().unwrap() * 60,
        _ => panic!("{key} of one word"),
    };
    let refresh = 60;
    let watchdog = minutes("WatchdogSec");
    assert!(watchdog > watchdog / 2 + refresh + 10);
    assert!(minutes("TimeoutStartSec") > refresh + 10);
}
