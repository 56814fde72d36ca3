//! The mode `runtime` in front of the installed runc and crun: whatever the command line, no container starts without
//! the slice that its bundle requests.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    podman::{Podman, VARIANTS},
    project, run, script_program,
};
use serde_json::Value;
use std::{collections::BTreeSet, ffi::OsStr, fs, path::Path, process::Command};

const RUNTIMES: [&str; 2] = ["runc", "crun"];
/// Commands that make a container; those without help are not in the installed release.
const MAKERS: [&str; 3] = ["create", "run", "restore"];

fn host(runtime: &Path) -> FakeHost {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    host.configure_hook(&format!("runtimes = [{runtime:?}]"));
    host.generate(&[]).assert_code(0);
    host
}

/// Makes a bundle whose container requests a slice.
fn bundle(dir: &Path, rootfs: &str) {
    let text = fs::read_to_string(project().join("tests/engines/bundle.json")).unwrap();
    let text = text.replace("ROOTFS", rootfs).replace("DEVICES", "0:2g.20gb:0");
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("config.json"), text).unwrap();
}

/// A host whose real runtime only records that it was run, and its bundle.
struct Recorder {
    host: FakeHost,
}

impl Recorder {
    fn new() -> Recorder {
        let host = host(Path::new("/nowhere"));
        let runtime = host.root().join("recorder");
        let record = host.root().join("record");
        script_program(&runtime, &format!("echo ran > {}", record.display()));
        host.configure_hook(&format!("runtimes = [{runtime:?}]"));
        Recorder { host }
    }

    fn bundle(&self) -> std::path::PathBuf {
        self.host.root().join("bundle")
    }

    /// Runs the hook with this command line, in which BUNDLE is a new bundle. Returns whether the runtime ran, and
    /// whether the bundle has a slice.
    fn run(&self, args: &[impl AsRef<OsStr>]) -> (Run, bool, bool) {
        let record = self.host.root().join("record");
        let _ = fs::remove_file(&record);
        bundle(&self.bundle(), "rootfs");
        let config = format!("--config={}", self.host.config().display());
        let mut command = self.host.hook(&["runtime", &config, "--"]);
        let path = self.bundle().display().to_string();
        for arg in args {
            command.arg(arg.as_ref().to_str().unwrap().replace("BUNDLE", &path));
        }
        let run = run(command.current_dir(self.bundle()));
        let config = fs::read_to_string(self.bundle().join("config.json")).unwrap();
        (run, record.exists(), config.contains("nvidia-cap30"))
    }

    /// Asserts that neither the runtime runs nor the bundle changes.
    fn assert_refused(&self, args: &[&str]) {
        let (run, ran, injected) = self.run(args);
        assert_eq!((run.code, ran, injected), (2, false, false), "{args:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("error: parse the runtime's argument "), "{}", run.stderr);
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// What runtimes read in different ways, or one that is not known yet may, starts no container. Commands that make none
/// pass.
#[test]
fn an_unclear_command_line_starts_no_container() {
    let recorder = Recorder::new();
    for line in [
        "--new-option create --bundle BUNDLE id",
        "--new-option create state --bundle BUNDLE id",
        "--new-option=value create --bundle BUNDLE id",
        "--root - create --bundle BUNDLE id",
        "-root r create --bundle BUNDLE id",
        "--roo state create --bundle BUNDLE id",
        "--help --help=false create --bundle BUNDLE id",
        "create --new-option --bundle BUNDLE id",
        "create --bun BUNDLE id",
        "create -bundle BUNDLE id",
        "create -b=BUNDLE id",
        "run -db BUNDLE id",
        "create --pid-file --bundle BUNDLE id",
        "create --bundle BUNDLE --help=false id",
        "restore --new-option --bundle BUNDLE id",
        "clone --bundle BUNDLE id",
    ] {
        recorder.assert_refused(&words(line));
    }
    // runc after 1.5 cuts off the blanks around an argument, and the id of a container may be the name of a command.
    for args in [
        &["--new-option", "value", " create", "--bundle", "BUNDLE", "state"][..],
        &["--new-option", "value", "create\n", "--bundle", "BUNDLE", "state"],
        &[" create", "state"],
        &[" run", "--bundle", "BUNDLE", "list"],
        &["create", " --bundle", "BUNDLE", "id"],
        &["create", "", "--bundle", "BUNDLE", "id"],
    ] {
        recorder.assert_refused(args);
    }
    for line in [
        "run --keep --bundle BUNDLE id",
        "create --pidfd-socket s --bundle BUNDLE id",
        "--root create --systemd-cgroup create --bundle=BUNDLE --pid-file p id",
        "create id",
        "restore --image-path i --bundle BUNDLE id",
        "-- create --bundle BUNDLE -- id",
    ] {
        let (run, ran, injected) = recorder.run(&words(line));
        assert_eq!((run.code, ran, injected), (0, true, true), "{line}: {}", run.stderr);
    }
    for line in [
        "",
        "--version",
        "create --help",
        "state create",
        "exec --new-option id create",
        "--new-option delete --force id",
        "--new-option value kill id KILL",
        "features",
    ] {
        let (run, ran, injected) = recorder.run(&words(line));
        assert_eq!((run.code, ran, injected), (0, true, false), "{line}: {}", run.stderr);
    }
}

/// Returns the options in a help text with whether each takes a value: lines such as `--bundle value, -b value  …` of
/// runc and `  -b, --bundle=DIR  …` of crun. An optional value belongs to the same argument and is none here.
fn options(help: &str) -> BTreeSet<(String, bool)> {
    let mut options = BTreeSet::new();
    for line in help.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
        let names = line.split("  ").next().unwrap();
        let takes = |name: &str| name.contains(['=', ' ']) && !name.contains("[=");
        let value = names.split(", ").any(takes);
        for name in names.split(", ") {
            let name = name.split(['=', ' ', '[']).next().unwrap();
            options.insert((name.to_owned(), value));
        }
    }
    options
}

/// Help of the installed runtimes: every option is known, with a value or without one as they show it. A value that begins
/// with a dash is refused, which tells the two apart.
#[test]
fn every_option_of_the_installed_runtimes_is_known() {
    let recorder = Recorder::new();
    let help = |words: &[&str]| {
        let shown = run(Command::new(words[0]).args(&words[1..]).arg("--help"));
        options(&shown.stdout)
    };
    let refused = ["--config", "-f"];
    let prints = ["--help", "-h", "-?", "--usage", "--version", "-v", "-V"];
    let mut count = 0;
    for runtime in RUNTIMES {
        for (command, options) in [(None, help(&[runtime]))]
            .into_iter()
            .chain(MAKERS.map(|command| (Some(command), help(&[runtime, command]))))
        {
            for (option, takes_value) in options {
                count += 1;
                let what = format!("{runtime} {command:?} {option} {takes_value}");
                let line = |words: &[&str]| -> Vec<String> {
                    let (global, own) =
                        if command.is_none() { (words, &[][..]) } else { (&[][..], words) };
                    let command = &[command.unwrap_or("create")];
                    [global, command, own, &["--bundle", "BUNDLE", "id"]]
                        .concat()
                        .into_iter()
                        .map(str::to_owned)
                        .collect()
                };
                let alone = recorder.run(&line(&[&option]));
                if refused.contains(&&*option) {
                    assert_eq!((alone.0.code, alone.1), (2, false), "{what}");
                } else if prints.contains(&&*option) {
                    assert_eq!((alone.0.code, alone.1, alone.2), (0, true, false), "{what}");
                } else if takes_value {
                    assert!(!alone.2, "{what}: the next argument is not its value");
                    let with = recorder.run(&line(&[&option, "value"]));
                    let last = ["-b", "--bundle"].contains(&&*option);
                    assert_eq!(
                        (with.0.code, with.2),
                        (0, true),
                        "{what} {last}: {}",
                        with.0.stderr
                    );
                } else {
                    assert_eq!((alone.0.code, alone.2), (0, true), "{what}: {}", alone.0.stderr);
                }
            }
        }
    }
    assert!(count > 60, "{count} options: the help has another format");
}

/// The command lines run with the real runtimes: each starts a container with its slice, or none. The bundles have the
/// names that one parser or the other would read.
#[test]
fn no_command_line_starts_a_container_without_its_slice() {
    let script = "
        cd $DIR
        for line in \"$@\"; do
            rm -rf work
            mkdir work
            cd work
            for bundle in . b undle =b ' b' 'b '; do
                mkdir -p \"$bundle\"
                sed \"s|ROOTFS|$ROOTFS|; s|GROUP|mig-cdi-test-$$|; s|DEVICES|0:2g.20gb:0|\" $TEMPLATE >\"$bundle/config.json\"
            done
            echo \"line $line\"
            eval \"$RUN_HOOK $line\" </dev/null 2>/dev/null || true
            $RUNTIME delete --force id 2>/dev/null || true
            cd ..
        done
        until find /sys/fs/cgroup /sys/fs/cgroup/* -maxdepth 1 -name mig-cdi-test-$$ -exec rmdir {} + 2>/dev/null; do
            sleep 0.1; done";
    let lines = [
        "run --bundle b id",
        "run id",
        "run id --bundle b",
        "run --keep --bundle b id",
        "run --bundle=b id",
        "run -b b id",
        "run -- id",
        "--root /run/x run --bundle b id",
        "-- run --bundle b id",
        "run --bun b id",
        "run --b b id",
        "run -bundle b id",
        "run -bundle id",
        "run -bb id",
        "run -b=b id",
        "run --bundle=' b' id",
        "run --bundle='b ' id",
        "run ' --bundle' b id",
        "run -db b id",
        "--roo /run/x run --bundle b id",
        "-root /run/x run --bundle b id",
        "--debug=true run --bundle b id",
        "run --pid-file - --bundle b id",
        "run --help=false --bundle b id",
        "run -f b/config.json id",
        "--rootless false run --bundle b id",
    ];
    for variant in VARIANTS {
        let podman = Podman::new(variant);
        let host = host(&podman.runtime());
        let template = host.root().join("bundle.json");
        let text = fs::read_to_string(project().join("tests/engines/bundle.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"]["args"] =
            serde_json::json!(["sh", "-c", "echo started $(ls /dev/nvidia-caps)"]);
        fs::write(&template, config.to_string()).unwrap();
        let quoted: Vec<_> = lines.iter().map(|line| format!("\"{line}\"")).collect();
        let script = format!("set -- {}\n{script}", quoted.join(" "))
            .replace("$DIR", &host.root().display().to_string())
            .replace("$TEMPLATE", &template.display().to_string())
            .replace("$RUN_HOOK", &host.runtime().display().to_string());
        let run = podman.script(&host, &script);
        assert_eq!(run.code, 0, "{variant:?}: {}{}", run.stdout, run.stderr);
        let started: Vec<_> =
            run.stdout.lines().filter(|line| line.starts_with("started")).collect();
        println!("{variant:?}: {} of {} started\n{}", started.len(), lines.len(), run.stdout);
        let tried = run.stdout.lines().filter(|line| line.starts_with("line ")).count();
        assert_eq!(tried, lines.len(), "{}", run.stdout);
        // Those that engines write.
        assert!(started.len() >= 6, "{variant:?}: {}", run.stdout);
        for line in started {
            assert_eq!(line, "started nvidia-cap30 nvidia-cap31", "{variant:?}: {}", run.stdout);
        }
    }
}

/// As much environment as the kernel starts a program with: the hook leaves such a container alone, in front of the real runtimes and
/// run by them. What is larger is in `hook_modes::a_large_container_without_a_request_starts_unchanged`.
#[test]
fn a_container_with_a_megabyte_of_environment_starts() {
    let script = "
        cd $DIR
        sed \"s|ROOTFS|$ROOTFS|; s|GROUP|mig-cdi-test-$$|\" plain.json >config.json
        cp config.json before.json
        $RUN_HOOK run id </dev/null
        cmp config.json before.json
        sed \"s|ROOTFS|$ROOTFS|; s|GROUP|mig-cdi-test-$$|\" hooked.json >config.json
        $RUNTIME run id </dev/null
        until find /sys/fs/cgroup /sys/fs/cgroup/* -maxdepth 1 -name mig-cdi-test-$$ -exec rmdir {} + 2>/dev/null; do
            sleep 0.1; done";
    for variant in VARIANTS {
        let podman = Podman::new(variant);
        let host = host(&podman.runtime());
        let text = fs::read_to_string(project().join("tests/engines/bundle.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["annotations"] = serde_json::json!({});
        config["process"]["args"] = serde_json::json!(["sh", "-c", "echo started ${#LONG11}"]);
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.extend((0..12).map(|i| format!("LONG{i}={}", "x".repeat(100 << 10)).into()));
        fs::write(host.root().join("plain.json"), config.to_string()).unwrap();
        let settings = format!("--config={}", host.config().display());
        config["hooks"]["createRuntime"] = serde_json::json!([{
            "path": host.install().join("mig-cdi-hook"), "args": ["hook", "create-runtime", settings], "env": ["A=b"],
        }]);
        fs::write(host.root().join("hooked.json"), config.to_string()).unwrap();
        let script = script
            .replace("$DIR", &host.root().display().to_string())
            .replace("$RUN_HOOK", &host.runtime().display().to_string());
        let run = podman.script(&host, &script);
        let expected = "started 102400\nstarted 102400\n";
        assert_eq!((run.code, &*run.stdout), (0, expected), "{variant:?}: {}", run.stderr);
        assert_eq!(host.read_log(), "", "{variant:?}");
    }
}
