//! An OCI configuration that is read, and written with an injection plan in it: no panic, everything that the plan does not
//! change stays byte for byte, and the same plan changes nothing a second time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mig_cdi_config::{RequestPolicy, Settings};
use mig_cdi_hook::{
    oci_config::OciConfig,
    plan::InjectionPlan,
    raw_json::RawObject,
    request::{self, Request},
};
use serde_json::{from_slice, from_str, json, value::RawValue};
use std::sync::LazyLock;

static PLAN: LazyLock<InjectionPlan> = LazyLock::new(|| {
    let node = |path: &str, major: u32, minor: u32| {
        let node = json!({"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 438, "permissions": "rw"});
        serde_json::from_value(node).expect("a node")
    };
    let mount = json!({"hostPath": "/usr/lib/a.so.1", "containerPath": "/lib/a.so.1", "options": ["ro", "bind"]});
    InjectionPlan {
        devices: vec!["0:0".to_owned()],
        env: vec![
            "NVIDIA_VISIBLE_DEVICES=void".to_owned(),
            "CUDA_VISIBLE_DEVICES=MIG-0".to_owned(),
        ],
        nodes: vec![node("/dev/nvidiactl", 195, 255), node("/dev/nvidia0", 195, 0)],
        mounts: vec![serde_json::from_value(mount).expect("a mount")],
        hide: vec!["/proc/driver/nvidia/capabilities/mig".to_owned()],
    }
});

static SETTINGS: LazyLock<[Settings; 3]> = LazyLock::new(|| {
    let policy = |word| Settings::parse(&format!("[hook]\nrequests = \"{word}\"\n"));
    ["none", "privileged", "all"].map(|word| policy(word).expect("settings"))
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = OciConfig::parse(bytes) else { return };
    for Settings { hook, kind, .. } in &*SETTINGS {
        let requested = request::read(&config, hook, &kind.to_string());
        if hook.requests == RequestPolicy::None {
            assert!(!matches!(requested, Ok(Request::Devices(_)) | Err(_)), "{requested:?}");
        }
    }
    let Ok(text) = config.clone().with(&PLAN) else { return };
    let again = OciConfig::parse(text.as_bytes()).expect("what was written can be read");
    assert_eq!(again.clone().with(&PLAN).as_ref(), Ok(&text), "the plan a second time");
    assert_eq!(again.annotations, config.annotations);
    assert_eq!((&again.root, again.user), (&config.root, config.user));
    // The rules that the plan adds allow some devices: they make no container privileged.
    assert_eq!(again.may_open_every_device().ok(), config.may_open_every_device().ok());
    env_is_kept(&config.env, &again.env);
    documents(&from_slice(bytes).expect("it was read"), &from_str(&text).expect("JSON"));
});

/// Each part against the same part before, but for the fields that the plan writes.
fn documents(before: &RawObject<'_>, after: &RawObject<'_>) {
    fn part<'a>(of: &RawObject<'a>, name: &str) -> Option<&'a RawValue> {
        of.read(name).expect("a value")
    }
    let parts = |name| (part(before, name), part(after, name).expect("it was written"));
    survives(before, after, &["process", "linux", "mounts"]);
    let (process, new_process) = parts("process");
    survives(&object(process), &object(Some(new_process)), &["env"]);
    let (linux, new_linux) = parts("linux");
    let (linux, new_linux) = (object(linux), object(Some(new_linux)));
    survives(&linux, &new_linux, &["devices", "resources", "maskedPaths"]);
    let resources = [&linux, &new_linux].map(|linux| part(linux, "resources"));
    let [resources, new_resources] = resources.map(object);
    survives(&resources, &new_resources, &["devices"]);
    let paths = PLAN.nodes.iter().map(|node| node.path.as_str()).collect::<Vec<_>>();
    list_is_kept(&linux, &new_linux, ("devices", "path"), &paths);
    list_is_kept(&resources, &new_resources, ("devices", ""), &[]);
    let paths = PLAN.mounts.iter().map(|mount| mount.container_path.as_str()).collect::<Vec<_>>();
    list_is_kept(before, after, ("mounts", "destination"), &paths);
}

fn object(text: Option<&RawValue>) -> RawObject<'_> {
    text.map_or_else(RawObject::default, |text| from_str(text.get()).expect("an object"))
}

/// Asserts that the earlier fields come first, in their order, and unchanged except for `written`.
fn survives(before: &RawObject<'_>, after: &RawObject<'_>, written: &[&str]) {
    let mut after = after.fields();
    for (key, value) in before.fields() {
        let (same, now) = after.next().expect("no field is lost");
        assert_eq!(same, key);
        assert!(written.contains(&key) || now.get() == value.get(), "{key}: {now}, was {value}");
    }
    assert!(after.all(|(key, _)| written.contains(&key)), "a field that the plan does not have");
}

fn env_is_kept(before: &[String], after: &[String]) {
    let name = |entry: &str| entry.split('=').next().map(str::to_owned);
    let given: Vec<_> = PLAN.env.iter().map(|entry| name(entry)).collect();
    let kept = before.iter().filter(|entry| !given.contains(&name(entry)));
    assert!(kept.chain(&PLAN.env).eq(after), "{before:?} became {after:?}");
}

/// Asserts that the earlier entries come first, in their order and unchanged, without those whose `key` has one of
/// `values`.
fn list_is_kept(
    before: &RawObject<'_>,
    after: &RawObject<'_>,
    (name, key): (&str, &str),
    values: &[&str],
) {
    let kept = |entry: &RawValue| {
        key.is_empty() || {
            let value = object(Some(entry)).read::<String>(key).expect("a text");
            !value.is_some_and(|value| values.contains(&value.as_str()))
        }
    };
    let list = "a list";
    let before = before.read::<Vec<&RawValue>>(name).expect(list).unwrap_or_default();
    let after = after.read::<Vec<&RawValue>>(name).expect(list).expect("it was written");
    let mut now = after.iter().map(|entry| entry.get());
    for entry in before.iter().filter(|entry| kept(entry)) {
        assert_eq!(now.next(), Some(entry.get()), "{name}");
    }
}
