//! NVIDIA's own `libnvidia-ml.so.1`, unpacked from Debian's package, without a driver behind it.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, bare, mig_cdi, project, run};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Symbols that nvml-wrapper's safe calls bind; the others are in the list of the code.
const WRAPPED: [&str; 15] = [
    "nvmlInit_v2",
    "nvmlShutdown",
    "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMinorNumber",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetAttributes_v2",
    "nvmlDeviceGetCudaComputeCapability",
    "nvmlDeviceGetMemoryInfo_v2",
];

fn root() -> PathBuf {
    let root = project().join("target/test-deps/nvidia");
    assert!(root.join("usr").is_dir(), "{} is not there; run tests/setup.sh", root.display());
    root
}

fn symbols(library: &Path) -> Vec<String> {
    let listed = run(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    listed.assert_code(0);
    let name = |line: &str| {
        line.split_whitespace().last().map(|s| s.split('@').next().unwrap_or(s).to_owned())
    };
    listed.stdout.lines().filter_map(name).collect()
}

#[test]
fn every_bound_symbol_is_in_the_real_library() {
    let library = root().join("usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1");
    let there = symbols(&library);
    assert!(there.len() > 200, "{} symbols", there.len());
    for symbol in WRAPPED.iter().chain(&mig_cdi_sys::nvml::RAW_SYMBOLS) {
        assert!(there.iter().any(|s| s == symbol), "{symbol}");
    }
}

/// The fake exports the symbols that the code binds, and none that the real library lacks: a test that passes with
/// the fake calls no function that does not exist.
#[test]
fn the_fake_exports_only_symbols_of_the_real_library() {
    let real = symbols(&root().join("usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1"));
    let fake = symbols(&mig_cdi_tests::fake_nvml());
    let fake: Vec<_> = fake.iter().filter(|s| s.starts_with("nvml")).collect();
    assert!(fake.len() >= 20, "{fake:?}");
    for symbol in fake {
        assert!(real.contains(symbol), "{symbol}");
    }
}

/// Returns a command in a mount namespace with an empty `/dev`: the real library makes `/dev/nvidiactl` before it opens
/// it, as nvidia-modprobe does.
fn with_private_dev(command: &Command) -> Command {
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation=private", "sh", "-c"]);
    inside.args(["mount -t tmpfs -o mode=755 tmpfs /dev && exec \"$@\"", "sh"]);
    bare(&mut inside).arg(command.get_program()).args(command.get_args());
    inside
}

/// /proc shows a driver and the real library finds none: our message has the library's error and the cure.
#[test]
fn the_real_library_without_a_driver_gives_our_message() {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    let root = root();
    let at = host.root();
    let flags = [("driver", &root), ("dev", &at), ("proc", &at)];
    let flags = flags.map(|(kind, path)| format!("--{kind}-root={}", path.display()));
    let control_node = || fs::metadata("/dev/nvidiactl").ok().map(|meta| meta.ino());
    let before = control_node();
    for command in ["list", "generate"] {
        let mut command = mig_cdi([command]);
        let run = run(&mut with_private_dev(command.args(&flags)));
        assert_eq!((run.code, run.stdout.as_str()), (4, ""), "{}", run.stderr);
        assert!(run.stderr.starts_with("error: query nvml: "), "{}", run.stderr);
        assert!(run.stderr.contains("libnvidia-ml.so.550.163.01 reports that the nvidia kernel module is not loaded; run modprobe nvidia"), "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    }
    assert_eq!(control_node(), before, "the library has changed /dev of the machine");
}
