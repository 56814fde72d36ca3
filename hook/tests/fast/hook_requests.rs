//! Requests of containers to the hook, and their results: the mode `precreate` on a fake host, from one configuration
//! to the other.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, hook::oci_config};
use serde_json::{Value, json};

/// `0:2g.20gb:0` and `0:2g.20gb:2` of the preset a100-80gb.
const FIRST: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
const SECOND: &str = "MIG-7e3b1aad-b6b6-508b-bb58-981e2752708b";
const GPU: &str = "GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4";

fn host(policy: &str) -> FakeHost {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    host.configure_hook(policy);
    let run = host.generate(&["--names=uuid,slot,index"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    host
}

fn changed(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}", run.stderr);
    let spec = serde_json::from_str::<oci_spec::runtime::Spec>(&run.stdout);
    assert!(spec.is_ok(), "{spec:?}: {}", run.stdout);
    serde_json::from_str(&run.stdout).unwrap()
}

fn refused(run: &Run) -> &str {
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert_eq!(run.stderr.matches('\n').count(), 1, "{:?}", run.stderr);
    run.stderr.strip_prefix("error: ").unwrap().trim_end()
}

/// Returns the paths of the capability nodes in a configuration.
fn caps(config: &Value) -> Vec<&str> {
    let devices = config["linux"]["devices"].as_array().unwrap();
    let paths = devices.iter().map(|device| device["path"].as_str().unwrap());
    paths.filter_map(|path| path.strip_prefix("/dev/nvidia-caps/nvidia-cap")).collect()
}

fn request(host: &FakeHost, key: &str, value: &str) -> Run {
    host.precreate(&oci_config(&[], &[(key, value)], false), &[])
}

#[test]
fn a_container_gets_its_request_and_keeps_its_configuration() {
    let host = host("");
    let run = request(&host, "mig-cdi/devices", "0:2g.20gb:0");
    let config = changed(&run);
    assert!(run.stdout.contains(r#""x-unknown":{"number":1.50}"#), "{}", run.stdout);
    assert!(run.stdout.contains(r#""x-large":12345678901234567890123"#), "{}", run.stdout);
    assert_eq!(config["linux"]["resources"]["unified"], json!({"a": "b"}));
    assert_eq!(
        config["process"]["env"],
        json!([
            "PATH=/bin",
            "NVIDIA_VISIBLE_DEVICES=void",
            format!("MIG_CDI_DEVICE_0_3_0={FIRST},2g.20gb,{GPU}"),
            format!("CUDA_VISIBLE_DEVICES={FIRST}"),
        ])
    );
    let device = |path: &str, major: u32, minor: u32, mode: u32| json!({"path": path, "type": "c", "major": major, "minor": minor, "fileMode": mode, "uid": 0, "gid": 0});
    assert_eq!(
        config["linux"]["devices"],
        json!([
            device("/dev/nvidiactl", 195, 255, 0o666),
            device("/dev/nvidia-uvm", 511, 0, 0o666),
            device("/dev/nvidia-uvm-tools", 511, 1, 0o666),
            device("/dev/nvidia0", 195, 0, 0o666),
            device("/dev/nvidia-caps/nvidia-cap30", 508, 30, 0o444),
            device("/dev/nvidia-caps/nvidia-cap31", 508, 31, 0o444),
        ])
    );
    let rule = |major: u32, minor: u32| json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rw"});
    assert_eq!(
        config["linux"]["resources"]["devices"],
        json!([
            {"allow": false, "access": "rwm"},
            rule(195, 255), rule(511, 0), rule(511, 1), rule(195, 0), rule(508, 30), rule(508, 31),
        ])
    );
}

/// The capability files of the GPU's other slices and those for administrators are masked; those of the slice itself
/// are not.
#[test]
fn other_slices_are_hidden() {
    let masked = |node: &str, device: &str| {
        let host = FakeHost::new(preset(node).unwrap());
        host.configure_hook("");
        assert_eq!(host.generate(&[]).code, 0);
        let config = changed(&request(&host, "mig-cdi/devices", device));
        serde_json::from_value::<Vec<String>>(config["linux"]["maskedPaths"].clone()).unwrap()
    };
    let tree = "/proc/driver/nvidia/capabilities";
    assert_eq!(
        masked("a100-80gb", "0:2g.20gb:0"),
        [
            "/proc/kcore".to_owned(),
            format!("{tree}/gpu0/mig/gi4"),
            format!("{tree}/gpu0/mig/gi5"),
            format!("{tree}/gpu0/mig/gi7"),
            format!("{tree}/mig"),
        ]
    );
    // Seven other GPUs, by their directories in both trees.
    let paths = masked("dgx-a100", "0:1g.10gb:0");
    assert_eq!(
        paths.iter().filter(|path| path.starts_with("/proc/driver/nvidia/gpus/")).count(),
        7
    );
    let whole = paths.iter().filter(|path| path.rsplit('/').next().unwrap().starts_with("gpu"));
    assert_eq!(whole.count(), 7, "{paths:?}");
    let host = host("hide = false");
    let config = changed(&request(&host, "mig-cdi/devices", "0:2g.20gb:0"));
    assert_eq!(config["linux"]["maskedPaths"], json!(["/proc/kcore"]));
}

#[test]
fn every_form_of_request_names_the_same_slice() {
    let host = host("environment = \"all\"");
    let legacy = format!("MIG-{GPU}/3/0");
    let by_env = |value: &str| {
        host.precreate(&oci_config(&[&format!("NVIDIA_VISIBLE_DEVICES={value}")], &[], false), &[])
    };
    for run in [
        request(&host, "mig-cdi/devices", "0:2g.20gb:0"),
        request(&host, "mig-cdi/devices", "nvidia.com/mig=0:2g.20gb:0"),
        request(&host, "mig-cdi/devices", FIRST),
        request(&host, "cdi.k8s.io/any", "nvidia.com/mig=0:0"),
        request(&host, "cdi.k8s.io/any", "example.com/net=eth0,nvidia.com/mig=0:0"),
        request(&host, "mig-cdi/devices", &format!("0:0,{FIRST}")),
        by_env(FIRST),
        by_env(&legacy),
        by_env("0:0"),
    ] {
        assert_eq!(caps(&changed(&run)), ["30", "31"], "{}", run.stdout);
    }
    let two = changed(&by_env(&format!("{SECOND},{FIRST}")));
    assert_eq!(caps(&two), ["39", "40", "30", "31"]);
    let env = two["process"]["env"].as_array().unwrap();
    assert!(env.contains(&json!(format!("CUDA_VISIBLE_DEVICES={SECOND},{FIRST}"))), "{env:?}");
}

#[test]
fn a_container_without_a_request_starts_unchanged() {
    let host = host("environment = \"all\"");
    // A container without a request starts even if a spec cannot be read.
    std::fs::write(host.spec(), "{").unwrap();
    for config in [
        oci_config(&[], &[], true),
        oci_config(&["NVIDIA_VISIBLE_DEVICES=void"], &[], true),
        oci_config(&["NVIDIA_VISIBLE_DEVICES=none"], &[], true),
        oci_config(&["NVIDIA_VISIBLE_DEVICES="], &[("cdi.k8s.io/x", "example.com/net=a")], true),
        oci_config(&["XNVIDIA_VISIBLE_DEVICES=all"], &[("mig-cdi/other", "all")], true),
    ] {
        let run = host.precreate(&config, &[]);
        assert_eq!((run.code, run.stdout), (0, config), "{}", run.stderr);
    }
}

/// Images can set the variable, so it counts as a request of the user only when the policy says so. An annotation is
/// always the user's, and the variable is then ignored.
#[test]
fn the_environment_is_honoured_as_the_policy_allows() {
    let config =
        |privileged| oci_config(&[&format!("NVIDIA_VISIBLE_DEVICES={FIRST}")], &[], privileged);
    let default = host("");
    let message = default.precreate(&config(false), &[]);
    assert!(refused(&message).contains("not privileged"), "{}", message.stderr);
    assert!(message.stderr.contains("hook.environment = \"all\""), "{}", message.stderr);
    assert!(
        default.read_log().contains("is refused: accept NVIDIA_VISIBLE_DEVICES="),
        "{}",
        default.read_log()
    );
    assert_eq!(caps(&changed(&default.precreate(&config(true), &[]))), ["30", "31"]);
    let ignore = host("environment = \"ignore\"");
    assert_eq!(ignore.precreate(&config(true), &[]).stdout, config(true));
    let both =
        oci_config(&["NVIDIA_VISIBLE_DEVICES=all"], &[("mig-cdi/devices", "0:2g.20gb:2")], false);
    assert_eq!(caps(&changed(&default.precreate(&both, &[]))), ["39", "40"]);
}

#[test]
fn the_policy_limits_requests() {
    let default = host("");
    let run = request(&default, "mig-cdi/devices", "all");
    assert!(refused(&run).contains("hook.devices"), "{}", run.stderr);
    let all = host("devices = [\"all\"]");
    assert_eq!(caps(&changed(&request(&all, "mig-cdi/devices", "all"))).len(), 8);
    assert!(refused(&request(&all, "mig-cdi/devices", FIRST)).contains("hook.devices"));
    // The policy applies to the slice, whichever name requests it.
    let first = host("devices = [\"*:0\"]\nannotations = [\"mig-cdi/*\"]");
    assert_eq!(caps(&changed(&request(&first, "mig-cdi/devices", FIRST))), ["30", "31"]);
    assert!(refused(&request(&first, "mig-cdi/devices", SECOND)).contains("hook.devices"));
    let run = request(&first, "cdi.k8s.io/x", &format!("nvidia.com/mig={FIRST}"));
    assert!(refused(&run).contains("hook.annotations"), "{}", run.stderr);
}

/// `config` is one capability over every slice of the node.
#[test]
fn an_admin_capability_is_injected_when_the_policy_lists_it() {
    let host = host("devices = [\"config\"]");
    assert_eq!(host.generate(&["--admin=config"]).code, 0);
    let config = changed(&request(&host, "mig-cdi/devices", "config"));
    assert_eq!(caps(&config), ["1"]);
    assert_eq!(config["linux"]["maskedPaths"], json!(["/proc/kcore"]));
}

#[test]
fn invalid_requests_are_refused() {
    let host = host("environment = \"all\"");
    for (value, why) in [
        ("0", "no such device"),
        ("0:2g.20gb:6", "no such device"),
        ("GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4", "no such device"),
        ("MIG-00000000-0000-0000-0000-000000000000", "no such device"),
        ("MIG-GPU-00000000-0000-0000-0000-000000000000/3/0", "no gpu has the uuid"),
        ("MIG-GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4/9/0", "no such device"),
        ("MIG-GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4/03/0", "not the name of a mig device"),
        ("0:2g.20gb:0,", "not the name of a mig device"),
        (" 0:2g.20gb:0", "not the name of a mig device"),
        ("0:2g.20gb:0\n0:2g.20gb:2", "not the name of a mig device"),
        ("../../etc/passwd", "not the name of a mig device"),
        ("", "not the name of a mig device"),
        ("example.com/gpu=0", "only nvidia.com/mig is provided"),
    ] {
        let run = request(&host, "mig-cdi/devices", value);
        assert!(refused(&run).contains(why), "{value:?}: {}", run.stderr);
    }
    let run = request(&host, "cdi.k8s.io/x", "0:2g.20gb:0");
    assert!(refused(&run).contains("not a cdi device"), "{}", run.stderr);
    let twice = ["NVIDIA_VISIBLE_DEVICES=0:0", "NVIDIA_VISIBLE_DEVICES=0:1"];
    let run = host.precreate(&oci_config(&twice, &[], false), &[]);
    assert!(refused(&run).contains("set twice"), "{}", run.stderr);
}

#[test]
fn a_spec_that_disagrees_with_the_driver_is_refused() {
    let host = host("");
    let spec = host.read_spec().unwrap();
    for (from, to, why) in [
        // Another slice's node, one node less, one more, another GPU, another number.
        (
            "nvidia-cap31\",\"type\":\"c\",\"major\":508,\"minor\":31",
            "nvidia-cap40\",\"type\":\"c\",\"major\":508,\"minor\":40",
            "the spec lacks",
        ),
        ("\"major\":508,\"minor\":31", "\"major\":508,\"minor\":40", "the spec lacks"),
        ("\"major\":508,\"minor\":31", "\"major\":509,\"minor\":31", "the spec lacks"),
        ("\"path\":\"/dev/nvidia-uvm\"", "\"path\":\"/dev/nvidia-uvm2\"", "the spec lacks"),
        (
            "\"path\":\"/dev/nvidia-uvm-tools\"",
            "\"path\":\"/dev/mem\"",
            "does not belong to these slices",
        ),
        (&format!("{FIRST},2g.20gb,{GPU}"), &format!("{FIRST},2g.20gb,"), "has no uuid of its gpu"),
        (GPU, "GPU-00000000-0000-0000-0000-000000000000", "the spec has GPU-0000"),
        ("MIG_CDI_DEVICE_0_3_0", "MIG_CDI_DEVICE_0_3_9", "is gone"),
        ("MIG_CDI_DEVICE_0_3_0=", "MIG_CDI_DEVICE_0_3=", "is not MIG_CDI_DEVICE_"),
        ("\"type\":\"c\"", "\"type\":\"b\"", "has the type \"b\", not \"c\""),
        (
            "\"permissions\":\"rw\"",
            "\"permissions\":\"rwm\"",
            "has the permissions \"rwm\", not \"rw\"",
        ),
        ("\"containerEdits\"", "\"containerEdits2\"", "unknown field"),
        ("nvidia.com/mig", "nvidia.com/gpu", "its kind is"),
        ("\"0:2g.20gb:2\"", "\"0:2g.20gb:0\"", "two devices have the name"),
        ("{", "[", "expected"),
    ] {
        assert!(spec.contains(from), "{from}");
        std::fs::write(host.spec(), spec.replace(from, to)).unwrap();
        let run = request(&host, "mig-cdi/devices", "0:2g.20gb:0");
        assert!(refused(&run).contains(why), "{from} -> {to}: {}", run.stderr);
    }
    std::fs::remove_file(host.spec()).unwrap();
    let run = request(&host, "mig-cdi/devices", "0:2g.20gb:0");
    assert!(refused(&run).contains("there is no nvidia.com-mig.json in"), "{}", run.stderr);
}

/// A CUDA variable of the container stays. Entries that an engine has already added are not added twice.
#[test]
fn existing_entries_are_not_duplicated() {
    let host = host("");
    let own = oci_config(&["CUDA_VISIBLE_DEVICES=0"], &[("mig-cdi/devices", "0:0")], false);
    let run = host.precreate(&own, &[]);
    let once = changed(&run);
    assert!(once["process"]["env"].as_array().unwrap().contains(&json!("CUDA_VISIBLE_DEVICES=0")));
    let twice = changed(&host.precreate(&run.stdout, &[]));
    assert_eq!(once, twice);
    // A wrong node at the same path is replaced.
    let wrong = own.replace("\"linux\":{", "\"linux\":{\"devices\":[{\"path\":\"/dev/nvidia0\",\"type\":\"c\",\"major\":1,\"minor\":3}],");
    assert_eq!(changed(&host.precreate(&wrong, &[]))["linux"]["devices"], once["linux"]["devices"]);
}

#[test]
fn a_dry_run_prints_the_plan() {
    let host = host("");
    let config = oci_config(&[], &[("mig-cdi/devices", "0:2g.20gb:0")], false);
    let run = host.precreate(&config, &["--dry-run"]);
    let printed = changed(&run);
    assert_eq!(printed["door"], "precreate");
    assert_eq!(printed["plan"]["devices"], json!(["0:2g.20gb:0"]));
    assert_eq!(printed["plan"]["nodes"].as_array().unwrap().len(), 6);
    let nothing = host.precreate(&oci_config(&[], &[], false), &["--dry-run"]);
    assert_eq!(changed(&nothing)["plan"], json!(null));
}
