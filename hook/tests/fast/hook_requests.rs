//! Requests of containers to the hook, and their results: the mode `precreate` on a fake host, from one configuration
//! to the other.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, hook::oci_config};
use serde_json::{Value, json};

/// `0:2g.20gb:0` and `0:2g.20gb:2` of the preset a100-80gb.
pub(super) const FIRST: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";
pub(super) const SECOND: &str = "MIG-7e3b1aad-b6b6-508b-bb58-981e2752708b";
const GPU: &str = "GPU-61c0a1f4-aba4-5580-9de2-c64d87da6de4";

pub(super) fn host(policy: &str) -> FakeHost {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    host.configure_hook(policy);
    let run = host.generate(&["--names=uuid,slot,index"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    host
}

pub(super) fn changed(run: &Run) -> Value {
    assert_eq!(run.code, 0, "{}", run.stderr);
    let spec = serde_json::from_str::<oci_spec::runtime::Spec>(&run.stdout);
    assert!(spec.is_ok(), "{spec:?}: {}", run.stdout);
    serde_json::from_str(&run.stdout).unwrap()
}

pub(super) fn refused(run: &Run) -> &str {
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
    assert_eq!(run.stderr.matches('\n').count(), 1, "{:?}", run.stderr);
    run.stderr.strip_prefix("error: ").unwrap().trim_end()
}

/// Returns the paths of the capability nodes in a configuration.
pub(super) fn caps(config: &Value) -> Vec<&str> {
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
    let host = host("");
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

/// Asserts that a container starts as it is, and returns the log.
pub(super) fn unchanged(host: &FakeHost, config: &str) -> String {
    let _ = std::fs::remove_file(host.log());
    let run = host.precreate(config, &[]);
    assert!(run.code == 0 && run.stdout == config, "{}{}", run.stderr, host.read_log());
    host.read_log()
}

#[test]
fn a_container_without_a_request_starts_unchanged() {
    for policy in ["requests = \"all\"", "requests = \"privileged\"", "requests = \"none\""] {
        let host = host(policy);
        // A container without a request starts even if a spec cannot be read.
        std::fs::write(host.spec(), "{").unwrap();
        let long = format!("LONG={}", "x".repeat(15 << 20));
        for config in [
            oci_config(&[], &[], true),
            oci_config(
                &["NVIDIA_VISIBLE_DEVICES="],
                &[("cdi.k8s.io/x", "example.com/net=a")],
                true,
            ),
            oci_config(&["XNVIDIA_VISIBLE_DEVICES=all"], &[("mig-cdi/other", "all")], true),
            oci_config(&[&long], &[], false),
        ] {
            assert_eq!(unchanged(&host, &config), "");
        }
    }
    let huge = format!("LONG={}", "x".repeat(16 << 20));
    let run = host("").precreate(&oci_config(&[&huge], &[], false), &[]);
    assert!(refused(&run).contains("larger than 16777216 bytes"), "{}", run.stderr);
}

/// The forms in which the author of an image or of a pod can name a slice.
fn requests() -> Vec<String> {
    let by = |key: &str, value: &str| oci_config(&[], &[(key, value)], false);
    vec![
        oci_config(&[&format!("NVIDIA_VISIBLE_DEVICES={FIRST}")], &[], false),
        by("mig-cdi/devices", FIRST),
        by("cdi.k8s.io/x", &format!("nvidia.com/mig={FIRST}")),
    ]
}

/// Replaces the device rules of a configuration.
fn with_rules(config: &str, rules: &str) -> String {
    let denied = r#""devices":[{"allow":false,"access":"rwm"}]"#;
    assert!(config.contains(denied), "{config}");
    config.replace(denied, &format!("\"devices\":{rules}"))
}

/// The author of an image or of a pod can write variables and annotations, so they count only as the policy says.
#[test]
fn the_policy_chooses_who_may_request() {
    let all = r#"[{"allow":true,"access":"rwm"}]"#;
    let (none, privileged) = (host("requests = \"none\""), host("requests = \"privileged\""));
    let every = host("requests = \"all\"");
    for config in requests() {
        for (host, rules) in [(&none, all), (&none, "[]"), (&privileged, "[]")] {
            let config = with_rules(&config, rules);
            let log = unchanged(host, &config);
            assert_eq!(log.matches('\n').count(), 1, "{log}");
            assert!(
                log.contains(" starts without a slice: ") && log.contains("hook.requests"),
                "{log}"
            );
        }
        for (host, rules) in [(&privileged, all), (&every, all), (&every, "[]")] {
            let run = host.precreate(&with_rules(&config, rules), &[]);
            assert_eq!(caps(&changed(&run)), ["30", "31"]);
        }
    }
    // Text of an image is not examined further where it does not count.
    let invalid = [("mig-cdi/devices", "ESC[2J,,"), ("cdi.k8s.io/x", "y")];
    let twice = ["NVIDIA_VISIBLE_DEVICES=0:0", "NVIDIA_VISIBLE_DEVICES=0:1"];
    let config = oci_config(&twice, &invalid, false).replace("ESC", "\\u001b");
    let log = unchanged(&privileged, &config);
    assert!(log.matches('\n').count() == 1 && !log.contains('\u{1b}'), "{log:?}");
}

/// Privileged means that the runtime lets the container open every device. No capability is a sign of it: with `CAP_SYS_ADMIN` alone
/// the device cgroup still denies the nodes.
#[test]
fn only_a_rule_that_allows_every_device_makes_a_container_privileged() {
    let host = host("requests = \"privileged\"");
    let any = r#"{"allow":true,"access":"rwm"}"#;
    let deny = r#"{"allow":false,"access":"rwm"}"#;
    for (rules, is_privileged) in [
        (format!("[{any}]"), true),
        (format!("[{deny},{any}]"), true),
        (r#"[{"allow":true,"type":"a","access":"rwm"}]"#.to_owned(), true),
        (r#"[{"allow":true,"type":"a","major":-1,"minor":-1,"access":"mrw"}]"#.to_owned(), true),
        (format!(r#"[{any},{{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}}]"#), true),
        ("[]".to_owned(), false),
        ("null".to_owned(), false),
        (format!("[{deny}]"), false),
        (format!("[{any},{deny}]"), false),
        (format!(r#"[{any},{{"allow":false,"type":"c","major":508,"access":"w"}}]"#), false),
        (r#"[{"allow":true,"access":"rw"}]"#.to_owned(), false),
        (r#"[{"allow":true}]"#.to_owned(), false),
        (r#"[{"access":"rwm"}]"#.to_owned(), false),
        (r#"[{"allow":true,"type":"b","access":"rwm"}]"#.to_owned(), false),
        (r#"[{"allow":true,"type":"c","major":10,"access":"rwm"}]"#.to_owned(), false),
        (r#"[{"allow":true,"minor":0,"access":"rwm"}]"#.to_owned(), false),
    ] {
        for config in requests() {
            let run = host.precreate(&with_rules(&config, &rules), &[]);
            assert_eq!(run.code, 0, "{rules}: {}", run.stderr);
            assert_eq!(run.stdout.contains("nvidia-cap31"), is_privileged, "{rules}: {config}");
        }
    }
    for rules in [r#"{"allow":true}"#, r#"[{"allow":"true","access":"rwm"}]"#, "[7]"] {
        let run = host.precreate(&with_rules(&requests()[0], rules), &[]);
        assert!(refused(&run).contains("linux.resources.devices"), "{}", run.stderr);
        assert_eq!(unchanged(&host, &with_rules(&oci_config(&[], &[], false), rules)), "");
    }
}

/// NVIDIA's words for all GPUs and for none name no slice, as in the images of CUDA and the pods of the GPU operator.
#[test]
fn all_none_and_void_request_nothing() {
    for policy in ["requests = \"all\"", "requests = \"privileged\"", "requests = \"none\""] {
        let host = host(&format!("{policy}\ndevices = [\"*\"]"));
        std::fs::write(host.spec(), "{").unwrap();
        for word in ["all", "none", "void"] {
            for privileged in [false, true] {
                let variable = format!("NVIDIA_VISIBLE_DEVICES={word}");
                let log = unchanged(&host, &oci_config(&[&variable], &[], privileged));
                assert_eq!(log.matches('\n').count(), 1, "{policy} {word}: {log}");
                assert!(log.contains(&format!("starts without a slice: {variable} ")), "{log}");
            }
        }
    }
}

/// Two sources that name different devices are refused: neither adds to the other, and neither takes its place.
#[test]
fn a_request_has_one_source() {
    let host = host("");
    let variable = |value| format!("NVIDIA_VISIBLE_DEVICES={value}");
    let own = |value| ("mig-cdi/devices", value);
    let first = format!("nvidia.com/mig={FIRST}");
    let second = format!("nvidia.com/mig={SECOND}");
    for (env, annotations) in [
        (vec![variable(FIRST)], vec![own(SECOND)]),
        (vec![variable(FIRST)], vec![("cdi.k8s.io/a", second.as_str())]),
        (vec![], vec![own(FIRST), ("cdi.k8s.io/a", &second)]),
        (vec![], vec![("cdi.k8s.io/a", &first), ("cdi.k8s.io/b", &second)]),
        (vec![variable(FIRST), variable(SECOND)], vec![]),
        (vec![variable("0:0,0:1")], vec![own("0:0")]),
    ] {
        let env: Vec<&str> = env.iter().map(String::as_str).collect();
        let run = host.precreate(&oci_config(&env, &annotations, false), &[]);
        assert!(refused(&run).contains("request different devices, by "), "{}", run.stderr);
        assert!(run.stderr.contains("; request them in one place"), "{}", run.stderr);
    }
    // The same twice is one request, and words that name no slice are none.
    for (env, annotations) in [
        (vec![variable(FIRST)], vec![own(FIRST), ("cdi.k8s.io/a", &first)]),
        (vec![variable("all")], vec![own(FIRST)]),
        (vec![variable(FIRST)], vec![own("void")]),
        (vec![], vec![own(""), ("cdi.k8s.io/a", &first)]),
        (vec![variable("void")], vec![("cdi.k8s.io/a", &first)]),
        (vec![variable(FIRST)], vec![("cdi.k8s.io/a", "")]),
        (vec![variable(FIRST), variable(FIRST)], vec![]),
        (vec![variable(FIRST)], vec![("cdi.k8s.io/a", "example.com/net=a")]),
    ] {
        let env: Vec<&str> = env.iter().map(String::as_str).collect();
        let run = host.precreate(&oci_config(&env, &annotations, false), &[]);
        assert_eq!(caps(&changed(&run)), ["30", "31"]);
    }
}

#[test]
fn the_policy_limits_requests() {
    let default = host("");
    let run = request(&default, "mig-cdi/devices", "all");
    // The cure is in the file that was read.
    let cure = format!("; list it in hook.devices of {}", default.config().display());
    assert!(refused(&run).ends_with(&cure), "{}", run.stderr);
    let all = host("devices = [\"all\"]");
    assert_eq!(caps(&changed(&request(&all, "mig-cdi/devices", "all"))).len(), 8);
    assert!(refused(&request(&all, "mig-cdi/devices", FIRST)).contains("hook.devices"));
    // The policy applies to the slice, whichever name requests it.
    let first = host("devices = [\"*:0\"]");
    assert_eq!(caps(&changed(&request(&first, "mig-cdi/devices", FIRST))), ["30", "31"]);
    assert!(refused(&request(&first, "mig-cdi/devices", SECOND)).contains("hook.devices"));
}

/// A request does not add to the slices that a user has named to the engine: their variables show them.
#[test]
fn a_request_adds_nothing_to_slices_of_the_engine() {
    let host = host("");
    let given = format!("MIG_CDI_DEVICE_0_4_0={SECOND},2g.20gb,{GPU}");
    let config = |device: &str| {
        let config = oci_config(&[&given], &[("mig-cdi/devices", device)], true);
        with_nodes(&config, &[39, 40])
    };
    let run = host.precreate(&config(FIRST), &[]);
    let why = "MIG_CDI_DEVICE_ variables of other slices, which the engine has given it: gpu minor 0 gi 4 ci 0; request slices either from the engine";
    assert!(refused(&run).contains(why), "{}", run.stderr);
    assert!(refused(&host.precreate(&config(&format!("{FIRST},{SECOND}")), &[])).contains(why));
    unchanged(&host, &config(SECOND));
    unchanged(&host, &oci_config(&[&given], &[], true));
}

#[test]
fn a_request_for_what_is_there_is_logged() {
    let host = host("");
    let given = format!("MIG_CDI_DEVICE_0_4_0={SECOND},2g.20gb,{GPU}");
    let config = oci_config(&[&given], &[("mig-cdi/devices", SECOND)], true);
    let config = with_nodes(&config, &[39, 40]);
    let log = unchanged(&host, &config);
    assert!(log.contains(&format!("has {SECOND} already: nothing is added")), "{log}");
    let printed = changed(&host.precreate(&config, &["--dry-run"]));
    assert_eq!(printed, json!({"door": "precreate", "plan": null, "given": SECOND}));
}

/// An image can write these variables too: with that of a second slice, and a request for both, it gets no more than the user has named
/// to the engine. A privileged container has every node of the machine.
#[test]
fn a_forged_variable_adds_no_slice() {
    let host = host("");
    let given = format!("MIG_CDI_DEVICE_0_3_0={FIRST},2g.20gb,{GPU}");
    for forged in [
        format!("MIG_CDI_DEVICE_0_4_0={SECOND},2g.20gb,{GPU}"),
        format!("MIG_CDI_DEVICE_0_4_0=,2g.20gb,{GPU}"),
    ] {
        for env in [[&*given, &forged], [&forged, &given]] {
            for key in ["mig-cdi/devices", "cdi.k8s.io/x"] {
                let kind = if key.starts_with("cdi") { "nvidia.com/mig=" } else { "" };
                let both = format!("{kind}{SECOND},{kind}{FIRST}");
                let config = oci_config(&env, &[(key, &both)], true);
                unchanged(&host, &with_nodes(&config, &[30, 31, 39, 40]));
            }
        }
        // Without the nodes that the variable is for, nobody has given the slice.
        let config = oci_config(&[&forged], &[("mig-cdi/devices", SECOND)], true);
        for nodes in [&[][..], &[30, 31], &[39]] {
            let run = host.precreate(&with_nodes(&config, nodes), &[]);
            assert!(refused(&run).contains("and not their nodes: nvidia-cap"), "{}", run.stderr);
        }
    }
}

/// Adds capability nodes to a configuration.
fn with_nodes(config: &str, minors: &[u32]) -> String {
    let node = |minor: &u32| {
        format!(
            r#"{{"path":"/dev/nvidia-caps/nvidia-cap{minor}","type":"c","major":508,"minor":{minor}}}"#
        )
    };
    let nodes: Vec<String> = minors.iter().map(node).collect();
    let devices = format!(r#""linux":{{"devices":[{}],"#, nodes.join(","));
    let changed = config.replace(r#""linux":{"#, &devices);
    assert_ne!(changed, config);
    changed
}

/// A user takes back what an image says: the same annotation, or the variable, without a slice.
#[test]
fn words_for_nothing_take_a_request_back() {
    let host = host("");
    for word in ["none", "void", ""] {
        let log = unchanged(&host, &oci_config(&[], &[("mig-cdi/devices", word)], true));
        assert!(log.contains("names no slice, so none is added"), "{log}");
    }
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
    let host = host("");
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
        ("example.com/gpu=0", "only nvidia.com/mig is provided"),
    ] {
        let run = request(&host, "mig-cdi/devices", value);
        assert!(refused(&run).contains(why), "{value:?}: {}", run.stderr);
    }
    let run = request(&host, "cdi.k8s.io/x", "0:2g.20gb:0");
    assert!(refused(&run).contains("not a cdi device"), "{}", run.stderr);
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
    assert_eq!(changed(&nothing), json!({"door": "precreate", "plan": null}));
    let all =
        host.precreate(&oci_config(&["NVIDIA_VISIBLE_DEVICES=all"], &[], false), &["--dry-run"]);
    let ignored = "NVIDIA_VISIBLE_DEVICES=all names no slice, so none is added";
    assert_eq!(changed(&all), json!({"door": "precreate", "plan": null, "ignored": ignored}));
    assert_eq!(host.read_log(), "");
}
