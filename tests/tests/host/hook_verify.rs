//! The mode `verify`: a spec that was current when it was written, on a node that has changed since.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    hook::{crun_state, feed, runc_state},
    podman::{Podman, VARIANTS},
    script_program,
};
use serde_json::Value;
use std::path::Path;

/// Node with two A100, the first with two slices. GPU instance 2 has the capability minors 21 and 22.
const BEFORE: &str = r#"
driver = "580.105.08"
[[gpu]]
model = "a100-80gb"
pci = "0000:07:00.0"
instances = [{ profile = "3g.40gb", start = 4, id = 2 }, { profile = "1g.10gb", start = 0, id = 9 }]
[[gpu]]
model = "a100-80gb"
pci = "0000:0f:00.0"
"#;

fn host(how: &str) -> FakeHost {
    let host = FakeHost::with_nodes(BEFORE);
    host.install();
    let run = host.generate(&[how]);
    run.assert_code(0);
    host
}

/// Returns the hook of a device of the spec: its arguments and environment.
fn hook_of(host: &FakeHost, name: &str) -> Value {
    let spec: Value = serde_json::from_str(&host.read_spec().unwrap()).unwrap();
    let devices = spec["devices"].as_array().unwrap();
    let device = devices.iter().find(|device| device["name"] == name).expect("the device");
    assert_eq!(device["containerEdits"]["hooks"].as_array().unwrap().len(), 1);
    device["containerEdits"]["hooks"][0].clone()
}

fn words(hook: &Value) -> Vec<&str> {
    hook["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect()
}

fn verify(host: &FakeHost, name: &str) -> Run {
    let hook = hook_of(host, name);
    let mut command = host.hook(&words(&hook)[1..]);
    feed(&mut command, runc_state(1, Path::new("/bundle")).as_bytes())
}

/// For each change after the spec was written, and each kind of verification: whether the container starts.
/// `docs/hook.md` has this table in words.
#[test]
fn verify_refuses_a_slice_that_changed_or_is_gone() {
    let gone = "refused: verify slice gpu minor 0 gi 2 ci 0: read /proc/driver/nvidia/capabilities/gpu0/mig/gi2";
    let swapped = BEFORE.replace("[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:07", "[[gpu]]\nminor = 1\nmodel = \"a100-80gb\"\npci = \"0000:07")
        .replace("[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:0f:00.0\"", "[[gpu]]\nminor = 0\nmodel = \"a100-80gb\"\npci = \"0000:0f:00.0\"\ninstances = [{ profile = \"3g.40gb\", start = 4, id = 2 }]");
    let replaced = BEFORE.replace(
        "pci = \"0000:07:00.0\"",
        "pci = \"0000:07:00.0\"\nuuid = \"GPU-00000000-1111-2222-3333-444444444444\"",
    );
    let profile = BEFORE
        .replace("3g.40gb\", start = 4", "4g.40gb\", start = 0")
        .replace(", { profile = \"1g.10gb\", start = 0, id = 9 }", "");
    let placement = BEFORE
        .replace("3g.40gb\", start = 4", "3g.40gb\", start = 0")
        .replace("1g.10gb\", start = 0", "1g.10gb\", start = 4");
    for (what, after, plain, full) in [
        ("nothing", BEFORE.to_owned(), "", ""),
        ("another slice is gone", BEFORE.replace(", { profile = \"1g.10gb\", start = 0, id = 9 }", ""), "", ""),
        ("the GPU instance is gone", BEFORE.replace("{ profile = \"3g.40gb\", start = 4, id = 2 }, ", ""), gone, gone),
        ("its compute instance is gone", BEFORE.replace("start = 4, id = 2", "start = 4, id = 2, compute = []"), gone, gone),
        ("a smaller compute instance", BEFORE.replace("start = 4, id = 2", "start = 4, id = 2, compute = [\"1c.3g.40gb\"]"), "", "profile is 1c.3g.40gb, the spec has 3g.40gb"),
        ("the major has moved", format!("{BEFORE}\n[majors]\nnvidia-caps = 241\n"), "the major of nvidia-caps is 241, the spec has 508", "the major of nvidia-caps"),
        ("the minors have moved", swapped, "the gpu behind /dev/nvidia0 is GPU-", "the gpu behind /dev/nvidia0 is GPU-"),
        ("another GPU is in its place", replaced, "the gpu behind /dev/nvidia0 is GPU-0000", "the gpu behind"),
        ("the same id, another profile", profile, "", "profile is 4g.40gb, the spec has 3g.40gb"),
        ("the same id, another placement", placement, "", "placement is 0:4, the spec has 4:4"),
        ("MIG is off", "driver = \"580.105.08\"\n[[gpu]]\nmodel = \"a100-80gb\"\nmig = false\npci = \"0000:07:00.0\"\n".to_owned(), gone, gone),
        ("made again just so", BEFORE.to_owned(), "", ""),
    ] {
        for (how, expected) in [("--verify", plain), ("--verify=full", full)] {
            let host = host(how);
            host.replace_node(&after);
            let run = verify(&host, "0:3g.40gb:4");
            let code = i32::from(!expected.is_empty());
            assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{what} {how}: {}", run.stderr);
            let expected = expected.trim_start_matches("refused: ");
            assert!(run.stderr.contains(expected), "{what} {how}: {}", run.stderr);
            if code != 0 {
                assert!(run.stderr.contains("run mig-cdi generate"), "{}", run.stderr);
                assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
            }
        }
    }
}

/// The driver is unloaded: nothing can be verified, so the container does not start.
#[test]
fn verify_refuses_without_a_driver() {
    let host = host("--verify");
    std::fs::remove_dir_all(host.path("/proc/driver")).unwrap();
    assert!(verify(&host, "all").stderr.contains("gi2"), "{}", verify(&host, "all").stderr);
    std::fs::write(host.path("/proc/devices"), "Character devices:\n  1 mem\n\n").unwrap();
    verify(&host, "0:3g.40gb:4").assert_code(1);
    std::fs::remove_file(host.path("/proc/devices")).unwrap();
    let run = verify(&host, "0:3g.40gb:4");
    assert!(run.code == 1 && run.stderr.contains("mount /proc"), "{}", run.stderr);
}

#[test]
fn verify_checks_every_slice_of_a_device() {
    let host = host("--verify");
    verify(&host, "all").assert_code(0);
    std::fs::remove_dir_all(host.path("/proc/driver/nvidia/capabilities/gpu0/mig/gi9")).unwrap();
    assert!(verify(&host, "all").stderr.contains("gpu minor 0 gi 9 ci 0"));
    verify(&host, "0:3g.40gb:4").assert_code(0);
}

/// Go writes an empty environment as none, and engines run a hook without an environment with that of the
/// image (CVE-2025-23266). A hook whose program does not exist stops every container.
#[test]
fn every_hook_of_a_spec_exists_and_has_an_environment() {
    for how in ["--verify", "--verify=full"] {
        let host = host(how);
        let spec: Value = serde_json::from_str(&host.read_spec().unwrap()).unwrap();
        let devices = spec["devices"].as_array().unwrap();
        assert_eq!(spec["containerEdits"].get("hooks"), None);
        for device in devices {
            let hook = hook_of(&host, device["name"].as_str().unwrap());
            assert_eq!(hook["hookName"], "createRuntime");
            assert_eq!(hook["env"], serde_json::json!(["MIG_CDI_HOOK=verify"]));
            assert!(Path::new(hook["path"].as_str().unwrap()).is_file());
            assert!(hook["timeout"].as_u64().unwrap() > 0);
            // The hook of a device verifies its own slices only.
            let slices = words(&hook).iter().filter(|word| word.contains(",nodes=")).count();
            assert_eq!(slices, if device["name"] == "all" { 2 } else { 1 });
        }
        host.run(&["check", &format!("--output={}", host.spec().display()), how]).assert_code(0);
    }
}

#[test]
fn a_hook_that_another_user_can_change_is_refused() {
    let host = FakeHost::with_nodes(BEFORE);
    let bin = host.install();
    let hook = bin.join("mig-cdi-hook");
    let mode =
        |mode| std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(mode));
    mode(0o777).unwrap();
    let run = host.generate(&["--verify"]);
    assert_eq!((run.code, host.read_spec()), (5, None), "{}", run.stderr);
    assert!(run.stderr.contains("has mode 0777"), "{}", run.stderr);
    std::fs::remove_file(&hook).unwrap();
    let run = host.generate(&["--verify"]);
    assert!(run.code == 5 && run.stderr.contains("no such program"), "{}", run.stderr);
    let run = host.run(&["generate", "--node=a30", "--output=-", "--verify"]);
    assert!(run.code == 2 && run.stderr.contains("simulated"), "{}", run.stderr);
    let run = host.generate(&["--source=proc", "--verify=full"]);
    assert!(
        run.code == 2 && run.stderr.contains("omit --verify=full or --source proc"),
        "{}",
        run.stderr
    );
}

/// `mig-cdi`, which the hook runs by its path, reads NVML; when that fails, the container does not start.
#[test]
fn verify_full_refuses_when_nvml_cannot_be_read() {
    let host = host("--verify=full");
    let library = host.path("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
    std::fs::rename(&library, library.with_extension("gone")).unwrap();
    let run = verify(&host, "0:3g.40gb:4");
    assert!(run.code == 1 && run.stderr.contains("query nvml"), "{}", run.stderr);
    std::fs::remove_file(host.install().join("mig-cdi")).unwrap();
    let run = verify(&host, "0:3g.40gb:4");
    assert!(run.code == 1 && run.stderr.contains("bin/mig-cdi: no such file"), "{}", run.stderr);
}

/// A program that does not answer is killed, and the container does not start.
#[test]
fn verify_full_kills_a_program_that_hangs() {
    let host = host("--verify=full");
    let program = host.install().join("mig-cdi");
    script_program(&program, "exec sleep 1000");
    let run = verify(&host, "0:3g.40gb:4");
    assert!(run.code == 1 && run.stderr.contains("wait for"), "{}", run.stderr);
}

/// The spec was written when the path was safe.
#[test]
fn verify_full_runs_no_program_of_another_user() {
    let host = host("--verify=full");
    verify(&host, "0:3g.40gb:4").assert_code(0);
    let (bin, ran) = (host.install(), host.out().with_file_name("ran"));
    script_program(&bin.join("mig-cdi"), &format!("echo ran >{}", ran.display()));
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    for path in [&bin, &bin.join("mig-cdi")] {
        mode(path, 0o775);
        let run = verify(&host, "0:3g.40gb:4");
        let weak = format!("{} has mode 0775; run chown root", path.display());
        assert!(run.code == 1 && run.stderr.contains(&weak), "{}", run.stderr);
        mode(path, 0o755);
    }
    assert!(!ran.exists());
    verify(&host, "0:3g.40gb:4").assert_code(0);
    assert!(ran.exists());
}

#[test]
fn the_states_of_runc_and_crun_are_read() {
    let host = host("--verify");
    let hook = hook_of(&host, "0:3g.40gb:4");
    let run = |state: &str| feed(&mut host.hook(&words(&hook)[1..]), state.as_bytes());
    run(&crun_state(0, Path::new("/bundle"))).assert_code(0);
    run(&runc_state(1, Path::new("/bundle"))).assert_code(0);
    let empty = run("");
    assert!(
        empty.code == 1 && empty.stderr.contains("let a runtime run this hook"),
        "{}",
        empty.stderr
    );
}

#[test]
fn a_dry_run_prints_what_would_be_verified() {
    let host = host("--verify=full");
    let hook = hook_of(&host, "0:3g.40gb:4");
    let mut words = words(&hook);
    words.push("--dry-run");
    let run = feed(&mut host.hook(&words[1..]), b"");
    let printed: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(printed["door"], "verify");
    assert!(
        printed["slices"][0].as_str().unwrap().starts_with("0:2:0,nodes=195:508:21:22,gpu=GPU-")
    );
    assert!(printed["full"].as_str().unwrap().ends_with("/bin/mig-cdi"));
}

/// Engines that read the spec run the hook, and start no container when it refuses.
#[test]
fn podman_starts_verified_slices_only() {
    let script = "
        $BIN/mig-cdi generate --verify $FLAGS
        $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS ls /dev/nvidia-caps
        rm -r $GONE
        ! $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:0 --rootfs $ROOTFS ls /dev/nvidia-caps
        $PODMAN $RUN --device nvidia.com/mig=0:2g.20gb:2 --rootfs $ROOTFS ls /dev/nvidia-caps";
    for variant in VARIANTS {
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        let gone = host.path("/proc/driver/nvidia/capabilities/gpu0/mig/gi3");
        let script = script
            .replace("$GONE", &gone.display().to_string())
            .replace("$BIN", &host.install().display().to_string());
        let run = Podman::new(variant).script(&host, &script);
        assert_eq!(run.code, 0, "{variant:?}: {}{}", run.stdout, run.stderr);
        let expected = "nvidia-cap30\nnvidia-cap31\nnvidia-cap39\nnvidia-cap40\n";
        assert_eq!(run.stdout, expected, "{variant:?}");
        let cause = "gpu minor 0 gi 3 ci 0: read /proc/driver/nvidia/capabilities/gpu0/mig/gi3/access: the file is gone";
        assert!(variant.0 == "crun" || run.stderr.contains(cause), "{variant:?}: {}", run.stderr);
    }
}
