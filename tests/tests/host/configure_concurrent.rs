//! Many concurrent runs of `mig-cdi configure`.

use mig_cdi_tests::{configure_host::ConfigureHost, deadline};
use std::{
    fs,
    process::{Child, Stdio},
};

/// Each run changes something else in the same files, and no change is lost. One undo reverts all.
#[test]
fn concurrent_runs_lose_no_change() {
    const PODMAN: &str = "/etc/containers/containers.conf.d/50-mig-cdi.conf";
    for (engine, options, file, words) in [
        ("docker --engine-version 28.5.2", ["", "--runtime"], "/etc/docker/daemon.json", ["debug"]),
        ("podman --engine-version 5.8.6", ["--hook", "--runtime"], PODMAN, ["hooks_dir"]),
    ] {
        let machine = ConfigureHost::trusted();
        machine.put("/etc/docker/daemon.json", "{\"debug\": true}\n");
        let before = machine.tree();
        let dirs: Vec<String> = (10..18).map(|n| format!("/run/specs-{n}")).collect();
        let start = |(at, dir): (usize, &String)| -> Child {
            let settings = machine.dir().join(format!("settings-{at}"));
            fs::write(&settings, format!("spec-dirs = [{dir:?}]\n")).unwrap();
            let args = format!("{engine} {}", options[at % 2]);
            let mut command = machine.command_with(&args, &settings);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let runs: Vec<_> = dirs.iter().enumerate().map(start).collect();
        for run in runs {
            deadline::finish(run, deadline::PROGRAM).assert_code(0);
        }
        let text = machine.read(file);
        let words = words.into_iter().chain(["mig-cdi-runtime"]);
        for word in dirs.iter().map(String::as_str).chain(words) {
            assert!(text.contains(word), "{engine}: {word} is lost: {text}");
        }
        machine.run_ok(&format!("{} --undo", engine.split(' ').next().unwrap()));
        assert_eq!(machine.tree(), before, "{engine}");
    }
}
