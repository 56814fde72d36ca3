//! The command line for users other than root.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, copy_program, program, run};
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::Command,
};

/// Returns the device names of a spec.
fn names(spec: &str) -> Vec<String> {
    let spec: Value = serde_json::from_str(spec).unwrap_or_else(|e| panic!("{e}: {spec}"));
    let devices = spec["devices"].as_array().unwrap();
    devices.iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

/// A user without privileges gets everything that needs none.
#[test]
fn without_root_uuids_are_written_and_missing_slots_are_reported() {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    for dir in host.root().ancestors().take(2) {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    // Test machines may keep their builds where other users cannot read.
    let copy = host.root().join("mig-cdi");
    copy_program(&program("mig-cdi"), &copy);
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).args(args);
        run(command.args(host.flags()).env(host.env().0, host.env().1))
    };
    let listed = as_nobody(&["list"]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    assert!(
        listed.stdout.contains("2g.20gb") && listed.stdout.contains("19.5 GiB"),
        "{}",
        listed.stdout
    );
    let spec = as_nobody(&["generate", "--output=-"]);
    assert_eq!(spec.code, 0, "{}", spec.stderr);
    assert_eq!(names(&spec.stdout).len(), 5, "four uuids and all");
    assert!(
        spec.stderr.contains("4 devices have no slot name: nvml reports placements to root only"),
        "{}",
        spec.stderr
    );
    let slots = as_nobody(&["generate", "--output=-", "--names=slot"]);
    assert_eq!((slots.code, slots.stdout.as_str()), (3, ""), "{}", slots.stderr);
    assert_eq!(as_nobody(&["generate", "--output=-", "--strict"]).code, 3);
    let denied = as_nobody(&["generate", "-o", host.out().join("spec.json").to_str().unwrap()]);
    assert_eq!(denied.code, 1);
    assert!(denied.stderr.contains("permission denied; run it as root"), "{}", denied.stderr);
}
