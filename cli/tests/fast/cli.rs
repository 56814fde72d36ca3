//! The command line: help, exit codes, messages, device names, and what root and other users get.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, deadline, mig_cdi, program, run};
use serde_json::Value;
use std::{
    fs,
    process::{Command, Stdio},
};

fn simulated(args: &[&str]) -> Run {
    run(&mut mig_cdi(args))
}

fn host(name: &str) -> FakeHost {
    FakeHost::new(preset(name).unwrap())
}

/// Returns the device names of a spec.
fn names(spec: &str) -> Vec<String> {
    let spec: Value = serde_json::from_str(spec).unwrap_or_else(|e| panic!("{e}: {spec}"));
    let devices = spec["devices"].as_array().unwrap();
    devices.iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn help_has_commands_examples_and_exit_codes() {
    let help = simulated(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    for word in [
        "podman run --rm --device nvidia.com/mig=",
        "--node a100-80gb",
        "Exit codes:",
        "generate",
        "list",
        "map",
        "show",
        "nodes",
        "doctor",
    ] {
        assert!(help.stdout.contains(word), "{word}");
    }
    let generate = simulated(&["generate", "--help"]).stdout;
    for flag in [
        "--output",
        "--names",
        "--kind",
        "--strict",
        "--annotations",
        "--cuda-env",
        "--max-cdi-version",
        "--format",
    ] {
        assert!(generate.contains(flag), "{flag}");
    }
    assert!(!help.stdout.contains('\x1b') && !generate.contains('\x1b'), "no colour in a pipe");
    assert_eq!(simulated(&["--version"]).stdout, "mig-cdi 0.1.0\n");
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for args in [
        &["generate", "--nmaes=uuid"][..],
        &["generate", "--names=serial"],
        &["generate", "--kind=nvidia.com/m"],
        &["generate", "--kind=n/mig"],
        &["generate", "--kind=nvidia.com"],
        &["generate", "--max-cdi-version=0.5"],
        &["generate", "--format=toml"],
        &["generate", "--source=proc", "--names=uuid", "--node=a30"],
        &["list", "--node=no-such-node"],
        &["list", "--node=/"],
        &["list", "--config=/no/such/file", "--node=a30"],
        &["show", "--node=a30"],
        &["nodes", "--node=a30"],
        &["frobnicate"],
        &[],
    ] {
        let run = simulated(args);
        assert_eq!(run.code, 2, "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "");
        assert!(!run.stderr.is_empty());
    }
    let unknown = simulated(&["list", "--node=no-such-node"]);
    let presets = "built-in nodes are a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000";
    assert!(unknown.stderr.contains(presets), "{}", unknown.stderr);
}

#[test]
fn every_name_style_names_every_device() {
    let spec = |style: &str| {
        let args = ["generate", "--output=-", "--node=hgx-h100", style];
        let run = simulated(&args);
        assert_eq!(run.code, 0, "{}", run.stderr);
        names(&run.stdout)
    };
    let slots = spec("--names=slot");
    for name in
        ["0:1c.3g.40gb:4:0", "0:2c.3g.40gb:4:1", "0:1g.10gb.me:2", "4:3g.40gb:4", "7:7g.80gb:0"]
    {
        assert!(slots.contains(&name.to_owned()), "{name} in {slots:?}");
    }
    let indices = spec("--names=index");
    assert!(
        indices.contains(&"1:6".to_owned()) && !indices.contains(&"1:7".to_owned()),
        "{indices:?}"
    );
    let uuids = spec("--names=uuid");
    assert!(uuids.iter().all(|name| name.starts_with("MIG-") || name == "all"));
    let both = spec("--names=slot,index,slot");
    assert_eq!(both.len(), slots.len() + indices.len() - 1, "each style once, and one \"all\"");
}

#[test]
fn the_spec_has_the_lowest_sufficient_cdi_version() {
    let version = |args: &[&str]| {
        let run = simulated(&[&["generate", "--output=-", "--node=a30"], args].concat());
        let version = run.stdout.lines().find_map(|line| line.strip_prefix("{\"cdiVersion\":"));
        (run.code, version.map(|v| v.trim_matches(['"', ',']).to_owned()), run.stderr)
    };
    assert_eq!(version(&[]).1.as_deref(), Some("0.5.0"));
    assert_eq!(version(&["--names=uuid"]).1.as_deref(), Some("0.3.0"));
    assert_eq!(version(&["--annotations", "--max-cdi-version=1.0.0"]).1.as_deref(), Some("0.6.0"));
    for (args, what) in [
        (
            &["--annotations"][..],
            "has annotations and needs cdi 0.6.0, above max-cdi-version 0.5.0, and podman before 4.7",
        ),
        (&["--kind=nvidia.com/mig.a"], "has a dot and needs cdi 0.6.0"),
        (&["--max-cdi-version=0.3.0"], "starts with a digit and needs cdi 0.5.0"),
    ] {
        let (code, written, message) = version(args);
        assert_eq!((code, written), (5, None));
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn annotations_and_cuda_env_are_written_on_request() {
    let args = [
        "generate",
        "--output=-",
        "--node=a30",
        "--names=slot",
        "--annotations",
        "--max-cdi-version=0.6.0",
        "--cuda-env",
    ];
    let spec: Value = serde_json::from_str(&simulated(&args).stdout).unwrap();
    let first = &spec["devices"][0];
    assert_eq!(
        first["annotations"],
        serde_json::json!({
            "mig-cdi/compute-instance": "0",
            "mig-cdi/gpu-instance": "3",
            "mig-cdi/gpu-uuid": "GPU-b22d4329-90f5-5743-b085-c94b993597ae",
            "mig-cdi/memory-mib": "5949",
            "mig-cdi/profile": "1g.6gb",
            "mig-cdi/start": "0",
        })
    );
    assert_eq!(
        first["containerEdits"]["env"][1],
        "CUDA_VISIBLE_DEVICES=MIG-190c035c-0f1e-5e80-8d69-82ea23ecb1f3"
    );
    let plain = simulated(&["generate", "--output=-", "--node=a30"]).stdout;
    assert!(
        !plain.contains("annotations")
            && !plain.contains("CUDA_VISIBLE_DEVICES")
            && !plain.contains("hooks")
    );
}

#[test]
fn the_default_file_name_follows_the_kind() {
    let host = host("a30");
    let config = host.root().join("config.toml");
    fs::write(
        &config,
        format!(
            "capabilities = \"none\"\nkind = \"example.com/slice\"\nspec-dirs = [{:?}]\nnames = [\"index\"]\n",
            host.out()
        ),
    )
    .unwrap();
    let run = host.run(&["generate", "--config", config.to_str().unwrap()]);
    assert!(run.stderr.contains("wrote TMP/cdi/example.com-slice.json"), "{}", run.stderr);
    let text = fs::read_to_string(host.out().join("example.com-slice.json")).unwrap();
    assert!(text.contains("\"kind\":\"example.com/slice\""));
    assert_eq!(names(&text)[0], "0:0");
    // A flag wins over the configuration file.
    let run = host.run(&[
        "generate",
        "--config",
        config.to_str().unwrap(),
        "--kind=nvidia.com/mig",
        "--names=slot",
    ]);
    assert_eq!(run.code, 0);
    assert_eq!(names(&host.read_spec().unwrap())[0], "0:1g.6gb:0");
    fs::write(&config, "names = [\"serial\"]").unwrap();
    let run = host.run(&["generate", "--config", config.to_str().unwrap()]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("\"serial\" is not uuid, slot or index"), "{}", run.stderr);
}

#[test]
fn show_lists_what_a_container_gets() {
    for name in ["0:2g.20gb:4", "nvidia.com/mig=0:2g.20gb:4"] {
        let run = simulated(&["show", name, "--node=a100-80gb"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        for line in [
            "/dev/nvidia-caps/nvidia-cap48  c 508:48   0444  rw      same     /proc/driver/nvidia/capabilities/gpu0/mig/gi5/access",
            "/dev/nvidiactl                 c 195:255  0666  rw      same     /proc/devices",
            "NVIDIA_VISIBLE_DEVICES=void",
        ] {
            assert!(run.stdout.lines().any(|l| l == line), "{line} in {}", run.stdout);
        }
    }
    let unknown = simulated(&["show", "0:2g.20gb:6", "--node=a100-80gb"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (1, ""));
    assert!(
        unknown.stderr.contains(
            "show \"0:2g.20gb:6\": no slice can be 0:2g.20gb:6: on GPU 0 a 2g.20gb starts only at 0, 2, 4; GPU 0 now has 0:2g.20gb:0, 0:2g.20gb:2, 0:2g.20gb:4, 0:1g.10gb:6"
        ),
        "{}",
        unknown.stderr
    );
}

#[test]
fn list_prints_json_for_programs() {
    let run = simulated(&["list", "--json", "--node=hgx-h100"]);
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(json["driver_version"], "580.105.08");
    assert_eq!(json["gpus"][2]["mig"], "disabled");
    assert_eq!(json["gpus"][3]["gpu_instances"], serde_json::json!([]));
    let ci = &json["gpus"][0]["gpu_instances"][0]["compute_instances"][1];
    assert_eq!((&ci["profile"], &ci["placement"]["start"]), (&"2c.3g.40gb".into(), &1.into()));
    assert_eq!(json["problems"], serde_json::json!([]));
}

/// Without NVML: only what /proc shows, and the output says so.
#[test]
fn source_proc_names_devices_by_their_numbers() {
    let host = host("hgx-h100");
    fs::remove_dir_all(host.path("/usr")).unwrap();
    let run = host.run(&["generate", "--output=-", "--source=proc"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("without nvml there are no uuids and no profiles"),
        "{}",
        run.stderr
    );
    let found = names(&run.stdout);
    assert_eq!(found.len(), 25);
    assert!(found.contains(&"3:1:1".to_owned()), "gpu minor 3, gi 1, ci 1: {found:?}");
    assert!(!run.stdout.contains("MIG-"));
    let none = host.run(&["generate", "--output=-"]);
    assert_eq!(none.code, 4);
    assert!(
        none.stderr.contains("libnvidia-ml.so.1 not found in the usual directories"),
        "{}",
        none.stderr
    );
    assert!(none.stderr.contains("or use --source proc"), "{}", none.stderr);
}

#[test]
fn a_library_that_is_not_nvml_is_named() {
    let host = host("a30");
    let library = host.path("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
    fs::write(&library, "not an ELF file").unwrap();
    let text = host.run(&["list"]);
    assert_eq!(text.code, 4);
    assert!(
        text.stderr.contains("load TMP/root/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1: "),
        "{}",
        text.stderr
    );
    let other = ["/lib/x86_64-linux-gnu/libm.so.6", "/usr/lib/aarch64-linux-gnu/libm.so.6"];
    let other =
        other.iter().find(|path| fs::exists(path).unwrap()).expect("a library of another kind");
    fs::copy(other, &library).unwrap();
    let wrong = host.run(&["list"]);
    assert_eq!(wrong.code, 4);
    assert!(wrong.stderr.contains("undefined symbol: nvmlInit"), "{}", wrong.stderr);
}

/// Debian links the library through /etc/alternatives: absolute links resolve below the driver root.
#[test]
fn symlinks_resolve_inside_the_driver_root() {
    let host = host("a30");
    let dir = host.path("/usr/lib/x86_64-linux-gnu");
    fs::create_dir_all(dir.join("nvidia/current")).unwrap();
    fs::rename(dir.join("libnvidia-ml.so.1"), dir.join("nvidia/current/libnvidia-ml.so.580"))
        .unwrap();
    fs::create_dir_all(host.path("/etc/alternatives")).unwrap();
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, host.path(at)).unwrap();
    link("/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.580", "/etc/alternatives/nvml");
    link("/etc/alternatives/nvml", "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
    let run = host.run(&["list"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// A simulated device must not be a real one: its invented major may belong to a driver of this machine.
#[test]
fn a_simulated_spec_never_names_a_real_device() {
    let machine = FakeHost::new("[majors]\nnvidia = 180\nnvidia-caps = 511\nnvidia-uvm = 300\n");
    let refused = machine.generate(&["--node=a100-80gb"]);
    assert_eq!((refused.code, machine.read_spec()), (5, None), "{}", refused.stderr);
    assert!(
        refused
            .stderr
            .contains("major 511 of the simulated node is \"nvidia-caps\" on this machine"),
        "{}",
        refused.stderr
    );
    // A simulated node without a slice does not remove the spec of the real slices.
    let real = "{\"kind\":\"nvidia.com/mig\",\"devices\":[]}";
    fs::write(machine.spec(), real).unwrap();
    let empty = machine.root().join("empty.toml");
    fs::write(&empty, "[majors]\nnvidia = 180\n[[gpu]]\nmodel = \"a30\"\n").unwrap();
    let refused = machine.generate(&["--node", empty.to_str().unwrap()]);
    assert_eq!(
        (refused.code, machine.read_spec().as_deref()),
        (5, Some(real)),
        "{}",
        refused.stderr
    );
    let printed = machine.run(&["generate", "--node=a100-80gb", "--output=-"]);
    assert_eq!(printed.code, 0, "printing is harmless: {}", printed.stderr);
    let machine = FakeHost::new("[majors]\nnvidia = 180\nnvidia-caps = 181\nnvidia-uvm = 182\n");
    assert_eq!(machine.generate(&["--node=a100-80gb"]).code, 0);
}

#[test]
fn verbose_prints_more_and_foreign_text_is_escaped() {
    let host = host("a30");
    let run = host.run(&["list", "-v"]);
    for line in [
        "detail: driver 550.163.01, read through TMP/root/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1\n",
        "detail: gpu 1 at 0000:65:00.0 is /dev/nvidia1: 3 gpu instances, 3 mig devices\n",
    ] {
        assert!(run.stderr.contains(line), "{line} in {}", run.stderr);
    }
    let minors = host.path("/proc/driver/nvidia-caps/mig-minors");
    fs::write(minors, "\x1b[2J\x07 1\n").unwrap();
    let run = host.run(&["list"]);
    assert_eq!(run.code, 1);
    assert!(!run.stderr.contains(['\x1b', '\x07']), "{:?}", run.stderr);
}

/// `mig-cdi list | head -1` neither fails nor panics.
#[test]
fn a_closed_pipe_on_standard_output_is_no_error() {
    let mut command = mig_cdi(["list", "--json", "--node=dgx-a100"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let run = deadline::finish(child, deadline::PROGRAM);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

/// Colour is used on a terminal, unless its user disables it (`NO_COLOR`).
#[test]
fn colour_is_used_on_a_terminal_only() {
    let on_terminal = |no_color: &str| {
        let line = format!("{} list --node=nowhere", program("mig-cdi").display());
        // script(1) runs the program on a pseudo-terminal.
        let mut script = Command::new("script");
        script.args(["--quiet", "--command", &line, "/dev/null"]).env_clear();
        run(script.env("NO_COLOR", no_color).env("TERM", "xterm").env("PATH", "/usr/bin:/bin"))
            .stdout
    };
    assert!(on_terminal("").starts_with("\x1b[31merror:\x1b[0m "), "{:?}", on_terminal(""));
    assert!(on_terminal("1").starts_with("error: "), "{:?}", on_terminal("1"));
    let piped = simulated(&["list", "--node=nowhere"]);
    assert!(piped.stderr.starts_with("error: "), "{:?}", piped.stderr);
}

/// A library that an earlier installation left is not the driver's.
#[test]
fn a_library_of_another_driver_is_passed_over() {
    let node = preset("a100-80gb").unwrap();
    let host = FakeHost::new(node);
    let list = || {
        let mut command = host.command(&["list"]);
        // Each library has a description of its own.
        run(command.env_remove("FAKE_NVML_NODE"))
    };
    let stale = host.path("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
    let description = format!("{}.toml", stale.display());
    std::fs::remove_file(&description).unwrap();
    std::fs::write(&description, format!("{node}\n[faults]\nnvml = \"version-mismatch\"\n"))
        .unwrap();
    let refused = list();
    assert!(refused.stderr.contains("are of different driver versions"), "{}", refused.stderr);
    let good = host.path("/usr/lib64/libnvidia-ml.so.1");
    std::fs::create_dir_all(good.parent().unwrap()).unwrap();
    std::fs::copy(&stale, &good).unwrap();
    std::fs::write(format!("{}.toml", good.display()), node).unwrap();
    let run = list();
    assert!(run.code == 0 && run.stdout.contains("0:2g.20gb:4"), "{} {}", run.stdout, run.stderr);
}
