//! Device rules for the cgroup of a running container, with runc and crun, on cgroup v1 and v2. The effect is
//! asserted from inside the container.
//!
//! No driver has these majors: opening a node that the device cgroup allows gives ENXIO, one that it denies EPERM.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, build_dir,
    podman::{Podman, VARIANTS},
    project,
};
use std::{path::PathBuf, process::Command};

/// Builds `sys/examples/device_cgroup.rs` and returns its path.
fn example() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--workspace", "--example", "device_cgroup"]);
    if build_dir().ends_with("release") {
        build.arg("--release");
    }
    assert!(build.current_dir(project()).status().expect("cargo runs").success());
    build_dir().join("examples/device_cgroup")
}

/// Runs a script with every OCI runtime and cgroup version, and compares its output.
fn everywhere(script: &str, expected: &str) {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    let script = script.replace("$EXAMPLE", &example().display().to_string());
    for variant in VARIANTS {
        println!("{variant:?}");
        let run = Podman::new(variant).script(&host, &script);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        similar_asserts::assert_eq!(run.stdout, expected, "{}", run.stderr);
    }
}

/// Script that opens, inside the container, two devices, their neighbours in each number, and the block device.
const PROBE: &str = "
cat >$HOME/probe <<'END'
$PODMAN exec $id probe 511:22 195:7 511:21 511:23 510:22 195:22 511:7
$PODMAN exec $id sh -c 'mknod /tmp/block b 511 22; head -c 1 /tmp/block; rm /tmp/block' 2>&1
cat /sys/fs/cgroup/devices/*/$id/devices.list >$HOME/$1 2>/dev/null || true
END
";
const DENIED: &str = "\
made 511:22 EPERM
made 195:7 EPERM
made 511:21 EPERM
made 511:23 EPERM
made 510:22 EPERM
made 195:22 EPERM
made 511:7 EPERM
head: /tmp/block: Operation not permitted
";

#[test]
fn a_running_container_can_use_allowed_devices_and_no_others() {
    let script = format!(
        "{PROBE}
        export id=$($PODMAN run -d --cap-add MKNOD --rootfs $ROOTFS sleep 1000)
        trap '$PODMAN rm -f -t 0 $id >/dev/null' EXIT
        cd $HOME
        sh probe before
        $EXAMPLE $($PODMAN inspect -f '{{{{.State.Pid}}}}' $id) 511:22 195:7 -- sh probe between
        sh probe after
        cmp before after
        ! [ -s before ] || [ \"$(grep -vxFf before between | tr '\\n' ,)\" = 'c 511:22 rw,c 195:7 rw,' ]"
    );
    let allowed =
        DENIED.replace("511:22 EPERM", "511:22 ENXIO").replace("195:7 EPERM", "195:7 ENXIO");
    let expected = format!(
        "{DENIED}unit none
before Some(0)
changed true None
{allowed}done Some(0)
after Some(0)
{DENIED}"
    );
    everywhere(&script, &expected);
}
