//! The spec of a fake host in the machine's podman, with runc and crun, on cgroup v1 and v2. The view of a container
//! is asserted from inside it.
//!
//! No driver has these majors: opening a node that the device cgroup allows gives ENXIO, one that it denies EPERM.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    driver::DistributionLayout,
    podman::{Podman, VARIANTS},
};
use std::fs;

const SHARED: &str = "\
node /dev/nvidia-uvm 666 511:0 ENXIO
node /dev/nvidia-uvm-tools 666 511:1 ENXIO
node /dev/nvidia0 666 195:0 ENXIO
node /dev/nvidiactl 666 195:255 ENXIO
";
/// `0:2g.20gb:0` and `0:2g.20gb:2` of the preset a100-80gb: GPU instances 3 and 4.
const FIRST: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
const SECOND: &str = "MIG-7e3b1aad-b6b6-508b-bb58-981e2752708b";
const GPU: &str = "GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4";

/// Runs a script on a fake a100-80gb in every variant.
fn everywhere(script: &str, check: impl Fn(Run)) {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    for variant in VARIANTS {
        println!("{variant:?}");
        check(Podman::new(variant).script(&host, script));
    }
}

fn passed(run: &Run) -> &str {
    run.assert_code(0);
    &run.stdout
}

#[test]
fn a_container_gets_its_slice_and_no_other() {
    let script = "
        $MIG_CDI generate $FLAGS
        $PODMAN $RUN --cap-add MKNOD --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS \
            probe 508:30 508:39 508:40 508:1 195:1";
    let expected = format!(
        "node /dev/nvidia-caps/nvidia-cap30 444 508:30 ENXIO
node /dev/nvidia-caps/nvidia-cap31 444 508:31 ENXIO
{SHARED}env MIG_CDI_DEVICE_0_3_0={FIRST},2g.20gb,{GPU}
env NVIDIA_VISIBLE_DEVICES=void
made 508:30 ENXIO
made 508:39 EPERM
made 508:40 EPERM
made 508:1 EPERM
made 195:1 EPERM
"
    );
    everywhere(script, |run| similar_asserts::assert_eq!(passed(&run), expected));
}

/// A slice that renders has the DRI nodes of its GPU, also where udev has links to them; another slice has none.
#[test]
fn a_container_gets_dri_nodes_by_both_paths() {
    let host = FakeHost::with_driver(preset("rtx-pro-6000").unwrap(), DistributionLayout::Fedora);
    let script = "
        $MIG_CDI generate $FLAGS --capabilities=all
        for slice in 0:1g.24gb.gfx:2 0:1g.24gb-me:3; do
            $PODMAN $RUN --device nvidia.com/mig=$slice --rootfs $ROOTFS probe | grep -e dri -e nvidiactl
        done";
    let expected = "\
node /dev/dri/by-path/pci-0000:c1:00.0-card 660 509:1 ENXIO
node /dev/dri/by-path/pci-0000:c1:00.0-render 660 509:128 ENXIO
node /dev/dri/card1 660 509:1 ENXIO
node /dev/dri/renderD128 660 509:128 ENXIO
node /dev/nvidiactl 666 195:255 ENXIO
node /dev/nvidiactl 666 195:255 ENXIO
";
    for variant in VARIANTS {
        let run = Podman::new(variant).script(&host, script);
        similar_asserts::assert_eq!(passed(&run), expected, "{variant:?}");
    }
    // Where udev makes no links, the nodes of the slice are those that the kernel's sysfs names.
    fs::remove_dir_all(host.path("/dev/dri/by-path")).unwrap();
    let expected: String = expected
        .lines()
        .filter(|line| !line.contains("by-path"))
        .flat_map(|line| [line, "\n"])
        .collect();
    for variant in VARIANTS {
        let run = Podman::new(variant).script(&host, script);
        similar_asserts::assert_eq!(passed(&run), expected, "{variant:?}");
    }
}

/// A mode of 0 is a mode, and none is 0666.
#[test]
fn a_node_has_the_mode_that_a_spec_states() {
    let script = r#"
        $MIG_CDI generate $FLAGS
        sed -i -e 's|\(nvidia-cap30",[^}]*"fileMode":\)292|\10|g' -e 's|\(nvidia-cap31",[^}]*\)"fileMode":292,|\1|g' \
            /var/run/cdi/nvidia.com-mig.json
        $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS \
            stat -c '%n %a' /dev/nvidia-caps/nvidia-cap30 /dev/nvidia-caps/nvidia-cap31"#;
    let expected = "/dev/nvidia-caps/nvidia-cap30 0\n/dev/nvidia-caps/nvidia-cap31 666\n";
    everywhere(script, |run| assert_eq!(passed(&run), expected, "{}", run.stderr));
}

#[test]
fn two_devices_in_one_container_keep_their_nodes_and_variables() {
    let script = format!(
        "$MIG_CDI generate $FLAGS
        $PODMAN $RUN --cap-add MKNOD --device nvidia.com/mig={SECOND} --device nvidia.com/mig=0:2g.20gb:0 \
            --rootfs $ROOTFS probe 508:39 508:48"
    );
    let expected = format!(
        "node /dev/nvidia-caps/nvidia-cap30 444 508:30 ENXIO
node /dev/nvidia-caps/nvidia-cap31 444 508:31 ENXIO
node /dev/nvidia-caps/nvidia-cap39 444 508:39 ENXIO
node /dev/nvidia-caps/nvidia-cap40 444 508:40 ENXIO
{SHARED}env MIG_CDI_DEVICE_0_3_0={FIRST},2g.20gb,{GPU}
env MIG_CDI_DEVICE_0_4_0={SECOND},2g.20gb,{GPU}
env NVIDIA_VISIBLE_DEVICES=void
made 508:39 ENXIO
made 508:48 EPERM
"
    );
    everywhere(&script, |run| similar_asserts::assert_eq!(passed(&run), expected));
}

#[test]
fn all_is_every_slice_and_the_environment_of_the_spec_wins() {
    let script = "
        $MIG_CDI generate --cuda-env $FLAGS
        $PODMAN $RUN -e NVIDIA_VISIBLE_DEVICES=all --device nvidia.com/mig=all --rootfs $ROOTFS probe";
    everywhere(script, |run| {
        let out = passed(&run);
        let caps = out
            .lines()
            .filter(|l| l.starts_with("node /dev/nvidia-caps/") && l.ends_with(" ENXIO"));
        assert_eq!(caps.count(), 8, "{out}");
        assert!(out.contains("env NVIDIA_VISIBLE_DEVICES=void\n"), "{out}");
        assert!(out.contains(&format!("env CUDA_VISIBLE_DEVICES={FIRST},{SECOND},MIG-")), "{out}");
    });
}

#[test]
fn unknown_names_are_refused() {
    for name in ["0:2g.20gb:6", "0:0", "MIG-00000000-0000-0000-0000-000000000000"] {
        let script = format!(
            "$MIG_CDI generate $FLAGS
            $PODMAN $RUN --device nvidia.com/mig={name} --rootfs $ROOTFS probe"
        );
        everywhere(&script, |run| {
            assert_ne!(run.code, 0, "{}", run.stdout);
            assert_eq!(run.stdout, "", "no container ran");
            assert!(run.stderr.contains("unresolvable CDI devices"), "{}", run.stderr);
        });
    }
}

/// A slice that is gone cannot be requested any more, without restarting anything.
#[test]
fn a_new_spec_takes_effect_at_the_next_start() {
    let script = "
        $MIG_CDI generate $FLAGS
        $PODMAN $RUN --device nvidia.com/mig=0:1g.10gb:6 --rootfs $ROOTFS ls /dev/nvidia-caps
        for file in $GONE; do rm -r $file; done
        $MIG_CDI generate $FLAGS || [ $? = 3 ]
        ! $PODMAN $RUN --device nvidia.com/mig=0:1g.10gb:6 --rootfs $ROOTFS ls /dev/nvidia-caps 2>/dev/null
        $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:4 --rootfs $ROOTFS ls /dev/nvidia-caps";
    for variant in VARIANTS {
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        let gone = host.path("/proc/driver/nvidia/capabilities/gpu0/mig/gi7");
        let script = script.replace("$GONE", &gone.display().to_string());
        let run = Podman::new(variant).script(&host, &script);
        let expected = "nvidia-cap66\nnvidia-cap67\nnvidia-cap48\nnvidia-cap49\n";
        assert_eq!(passed(&run), expected, "{variant:?}");
    }
}

/// What `doctor` says of a file is what podman makes of it.
#[test]
fn a_file_is_read_as_podman_reads_it() {
    let node = |number: &str| {
        format!(
            "cdiVersion: 0.5.0\nkind: x.com/xx\ndevices:\n- name: a\n  containerEdits:\n    deviceNodes:\n    - {{path: /dev/x, \
             type: c, major: 1, minor: 3, fileMode: {number}}}\n"
        )
    };
    let json = r#"{"cdiVersion":"0.5.0","kind":"x.com/xx","devices":[{"name":"a","containerEdits":{"env":["A=b"]}}]}"#;
    for (text, is_read) in [
        (format!("---\n{}---\ncdiVersion: 0.5.0\n", node("292")), true),
        (node("0444"), true),
        (node("0o444"), true),
        (node("0x124"), true),
        (format!("{json} more"), true),
        (node("\"292\""), false),
        (node("-1"), false),
        (json.replace("A=b", r"A=\/"), false),
        (format!("%YAML 1.2\n---\n{}", node("292")), false),
    ] {
        let script = format!(
            "mkdir -p /var/run/cdi; printf '%s' '{text}' >/var/run/cdi/x.yaml; mkdir /var/run/cdi/dir.json
            $MIG_CDI doctor x.com/xx=a $FLAGS | grep -o 'podman [0-9.]* sees it' || :
            $PODMAN $RUN --device x.com/xx=a --rootfs $ROOTFS ls -d /dev || :"
        );
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        let run = Podman::new(VARIANTS[0]).script(&host, &script);
        let expected = if is_read { "podman 4.3.1 sees it\n/dev\n" } else { "" };
        assert_eq!(run.stdout, expected, "{text}: {}", run.stderr);
    }
}

/// The same on a simulated node, without a driver, as the README shows it.
#[test]
fn the_spec_of_a_simulated_node_is_accepted() {
    let script = "
        $MIG_CDI generate --node a100-80gb
        $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS ls /dev/nvidia-caps";
    everywhere(script, |run| assert_eq!(passed(&run), "nvidia-cap30\nnvidia-cap31\n"));
}
