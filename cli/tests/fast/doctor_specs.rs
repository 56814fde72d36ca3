//! `mig-cdi doctor` on spec files and names: it says what an engine would do. Faults that need a trusted engine, device nodes or
//! driver files are in the tier host.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, mig_cdi, run};
use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::PathBuf,
};

/// A host with podman, which reads two directories of specs: `low`, and before it in priority `high`.
struct SpecHost(FakeHost);

impl SpecHost {
    fn new() -> SpecHost {
        let host = SpecHost(FakeHost::new(preset("a100-80gb").unwrap()));
        let dirs = ["low", "high"].map(|dir| host.dir(dir));
        dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        fs::write(host.0.config(), format!("capabilities = \"none\"\nspec-dirs = {dirs:?}\n"))
            .unwrap();
        host.write(
            "/etc/containers/containers.conf",
            &format!("[engine]\ncdi_spec_dirs = {dirs:?}\n"),
        );
        host.write("/usr/bin/podman", "#!/bin/sh\necho podman version 5.8.6\n");
        fs::set_permissions(host.0.path("/usr/bin/podman"), Permissions::from_mode(0o755)).unwrap();
        host
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.0.out().parent().unwrap().join(name)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn spec(&self, dir: &str, name: &[u8], kind: &str, device: &str) {
        let text = format!(
            "cdiVersion: 0.5.0\nkind: {kind}\ndevices:\n- {{name: {device}, containerEdits: {{env: [A=b]}}}}\n"
        );
        self.text(dir, name, &text);
    }

    fn text(&self, dir: &str, name: &[u8], text: &str) {
        fs::write(self.dir(dir).join(OsStr::from_bytes(name)), text).unwrap();
    }

    fn doctor(&self, args: &[&str]) -> Run {
        let root = format!("--host-root={}", self.0.root().display());
        self.0.run(&[&["doctor", &root], args].concat())
    }
}

/// Lines of a severity, without the cures below them.
fn lines<'a>(run: &'a Run, severity: &str) -> Vec<&'a str> {
    run.stdout.lines().filter(|line| line.starts_with(severity)).collect()
}

#[test]
fn the_cure_names_the_settings_that_were_read() {
    let host = SpecHost::new();
    host.write("/usr/bin/podman", "#!/bin/sh\necho podman version 4.3.1\n");
    host.spec("low", b"a.yaml", "nvidia.com/mig", "x");
    let doctor = host.doctor(&["x"]);
    let cure = "cure: set spec-dirs in TMP/config.toml to /etc/cdi or /var/run/cdi, and run";
    assert!(doctor.stdout.contains(cure), "{}", doctor.stdout);
}

#[test]
fn a_file_whose_suffix_engines_do_not_read_is_named() {
    let host = SpecHost::new();
    for name in ["a.yml", "b.YAML", "c.Json", "d.yaml", "e.json", "f.yaml.bak", "yml", "d.yml"] {
        host.spec("low", name.as_bytes(), "nvidia.com/mig", "x");
    }
    fs::create_dir(host.dir("low").join("g.yml")).unwrap();
    let run = host.doctor(&[]);
    let misnamed: Vec<_> =
        run.stdout.lines().skip_while(|line| !line.contains("of this suffix")).take(8).collect();
    let line = |name: &str| {
        format!(
            "warning  specs         TMP/low/{name}: engines read no file of this suffix, only .json and .yaml"
        )
    };
    let rename =
        |from: &str, to: &str| format!("         cure: rename it: mv TMP/low/{from} TMP/low/{to}");
    let expected = [
        line("a.yml"),
        rename("a.yml", "a.yaml"),
        line("b.YAML"),
        rename("b.YAML", "b.yaml"),
        line("c.Json"),
        rename("c.Json", "c.json"),
        line("d.yml"),
        "         cure: remove it, or give it a name other than TMP/low/d.yaml".to_owned(),
    ];
    assert_eq!(misnamed, expected, "{}", run.stdout);
    assert_eq!(run.stdout.matches("of this suffix").count(), 4, "{}", run.stdout);
}

#[test]
fn a_name_that_two_files_of_a_directory_define_is_seen_by_no_engine() {
    for dir in ["low", "high"] {
        let host = SpecHost::new();
        host.spec(dir, b"a.yaml", "nvidia.com/mig", "x");
        host.spec(dir, b"b.yaml", "nvidia.com/mig", "x");
        for third in [false, true] {
            // A definition in the other directory does not bring the name back.
            if third {
                host.spec(
                    if dir == "low" { "high" } else { "low" },
                    b"c.yaml",
                    "nvidia.com/mig",
                    "x",
                );
            }
            for name in ["nvidia.com/mig=x", "x"] {
                let run = host.doctor(&[name]);
                run.assert_code(1);
                assert_eq!(lines(&run, "ok"), [""; 0], "{}", run.stdout);
                assert!(!run.stdout.contains("sees it"), "{}", run.stdout);
                let twin = format!(
                    "error    name  TMP/{dir}/a.yaml: TMP/{dir}/b.yaml in the same directory defines it too: engines resolve neither"
                );
                assert!(lines(&run, "error").contains(&&*twin), "{}", run.stdout);
            }
            let run = host.doctor(&[]);
            run.assert_code(1);
            let clash = format!(
                "error    names         defined twice, by TMP/{dir}/a.yaml, TMP/{dir}/b.yaml, so that engines resolve neither: nvidia.com/mig=x"
            );
            assert!(lines(&run, "error").contains(&&*clash), "{}", run.stdout);
            assert!(!run.stdout.contains("hidden by"), "{}", run.stdout);
        }
    }
}

#[test]
fn devices_of_two_kinds_with_one_name_do_not_clash() {
    let host = SpecHost::new();
    host.spec("high", b"a.yaml", "nvidia.com/mig", "x");
    host.spec("high", b"b.yaml", "nvidia.com/gpu", "x");
    let run = host.doctor(&["x"]);
    assert_eq!((run.code, lines(&run, "ok").len()), (0, 4), "{}", run.stdout);
}

#[test]
fn a_name_that_no_engine_sees_is_an_error() {
    let host = SpecHost::new();
    host.spec("high", b"a.yaml", "nvidia.com/mig", "x");
    let seen = host.doctor(&["nvidia.com/mig=x"]);
    assert!(seen.stdout.contains("sees it"), "{}", seen.stdout);
    seen.assert_code(0);
    let low = host.dir("low");
    host.write(
        "/etc/containers/containers.conf",
        &format!("[engine]\ncdi_spec_dirs = [{low:?}]\n"),
    );
    let run = host.doctor(&["nvidia.com/mig=x"]);
    run.assert_code(1);
    let line = "error    name  podman: does not see it: it does not read TMP/high";
    assert_eq!(lines(&run, "error"), [line], "{}", run.stdout);
    let run = host.doctor(&[]);
    run.assert_code(1);
    let line = "error    names         no engine here sees nvidia.com/mig=x; podman: does not see it: it does not read TMP/high";
    assert!(lines(&run, "error").contains(&line), "{}", run.stdout);
}

/// An engine may read a directory that our settings do not name, and its own order of directories counts.
#[test]
fn the_directories_and_their_order_are_those_of_the_engine() {
    let host = SpecHost::new();
    let (low, high) = (host.dir("low"), host.dir("high"));
    fs::create_dir_all(host.0.path("/etc/cdi")).unwrap();
    let text = format!("[engine]\ncdi_spec_dirs = [{high:?}, {low:?}, \"/etc/cdi\"]\n");
    host.write("/etc/containers/containers.conf", &text);
    host.write("/etc/cdi/x.json", r#"{"cdiVersion":"0.5.0","kind":"a.com/bb","devices":[{"name":"x","containerEdits":{"env":["A=b"]}}]}"#);
    let run = host.doctor(&["a.com/bb=x"]);
    run.assert_code(0);
    assert_eq!(lines(&run, "ok").len(), 2, "{}", run.stdout);
    // The file of podman's last directory wins, and it is valid; the one of ours is not.
    host.spec("low", b"a.yaml", "nvidia.com/mig", "z");
    host.text("high", b"b.yaml", "cdiVersion: 0.5.0\nkind: nvidia.com/mig\ndevices: [{name: z, containerEdits: {env: [A]}}]\n");
    let run = host.doctor(&["z"]);
    run.assert_code(1);
    assert!(run.stdout.contains("podman 5.8.6 sees it in TMP/low/a.yaml"), "{}", run.stdout);
    assert!(
        run.stdout.contains("engines refuse the file: device z: variable \"A\" is not NAME=VALUE"),
        "{}",
        run.stdout
    );
}

/// The last directory of the engine's list wins (container-device-interface `pkg/cdi/cache.go`, `refresh`), whatever the order in our
/// settings. A file that generate would not write beside the other one is not cured by generate.
#[test]
fn a_stale_file_in_the_engine_s_last_directory_is_an_error() {
    let host = SpecHost::new();
    let (low, high) = (host.dir("low"), host.dir("high"));
    let generate = |dir: &str, name: &str| {
        host.0.run(&["generate", &format!("--output={}/{name}", host.dir(dir).display())])
    };
    assert_eq!(generate("high", "nvidia.com-mig.json").code, 0);
    let current = fs::read_to_string(high.join("nvidia.com-mig.json")).unwrap();
    host.text("low", b"old.json", &current.replace("nvidia-cap30\"", "nvidia-cap300\""));
    let name = "nvidia.com/mig=0:2g.20gb:0";
    let run = host.doctor(&[name]);
    run.assert_code(0);
    assert!(
        run.stdout.contains("podman 5.8.6 sees it in TMP/high/nvidia.com-mig.json"),
        "{}",
        run.stdout
    );
    let config = format!("[engine]\ncdi_spec_dirs = [{high:?}, {low:?}]\n");
    host.write("/etc/containers/containers.conf", &config);
    let run = host.doctor(&[name]);
    run.assert_code(1);
    let cure = "cure: remove it, since TMP/high/nvidia.com-mig.json defines its devices too: rm TMP/low/old.json";
    for line in [
        "note     name  TMP/high/nvidia.com-mig.json: defines it, but is hidden by TMP/low/old.json",
        "error    name  TMP/low/old.json: /dev/nvidia-caps/nvidia-cap300 belongs to no instance that exists",
        "ok       name  podman: podman 5.8.6 sees it in TMP/low/old.json",
        cure,
    ] {
        assert!(
            run.stdout.lines().any(|found| found.trim_start() == line),
            "{line}: {}",
            run.stdout
        );
    }
    let run = host.doctor(&[]);
    let hidden = "TMP/high/nvidia.com-mig.json: hidden by TMP/low/old.json: ";
    assert!(run.stdout.contains(hidden) && run.stdout.contains(cure), "{}", run.stdout);
    assert_eq!(generate("low", "old.json").code, 5, "the cure is not this");
    fs::remove_file(low.join("old.json")).unwrap();
    host.doctor(&[name]).assert_code(0);
    // Where the file that generate writes is the stale one, the other goes first.
    host.text("low", b"old.json", &current);
    host.text(
        "high",
        b"nvidia.com-mig.json",
        &current.replace("nvidia-cap30\"", "nvidia-cap300\""),
    );
    let run = host.doctor(&[]);
    let cure = "cure: remove TMP/low/old.json, which defines its devices too: rm TMP/low/old.json; then run mig-cdi generate";
    assert!(run.stdout.contains(cure), "{}", run.stdout);
}

/// The expected verdicts are those of the libraries of podman 4.3.1 and 5.8.2 (`podman.rs` runs the former).
#[test]
fn a_file_is_read_as_engines_read_it() {
    let yaml = |content: &str| {
        format!(
            "cdiVersion: 0.5.0\nkind: nvidia.com/mig\ndevices:\n- name: \"0:2g.20gb:0\"\n  containerEdits: {content}\n"
        )
    };
    let node =
        |field: &str| yaml(&format!("{{deviceNodes: [{{path: /dev/null, type: c, {field}}}]}}"));
    let json = r#"{"cdiVersion":"0.5.0","kind":"nvidia.com/mig","devices":[{"name":"0:2g.20gb:0","containerEdits":{"env":["A=b"]}}]}"#;
    let env = yaml("{env: [A=b]}");
    for text in [
        format!("---\n{env}---\ncdiVersion: 0.5.0\n"),
        format!("{env}...\n}} more"),
        format!("{json} more"),
        format!("{json}\n{json}\n"),
        node("fileMode: 0666"),
        node("fileMode: 0o666, major: 0x1, minor: 1_0"),
        node("major: 1.0, minor: 3e0"),
    ] {
        let host = SpecHost::new();
        host.text("high", b"a.yaml", &text);
        let run = host.doctor(&[]);
        let line = "ok       specs         TMP/high/a.yaml: nvidia.com/mig, 1 device, cdi 0.5.0";
        assert!(lines(&run, "ok").contains(&line), "{text}: {}", run.stdout);
        let ours = format!("--output={}/ours.json", host.dir("high").display());
        let generate = host.0.run(&["generate", &ours]);
        let clash = "TMP/high/a.yaml defines nvidia.com/mig=0:2g.20gb:0 too";
        assert!(
            generate.code == 5 && generate.stderr.contains(clash),
            "{text}: {}",
            generate.stderr
        );
        let file = host.dir("high").join("a.yaml");
        let compare = host.0.run(&["compare", file.to_str().unwrap()]);
        assert_eq!(compare.code, 0, "{text}: {}", compare.stderr);
    }
    for (text, reason) in [
        (
            node("major: \"195\""),
            "invalid type: string \"195\", expected a number at line 5, column ",
        ),
        (
            node("fileMode: -1"),
            "invalid value: integer `-1`, expected a number from 0 to 4294967295",
        ),
        (
            yaml("{hooks: [{hookName: prestart, path: /x, timeout: \"10\"}]}"),
            "invalid type: string \"10\", expected a number",
        ),
        (
            json.replace(r#""env":["A=b"]"#, r#""deviceNodes":[{"path":"/dev/x","major":"195"}]"#),
            "invalid type: string \"195\", expected a number at line 1 column ",
        ),
        (json.replace("A=b", r"A=\/"), "engines do not know the escape \\/"),
        (
            format!("kind: a.com/bb\n{env}"),
            "duplicate mapping key `kind` is not allowed here at line 3",
        ),
        (format!("%YAML 1.2\n---\n{env}"), "engines read only YAML 1.1"),
    ] {
        let host = SpecHost::new();
        host.text("high", b"a.yaml", &text);
        let run = host.doctor(&[]);
        run.assert_code(1);
        let line = format!(
            "error    specs         TMP/high/a.yaml: not a cdi spec in json or yaml: {reason}"
        );
        assert!(
            lines(&run, "error").iter().any(|found| found.starts_with(&line)),
            "{text}: {}",
            run.stdout
        );
        assert!(
            !run.stdout.contains("from_str") && !run.stdout.contains("Options"),
            "{}",
            run.stdout
        );
    }
}

/// Engines pass over a directory, and try to read a link to one (container-device-interface `pkg/cdi/spec-dirs.go`).
#[test]
fn a_directory_with_the_name_of_a_file_is_no_spec() {
    let host = SpecHost::new();
    host.spec("high", b"a.yaml", "nvidia.com/mig", "x");
    fs::create_dir(host.dir("high").join("dir.json")).unwrap();
    let run = host.doctor(&[]);
    assert!(!run.stdout.contains("dir.json"), "{}", run.stdout);
    assert!(run.stdout.contains("TMP/high: 1 spec file\n"), "{}", run.stdout);
    std::os::unix::fs::symlink("dir.json", host.dir("high").join("link.json")).unwrap();
    let run = host.doctor(&[]);
    let line = "error    specs         TMP/high/link.json: read TMP/high/link.json: it is no regular file: engines ignore the file silently";
    assert!(lines(&run, "error").contains(&line), "{}", run.stdout);
}

#[test]
fn file_names_are_read_whatever_their_bytes() {
    for name in [&b"\xff.json"[..], b"\xe4\xf6.yaml", b".json", b"\xc3\xa9.yaml"] {
        let host = SpecHost::new();
        host.spec("high", name, "nvidia.com/mig", "0:2g.20gb:0");
        let run = host
            .0
            .run(&["generate", &format!("--output={}/ours.json", host.dir("high").display())]);
        assert_eq!(run.code, 5, "{name:?}: {}", run.stderr);
        assert!(run.stderr.contains("defines nvidia.com/mig=0:2g.20gb:0 too"), "{}", run.stderr);
        let run = host.doctor(&["nvidia.com/mig=0:2g.20gb:0"]);
        assert_eq!((run.code, lines(&run, "ok").len()), (0, 2), "{name:?}: {}", run.stdout);
        let run = host.doctor(&[]);
        assert!(run.stdout.contains(": nvidia.com/mig, 1 device, cdi 0.5.0"), "{}", run.stdout);
        fs::set_permissions(
            host.dir("high").join(OsStr::from_bytes(name)),
            Permissions::from_mode(0o600),
        )
        .unwrap();
        let run = host.doctor(&[]);
        let closed = run.stdout.contains("mode 0600: rootless engines cannot read it");
        assert!(closed, "{name:?}: {}", run.stdout);
    }
    let host = SpecHost::new();
    host.spec("high", b"\xff.json", "nvidia.com/mig", "x");
    host.spec("high", b"\xfe.json", "nvidia.com/mig", "x");
    let run = host.doctor(&[]);
    let clash = r"defined twice, by $'TMP/high/\xfe.json', $'TMP/high/\xff.json', so that engines resolve neither";
    assert!(run.stdout.contains(clash), "{}", run.stdout);
}

/// `/var/run` is a link to `/run`: a directory under both names is one directory.
#[test]
fn a_directory_under_two_names_does_not_clash_with_itself() {
    let host = SpecHost::new();
    host.spec("high", b"a.yaml", "nvidia.com/mig", "x");
    std::os::unix::fs::symlink("high", host.dir("link")).unwrap();
    let dirs = ["link", "high"].map(|dir| host.dir(dir));
    fs::write(host.0.config(), format!("capabilities = \"none\"\nspec-dirs = {dirs:?}\n")).unwrap();
    let run = host.doctor(&["nvidia.com/mig=x"]);
    assert_eq!((run.code, lines(&run, "ok").len()), (0, 2), "{}", run.stdout);
    let run = host.doctor(&[]);
    assert!(
        run.stdout.contains("ok       names         1 name, each defined once"),
        "{}",
        run.stdout
    );
}

/// One bad part disables the whole file (container-device-interface `pkg/cdi/spec.go`, `validate`).
#[test]
fn what_every_engine_refuses_defines_nothing() {
    let device =
        |name: &str, edits: &str| format!("{{name: \"{name}\", containerEdits: {{{edits}}}}}");
    let (x, env) = (device("x", "env: [A=b]"), "env: [A=b]");
    for (devices, reason) in [
        (format!("{x}, {x}"), "it defines device x twice"),
        (format!("{x}, {}", device("a b", env)), "device \"a b\" is not"),
        (format!("{x}, {}", device("-", env)), "device \"-\" is not"),
        (device("x", "env: [=b]"), "device x: variable \"=b\" is not NAME=VALUE"),
        (device("x", "deviceNodes: [{path: \"\"}]"), "device x: a device node has no path"),
        (
            device("x", "deviceNodes: [{path: /dev/x, type: d}]"),
            "/dev/x has the type \"d\", not b, c, u or p",
        ),
        (
            device("x", "deviceNodes: [{path: /dev/x, permissions: rx}]"),
            "/dev/x has the permissions \"rx\"",
        ),
        (device("x", "hooks: [{hookName: start, path: /x}]"), "a hook has the stage \"start\""),
        (device("x", "hooks: [{hookName: prestart, path: \"\"}]"), "a hook has no path"),
        (
            device("x", "hooks: [{hookName: prestart, path: /x, env: [A]}]"),
            "variable \"A\" is not NAME=VALUE",
        ),
        (
            device("x", "mounts: [{hostPath: /x, containerPath: \"\"}]"),
            "a mount has no hostPath or no containerPath",
        ),
    ] {
        let host = SpecHost::new();
        // Beside a valid file of the same name it is no second definition.
        host.spec("high", b"good.yaml", "a.com/bb", "x");
        host.text(
            "high",
            b"bad.yaml",
            &format!("cdiVersion: 0.5.0\nkind: a.com/bb\ndevices: [{devices}]\n"),
        );
        let run = host.doctor(&[]);
        let line =
            lines(&run, "error").into_iter().find(|line| line.contains(reason)).map(str::to_owned);
        let line = line.unwrap_or_else(|| panic!("{reason} in {}", run.stdout));
        assert!(line.starts_with("error    specs         TMP/high/bad.yaml: "), "{line}");
        assert!(line.ends_with(": engines refuse the file"), "{line}");
        assert!(!run.stdout.contains("defined twice"), "{}", run.stdout);
        let run = host.doctor(&["a.com/bb=x"]);
        assert!(
            run.stdout.contains(" sees it in TMP/high/good.yaml\n"),
            "{reason}: {}",
            run.stdout
        );
    }
}

/// The library parses strictly, and compares the version with the content (`pkg/cdi/spec.go`, `ParseSpec`;
/// `specs-go/version.go`, `ValidateVersion`).
#[test]
fn a_file_that_needs_a_higher_version_or_has_unknown_fields_is_refused() {
    let node = "path: /dev/null, type: c, major: 1, minor: 3";
    let gids = "env: [A=b], additionalGids: [44]";
    let (host_path, misspelled) =
        (format!("{node}, hostPath: /dev/x"), format!("{node}, hostPaht: /dev/x"));
    let other_case = format!("{node}, HOSTPATH: /dev/x");
    let nodes = |node: &str| format!("deviceNodes: [{{{node}}}]");
    let mounts = "mounts: [{hostPath: /x, containerPath: /x, type: bind}]";
    for (check, version, name, edits, reason) in [
        ("specs", "0.5.0", "x", gids, "device x has additionalGids, which needs 0.7.0"),
        (
            "specs",
            "0.6.0",
            "x",
            "intelRdt: {closID: a}",
            "device x has intelRdt, which needs 0.7.0",
        ),
        (
            "specs",
            "1.0.0",
            "x",
            "netDevices: [{hostInterfaceName: a, name: b}]",
            "device x has netDevices, which needs 1.1.0",
        ),
        ("specs", "0.5.0", "x", "env: [A=b], foo: 1", "unknown field `foo`, expected one of"),
        ("specs", "0.5.0", "x", &nodes(&misspelled), "unknown field `hostPaht`, expected one of"),
        ("specs", "0.5.0", "x", "", "device x has no edits"),
        ("specs", "9.0.0", "x", "env: [A=b]", "cdiVersion \"9.0.0\" is not a version"),
        ("specs", "vv0.5.0", "x", "env: [A=b]", "cdiVersion \"vv0.5.0\" is not a version"),
        ("versions", "0.4.0", "x", &nodes(&host_path), "a node with a hostPath, which needs 0.5.0"),
        (
            "versions",
            "v0.4.0",
            "x",
            &nodes(&other_case),
            "a node with a hostPath, which needs 0.5.0",
        ),
        ("versions", "0.3.0", "x", mounts, "device x has a mount with a type, which needs 0.4.0"),
        ("versions", "0.3.0", "0", "env: [A=b]", "starts with a digit, which needs 0.5.0"),
        ("", "v0.5.0", "0", &nodes(&other_case), ""),
        ("", "0.7.0", "x", gids, ""),
    ] {
        let host = SpecHost::new();
        let text = format!(
            "cdiVersion: {version}\nkind: a.com/bb\ndevices: [{{name: \"{name}\", containerEdits: {{{edits}}}}}]\n"
        );
        host.text("high", b"a.yaml", &text);
        let (run, named) = (host.doctor(&[]), host.doctor(&[&format!("a.com/bb={name}")]));
        assert_eq!(named.stdout.contains(" sees it\n"), check.is_empty(), "{text}{}", named.stdout);
        if check.is_empty() {
            named.assert_code(0);
            assert!(!run.stdout.contains("refuse"), "{text}{}", run.stdout);
            continue;
        }
        named.assert_code(1);
        assert!(named.stdout.contains(reason), "{text}{}", named.stdout);
        let start = format!("error    {check:<12}  TMP/high/a.yaml: ");
        let is = |line: &&str| line.starts_with(&start) && line.contains(reason);
        assert_eq!(lines(&run, "error").into_iter().filter(is).count(), 1, "{text}{}", run.stdout);
    }
    for device in ["annotations: {a: b}", ""] {
        let host = SpecHost::new();
        let common = if device.is_empty() { "annotations: {a: b}\n" } else { "" };
        let text = format!(
            "cdiVersion: 0.5.0\nkind: a.com/bb\n{common}devices: [{{name: x, containerEdits: {{env: [A=b]}}, {device}}}]\n"
        );
        host.text("high", b"a.yaml", &text);
        let run = host.doctor(&[]);
        assert!(
            run.stdout.contains(" has annotations, which needs 0.6.0: engines refuse the file"),
            "{}",
            run.stdout
        );
    }
}

#[test]
fn a_cure_is_for_the_tool_that_wrote_the_file() {
    let edits = |program: &str| {
        format!("hooks: [{{hookName: createContainer, path: {program}, args: [x]}}]")
    };
    let (ctk, other) = (edits("/no/nvidia-cdi-hook"), edits("/no/other"));
    for (name, kind, edits, cure) in [
        ("n.yaml", "nvidia.com/gpu", &ctk, "run nvidia-ctk cdi generate --output=TMP/high/n.yaml"),
        (
            "n.yaml",
            "nvidia.com/gpu",
            &other,
            "run nvidia-ctk cdi generate --output=TMP/high/n.yaml",
        ),
        (
            "n.yaml",
            "nvidia.com/mig",
            &ctk,
            "run nvidia-ctk cdi generate --vendor=nvidia.com --class=mig --output=TMP/high/n.yaml",
        ),
        (
            "n m.yaml",
            "nvidia.com/gpu",
            &ctk,
            "run nvidia-ctk cdi generate --output=$'TMP/high/n m.yaml'",
        ),
        (
            "n.yaml",
            "k8s.device-plugin.nvidia.com/gpu",
            &ctk,
            "restart the pod of nvidia's device plugin, which writes it",
        ),
        (
            "n.yaml",
            "k8s.gpu.nvidia.com/claim",
            &ctk,
            "restart the pod of nvidia's dra driver, which writes it",
        ),
        (
            "n.yaml",
            "amd.com/gpu",
            &other,
            "generate it again with the tool that wrote it, or remove it",
        ),
        (
            "n.yaml",
            "nvidia.com/mig",
            &other,
            "generate it again with the tool that wrote it, or remove it",
        ),
    ] {
        for is_installed in [true, false] {
            let host = SpecHost::new();
            if is_installed {
                host.write("/usr/local/bin/nvidia-ctk", "");
            }
            host.text(
            "high",
            name.as_bytes(),
            &format!("cdiVersion: 0.5.0\nkind: {kind}\ndevices: [{{name: x, containerEdits: {{{edits}}}}}]\n"),
        );
            let run = host.doctor(&[]);
            let mut lines =
                run.stdout.lines().skip_while(|line| !line.starts_with("error    files"));
            assert!(
                lines
                    .next()
                    .is_some_and(|line| line.contains("it runs programs that do not exist")),
                "{}",
                run.stdout
            );
            let cure = match is_installed {
                true => cure.to_owned(),
                false => cure.replace(
                    "run nvidia-ctk",
                    "install nvidia-container-toolkit and run nvidia-ctk",
                ),
            };
            assert_eq!(lines.next(), Some(&*format!("         cure: {cure}")), "{}", run.stdout);
        }
    }
}

/// Engines have no limit: a file that is too large for us may define the same names.
#[test]
fn nothing_is_written_beside_a_file_that_is_too_large() {
    let host = SpecHost::new();
    host.text("high", b"huge.json", "");
    let huge = std::fs::File::options().write(true).open(host.dir("high").join("huge.json"));
    huge.unwrap().set_len((16 << 20) + 1).unwrap();
    let ours = host.dir("high").join("ours.json");
    let run = host.0.run(&["generate", &format!("--output={}", ours.display())]);
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(run.stderr.contains("huge.json"), "{}", run.stderr);
    assert!(
        run.stderr.contains("two files that define one device disable each other"),
        "{}",
        run.stderr
    );
    assert!(!ours.exists());
}

/// The file may be the one that defines the name.
#[test]
fn a_file_that_engines_pass_over_is_named_with_a_name_that_none_defines() {
    let host = SpecHost::new();
    host.text(
        "high",
        b"nvidia.yaml",
        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n\t- name: x\n",
    );
    for name in ["nvidia.com/gpu=x", "x"] {
        let run = host.doctor(&[name]);
        let words = format!(
            "{name}: no spec file that engines can read defines it, and they pass over TMP/high/nvidia.yaml: not a cdi spec"
        );
        assert!(run.code == 1 && run.stdout.contains(&words), "{}", run.stdout);
    }
    let gone = host.doctor(&["0:3g.40gb:4"]);
    assert!(gone.stdout.contains("0:3g.40gb:4 is gone"), "{}", gone.stdout);
}

/// Whole GPUs are devices too, of another spec file.
#[test]
fn a_whole_gpu_without_a_spec_file_leads_to_one() {
    let text = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"3g.40gb\", start = 0 }]\n[[gpu]]\nmodel = \"l40s\"\n\
                [[gpu]]\nmodel = \"a100-80gb\"\n[[gpu]]\nmodel = \"a100-80gb\"\nmig = false\n";
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("node.toml");
    fs::write(&node, text).unwrap();
    let node = format!("--node={}", node.display());
    let root = format!("--host-root={}", dir.path().display());
    let on = |args: &[&str]| run(&mut mig_cdi([args, &["--config=/dev/null", &node]].concat()));
    let uuid = on(&["list", "--json"]).stdout;
    let uuid = uuid.split("GPU-").nth(2).unwrap().split('"').next().unwrap();
    let uuid = format!("GPU-{uuid}");
    const GENERATE: &str =
        "the node has it, no spec file defines it\n         cure: run mig-cdi generate --gpus\n";
    for (name, words) in [
        ("nvidia.com/gpu=1", GENERATE),
        ("nvidia.com/gpu=3", GENERATE),
        ("nvidia.com/gpu=all", GENERATE),
        (&uuid, GENERATE),
        (
            "nvidia.com/gpu=0",
            "gpu 0 is in mig mode, and is given out in slices\n         cure: request one of its slices: 0:3g.40gb:0\n",
        ),
        (
            "nvidia.com/gpu=2",
            "gpu 2 is in mig mode, and is given out in slices\n         cure: run sudo mig-cdi apply 2=",
        ),
        ("nvidia.com/gpu=7", "the node has no such device"),
    ] {
        let doctor = on(&["doctor", name, &root]);
        assert!(doctor.code == 1 && doctor.stdout.contains(words), "{name}: {}", doctor.stdout);
    }
    let show = on(&["show", &uuid]);
    assert!(
        show.code == 0 && show.stdout.contains("/dev/nvidia1"),
        "{} {}",
        show.stdout,
        show.stderr
    );
}

/// `generate` does not change a file of another tool: to send the reader there would lead back here.
#[test]
fn another_tools_file_of_our_kind_is_not_called_stale() {
    let host = SpecHost::new();
    host.spec("low", b"other.yaml", "nvidia.com/mig", "x");
    host.0
        .run(&["generate", &format!("--output={}/nvidia.com-mig.json", host.dir("high").display())])
        .assert_code(0);
    let run = host.doctor(&[]);
    let line = "note     drift         TMP/low/other.yaml: of nvidia.com/mig, and not written by mig-cdi: not compared";
    assert!(lines(&run, "note").contains(&line), "{}", run.stdout);
    assert!(
        run.stdout.contains("ok       drift         TMP/high/nvidia.com-mig.json: "),
        "{}",
        run.stdout
    );
    // A file of ours in another place is written again in that place.
    fs::rename(host.dir("high").join("nvidia.com-mig.json"), host.dir("low").join("a b.json"))
        .unwrap();
    host.0.replace_node("[[gpu]]\nmodel = \"a100-80gb\"\n");
    let run = host.doctor(&[]);
    let cure = "cure: run mig-cdi generate --output=$'TMP/low/a b.json'";
    assert!(run.stdout.contains(cure), "{}", run.stdout);
}

#[test]
fn one_finding_is_counted_in_the_singular() {
    let host = SpecHost::new();
    host.spec("low", b"a.yaml", "nvidia.com/mig", "x");
    host.spec("low", b"b.yaml", "nvidia.com/mig", "x");
    let run = host.doctor(&["no-such-name"]);
    assert_eq!(run.stderr, "1 error, 0 warnings, 0 notes\n");
}
