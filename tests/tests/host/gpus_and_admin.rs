//! Whole GPUs with the driver's files, and the capability `config` in real containers.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost,
    driver::DistributionLayout,
    podman::{Podman, VARIANTS},
    spec_json::{names, paths, read},
};
use std::fs;

#[test]
fn gpus_without_mig_have_a_spec_of_their_own() {
    let host = FakeHost::with_driver(preset("hgx-h100").unwrap(), DistributionLayout::Fedora);
    assert_eq!(host.generate(&[]).code, 0);
    assert!(read(&host, "nvidia.com-gpu.json").is_none(), "only when asked for");
    let run = host.generate(&["--gpus"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let gpus = read(&host, "nvidia.com-gpu.json").unwrap();
    assert_eq!(gpus["kind"], "nvidia.com/gpu");
    // Only GPU 2 is not in MIG mode, and its minor is 1.
    assert_eq!(names(&gpus), ["2", "GPU-d8fce788-c17f-5ca3-9664-10ced58317ed", "all"]);
    for device in gpus["devices"].as_array().unwrap() {
        assert_eq!(paths(device), ["/dev/nvidia1"]);
    }
    assert!(gpus["containerEdits"]["mounts"].as_array().unwrap().len() > 10);
    // The last GPU enters MIG mode, and the spec of GPUs is removed.
    let description = preset("hgx-h100").unwrap().replace("mig = false\n", "");
    fs::write(host.env().1, description).unwrap();
    let run = host.generate(&["--gpus"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(read(&host, "nvidia.com-gpu.json").is_none(), "{}", run.stderr);
}

#[test]
fn a_container_with_the_config_capability_opens_it_and_no_slice() {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    let script = "
        $MIG_CDI generate --admin config $FLAGS
        $PODMAN $RUN --cap-add MKNOD --device nvidia.com/mig=config --rootfs $ROOTFS probe 508:2 508:30";
    for variant in VARIANTS {
        let run = Podman::new(variant).script(&host, script);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let caps: Vec<_> = run
            .stdout
            .lines()
            .filter(|l| l.contains("nvidia-caps") || l.starts_with("made"))
            .collect();
        assert_eq!(
            caps,
            [
                "node /dev/nvidia-caps/nvidia-cap1 400 508:1 ENXIO",
                "made 508:2 EPERM",
                "made 508:30 EPERM"
            ],
            "{variant:?}"
        );
    }
}
