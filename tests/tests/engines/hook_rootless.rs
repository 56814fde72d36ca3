//! The modes of the hook in a rootless podman: Debian 13's, in user namespaces, where files of root appear to belong
//! to nobody.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    debian_release::DebianRelease,
    podman::{Podman, PodmanKind, VARIANTS, Variant},
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

const FIRST: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
const GPU: &str = "GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4";

/// Runs the probe in a container that requests a slice in a mode. Returns the result, and the log of the hook.
fn probe(mode: &str, variant: Variant, slice: &str) -> (Run, String) {
    let podman = Podman::of(PodmanKind { release: DebianRelease::Trixie, rootless: true }, variant);
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    host.configure_hook(&format!("runtimes = [{:?}]", podman.runtime()));
    let generated = host.generate(&[]);
    generated.assert_code(0);
    let flag = match mode {
        "runtime" => format!("--runtime {}", host.runtime().display()),
        mode => format!("--hooks-dir {}", host.hooks_dir(mode).display()),
    };
    // The user can read root's files, and the hook can write to its log.
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap()
    };
    open(host.out().parent().unwrap(), 0o755);
    fs::write(host.log(), "").unwrap();
    open(&host.log(), 0o666);
    let script = format!(
        "rm -r {}/nvidia*
        $MIG_CDI nodes $FLAGS >/dev/null
        $PODMAN {flag} run --rm --cap-add MKNOD --annotation mig-cdi/devices={slice} --rootfs $ROOTFS probe 508:30 508:39",
        host.path("/dev").display()
    );
    let run = podman.script(&host, &script);
    (run, host.read_log())
}

#[test]
fn a_rootless_container_gets_the_requested_slice() {
    let expected = format!(
        "node /dev/nvidia-caps/nvidia-cap30 444 508:30 ENXIO
node /dev/nvidia-caps/nvidia-cap31 444 508:31 ENXIO
node /dev/nvidia-uvm 666 511:0 ENXIO
node /dev/nvidia-uvm-tools 666 511:1 ENXIO
node /dev/nvidia0 666 195:0 ENXIO
node /dev/nvidiactl 666 195:255 ENXIO
env CUDA_VISIBLE_DEVICES={FIRST}
env MIG_CDI_DEVICE_0_3_0={FIRST},2g.20gb,{GPU}
env NVIDIA_VISIBLE_DEVICES=void
made 508:30 FAILED
made 508:39 FAILED
"
    );
    for mode in ["precreate", "runtime"] {
        for variant in VARIANTS {
            let (run, log) = probe(mode, variant, "0:2g.20gb:0");
            assert_eq!(run.code, 0, "{mode} {variant:?}: {}{log}", run.stderr);
            similar_asserts::assert_eq!(run.stdout, expected, "{mode} {variant:?}");
            assert!(log.contains("gets 0:2g.20gb:0: 6 device nodes, 0 files"), "{log}");
            let (run, log) = probe(mode, variant, "0:2g.20gb:6");
            assert!(run.code != 0 && run.stdout.is_empty(), "{mode} {variant:?}: {}", run.stdout);
            assert!(log.contains("has no such device"), "{mode} {variant:?}: {log}");
        }
    }
}

/// A node that is made in a user namespace could not be opened.
#[test]
fn create_runtime_refuses_a_rootless_container() {
    for variant in VARIANTS {
        let (run, log) = probe("create-runtime", variant, "0:2g.20gb:0");
        assert!(run.code != 0 && run.stdout.is_empty(), "{variant:?}: {}", run.stdout);
        assert!(log.contains("is refused: make node "), "{variant:?}: {log}");
        assert!(log.contains("operation not permitted"), "{variant:?}: {log}");
    }
}
