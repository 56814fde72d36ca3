//! `mig-cdi configure` on fake hosts: what every range of versions of an engine supports, files that it refuses, and
//! daemons that need a restart.

use mig_cdi_tests::{configure_host::ConfigureHost, mig_cdi, run};
use std::{fs, process::Command};

/// No command of podman works without a file that a variable names.
#[test]
fn a_file_that_a_variable_names_has_to_be_there() {
    for variable in ["CONTAINERS_CONF", "CONTAINERS_CONF_OVERRIDE"] {
        // Variables count for this machine alone. Since 5.0 root's own files are read too, which others cannot.
        let mut command = mig_cdi([
            "configure",
            "podman",
            "--engine-version=4.9.0",
            "--dry-run",
            "--config=/dev/null",
        ]);
        let refused = run(command.env(variable, "/no/x.conf"));
        let words = format!(
            "it does not start with /no/x.conf: {variable} names it, and it is not there; create it, or unset {variable}\n"
        );
        assert!(refused.code == 5 && refused.stderr.ends_with(&words), "{}", refused.stderr);
    }
}

/// dockerd reads a file with a byte order mark, which stays.
#[test]
fn a_byte_order_mark_is_passed_over() {
    let machine = ConfigureHost::new();
    for (args, path, text, after) in [
        (
            "docker --engine-version 26.1.5",
            "/etc/docker/daemon.json",
            "\u{feff}{\"debug\": true}\n",
            "\u{feff}{\"debug\": true,\"features\": {\"cdi\": true}}\n",
        ),
        (
            "containerd --engine-version 1.7.24",
            "/etc/containerd/config.toml",
            "\u{feff}version = 2\n",
            "\u{feff}version = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = true\n",
        ),
    ] {
        machine.put(path, text);
        machine.run_ok(args);
        assert_eq!(machine.read(path), after);
        machine.run_ok(&format!("{} --undo", args.split(' ').next().unwrap()));
        assert_eq!(machine.read(path), text);
    }
}

/// containerd 2 does not start with one.
#[test]
fn a_byte_order_mark_that_containerd_does_not_read_is_named() {
    let machine = ConfigureHost::new();
    machine.put("/etc/containerd/config.toml", "\u{feff}version = 2\n");
    let before = machine.tree();
    for release in ["2.0.0", "2.1.9", "2.3.0"] {
        let refused = machine.configure(&format!("containerd --engine-version {release}"));
        assert_eq!((refused.code, machine.tree() == before), (1, true), "{}", refused.stderr);
        let words = "config.toml: line 1: it begins with a byte order mark, with which containerd 2 does not start; correct the file";
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
}

/// The settings depend on the version of the engine, and an unsupported one is reported.
#[test]
fn every_engine_version_gets_what_it_supports() {
    let old = "this version has no cdi support; update it, or use --runtime";
    let old_with_hooks = "this version has no cdi support; update it, or use --hook or --runtime";
    let untested = "is newer than any tested version";
    for (args, code, message) in [
        ("podman --engine-version 4.0.3", 5, old_with_hooks),
        ("containerd --engine-version 1.6.20", 5, old),
        ("docker --engine-version 24.0.9", 5, old),
        ("crio --engine-version 1.23.0", 5, old_with_hooks),
        (
            "podman --engine-version 4.3.1",
            0,
            "podman 4.3.1 reads /etc/cdi and /var/run/cdi without configuration",
        ),
        (
            "podman --engine-version 5.6.0",
            0,
            "podman 5.6.0 reads /etc/cdi and /var/run/cdi already",
        ),
        (
            "podman --engine-version 6.0.0",
            0,
            "podman 6.0.0 reads /etc/cdi and /var/run/cdi already\n",
        ),
        ("podman --engine-version 7.0.0", 0, untested),
        ("containerd --engine-version 3.0.0", 0, untested),
        ("docker --engine-version 30.0.0", 0, untested),
        ("crio --engine-version 2.0.0", 0, untested),
        ("podman", 1, "it is in none of /usr/bin, /usr/sbin, /usr/local/bin; install it"),
        ("docker --engine-version x", 2, "a version is two or three numbers"),
    ] {
        let machine = ConfigureHost::new();
        let run = machine.configure(args);
        assert_eq!(run.code, code, "{args}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{args}: {}", run.stderr);
        assert_eq!(run.stderr.contains(untested), message == untested, "{args}: {}", run.stderr);
        if code != 0 {
            assert_eq!(machine.tree().len(), 2, "{args}: nothing is written");
        }
    }
    // spec-dirs that cannot be configured in an engine.
    let machine = ConfigureHost::new();
    let config = machine.dir().join("config.toml");
    fs::write(&config, "spec-dirs = [\"/srv/cdi\"]\n").unwrap();
    let command = machine.command("podman --engine-version 5.4.2");
    let args = command.get_args().map(std::ffi::OsStr::to_owned);
    let args = args.map(|arg| if arg == "/dev/null" { config.clone().into() } else { arg });
    let refused = run(Command::new(command.get_program()).env_clear().args(args));
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("it reads only /etc/cdi and /var/run/cdi"),
        "{}",
        refused.stderr
    );
}

/// A malformed file is named with its line, and nothing is written.
#[test]
fn invalid_files_are_named_and_not_changed() {
    let containerd = "/etc/containerd/config.toml";
    let daemon = "/etc/docker/daemon.json";
    for (args, path, text, message) in [
        (
            "containerd --engine-version 1.7.24",
            containerd,
            "version = 2\n[plugins\n",
            "config.toml: line 2: ",
        ),
        (
            "containerd --engine-version 2.1.9",
            containerd,
            "version = 2\nversion = 2\n",
            "config.toml: line 2: ",
        ),
        (
            "containerd --engine-version 1.7.24",
            containerd,
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\ncdi_spec_dirs = 3\n",
            "cdi_spec_dirs is not a list",
        ),
        (
            "containerd --engine-version 1.7.24",
            containerd,
            "version = 3\n",
            "reads versions up to 2",
        ),
        (
            "containerd --engine-version 2.3.0",
            containerd,
            "version = 1\n[plugins.cri]\nenable_cdi = false\n",
            "containerd config migrate",
        ),
        ("docker --engine-version 26.1", daemon, "{\n\"a\": 1,\n}\n", "daemon.json: line 3: "),
        ("docker --engine-version 26.1", daemon, "{\n// no\n}\n", "daemon.json: line 2: "),
        ("docker --engine-version 26.1", daemon, "[]", "daemon.json: line 1: not a json object"),
        (
            "docker --engine-version 26.1",
            daemon,
            "{\"features\": []}",
            ": features is not a table; set by hand: ",
        ),
        (
            "docker --engine-version 26.1",
            daemon,
            "{\"cdi-spec-dirs\": {}}",
            "cdi-spec-dirs is not a list",
        ),
        (
            "podman --engine-version 5.5.2",
            "/etc/containers/containers.conf.d/10.conf",
            "[engine\n",
            "10.conf: line 1: ",
        ),
        ("crio --engine-version 1.36.0", "/etc/crio/crio.conf", "x = \n", "crio.conf: line 1: "),
    ] {
        let machine = ConfigureHost::new();
        machine.put(path, text);
        let before = machine.tree();
        for args in [args.to_owned(), format!("{args} --dry-run")] {
            let run = machine.configure(&args);
            assert!([1, 5].contains(&run.code), "{args} {text:?}: {}", run.stderr);
            assert!(
                run.stderr.starts_with("error: ") && run.stderr.lines().count() == 1,
                "{}",
                run.stderr
            );
            assert!(run.stderr.contains(message), "{args} {text:?}: {}", run.stderr);
            assert_eq!(machine.tree(), before, "{args}");
        }
    }
    let machine = ConfigureHost::new();
    fs::create_dir_all(machine.path(daemon)).unwrap();
    let run = machine.configure("docker --engine-version 26.1");
    assert!(run.code == 1 && run.stderr.contains("it is no regular file"), "{}", run.stderr);
    let machine = ConfigureHost::new();
    machine.put(daemon, "");
    fs::write(machine.path(daemon), b"{\"a\": \"\xff\"}").unwrap();
    let run = machine.configure("docker --engine-version 26.1");
    assert!(run.code == 1 && run.stderr.contains("not valid utf-8"), "{}", run.stderr);
}

/// In containerd 1.7 a table of an imported file replaces the whole table.
#[test]
fn an_import_that_would_hide_ours_is_refused() {
    let machine = ConfigureHost::new();
    machine.put(
        "/etc/containerd/config.toml",
        "version = 2\nimports = [\"/etc/containerd/x/*.toml\"]\n",
    );
    machine.put(
        "/etc/containerd/x/a.toml",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/x\"\n",
    );
    let run = machine.configure("containerd --engine-version 1.7.24");
    assert_eq!(run.code, 5, "{}", run.stderr);
    let cause = "/etc/containerd/x/a.toml is read after /etc/containerd/config.toml";
    assert!(run.stderr.contains(cause), "{}", run.stderr);
    // containerd 2 merges, and enables CDI itself.
    let run = machine.run_ok("containerd --engine-version 2.0.0");
    assert!(run.stderr.starts_with("nothing to change\n"), "{}", run.stderr);
    machine.set_spec_dirs(&["/srv/slices"]);
    machine.run_ok("containerd --engine-version 2.0.0");
    let text = machine.read("/etc/containerd/x/50-mig-cdi.toml");
    let dirs = "cdi_spec_dirs = [\"/etc/cdi\", \"/var/run/cdi\", \"/srv/slices\"]\n";
    assert!(text.contains(dirs), "{text}");
}

/// A running daemon has the change if it started after the change, by the times of both.
#[test]
fn a_running_daemon_is_reported_when_it_needs_a_restart() {
    let machine = ConfigureHost::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    machine.put("/proc/stat", &format!("cpu 1\nbtime {}\n", now - 1000));
    machine.put("/proc/self/status", "Uid:\t0\t0\t0\t0\n");
    let daemon = |pid: u32, name: &str, seconds: u64, uid: u32| {
        // proc(5): 18 fields between the state and starttime, which counts from boot in units of a hundredth of a
        // second. The name may contain a parenthesis.
        let fields = "0 ".repeat(18);
        machine.put(&format!("/proc/{pid}/comm"), &format!("{name}\n"));
        machine.put(&format!("/proc/{pid}/status"), &format!("Name:\tx\nUid:\t{uid}\t0\t0\t0\n"));
        machine.put(
            &format!("/proc/{pid}/stat"),
            &format!("{pid} (a) b) S {fields}{} 0 0\n", seconds * 100),
        );
    };
    daemon(7, "dockerd", 10, 1000);
    let advise = || machine.run_ok("docker --engine-version 26.1").stderr;
    assert!(
        advise().ends_with("dockerd is not running: it reads the change when it starts\n"),
        "a user's is another"
    );
    daemon(8, "dockerd", 900, 0);
    let advice = advise();
    assert!(
        advice.ends_with(
            "the running dockerd has not read the change yet: run systemctl restart docker\n"
        ),
        "{advice}"
    );
    daemon(8, "dockerd", 5000, 0);
    let advice = advise();
    assert!(
        advice.ends_with("the running dockerd was started after the change, and has read it\n"),
        "{advice}"
    );
    daemon(9, "containerd", 900, 0);
    let advice = machine.run_ok("containerd --engine-version 1.7.24").stderr;
    assert!(advice.ends_with("run systemctl restart containerd\n"), "{advice}");
    let advice = machine.run_ok("podman --engine-version 5.5.2").stderr;
    assert!(advice.ends_with("no restart is needed\n"), "{advice}");
}
