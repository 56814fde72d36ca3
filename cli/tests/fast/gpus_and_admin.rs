//! Whole GPUs, in a spec of their own on request, and the capabilities of administrators.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, mig_cdi, run,
    spec_json::{names, paths, read},
};
use std::fs;

#[test]
fn device_names_of_another_spec_are_never_used() {
    let host = FakeHost::new(preset("hgx-h100").unwrap());
    let other_spec = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"2\"\n  containerEdits:\n    env: [A=1]\n";
    fs::write(host.out().join("nvidia.yaml"), other_spec).unwrap();
    let run = host.generate(&["--gpus"]);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(
        run.stderr.contains("TMP/cdi/nvidia.yaml defines nvidia.com/gpu=2 too"),
        "{}",
        run.stderr
    );
    assert_eq!(
        (read(&host, "nvidia.com-gpu.json"), host.read_spec()),
        (None, None),
        "all or nothing"
    );
    assert_eq!(host.generate(&[]).code, 0, "slices are not in its way");
    // Two specs of one kind would both define "all".
    let run = host.generate(&["--gpus", "--kind=example.com/gpu"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("example.com/gpu is the kind of the slices too"), "{}", run.stderr);
    let run = host.run(&["show", "example.com/gpu=all", "--kind=example.com/gpu"]);
    assert_eq!(run.code, 0, "a kind of slices is one of slices: {}", run.stderr);
    assert!(run.stdout.contains("nvidia-cap417"), "{}", run.stdout);
    let run = host.run(&["generate", "--gpus", "--output=-"]);
    assert_eq!(run.code, 2, "two documents go to no one stream");
}

#[test]
fn a_gpu_in_mig_mode_is_requested_by_its_slices() {
    let show = |name: &str| run(&mut mig_cdi(["show", name, "--node=hgx-h100"]));
    let in_mig_mode = show("nvidia.com/gpu=0");
    assert_eq!(in_mig_mode.code, 1);
    assert!(
        in_mig_mode
            .stderr
            .contains("gpu 0 is in mig mode; request one of its slices: 0:1c.3g.40gb:4:0, "),
        "{}",
        in_mig_mode.stderr
    );
    let empty = show("nvidia.com/gpu=3");
    assert!(
        empty.stderr.contains(
            "gpu 3 is in mig mode; it has no slice: sudo mig-cdi apply 3=2x3g.40gb creates slices"
        ),
        "{}",
        empty.stderr
    );
    // Where no GPU is whole, no name of one helps; nor does a command that would make slices.
    let slices = "every gpu is in mig mode, and none can be given out whole; request a slice, of the kind nvidia.com/mig: 0:2g.20gb:0, \
                  0:2g.20gb:2, 0:2g.20gb:4, 0:1g.10gb:6\n";
    for name in ["nvidia.com/gpu=all", "nvidia.com/gpu=5", "nvidia.com/gpu=GPU-x"] {
        let all = run(&mut mig_cdi(["show", name, "--node=a100-80gb"]));
        assert_eq!((all.code, all.stderr), (1, format!("error: show {name:?}: {slices}")));
    }
    let many = run(&mut mig_cdi(["show", "nvidia.com/gpu=all", "--node=dgx-a100"])).stderr;
    assert!(many.ends_with("0:1g.10gb:6, 1:1g.10gb:0 and 48 more\n"), "{many}");
    let unknown = show("nvidia.com/gpu=9").stderr;
    assert!(unknown.contains("no such device; use one of 2, GPU-"), "{unknown}");
    let args = ["show", "nvidia.com/gpu=all", "--node=hgx-h100", "--source=proc"];
    let unknown = run(&mut mig_cdi(args)).stderr;
    let reason =
        "without nvml it is unknown which gpus are in mig mode; read from nvml: --source=nvml\n";
    assert!(unknown.ends_with(reason), "{unknown}");
    let whole = show("nvidia.com/gpu=2");
    assert_eq!(whole.code, 0);
    assert!(
        whole.stdout.contains("gpu 2, NVIDIA H100 80GB HBM3 at 0000:4c:00.0"),
        "{}",
        whole.stdout
    );
    assert_eq!(show("amd.com/gpu=2").code, 1);
}

#[test]
fn admin_devices_have_one_capability_each() {
    let host = FakeHost::new(preset("a30").unwrap());
    assert_eq!(host.generate(&[]).code, 0);
    let plain = host.read_spec().unwrap();
    assert!(!plain.contains("nvidia-cap1\"") && !plain.contains("nvidia-cap2\""));
    assert_eq!(host.generate(&["--admin=config,monitor"]).code, 0);
    let spec = read(&host, "nvidia.com-mig.json").unwrap();
    let entry = |name: &str| {
        spec["devices"].as_array().unwrap().iter().find(|d| d["name"] == name).unwrap()
    };
    assert_eq!(
        paths(entry("config")),
        ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap1"]
    );
    assert_eq!(
        paths(entry("monitor")),
        ["/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap2"]
    );
    let node = &entry("config")["containerEdits"]["deviceNodes"][2];
    assert_eq!(
        (&node["major"], &node["minor"], &node["fileMode"]),
        (&508.into(), &1.into(), &0o400.into())
    );
    let all = paths(entry("all"));
    assert!(
        !all.contains(&"/dev/nvidia-caps/nvidia-cap1")
            && !all.contains(&"/dev/nvidia-caps/nvidia-cap2")
    );
    // A container that partitions a node needs it while there is no slice yet.
    let empty = FakeHost::new("[[gpu]]\nmodel = \"a30\"\n");
    assert_eq!(empty.generate(&["--admin=config"]).code, 0);
    assert_eq!(names(&read(&empty, "nvidia.com-mig.json").unwrap()), ["config"]);
    // A driver without the capability: reported, and no number is invented.
    fs::remove_file(empty.path("/proc/driver/nvidia/capabilities/mig/config")).unwrap();
    let run = empty.generate(&["--admin=config"]);
    assert_eq!(run.code, 3);
    assert!(
        run.stderr.contains("config: read /proc/driver/nvidia/capabilities/mig/config: not there"),
        "{}",
        run.stderr
    );
}
