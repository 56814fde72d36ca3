//! Drivers that do not tell everything about the instances of a GPU.

use mig_cdi_tests::partition_host::PartitionHost;

/// Commands that read the layout of GPU 0, with the layout that they are for.
const READERS: [&[&str]; 6] = [
    &["export"],
    &["map"],
    &["profiles"],
    &["assert", "all=3g.40gb,2g.20gb"],
    &["plan", "all=4g.40gb"],
    &["plan", "0=4g.40gb"],
];

const GPU: &str = "[[gpu]]\nmodel = \"a100-80gb\"\n";
const INSTANCES: &str =
    "instances = [{ profile = \"3g.40gb\", compute = [] }, { profile = \"2g.20gb\" }]\n";

/// Shows that no command takes what the driver tells for everything, and that nothing is changed.
fn assert_incomplete(host: &PartitionHost, fault: &str, cause: &str) {
    let before = host.node();
    let trace = host.fake.out().with_file_name("trace");
    let checkpoint = host.fake.out().with_file_name("checkpoint.yaml");
    let to = checkpoint.display().to_string();
    let changes: [&[&str]; 3] =
        [&["checkpoint", &to], &["apply", "0=4g.40gb"], &["apply", "all=4g.40gb"]];
    for args in READERS.iter().chain(&changes) {
        let mut command = host.command(args);
        command.env("FAKE_NVML_FAIL", fault).env("FAKE_NVML_TRACE", &trace);
        let ended = host.tidy(mig_cdi_tests::run(&mut command));
        println!("{args:?} {} {}", ended.code, ended.stderr);
        assert_eq!(ended.code, 3, "{fault} {args:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(cause), "{fault} {args:?}: {}", ended.stderr);
    }
    assert!(!checkpoint.exists(), "{fault}");
    assert_eq!(host.node(), before, "{fault}");
    let calls = std::fs::read_to_string(trace).unwrap();
    assert!(!calls.contains("Destroy") && !calls.contains("Create"), "{fault}: {calls}");
}

#[test]
fn an_instance_whose_profile_is_not_described_is_missed() {
    let host = PartitionHost::new(&format!("{GPU}{INSTANCES}"));
    for code in [2, 3] {
        // 2_SLICE: its MIG device is known. 3_SLICE: /proc alone has it.
        let fault = format!("nvmlDeviceGetGpuInstanceProfileInfo=1:{code}");
        assert_incomplete(&host, &fault, "gpu instance 3, compute instance 0");
        let fault = format!("nvmlDeviceGetGpuInstanceProfileInfo=2:{code}");
        assert_incomplete(&host, &fault, "gpu instance 1");
    }
}

/// A library that is older than the profile of an instance. It does not know the number.
#[test]
fn an_instance_of_a_profile_that_is_newer_than_the_library_is_missed() {
    let gpu = "instances = [{ profile = \"1g.20gb\" }, { profile = \"3g.40gb\", start = 4 }]\n";
    let host = PartitionHost::new(&format!("driver = \"470.57.02\"\n{GPU}{gpu}"));
    assert_incomplete(&host, "", "gpu instance 3, compute instance 0");
}

#[test]
fn a_compute_instance_whose_profile_is_not_described_is_missed() {
    let gpu = "instances = [{ profile = \"3g.40gb\", compute = [\"1c\", \"2c\"] }]\n";
    let host = PartitionHost::new(&format!("{GPU}{gpu}"));
    let fault = "nvmlGpuInstanceGetComputeInstanceProfileInfo=0:3";
    assert_incomplete(&host, fault, "gpu instance 1, compute instance");
}

#[test]
fn a_drained_gpu_is_missed() {
    let description = format!("{GPU}{INSTANCES}drained = true\n{GPU}{INSTANCES}");
    let host = PartitionHost::new(&description);
    let before = host.node();
    let cause = "gpu minor 0 (0000:07:00.0): nvml does not count it";
    for args in
        [&["export", "--pinned"][..], &["map"], &["plan", "all=4g.40gb"], &["apply", "all=4g.40gb"]]
    {
        let ended = host.run(args);
        assert_eq!(ended.code, 3, "{args:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(cause), "{args:?}: {}", ended.stderr);
    }
    let after = host.node();
    assert_eq!(after.gpus[0], before.gpus[0]);
    assert_ne!(after.gpus[1], before.gpus[1]);
}
