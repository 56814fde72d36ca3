//! `check`: whether the spec on disk is current. `compare`: how another tool's spec of a slice differs from ours, and
//! why.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, driver::DistributionLayout};
use serde_json::Value;
use std::fs;

const VERSION: &str = "580.105.08";

fn host() -> FakeHost {
    FakeHost::with_driver(preset("a100-80gb").unwrap(), DistributionLayout::Fedora)
}

fn check(host: &FakeHost, args: &[&str]) -> Run {
    let output = format!("--output={}", host.spec().display());
    host.run(&[&["check", &output], args].concat())
}

fn stale(run: &Run, lines: &[&str]) {
    run.assert_code(6);
    for line in lines {
        assert!(
            run.stdout.lines().any(|l| l == format!("TMP/cdi/nvidia.com-mig.json: {line}")),
            "{line} in {}",
            run.stdout
        );
    }
}

#[test]
fn check_accepts_a_current_spec_and_writes_nothing() {
    let host = host();
    stale(&check(&host, &[]), &["not there, and the node has devices; run mig-cdi generate"]);
    host.generate(&[]).assert_code(0);
    let before = host.read_spec();
    let run = check(&host, &[]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
    assert_eq!(host.read_spec(), before);
    // The same in YAML, with the flags of that spec.
    let yaml = format!("--output={}/spec.yaml", host.out().display());
    fs::remove_file(host.spec()).unwrap();
    host.run(&["generate", &yaml, "--names=index"]).assert_code(0);
    host.run(&["check", &yaml, "--names=index"]).assert_code(0);
    host.run(&["check", &yaml]).assert_code(6);
}

#[test]
fn check_names_every_change_of_the_node() {
    let host = host();
    host.generate(&[]).assert_code(0);
    // After a reload of the driver the majors are dynamic again, and others.
    let devices = host.path("/proc/devices");
    let text = fs::read_to_string(&devices).unwrap();
    fs::write(&devices, text.replace("508 nvidia-caps\n", "234 nvidia-caps\n")).unwrap();
    stale(
        &check(&host, &[]),
        &[
            "0:2g.20gb:0: node /dev/nvidia-caps/nvidia-cap30 is c 508:30 0444 rw of 0:0, should be c 234:30 0444 rw of 0:0",
        ],
    );
    fs::write(&devices, text).unwrap();
    check(&host, &[]).assert_code(0);
    // The administrator restricts the nodes to a group.
    let params = host.path("/proc/driver/nvidia/params");
    let text = fs::read_to_string(&params).unwrap();
    fs::write(&params, text.replace("DeviceFileGID: 0\n", "DeviceFileGID: 44\n")).unwrap();
    stale(
        &check(&host, &[]),
        &[
            "every container: node /dev/nvidiactl is c 195:255 0666 rw of 0:0, should be c 195:255 0666 rw of 0:44",
        ],
    );
    fs::write(&params, text).unwrap();
    // A CDI version that an engine of this machine cannot read.
    let spec = host.read_spec().unwrap();
    fs::write(host.spec(), spec.replace("0.5.0", "1.0.0")).unwrap();
    stale(&check(&host, &[]), &["its cdiVersion is 1.0.0, should be 0.5.0"]);
    fs::write(host.spec(), spec).unwrap();
    check(&host, &[]).assert_code(0);
    // A slice is destroyed.
    fs::remove_dir_all(host.path("/proc/driver/nvidia/capabilities/gpu0/mig/gi7")).unwrap();
    let description =
        preset("a100-80gb").unwrap().replace("    { profile = \"1g.10gb\", start = 6 },\n", "");
    fs::write(host.env().1, description).unwrap();
    stale(
        &check(&host, &[]),
        &["device 0:1g.10gb:6 is gone; GPU 0 now has 0:2g.20gb:0, 0:2g.20gb:2, 0:2g.20gb:4"],
    );
    host.generate(&[]).assert_code(0);
    check(&host, &[]).assert_code(0);
    // The last slice is destroyed too.
    fs::remove_dir_all(host.path("/proc/driver/nvidia/capabilities/gpu0/mig")).unwrap();
    fs::write(host.env().1, "[[gpu]]\nmodel = \"a100-80gb\"\n").unwrap();
    stale(
        &check(&host, &[]),
        &["it is there, and the node has no nvidia.com/mig device; run mig-cdi generate"],
    );
}

#[test]
fn check_names_driver_files_that_vanished_or_changed() {
    let host = host();
    host.generate(&[]).assert_code(0);
    let lib = |name: &str| host.path(&format!("/usr/lib64/{name}.{VERSION}"));
    fs::remove_file(lib("libcudadebugger.so")).unwrap();
    stale(
        &check(&host, &[]),
        &["every container: mount /usr/lib64/libcudadebugger.so.1 should not be there"],
    );
    // The file is now a link to one in another directory.
    fs::create_dir(host.path("/mine")).unwrap();
    fs::rename(lib("libnvidia-cfg.so"), host.path("/mine/lib")).unwrap();
    std::os::unix::fs::symlink("/mine/lib", lib("libnvidia-cfg.so")).unwrap();
    let line = format!(
        "every container: mount /usr/lib64/libnvidia-cfg.so.1 is TMP/root/usr/lib64/libnvidia-cfg.so.{VERSION} \
         ro,nosuid,nodev,rbind,rprivate, should be TMP/root/mine/lib ro,nosuid,nodev,rbind,rprivate"
    );
    stale(&check(&host, &[]), &[&line]);
    // Without a required file no spec can be built to compare with.
    fs::remove_file(lib("libcuda.so")).unwrap();
    let run = check(&host, &[]);
    run.assert_code(4);
    assert!(run.stderr.contains(&format!("find libcuda.so.{VERSION}: ")), "{}", run.stderr);
}

#[test]
fn check_calls_an_invalid_spec_stale_and_refuses_standard_output() {
    let host = host();
    for (text, line) in [
        (
            "{",
            "not a cdi spec in json or yaml: EOF while parsing an object at line 1 column 1; run mig-cdi generate",
        ),
        (
            "{\"kind\":\"nvidia.com/gpu\"}",
            "its kind is nvidia.com/gpu, not nvidia.com/mig; run mig-cdi generate",
        ),
        (
            &*host.run(&["generate", "--output=-"]).stdout.replacen(
                "\"env\":",
                "\"foo\":1,\"env\":",
                1,
            ),
            "engines refuse it: unknown field `foo`, expected one of `env`, `deviceNodes`, `mounts`, `hooks`, `netDevices`, `intelRdt`, \
             `additionalGids` at line 4 column 74; run mig-cdi generate",
        ),
    ] {
        fs::write(host.spec(), text).unwrap();
        stale(&check(&host, &[]), &[line]);
    }
    host.run(&["check", "--output=-"]).assert_code(2);
}

/// Returns a spec as nvidia-ctk writes it: nodes by path only, files under their own names, six hooks.
fn other_tool(host: &FakeHost) -> String {
    let lib = |name: &str| {
        let file = format!("{}/{name}.{VERSION}", host.path("/usr/lib64").display());
        format!(
            "  - {{hostPath: {file}, containerPath: /usr/lib64/{name}.{VERSION}, options: [ro]}}\n"
        )
    };
    let hook = |name: &str| {
        format!(
            "  - {{hookName: createContainer, path: /usr/bin/nvidia-cdi-hook, args: [nvidia-cdi-hook, {name}]}}\n"
        )
    };
    format!(
        "cdiVersion: 0.7.0
kind: nvidia.com/gpu
devices:
- name: \"0:0\"
  containerEdits:
    deviceNodes: [{{path: /dev/nvidia0}}, {{path: /dev/nvidia-caps/nvidia-cap30}}, {{path: /dev/nvidia-caps/nvidia-cap31}}]
- name: \"0:9\"
  containerEdits:
    deviceNodes: [{{path: /dev/nvidia0}}, {{path: /dev/nvidia-caps/nvidia-cap12}}, {{path: /dev/nvidia-caps/nvidia-cap13}}]
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  deviceNodes: [{{path: /dev/nvidiactl}}, {{path: /dev/nvidia-modeset}}, {{path: /dev/nvidia-uvm}}, {{path: /dev/nvidia-uvm-tools}}]
  hooks:
{}{}  mounts:
{}{}{}",
        hook("create-symlinks"),
        hook("update-ldcache"),
        lib("libcuda.so"),
        lib("libnvidia-ml.so"),
        lib("libnvidia-glcore.so"),
    )
}

#[test]
fn compare_gives_a_reason_for_every_difference() {
    let host = host();
    let file = host.root().join("nvidia.yaml");
    fs::write(&file, other_tool(&host)).unwrap();
    let file = file.to_str().unwrap();
    let json = host.run(&["compare", file, "--json"]);
    json.assert_code(0);
    let rows: Vec<Value> = serde_json::from_str(&json.stdout).unwrap();
    let find = |what: &str| rows.iter().find(|row| row["what"].as_str().unwrap().contains(what));
    for (what, device, side, reason) in [
        ("node /dev/nvidia-modeset", "every", "theirs", "for displays"),
        ("update-ldcache", "every", "theirs", "without a cache"),
        ("create-symlinks", "every", "theirs", "under every name"),
        (
            "libnvidia-glcore.so",
            "every",
            "theirs",
            "only slices of a +gfx profile render, with --capabilities graphics",
        ),
        ("libnvidia-ptxjitcompiler.so", "every", "ours", "of class compute"),
        ("variable MIG_CDI_DEVICE_0_3_0", "every", "ours", "identifies the slice"),
        ("the device", "0:9", "theirs", "no such slice is on this node now"),
    ] {
        let row = find(what).unwrap_or_else(|| panic!("{what} in {}", json.stdout));
        assert_eq!(
            (row["device"].as_str(), row["only_in"].as_str()),
            (Some(device), Some(side)),
            "{what}"
        );
        assert!(row["reason"].as_str().unwrap().contains(reason), "{row}");
    }
    for same in [
        "libcuda.so",
        "libnvidia-ml.so",
        "/dev/nvidiactl",
        "NVIDIA_VISIBLE_DEVICES",
        "nvidia-cap30",
    ] {
        assert!(find(same).is_none(), "{same} is in both: {}", json.stdout);
    }
    assert_eq!(
        rows.iter().filter(|row| row["what"] == "the slice").count(),
        3,
        "slices that the other does not know"
    );
    let table = host.run(&["compare", file]);
    assert!(table.stdout.starts_with("DEVICE"), "{}", table.stdout);
    // Our own spec does not differ from itself.
    host.generate(&[]).assert_code(0);
    let same = host.run(&["compare", host.spec().to_str().unwrap()]);
    assert_eq!((same.code, same.stdout.as_str()), (0, "no difference\n"), "{}", same.stderr);
    for bad in ["/no/such/file", "/dev/null"] {
        host.run(&["compare", bad]).assert_code(2);
    }
}

/// `/lib` is a link to `/usr/lib` where a distribution has merged them: a file of one is a file of the other.
#[test]
fn one_file_under_two_paths_is_no_difference() {
    let host = host();
    host.generate(&[]).assert_code(0);
    let ours = host.read_spec().unwrap();
    let root = host.root().display().to_string();
    std::os::unix::fs::symlink(".", host.path("/usr/link")).unwrap();
    for (from, to) in [
        (format!("{root}/usr/lib64/"), format!("{root}/usr/link/lib64/")),
        (format!("{root}/usr/lib64/"), format!("{root}/usr/lib64//./../lib64/")),
        // A path of the driver's own root, which the machine does not have.
        (format!("\"hostPath\":\"{root}/"), "\"hostPath\":\"/".to_owned()),
    ] {
        let theirs = ours.replace(&from, &to);
        assert_ne!(theirs, ours);
        let file = host.root().join("theirs.json");
        fs::write(&file, theirs).unwrap();
        let run = host.run(&["compare", file.to_str().unwrap()]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "no difference\n"), "{to}: {}", run.stderr);
    }
}

/// A container that may write to a file of the driver changes it for all.
#[test]
fn a_writable_file_is_a_difference() {
    let host = host();
    host.generate(&[]).assert_code(0);
    let theirs = host.read_spec().unwrap().replacen("\"ro\",", "", 1);
    let file = host.root().join("theirs.json");
    fs::write(&file, theirs).unwrap();
    let run = host.run(&["compare", file.to_str().unwrap(), "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["reason"], "it is writable there, and read-only in ours");
    assert_eq!((&rows[0]["device"], &rows[0]["only_in"]), (&"every".into(), &Value::Null));
}

/// The reason for a file that only theirs has is true for that file on this host.
#[test]
fn reasons_for_files_are_true() {
    let host = host();
    for (path, flags, reason) in [
        ("/usr/lib64/libnvidia-glcore.so.1", &[][..], "it does not exist on this host"),
        // No slice of this node renders.
        (
            "/mine/libnvidia-glcore.so.1",
            &["--capabilities=all"],
            "only slices of a +gfx profile render, with --capabilities graphics",
        ),
        ("/mine/libnvcuvid.so.1", &[], "of class video: see --capabilities"),
        (
            "/mine/libnvcuvid.so.1",
            &["--capabilities=all"],
            "of class video, and not where mig-cdi looks for such files",
        ),
        (
            "/mine/nvidia-smi",
            &[],
            "ours has another file of this name, TMP/root/usr/bin/nvidia-smi",
        ),
        ("/mine/other", &[], "not known to be needed in a container"),
    ] {
        let full = host.path(path);
        if path.starts_with("/mine") {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(&full, "").unwrap();
        }
        let file = host.root().join("theirs.yaml");
        let caps = "[{path: /dev/nvidia-caps/nvidia-cap30}, {path: /dev/nvidia-caps/nvidia-cap31}]";
        let mount = format!("{{hostPath: {}, containerPath: /x}}", full.display());
        let text = format!(
            "cdiVersion: 0.5.0\nkind: a.com/bb\ndevices:\n- name: x\n  containerEdits: {{deviceNodes: {caps}, mounts: [{mount}]}}\n"
        );
        fs::write(&file, text).unwrap();
        let run = host.run(&[&["compare", file.to_str().unwrap(), "--json"], flags].concat());
        let rows: Vec<Value> = serde_json::from_str(&run.stdout).unwrap();
        let row = rows.iter().find(|row| row["only_in"] == "theirs").unwrap();
        assert_eq!(row["reason"], reason, "{path} {flags:?}: {row}");
    }
}
