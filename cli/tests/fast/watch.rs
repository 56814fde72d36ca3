//! `mig-cdi watch` on a fake host that changes: the spec on disk stays current.

use mig_cdi_tests::{
    FakeHost, copy_program,
    watch::{Watch, until},
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    fs,
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    path::Path,
};

const GPU: &str = "[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:07:00.0\"\n";

fn node(instances: &str) -> String {
    format!("{GPU}instances = [{instances}]\n")
}

fn host(instances: &str) -> FakeHost {
    let host = FakeHost::new(&node(instances));
    host.install();
    host
}

fn status(watch: &Watch) -> Value {
    serde_json::from_str(&watch.status()).unwrap_or_default()
}

/// Waits until the spec equals the output of `generate`.
fn until_spec_current(host: &FakeHost, what: &str) {
    let current = host.current_spec();
    until(what, || host.read_spec() == current);
}

#[test]
fn the_spec_follows_every_change() {
    let host = host("{ profile = \"2g.20gb\" }");
    // A lost GPU changes nothing in /proc: only a refresh notices it (docs/watch.md), here after 1 s instead of 300 s.
    let watch = Watch::start(&host, &["--resync=1"]);
    until_spec_current(&host, "the first spec");
    let two = "{ profile = \"2g.20gb\" }, { profile = \"3g.40gb\" }";
    for (what, description) in [
        ("an instance more", node(two)),
        (
            "another compute instance in place of one",
            node(&two.replace("3g.40gb\"", "3g.40gb\", compute = [\"1c\"]")),
        ),
        (
            "two compute instances",
            node(&two.replace("3g.40gb\"", "3g.40gb\", compute = [\"1c\", \"2c\"]")),
        ),
        ("the same id with another placement", node("{ profile = \"2g.20gb\", start = 2 }")),
        ("no compute instance", node("{ profile = \"2g.20gb\", compute = [] }")),
        ("the earlier node", node(two)),
        ("no instance", node("")),
        ("mig off", format!("{GPU}mig = false\n")),
        ("mig on", node(two)),
        (
            "the module is reloaded",
            format!("{}\n[majors]\nnvidia-caps = 241\n", node("{ profile = \"1g.10gb\" }")),
        ),
        ("another driver version", format!("driver = \"590.48.01\"\n{}", node(two))),
        (
            "another gpu",
            format!(
                "{}{}",
                node(two),
                "[[gpu]]\nmodel = \"h100-80gb\"\ninstances = [{ profile = \"7g.80gb\" }]\n"
            ),
        ),
        (
            "a gpu is lost",
            format!(
                "{GPU}lost = true\ninstances = [{two}]\n[[gpu]]\nmodel = \"h100-80gb\"\ninstances = [{{ profile = \"7g.80gb\" }}]\n"
            ),
        ),
        ("it is back", node(two)),
    ] {
        host.change_to(&description);
        until_spec_current(&host, what);
    }
    // Without a driver there is no spec.
    host.change_to("driver = \"580.105.08\"\n[majors]\nnvidia = 0\nnvidia-caps = 0\nnvidia-uvm = 0\n[faults]\nnvml = \"driver-not-loaded\"\n");
    until("no spec without a driver", || host.read_spec().is_none());
    until("the state is failing", || status(&watch)["state"] == "failing");
    host.change_to(&node(two));
    until_spec_current(&host, "the driver is back");
    assert_eq!(watch.stop(), Some(0));
    assert!(host.read_spec().is_some(), "a stop keeps the spec");
}

/// A package is upgraded or removed while its service still runs.
#[test]
fn watch_survives_an_upgrade_of_its_program() {
    let host = host("{ profile = \"2g.20gb\" }");
    let watch = Watch::start(&host, &[]);
    until_spec_current(&host, "the first spec");
    let program = host.config().with_file_name("bin/mig-cdi");
    let kept = program.with_extension("kept");
    copy_program(&program, &kept);
    // A refresh runs the image of the running process (/proc/self/exe), which outlives its file.
    fs::remove_file(&program).unwrap();
    host.change_to(&node("{ profile = \"3g.40gb\" }"));
    until("a refresh without a program file", || {
        host.read_spec().is_some_and(|spec| spec.contains("0:3g.40gb:"))
    });
    fs::write(&program, "another program\n").unwrap();
    host.change_to(&node("{ profile = \"1g.10gb\" }"));
    until("a refresh with another program file", || {
        host.read_spec().is_some_and(|spec| spec.contains("0:1g.10gb:"))
    });
    fs::rename(&kept, &program).unwrap();
    until_spec_current(&host, "the spec is restored");
    assert_eq!(watch.stop(), Some(0));
}

/// While nothing changes, nothing is written and NVML is not called.
#[test]
fn without_a_change_nothing_is_written() {
    let host = host("{ profile = \"2g.20gb\" }");
    let watch = Watch::start(&host, &[]);
    until_spec_current(&host, "the first spec");
    until("the refresh is counted", || status(&watch)["refreshes"] == 1);
    let inode = fs::metadata(host.spec()).unwrap().ino();
    // 17 polls, all of them full scans in the first two seconds after a refresh (docs/watch.md).
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(status(&watch)["refreshes"], 1);
    assert_eq!(fs::metadata(host.spec()).unwrap().ino(), inode);
}

/// Without NVML, devices that still exist stay, and those that vanished or were recreated are removed.
#[test]
fn without_nvml_devices_that_still_exist_stay_in_the_spec() {
    let host = host("{ profile = \"2g.20gb\", start = 0 }, { profile = \"3g.40gb\", start = 4 }");
    let watch = Watch::start(&host, &[]);
    until_spec_current(&host, "the first spec");
    let broken = "\n[faults]\nnvml = \"version-mismatch\"\n";
    let names = || {
        let spec: Value = serde_json::from_str(&host.read_spec()?).ok()?;
        let devices = spec["devices"].as_array()?;
        Some(
            devices
                .iter()
                .filter_map(|d| d["name"].as_str().map(str::to_owned))
                .collect::<Vec<_>>(),
        )
    };
    let all = names().unwrap();
    // Only the version of the module has changed, which is noticed.
    host.change_to(&format!(
        "driver = \"590.48.01\"\n{}{broken}",
        node("{ profile = \"2g.20gb\", start = 0 }, { profile = \"3g.40gb\", start = 4 }")
    ));
    until("the state is failing", || status(&watch)["state"] == "failing");
    assert!(
        status(&watch)["error"]["message"].as_str().unwrap().contains("finish the driver update")
    );
    assert_eq!(names().unwrap(), all);
    // One slice is destroyed: its devices and `all` are removed, the other stays.
    host.change_to(&format!(
        "driver = \"590.48.01\"\n{}{broken}",
        node("{ profile = \"3g.40gb\", start = 4 }")
    ));
    until("the device is gone", || names().is_some_and(|names| names.len() == 2));
    assert!(names().unwrap().contains(&"0:3g.40gb:4".to_owned()), "{:?}", names());
    // The other is recreated with the same nodes: nothing shows whether it is the same slice.
    let dir = host.path("/proc/driver/nvidia/capabilities/gpu0/mig");
    let gi = fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    let away = host.out().with_file_name("away");
    fs::rename(&gi, &away).unwrap();
    assert!(
        std::process::Command::new("cp").arg("-r").arg(&away).arg(&gi).status().unwrap().success()
    );
    until("no device is left", || host.read_spec().is_none());
    host.change_to(&node("{ profile = \"2g.20gb\" }"));
    until_spec_current(&host, "the driver answers again");
    until("the state is ok", || status(&watch)["state"] == "ok");
}

/// Somebody removes or damages the file.
#[test]
fn a_spec_that_others_change_is_rewritten() {
    let host = host("{ profile = \"2g.20gb\" }");
    let _watch = Watch::start(&host, &[]);
    until_spec_current(&host, "the first spec");
    fs::remove_file(host.spec()).unwrap();
    until_spec_current(&host, "the spec is restored");
    fs::write(host.spec(), "{}").unwrap();
    until_spec_current(&host, "the spec is corrected");
}

/// Notifications to systemd, and the files that are left after the stop.
#[test]
fn systemd_is_notified() {
    let host = host("{ profile = \"2g.20gb\" }");
    let path = host.out().with_file_name("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let next = |what: &str| {
        let mut bytes = [0; 4096];
        loop {
            let length = socket.recv(&mut bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.contains(what) {
                return text;
            }
        }
    };
    let watch = Watch::start_with(&host, &[], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    });
    assert_eq!(next("READY=1"), "READY=1\nWATCHDOG=1\nSTATUS=1 slice\n");
    next("WATCHDOG=1");
    watch.signal(Signal::SIGHUP);
    assert!(next("RELOADING=1").contains("MONOTONIC_USEC="));
    next("READY=1");
    assert_eq!(watch.stop(), Some(0));
    next("STOPPING=1");
}

#[test]
fn status_and_metrics_report_the_node() {
    let host =
        host("{ profile = \"2g.20gb\" }, { profile = \"2g.20gb\" }, { profile = \"1g.10gb\" }");
    let metrics = host.out().with_file_name("metrics.prom");
    fs::create_dir(host.out().with_file_name("textfile")).unwrap();
    let watch = Watch::start(&host, &[&format!("--metrics-file={}", metrics.display())]);
    until("the first refresh succeeded", || status(&watch)["state"] == "ok");
    let state = format!("--state-dir={}", watch.state_dir().display());
    let run = host.run(&["status", &state]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for line in [
        "state      ok",
        "slices     1 of 1g.10gb, 2 of 2g.20gb",
        "last error none",
        "slice      0:2g.20gb:0",
    ] {
        assert!(run.stdout.contains(line), "{line}: {}", run.stdout);
    }
    let json: Value =
        serde_json::from_str(&host.run(&["status", "--json", &state]).stdout).unwrap();
    assert_eq!(
        (&json["running"], &json["refreshes"], &json["failures"]),
        (&true.into(), &1.into(), &0.into())
    );
    until("the figures are written", || metrics.exists());
    let text = fs::read_to_string(&metrics).unwrap();
    for line in [
        "mig_cdi_slices{profile=\"2g.20gb\"} 2",
        "mig_cdi_spec_stale 0",
        "mig_cdi_refreshes_total 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}: {text}");
    }
    assert_eq!(watch.stop(), Some(0));
    let run = host.run(&["status", &state]);
    assert!(run.code == 1 && run.stdout.starts_with("state      not running"), "{}", run.stdout);
    let none = host.run(&["status", "--state-dir=/nonexistent"]);
    assert!(none.code == 1 && none.stderr.contains("watch has not run"), "{}", none.stderr);
}

#[test]
fn a_watch_that_cannot_work_is_refused() {
    let host = host("{ profile = \"2g.20gb\" }");
    for (args, why) in [
        (&["watch", "--output=-"][..], "--output - is standard output"),
        (&["watch", "--node=a30"], "never changes"),
        (&["watch", "--interval=1"], "10..=100000"),
        (&["watch", "--output=/nowhere/a.txt"], "name it NAME.json"),
    ] {
        let run = host.run(args);
        assert!(run.code == 2 && run.stderr.contains(why), "{args:?}: {}", run.stderr);
    }
}

/// On a full disk, or without permission to write, the old spec stays, and watch recovers by itself.
#[test]
fn watch_recovers_from_an_unwritable_directory() {
    let host = host("{ profile = \"2g.20gb\" }");
    let watch = Watch::start(&host, &[]);
    until_spec_current(&host, "the first spec");
    let old = host.read_spec();
    let mode = |mode| {
        fs::set_permissions(host.out(), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
    };
    mode(0o777);
    host.change_to(&node("{ profile = \"2g.20gb\" }, { profile = \"2g.20gb\" }"));
    until("the state is failing", || status(&watch)["state"] == "failing");
    assert!(status(&watch)["error"]["message"].as_str().unwrap().contains("chmod go-w"));
    assert_eq!(host.read_spec(), old);
    mode(0o755);
    until_spec_current(&host, "watch retries by itself");
    assert!(Path::new(&host.spec()).exists());
}

/// A changed setting moves the spec: the new file is written, the old one removed, and then nothing more is done.
#[test]
fn changed_settings_take_effect() {
    let host = host("{ profile = \"2g.20gb\" }");
    let set = |kind: &str| {
        let text = format!(
            "kind = \"{kind}\"\nspec-dirs = [{:?}]\ncapabilities = \"none\"\n",
            host.out().display().to_string()
        );
        fs::write(host.config(), text).unwrap();
    };
    set("nvidia.com/mig");
    let watch = Watch::start_without_output(&host);
    until("the first spec", || host.spec().exists());
    set("example.com/mig");
    watch.signal(Signal::SIGHUP);
    until("the new spec", || host.out().join("example.com-mig.json").exists());
    until("the old one is gone", || !host.spec().exists());
    std::thread::sleep(std::time::Duration::from_secs(2));
    // The second refresh for the settings, the third for the removed file.
    assert!(status(&watch)["refreshes"].as_u64().unwrap() <= 3);
    // Invalid settings are reported, and the spec still follows every change.
    fs::write(host.config(), "kind = 7\n").unwrap();
    watch.signal(Signal::SIGHUP);
    until("the error is reported", || {
        status(&watch)["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("invalid type"))
    });
    assert!(host.out().join("example.com-mig.json").exists());
    set("nvidia.com/mig");
    until_spec_current(&host, "the earlier kind");
    assert!(!host.out().join("example.com-mig.json").exists());
    assert_eq!(watch.stop(), Some(0));
}

/// Relative paths on the command line are below the directory in which watch was started.
#[test]
fn relative_paths_are_resolved_at_the_start() {
    let host = host("{ profile = \"2g.20gb\" }");
    let state = host.out().with_file_name("state");
    let args = ["watch", "--output=nvidia.com-mig.json", "--state-dir=../state"];
    let watch = Watch::start_command(host.command(&args).current_dir(host.out()), state);
    until_spec_current(&host, "the spec");
    host.change_to(&node("{ profile = \"3g.40gb\" }"));
    until_spec_current(&host, "another");
    until("the refresh is counted", || status(&watch)["refreshes"] == 2);
    assert_eq!(watch.stop(), Some(0));
}

/// Two watches that write different specs to the same file do not rewrite it without end.
#[test]
fn two_watches_of_one_file_do_not_rewrite_it_in_a_loop() {
    let host = host("{ profile = \"2g.20gb\" }");
    let one = Watch::start(&host, &[]);
    until_spec_current(&host, "the first spec");
    let state = host.out().with_file_name("other-state");
    let path = format!("--output={}", host.spec().display());
    let state_dir = format!("--state-dir={}", state.display());
    let args = ["watch", "--annotations", "--max-cdi-version=0.6.0", &path, &state_dir];
    let other = Watch::start_command(&mut host.command(&args), state);
    // A change of the spec by another program causes at most one refresh per second (docs/watch.md).
    std::thread::sleep(std::time::Duration::from_secs(4));
    for watch in [&one, &other] {
        let refreshes = status(watch)["refreshes"].as_u64().unwrap();
        assert!((2..=6).contains(&refreshes), "{refreshes}");
    }
}
