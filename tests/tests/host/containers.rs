//! Programs in containers load the driver's libraries without a hook and without a cache of the loader: in a
//! container like Debian's and in one like those of RPM distributions.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    driver::{DistributionLayout, library_dir},
    podman::{Podman, VARIANTS, compile},
};

/// Root file systems, and the directory in which their loader finds libraries.
const ROOTS: [(&str, &str); 2] =
    [("debian-root", "/usr/lib/x86_64-linux-gnu"), ("lib64-root", "/usr/lib64")];

const VERSION: &str = "580.105.08";

fn passed(run: &Run) -> &str {
    run.assert_code(0);
    &run.stdout
}

/// Makes a host with a libcuda that can be loaded and an nvidia-smi that runs.
fn host(layout: DistributionLayout) -> FakeHost {
    let host = FakeHost::with_driver(preset("a100-80gb").unwrap(), layout);
    let cuda = host.path(&format!("{}/libcuda.so.{VERSION}", library_dir(layout)));
    compile("fake-libcuda.c", &cuda, &["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]);
    let smi =
        if layout == DistributionLayout::Debian { "/usr/lib/nvidia/current" } else { "/usr/bin" };
    compile("fake-nvidia-smi.c", &host.path(&format!("{smi}/nvidia-smi")), &[]);
    host
}

#[test]
fn programs_load_cuda_and_nvml_and_nvidia_smi_runs() {
    let script = "
        [ ! -e $ROOTFS/etc/ld.so.cache ]
        $MIG_CDI generate $FLAGS
        $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:0 -e FAKE_NVML_NODE=/node.toml -v $NODE:/node.toml:ro \
            --rootfs $ROOTFS sh -c 'loader libcuda.so.1 libcuda.so libnvidia-ml.so.1 && nvidia-smi'
        [ ! -e $ROOTFS/etc/ld.so.cache ]";
    for layout in [DistributionLayout::Debian, DistributionLayout::Fedora] {
        let host = host(layout);
        for variant in VARIANTS {
            for (root, dir) in ROOTS {
                let expected = format!(
                    "libcuda.so.1 {dir}/libcuda.so.1
libcuda.so {dir}/libcuda.so.1 is libcuda.so.1
libnvidia-ml.so.1 {dir}/libnvidia-ml.so.1
cuInit 100
driver {VERSION}
"
                );
                let run = Podman::with_c_library(variant, root).script(&host, script);
                similar_asserts::assert_eq!(
                    passed(&run),
                    expected,
                    "{layout:?} {variant:?} {root}"
                );
            }
        }
    }
}

/// A container cannot change the driver's files, not even as root.
#[test]
fn a_container_cannot_write_driver_files() {
    let host = host(DistributionLayout::Fedora);
    let script = "
        $MIG_CDI generate $FLAGS
        $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS \
            sh -c 'echo x >> /usr/lib64/libcuda.so.1' 2>&1 || echo refused";
    for variant in VARIANTS {
        let run = Podman::with_c_library(variant, "lib64-root").script(&host, script);
        let out = passed(&run);
        assert!(
            out.contains("Read-only file system") && out.ends_with("refused\n"),
            "{variant:?}: {out}"
        );
    }
}

/// NVIDIA's own libcuda and nvidia-smi are found in Debian's layout and load in the container. They then report that
/// there is no driver, not that a library is missing.
#[test]
fn the_real_libraries_load_and_report_no_driver() {
    let host = FakeHost::with_real_driver(preset("a100-80gb").unwrap());
    // The real NVML finds no driver here, so /proc alone is read.
    let script = "
        $MIG_CDI generate --source proc $FLAGS
        $PODMAN $RUN --device nvidia.com/mig=0:3:0 --rootfs $ROOTFS sh -c \
            'loader libcuda.so.1 libcuda.so libnvidia-ml.so.1 libnvidia-ptxjitcompiler.so.1 libnvidia-cfg.so.1; nvidia-smi'";
    for (root, dir) in ROOTS {
        let run = Podman::with_c_library(("runc", "v2"), root).script(&host, script);
        let out = &run.stdout;
        for line in [
            format!("libcuda.so.1 {dir}/libcuda.so.1"),
            format!("libcuda.so {dir}/libcuda.so.1 is libcuda.so.1"),
            format!("libnvidia-ml.so.1 {dir}/libnvidia-ml.so.1"),
            format!("libnvidia-ptxjitcompiler.so.1 {dir}/libnvidia-ptxjitcompiler.so.1"),
            format!("libnvidia-cfg.so.1 {dir}/libnvidia-cfg.so.1"),
        ] {
            assert!(out.lines().any(|l| l == line), "{line} in {out}{}", run.stderr);
        }
        // CUDA_ERROR_NO_DEVICE.
        assert!(out.contains("cuInit 100\n"), "{out}");
        assert!(
            out.contains(
                "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver"
            ),
            "{out}"
        );
    }
}

/// The same with the driver in the machine's own root, so that no flag names a directory.
#[test]
fn the_default_driver_root_needs_no_flag() {
    let host = host(DistributionLayout::Debian);
    let script = "
        mount -t overlay overlay -o lowerdir=$FAKE/usr/lib:/usr/lib /usr/lib
        $MIG_CDI generate --proc-root=$FAKE --dev-root=$FAKE
        grep -o '\"hostPath\":\"[^\"]*libcuda.so[^\"]*\"' /var/run/cdi/nvidia.com-mig.json | sort -u
        $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:0 -e FAKE_NVML_NODE=/node.toml -v $NODE:/node.toml:ro \
            --rootfs $ROOTFS sh -c 'loader libcuda.so.1 libnvidia-ml.so.1 && nvidia-smi'";
    let script = script.replace("$FAKE", &host.root().display().to_string());
    let expected = format!(
        "\"hostPath\":\"/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.{VERSION}\"
libcuda.so.1 /usr/lib64/libcuda.so.1
libnvidia-ml.so.1 /usr/lib64/libnvidia-ml.so.1
cuInit 100
driver {VERSION}
"
    );
    let run = Podman::with_c_library(("runc", "v2"), "lib64-root").script(&host, &script);
    similar_asserts::assert_eq!(passed(&run), expected);
}

/// The reason why `/proc/driver/nvidia/params` is bound over on request only: crun accepts a mount in `/proc`, runc
/// starts no container with one. A file that every kernel has stands in for the driver's.
#[test]
fn crun_accepts_a_mount_in_proc_and_runc_refuses_it() {
    let host = host(DistributionLayout::Fedora);
    let script = r#"
        mkdir -p /var/run/cdi
        echo masked > /run/masked
        echo '{"cdiVersion":"0.5.0","kind":"example.com/params","devices":[{"name":"all","containerEdits":{"mounts":[
            {"hostPath":"/run/masked","containerPath":"/proc/version","options":["ro","nosuid","nodev","rbind","rprivate"]}]}}]}' \
            > /var/run/cdi/params.json
        $PODMAN $RUN --device example.com/params=all --rootfs $ROOTFS grep masked /proc/version 2>&1"#;
    for variant in VARIANTS {
        let run = Podman::with_c_library(variant, "debian-root").script(&host, script);
        match variant.0 {
            "crun" => {
                assert_eq!((run.code, run.stdout.as_str()), (0, "masked\n"), "{}", run.stderr)
            }
            _ => assert!(run.code != 0 && run.stdout.contains("inside /proc"), "{}", run.stdout),
        }
    }
}
