//! `mig-cdi configure docker` against Docker's own view: `dockerd --validate` accepts every file that it accepted before, and
//! `docker info` shows what was set and what was added.

use mig_cdi_tests::{
    configure_host::ConfigureHost, debian_release::DebianRelease, docker::Docker, engine_checks,
    run,
};
use proptest::{prelude::*, sample::subsequence};
use serde_json::{Map, Value, json};

const CASES: u32 = 30;

/// Members of a file as people write them.
fn members() -> Vec<(&'static str, Value)> {
    vec![
        ("log-driver", json!("json-file")),
        ("log-opts", json!({ "max-size": "10m", "labels": "a,b" })),
        ("insecure-registries", json!(["a:5000"])),
        ("features", json!({ "containerd-snapshotter": false, "cdi": false })),
        (
            "runtimes",
            json!({ "nvidia": { "path": "nvidia-container-runtime", "runtimeArgs": [] } }),
        ),
        ("default-runtime", json!("nvidia")),
        ("cdi-spec-dirs", json!(["/srv/cdi"])),
        ("exec-opts", json!(["native.cgroupdriver=systemd"])),
        ("debug", json!(true)),
        ("hosts", json!(["unix:///run/other.sock"])),
    ]
}

/// What dockerd says of a file; empty when it accepts it.
fn refusal(machine: &ConfigureHost) -> String {
    let mut validate = DebianRelease::Trixie.command("dockerd");
    validate.arg("--validate").arg("--config-file").arg(machine.path("/etc/docker/daemon.json"));
    let said = run(&mut validate);
    if said.code == 0 { String::new() } else { said.stderr }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn docker_accepts_what_is_configured(
        members in subsequence(members(), 0..=10), runtime in any::<bool>(), own_dir in any::<bool>(),
    ) {
        let machine = ConfigureHost::trusted();
        if own_dir {
            machine.set_spec_dirs(&["/etc/cdi", "/srv/slices"]);
        }
        let before: Map<String, Value> =
            members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        machine.put("/etc/docker/daemon.json", &Value::Object(before.clone()).to_string());
        let refused = refusal(&machine);
        let tree = machine.tree();
        let flag = if runtime { " --runtime" } else { "" };
        let args = format!("docker --engine-version 26.1.5{flag}");
        machine.run_ok(&args);
        // A runtime that is the default and not registered is refused before and after.
        prop_assert_eq!(refusal(&machine), refused, "{}", machine.read("/etc/docker/daemon.json"));
        machine.run_ok("docker --undo");
        prop_assert_eq!(machine.tree(), tree, "the undo restores every byte");
    }
}

/// The test above would pass with a Docker that accepts everything.
#[test]
fn docker_refuses_a_key_that_it_does_not_know() {
    let machine = ConfigureHost::trusted();
    machine.put("/etc/docker/daemon.json", "{\"enable-cdi\": true}");
    assert!(refusal(&machine).contains("enable-cdi"), "{}", refusal(&machine));
}

#[test]
fn docker_info_shows_what_was_configured() {
    let host = engine_checks::host();
    let docker = Docker::start("v1", &host);
    let info = docker.info();
    let runtimes = info["Runtimes"].as_object().expect("it has runtimes");
    assert!(runtimes["mig-cdi"]["path"].as_str().unwrap().ends_with("mig-cdi-runtime"), "{info}");
    assert!(runtimes.contains_key("runc"), "{info}");
    assert_eq!(info["DefaultRuntime"], "runc", "{info}");
    let dirs = info["CDISpecDirs"].as_array().expect("CDI is on");
    assert!(!dirs.is_empty(), "{info}");
}
