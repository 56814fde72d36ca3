//! The doors of the hook in a real podman, with runc and crun on cgroup v1 and v2. A device node with a
//! major that no driver has opens with ENXIO when the device cgroup allows it, with EPERM when not.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    podman::{Podman, VARIANTS, Variant},
};

const SHARED: &str = "\
node /dev/nvidia-uvm 666 511:0 ENXIO
node /dev/nvidia-uvm-tools 666 511:1 ENXIO
node /dev/nvidia0 666 195:0 ENXIO
node /dev/nvidiactl 666 195:255 ENXIO
";
const FIRST: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
const GPU: &str = "GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4";

/// How each door is put into podman's command line.
const DOORS: [&str; 3] = ["precreate", "create-runtime", "runtime"];

fn host(podman: &Podman) -> FakeHost {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    host.configure_hook(&format!("runtimes = [{:?}]", podman.runtime()));
    let run = host.generate(&[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    host
}

fn script(door: &str, variant: Variant, script: &str) -> (Run, String) {
    let podman = Podman::new(variant);
    let host = host(&podman);
    let flag = match door {
        "runtime" => format!("--runtime {}", host.runtime().display()),
        door => format!("--hooks-dir {}", host.hooks_dir(door).display()),
    };
    let run = podman.script(&host, &script.replace("$PODMAN", &format!("$PODMAN {flag}")));
    (run, host.read_log())
}

fn passed(run: &Run, log: &str, what: &str) -> String {
    assert_eq!(run.code, 0, "{what}: {}{}{log}", run.stdout, run.stderr);
    run.stdout.clone()
}

/// The variables, as a door gives them: to the process, or in a file.
fn variables(door: &str) -> String {
    let variables = format!(
        "env CUDA_VISIBLE_DEVICES={FIRST}\nenv MIG_CDI_DEVICE_0_3_0={FIRST},2g.20gb,{GPU}\nenv NVIDIA_VISIBLE_DEVICES=void\n"
    );
    if door == "create-runtime" { String::new() } else { variables }
}

/// And a process that is started in it later sees the same. Rules of the container's own hold.
#[test]
fn a_container_gets_the_slice_that_it_asked_for_and_no_other() {
    for door in DOORS {
        for variant in VARIANTS {
            let run = "
                $PODMAN run -d --name c --cap-add MKNOD --device-cgroup-rule 'c 42:* rwm' \
                    --annotation mig-cdi/devices=0:2g.20gb:0 --rootfs $ROOTFS \
                    sh -c 'probe 508:30 508:39 508:40 508:1 195:1 42:7 > /tmp/said; mv /tmp/said /tmp/done; sleep 100' >/dev/null
                $PODMAN exec c sh -c 'while [ ! -e /tmp/done ]; do sleep 0.1; done; sed -n p /tmp/done'
                echo ---
                $PODMAN exec c sh -c '[ ! -e /run/mig-cdi ] || . /run/mig-cdi/environment; probe 508:31 508:39'
                $PODMAN exec c sh -c 'if [ -e /run/mig-cdi ]; then ! echo x > /run/mig-cdi/environment; fi' 2>&1
                $PODMAN rm -f -t 0 c >/dev/null";
            let (run, log) = script(door, variant, run);
            let what = format!("{door} {variant:?}");
            let nodes = format!(
                "node /dev/nvidia-caps/nvidia-cap30 444 508:30 ENXIO
node /dev/nvidia-caps/nvidia-cap31 444 508:31 ENXIO
{SHARED}"
            );
            let first = variables(door);
            // podman gives a later process what the container was created with, and no more.
            let sourced =
                if door == "create-runtime" { variables("precreate") } else { String::new() };
            let mut expected = format!(
                "{nodes}{first}made 508:30 ENXIO
made 508:39 EPERM
made 508:40 EPERM
made 508:1 EPERM
made 195:1 EPERM
made 42:7 ENXIO
---
{nodes}{sourced}made 508:31 ENXIO
made 508:39 EPERM
"
            );
            if door == "create-runtime" {
                expected += "sh: can't create /run/mig-cdi/environment: Read-only file system\n";
            }
            similar_asserts::assert_eq!(passed(&run, &log, &what), expected, "{what}");
            assert!(log.contains(&format!("{door}: container ")), "{log}");
            assert!(log.contains("is given 0:2g.20gb:0: 6 device nodes, 0 files"), "{log}");
        }
    }
}

#[test]
fn a_container_that_asks_for_nothing_sees_nothing() {
    for door in DOORS {
        for variant in VARIANTS {
            let run = "$PODMAN run --rm --cap-add MKNOD -e NVIDIA_VISIBLE_DEVICES=void --rootfs $ROOTFS \
                probe 508:30 195:0 195:255 511:0";
            let (run, log) = script(door, variant, run);
            let expected = "env NVIDIA_VISIBLE_DEVICES=void\nmade 508:30 EPERM\nmade 195:0 EPERM\nmade 195:255 EPERM\nmade 511:0 EPERM\n";
            similar_asserts::assert_eq!(passed(&run, &log, door), expected, "{door} {variant:?}");
            assert_eq!(log, "");
        }
    }
}

/// No slice, no container: the message is in the log, whatever the engine shows of it.
#[test]
fn a_container_that_asks_for_what_is_not_there_does_not_start() {
    for door in DOORS {
        for variant in VARIANTS {
            let run =
                "$PODMAN run --rm --annotation mig-cdi/devices=0:2g.20gb:6 --rootfs $ROOTFS probe";
            let (run, log) = script(door, variant, run);
            assert_ne!(run.code, 0, "{door} {variant:?}");
            assert_eq!(run.stdout, "", "no container ran");
            assert!(log.contains("has no such device"), "{door} {variant:?}: {log}");
            // crun and podman's filter show nothing of what a hook says.
            let shown = door == "runtime" || (door == "create-runtime" && variant.0 == "runc");
            assert!(!shown || run.stderr.contains("has no such device"), "{door}: {}", run.stderr);
        }
    }
}
