//! What stands beside a request: devices that the container has by another source, and entries of the variable that are
//! meant for NVIDIA's runtime.

use super::hook_requests::{FIRST, SECOND, caps, changed, host, refused, unchanged};
use mig_cdi_tests::hook::oci_config;
use serde_json::{Value, json};

/// Adds to a configuration what an engine makes of a device that its user has named: entries of `linux.devices`, device rules and
/// mounts.
fn with(config: &str, devices: &Value, rules: &[Value], mounts: &[Value]) -> String {
    let mut config: Value = serde_json::from_str(config).unwrap();
    config["linux"]["devices"] = devices.clone();
    let list = config["linux"]["resources"]["devices"].as_array_mut().unwrap();
    list.extend(rules.iter().cloned());
    config["mounts"].as_array_mut().unwrap().extend(mounts.iter().cloned());
    config.to_string()
}

fn node(major: u32, minor: u32) -> Value {
    json!({"path": format!("/dev/x{major}-{minor}"), "type": "c", "major": major, "minor": minor})
}

fn nodes(numbers: &[(u32, u32)]) -> Value {
    numbers.iter().map(|&(major, minor)| node(major, minor)).collect()
}

fn rule(major: i64, minor: i64, access: &str) -> Value {
    json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": access})
}

fn bind(source: &str) -> Value {
    json!({"destination": "/dev/x", "type": "bind", "source": source, "options": ["rbind"]})
}

/// A request adds no slice to what a user has named to the engine in any way: a spec of another tool, a path, a device rule.
/// Slice 0:2g.20gb:0 has the capabilities 30 and 31, the one beside it 39 and 40; `config` is capability 1.
#[test]
fn a_request_adds_nothing_to_devices_of_another_source() {
    let host = host("");
    let request =
        |privileged| oci_config(&[&format!("NVIDIA_VISIBLE_DEVICES={FIRST}")], &[], privileged);
    let none = json!([]);
    let run = |devices: &Value, rules: &[Value], mounts: &[Value]| {
        host.precreate(&with(&request(false), devices, rules, mounts), &[])
    };
    for (devices, rules, mounts, given) in [
        (nodes(&[(195, 0), (508, 39), (508, 40)]), vec![], vec![], "nvidia-cap39, nvidia-cap40"),
        (nodes(&[(508, 39)]), vec![], vec![], "nvidia-cap39"),
        (nodes(&[(508, 30)]), vec![], vec![], "nvidia-cap30"),
        (nodes(&[(508, 1)]), vec![], vec![], "nvidia-cap1"),
        (nodes(&[(508, 30), (508, 39)]), vec![], vec![], "nvidia-cap30, nvidia-cap39"),
        // Another GPU of which the user has named no slice.
        (nodes(&[(195, 1), (195, 255)]), vec![], vec![], "nvidia1"),
        (none.clone(), vec![rule(508, 39, "rwm")], vec![], "nvidia-cap39"),
        (none.clone(), vec![rule(508, 39, "r")], vec![], "nvidia-cap39"),
        (none.clone(), vec![rule(508, 39, "")], vec![], "nvidia-cap39"),
        // Rootless podman.
        (none.clone(), vec![], vec![bind("/dev/nvidia-caps/nvidia-cap39")], "nvidia-cap39"),
        (none.clone(), vec![], vec![bind("//dev/./nvidia1")], "nvidia1"),
    ] {
        let run = run(&devices, &rules, &mounts);
        let request = if given.contains("cap") { "nvidia-cap30, nvidia-cap31" } else { "nvidia0" };
        let why = format!(
            "inject {FIRST}: the engine has given the container {given}, and the request is for {request}; \
             request slices either from the engine"
        );
        assert!(refused(&run).starts_with(&why), "{}", run.stderr);
    }
    // The same slice, or it among others: the request adds nothing. And what is no slice and no GPU.
    for (devices, rules, mounts) in [
        (nodes(&[(195, 0), (195, 255), (508, 30), (508, 31)]), vec![], vec![]),
        (nodes(&[(195, 0), (508, 30), (508, 31), (508, 39), (508, 40)]), vec![], vec![]),
        (nodes(&[(195, 0), (195, 254), (195, 255), (511, 0), (10, 39)]), vec![], vec![]),
        (json!([{"path": "/dev/b", "type": "b", "major": 508, "minor": 39}]), vec![], vec![]),
        (json!([{"path": "/dev/p", "type": "p"}]), vec![], vec![]),
        (none.clone(), vec![rule(508, 39, "m"), rule(508, -1, "rw"), rule(-1, -1, "rw")], vec![]),
        (
            none.clone(),
            vec![json!({"allow": false, "type": "c", "major": 508, "minor": 39})],
            vec![],
        ),
        (
            none.clone(),
            vec![],
            vec![bind("/dev/nvidiactl"), bind("/dev/nvidia-caps"), bind("/tmp/dev/nvidia1")],
        ),
    ] {
        let config = changed(&run(&devices, &rules, &mounts));
        let caps = caps(&config);
        assert!(caps.contains(&"30") && caps.contains(&"31"), "{devices} {rules:?}: {caps:?}");
    }
    // A privileged container has every node of the machine.
    let all = nodes(&[(195, 0), (195, 1), (508, 1), (508, 39), (508, 40)]);
    changed(&host.precreate(&with(&request(true), &all, &[], &[]), &[]));
    // Without a request, what the container has is not looked at.
    let config = with(&oci_config(&[], &[], false), &json!(7), &[], &[]);
    assert_eq!(unchanged(&host, &config), "");
    let config = with(&request(false), &json!(7), &[], &[]);
    assert!(refused(&host.precreate(&config, &[])).contains("linux.devices: "));
}

/// The variable in the pods of NVIDIA's GPU operator, and lists that NVIDIA's runtime reads as one word. Nothing of it can be a
/// name of ours.
#[test]
fn values_for_nvidia_s_runtime_request_nothing() {
    for policy in ["requests = \"all\"", "requests = \"privileged\""] {
        let host = host(&format!("{policy}\ndevices = [\"*\"]"));
        std::fs::write(host.spec(), "{").unwrap();
        for value in [
            "management.nvidia.com/gpu=all",
            "runtime.nvidia.com/gpu=all",
            "nvidia.com/gpu=0:0",
            "nvidia.com/gpu=0,nvidia.com/gds=all",
            "/var/run/nvidia-container-devices",
            "void,void",
            "all,void",
            "all, none",
            "management.nvidia.com/gpu=all,void",
            ",",
        ] {
            for privileged in [false, true] {
                let variable = format!("NVIDIA_VISIBLE_DEVICES={value}");
                let log = unchanged(&host, &oci_config(&[&variable], &[], privileged));
                assert_eq!(log.matches('\n').count(), 1, "{policy} {value}: {log}");
                assert!(log.contains(&format!("starts without a slice: {variable} ")), "{log}");
            }
        }
    }
}

/// A list with a name that could be ours is a request, and every entry has to be one.
#[test]
fn a_name_of_a_slice_stands_beside_no_other_entry() {
    let host = host("devices = [\"*\"]");
    let request = |value: &str| {
        let variable = format!("NVIDIA_VISIBLE_DEVICES={value}");
        host.precreate(&oci_config(&[&variable], &[], true), &[])
    };
    for (value, entry) in [
        ("all,0:0", "all"),
        ("0:0,void", "void"),
        ("none,0:0", "none"),
        ("management.nvidia.com/gpu=all,0:0", "management.nvidia.com/gpu=all"),
        ("0:0,nvidia.com/gpu=0:1", "nvidia.com/gpu=0:1"),
        (
            "nvidia.com/mig=0:0,/var/run/nvidia-container-devices",
            "/var/run/nvidia-container-devices",
        ),
    ] {
        let why = format!(
            "accept NVIDIA_VISIBLE_DEVICES: {entry:?} stands beside names of slices; name only slices"
        );
        assert_eq!(refused(&request(value)), why);
    }
    for value in [" 0:0", "0:0,", "0:0, 0:1", "x=0:0", "nvidia.com/mig=", "nvidia.com/mig=/"] {
        let run = request(value);
        assert!(refused(&run).contains("is not the name of a mig device"), "{}", run.stderr);
    }
    for (value, expected) in [
        ("nvidia.com/mig=0:0", &["30", "31"][..]),
        (&format!("nvidia.com/mig={SECOND},0:0"), &["39", "40", "30", "31"]),
    ] {
        assert_eq!(caps(&changed(&request(value))), expected, "{value}");
    }
}

/// A list of a million names, which an image may have, is refused in bounded time.
#[test]
fn a_list_without_end_is_refused() {
    let host = host("");
    let names: Vec<_> = (0..1_500_000).map(|i| format!("0:{i}")).collect();
    let list = names.join(",");
    let cdi = format!("nvidia.com/mig={}", names[..500_000].join(",nvidia.com/mig="));
    for config in [
        oci_config(&[&format!("NVIDIA_VISIBLE_DEVICES={list}")], &[], false),
        oci_config(&[], &[("mig-cdi/devices", &list)], false),
        oci_config(&[], &[("cdi.k8s.io/x", &cdi)], false),
    ] {
        let run = host.precreate(&config, &[]);
        assert!(
            refused(&run).contains(" devices, more than a machine has; name only"),
            "{}",
            run.stderr
        );
    }
}
