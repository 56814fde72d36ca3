//! Other inputs of the hook, each parser on the same bytes: the state of a container, a command line, a runtime's command
//! line, expected slices and variables, a spec, and requests. `oci_config` fuzzes the configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mig_cdi_config::{RequestPolicy, Settings};
use mig_cdi_hook::{
    Error, HookExit,
    cli::{self, HookCommand},
    oci_config::OciConfig,
    request::{self, Request},
    runtime_args::{self, RuntimeCommand},
    state::ContainerState,
};
use mig_cdi_model::{DeviceVariable, ExpectedSlice, cdi::StrictSpec};
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::LazyLock,
};

static SETTINGS: LazyLock<[Settings; 3]> = LazyLock::new(|| {
    let policy = |word| Settings::parse(&format!("[hook]\nrequests = \"{word}\"\n"));
    ["none", "privileged", "all"].map(|word| policy(word).expect("settings"))
});

fuzz_target!(|bytes: &[u8]| {
    state(bytes);
    spec(bytes);
    let separator = |b: &u8| b.is_ascii_whitespace() || *b == 0;
    let words = bytes.split(separator).filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
    arguments(&words);
    runtime_arguments(&words);
    for word in words.iter().filter_map(|word| word.to_str()) {
        slice(word);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        requests(text);
    }
});

/// Asserts that the message is one line of printable characters, whatever was in the input.
fn one_line(error: &Error) {
    assert!(!error.to_string().contains(mig_cdi_model::is_unprintable), "{error:?}");
}

/// Asserts that a state is accepted only if it is complete and names a container and its bundle.
fn state(bytes: &[u8]) {
    match ContainerState::read(bytes) {
        Ok(state) => {
            assert!(!state.id.is_empty() && state.bundle.starts_with('/'));
            let text = bytes.trim_ascii_end();
            assert!(ContainerState::read(&text[..text.len() - 1]).is_err(), "cut short");
            assert!(
                ContainerState::read([bytes, b"0".as_slice()].concat().as_slice()).is_err(),
                "more"
            );
        }
        Err(error) => one_line(&error),
    }
}

/// Asserts that device names are unique, and that each device is found by its name.
fn spec(bytes: &[u8]) {
    const KIND: &str = "nvidia.com/mig";
    let Ok(document) = StrictSpec::parse(bytes, KIND) else { return };
    // Our parser skips fields that it does not use, also numbers that are too large for serde_json.
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    assert_eq!(value["kind"], KIND);
    let devices = value["devices"].as_array().expect("a list");
    for device in devices {
        let name = device["name"].as_str().expect("a name");
        assert_eq!(devices.iter().filter(|other| other["name"] == name).count(), 1, "{name}");
        let found = document.device(name).expect("a device of the document");
        assert_eq!(found.name, name);
        let slices = found.edits().map(|edits| edits.slices());
        if let Ok(Ok(slices)) = slices
            && let [DeviceVariable { id, .. }] = slices[..]
        {
            assert!(document.devices_of(id).any(|device| device.name == name), "{name}");
        }
    }
}

/// Asserts that a parsed command line, written again, parses to the same, and that arguments after `--` are passed to the
/// runtime unchanged.
fn arguments(words: &[OsString]) {
    match cli::parse(words.to_vec()) {
        Ok(HookCommand::Verify(verify)) => {
            assert!(!verify.slices.is_empty());
            let dry_run = verify.dry_run.then(|| "--dry-run".into());
            let full = verify.full.iter().map(|program| format!("--full={}", program.display()));
            let slices = verify.slices.iter().map(ToString::to_string);
            let options =
                verify.mig_cdi_options.iter().cloned().chain(full).chain(slices).chain(dry_run);
            let mode = ["mig-cdi-hook", "verify"].map(OsString::from);
            let again = cli::parse(mode.into_iter().chain(options.map(Into::into)).collect());
            assert_eq!(again, Ok(HookCommand::Verify(verify)));
        }
        Ok(_) => {}
        Err(error) => {
            assert_eq!(error.exit, HookExit::Usage);
            one_line(&error);
        }
    }
    let runtime = ["mig-cdi-hook", "runtime", "--"].map(OsString::from);
    for program in [&["/usr/bin/mig-cdi-runtime".into()], &runtime[..]] {
        let options = cli::HookOptions::default();
        let command = cli::parse([program, words].concat());
        assert_eq!(command, Ok(HookCommand::Runtime { options, args: words.to_vec() }));
    }
}

/// Asserts that the runtime's command is found behind any global options and before any arguments.
fn runtime_arguments(words: &[OsString]) {
    let with = |first: &[&str]| {
        let first = first.iter().map(OsString::from);
        runtime_args::parse(&first.chain(words.iter().cloned()).collect::<Vec<_>>())
    };
    for command in ["state", "start", "kill", "delete", "exec", "features", "list"] {
        assert_eq!(with(&[command]), Ok(RuntimeCommand::Other));
        assert_eq!(
            with(&["--systemd-cgroup", "--root", "create", command]),
            Ok(RuntimeCommand::Other)
        );
    }
    for command in ["create", "run", "restore"] {
        // --help makes no container.
        let prints = words.iter().any(|word| word.as_bytes().starts_with(b"-"));
        assert!(
            prints || matches!(with(&[command]), Err(_) | Ok(RuntimeCommand::NewContainer { .. }))
        );
        let behind_options = RuntimeCommand::NewContainer {
            bundle: None,
            id: words.first().map(|id| id.to_string_lossy().into_owned()),
        };
        assert_eq!(with(&[command, "--"]), Ok(behind_options));
    }
    let log = |words: &[OsString]| runtime_args::log(words).map(|log| (log.path, log.is_json));
    let at_the_end = [OsString::from("create")].into_iter().chain(words.iter().cloned());
    assert_eq!(log(&at_the_end.collect::<Vec<_>>()), None, "options of the command");
    let named =
        ["--log=/log", "create"].map(OsString::from).into_iter().chain(words.iter().cloned());
    assert_eq!(log(&named.collect::<Vec<_>>()), Some(("/log".into(), false)));
    let without_options = with(&[]);
    for global in [
        &["--root", "create"][..],
        &["--root=create"],
        &["--log-format", "json", "--log", "delete"],
        &["--log-level=debug", "--cgroup-manager", "systemd"],
    ] {
        assert_eq!(with(global), without_options, "{global:?}");
    }
    if let Ok(RuntimeCommand::NewContainer { bundle: Some(bundle), .. }) = without_options {
        let bundle = bundle.as_os_str().as_bytes();
        assert!(
            words.iter().any(|word| word.as_bytes().ends_with(bundle)),
            "the bundle is not in the arguments"
        );
    }
}

fn slice(word: &str) {
    if let Ok(expected_slice) = word.parse::<ExpectedSlice>() {
        assert_eq!(expected_slice.to_string().parse().as_ref(), Ok(&expected_slice));
    }
    if let Some(Ok(variable)) = DeviceVariable::parse(word) {
        assert_eq!(DeviceVariable::parse(&variable.to_string()), Some(Ok(variable)));
    }
}

/// Lines `key: value` are annotations, the others the environment.
fn requests(text: &str) {
    let (mut env, mut annotations) = (Vec::new(), Vec::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.split_once(": ") {
            Some((key, value)) if annotations.iter().all(|(other, _)| *other != key) => {
                annotations.push((key, value));
            }
            _ => env.push(line),
        }
    }
    let read = |policy: &Settings, env: &[&str], annotations: &[(&str, &str)], is_privileged| {
        let text = configuration(env, annotations, is_privileged);
        let config = OciConfig::parse(text.as_bytes()).expect("a configuration");
        request::read(&config, &policy.hook, &policy.kind.to_string())
    };
    for settings in &*SETTINGS {
        for is_privileged in [false, true] {
            let is_accepted = match settings.hook.requests {
                RequestPolicy::None => false,
                RequestPolicy::Privileged => is_privileged,
                RequestPolicy::All => true,
            };
            let requested = match read(settings, &env, &annotations, is_privileged) {
                Ok(Request::Devices(requested)) => requested,
                Ok(_) => continue,
                Err(error) => {
                    assert!(is_accepted, "{error}");
                    one_line(&error);
                    continue;
                }
            };
            assert!(is_accepted && !requested.is_empty(), "{requested:?}");
            // Written as one annotation, they are requested again.
            let devices: Vec<_> = requested.iter().map(ToString::to_string).collect();
            let annotation = [("mig-cdi/devices", &*devices.join(","))];
            let variable = ["NVIDIA_VISIBLE_DEVICES=all"];
            let again = read(settings, &variable, &annotation, is_privileged);
            assert_eq!(again, Ok(Request::Devices(requested)));
        }
    }
}

fn configuration(env: &[&str], annotations: &[(&str, &str)], is_privileged: bool) -> String {
    let annotations = annotations.iter().map(|(key, value)| (*key, Value::from(*value)));
    json!({
        "ociVersion": "1.0.2",
        "process": {"args": ["sh"], "env": env},
        "linux": {"resources": {"devices": [{"allow": is_privileged, "access": "rwm"}]}},
        "root": {"path": "rootfs"},
        "annotations": Value::Object(annotations.map(|(k, v)| (k.to_owned(), v)).collect()),
    })
    .to_string()
}
