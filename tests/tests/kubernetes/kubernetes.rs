//! A real Kubernetes node with slices.

use mig_cdi_tests::{
    FakeHost, engine_checks,
    kubernetes::{KubernetesNode, NAME, minors},
};
use std::{collections::BTreeSet, fs, path::Path};

/// The node of the other tests works as such: a node without slices.
#[test]
fn a_node_without_slices_runs_pods() {
    let sysctls = sysctls();
    let host = engine_checks::host();
    let mut node = KubernetesNode::start(&host);
    pods_run_and_end(&node);
    a_pod_waits_for_an_unknown_resource(&node);
    pods_outlive_kubelet(&mut node);

    // Everything of a node is named after its directory, which no other process or cgroup is.
    let name = node.dir().file_name().expect("it has a name").to_str().expect("text").to_owned();
    assert!(!processes_of(&name).is_empty() && !groups_of(&name).is_empty(), "the node is {name}");
    drop(node);
    assert_eq!(processes_of(&name), [""; 0]);
    assert_eq!(groups_of(&name), [""; 0]);
    assert_eq!(sysctls, self::sysctls());
}

/// A pod has the slices that it requests, and no other pod has them.
#[test]
fn a_pod_gets_its_slices() {
    let host = engine_checks::host();
    let node = KubernetesNode::start(&host);
    let _plugin = node.plugin(&host, &[]);
    node.until("the node advertises slices", || {
        let slices = node.allocatable();
        let of = |profile: &str| slices.get(&format!("nvidia.com/mig-{profile}")).cloned();
        (of("2g.20gb"), of("1g.10gb")) == (Some("3".to_owned()), Some("1".to_owned()))
    });
    let resource = "nvidia.com/mig-2g.20gb";
    node.pod("one", &[(resource, 1)], &["sleep", "1000000"]);
    node.until_phase("one", "Running");
    // The GPU instance nodes of the three slices of 2g.20gb.
    let probe = ["probe", "508:30", "508:39", "508:48"];
    let one = node.exec("one", &probe).stdout;
    node.pod("two", &[(resource, 2)], &probe);
    node.until_phase("two", "Succeeded");
    let two = node.logs("two");

    let (mut minors, others) = (minors(&one), minors(&two));
    assert_eq!((minors.len(), others.len()), (2, 4), "{one}{two}");
    minors.extend(others);
    assert_eq!(minors, BTreeSet::from([30, 31, 39, 40, 48, 49]), "{one}{two}");
    for (output, own) in [(&one, 1), (&two, 2)] {
        let made = |how: &str| {
            output.lines().filter(|line| line.starts_with("made") && line.ends_with(how)).count()
        };
        assert_eq!((made("ENXIO"), made("EPERM")), (own, 3 - own), "{output}");
    }
    node.pod("four", &[(resource, 4)], &["probe"]);
    let why = format!("Insufficient {resource}");
    node.until("the scheduler reports the reason", || node.describe("four").contains(&why));
}

/// Returns a node description with these slices on GPU 0, and GPU 1 not in MIG mode.
fn two_gpus(slices: &str) -> String {
    format!(
        "[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:07:00.0\"\ninstances = [{slices}]\n\
         [[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:08:00.0\"\nmig = false\n"
    )
}

/// Waits until the node advertises these counts, and no other resource of ours.
fn until_advertised(node: &KubernetesNode, what: &str, counts: &[(&str, &str)]) {
    node.until(what, || {
        let found = node.allocatable();
        let ours = found
            .iter()
            .filter(|(name, count)| name.starts_with("nvidia.com/") && count.as_str() != "0");
        let ours: Vec<_> = ours.map(|(name, count)| (name.as_str(), count.as_str())).collect();
        ours == counts
    });
}

/// A pod keeps its slice whatever happens to the GPU's other slices, to the plugin and to the kubelet.
#[test]
fn a_pod_keeps_its_slice() {
    let first = "{ profile = \"2g.20gb\", start = 0 }";
    let host = FakeHost::with_nodes(&two_gpus(&format!(
        "{first}, {{ profile = \"2g.20gb\", start = 2 }}"
    )));
    host.install();
    let mut node = KubernetesNode::start(&host);
    let plugin = node.plugin(&host, &[]);
    let (gpu, slice, other) =
        ("nvidia.com/gpu", "nvidia.com/mig-2g.20gb", "nvidia.com/mig-1g.10gb");
    until_advertised(&node, "two slices and a gpu", &[(gpu, "1"), (slice, "2")]);
    // Both pods have a slice; the one that is destroyed is that of the pod that ends.
    let forever = ["sleep", "1000000"];
    node.pod("a", &[(slice, 1)], &forever);
    node.pod("b", &[(slice, 1)], &forever);
    node.until_phase("a", "Running");
    node.until_phase("b", "Running");
    let sees = |node: &KubernetesNode, pod: &str| minors(&node.exec(pod, &["probe"]).stdout);
    let is_first = sees(&node, "a") < sees(&node, "b");
    let (stays, ends) = if is_first { ("a", "b") } else { ("b", "a") };
    let own = sees(&node, stays);
    node.delete(ends);
    host.change_to(&two_gpus(&format!("{first}, {{ profile = \"1g.10gb\", start = 2 }}")));
    until_advertised(
        &node,
        "the idle slice is replaced",
        &[(gpu, "1"), (other, "1"), (slice, "1")],
    );
    assert_eq!((node.phase(stays).as_str(), sees(&node, stays)), ("Running", own.clone()));

    // The plugin is killed: the next one advertises the same devices, and none is allocated twice.
    drop(plugin);
    let plugin = node.plugin(&host, &[]);
    node.pod("another", &[(other, 1)], &["probe"]);
    node.until_phase("another", "Succeeded");
    assert!(minors(&node.logs("another")).is_disjoint(&own));
    node.restart_kubelet();
    until_advertised(&node, "after a restart", &[(gpu, "1"), (other, "1"), (slice, "1")]);
    node.pod("waits", &[(slice, 1)], &["probe"]);
    node.until("no other slice is free", || {
        node.describe("waits").contains(&format!("Insufficient {slice}"))
    });
    node.delete("waits");
    assert_eq!((node.phase(stays).as_str(), sees(&node, stays)), ("Running", own));

    // No slice is advertised.
    drop(plugin);
    let plugin = node.plugin(&host, &["--mig-strategy=none"]);
    until_advertised(&node, "the gpu alone", &[(gpu, "1")]);
    node.pod("whole", &[(gpu, 1)], &["probe", "195:0"]);
    node.until_phase("whole", "Succeeded");
    let whole = node.logs("whole");
    assert!(minors(&whole).is_empty() && whole.contains("195:1 ENXIO"), "{whole}");
    assert!(whole.contains("made 195:0 EPERM"), "{whole}");

    // The slice that the pod has by its old name is not allocated under the new one until the pod ends.
    drop(plugin);
    host.change_to(&two_gpus(first));
    let plugin = node.plugin(&host, &["--mig-strategy=single"]);
    node.until("the held slice is unhealthy", || {
        node.log("mig-cdi-kubelet").contains(&format!("pod default/{stays} holds it as {slice}"))
    });
    until_advertised(&node, "no device", &[]);
    node.delete(stays);
    until_advertised(&node, "the pod has released it", &[(gpu, "1")]);
    drop(plugin);
    // The slice of another profile is not advertised, nor is a whole GPU in its place.
    let small = "{ profile = \"1g.10gb\", start = 2 }, { profile = \"1g.10gb\", start = 3 }";
    host.change_to(&two_gpus(&format!("{first}, {small}")));
    let _plugin = node.plugin(&host, &["--mig-strategy=single"]);
    until_advertised(&node, "slices as gpus", &[(gpu, "2")]);
    node.pod("single", &[(gpu, 2)], &["probe", "195:1"]);
    node.until_phase("single", "Succeeded");
    let single = node.logs("single");
    assert!(minors(&single).len() == 4 && single.contains("made 195:1 EPERM"), "{single}");
}

fn pods_run_and_end(node: &KubernetesNode) {
    node.pod("ends", &[], &["probe", "508:30", "195:0"]);
    node.pod("fails", &[], &["sh", "-c", "echo why >&2; exit 3"]);
    node.until_phase("ends", "Succeeded");
    assert_eq!(node.logs("ends"), "made 508:30 EPERM\nmade 195:0 EPERM\n");
    node.until_phase("fails", "Failed");
    assert_eq!(node.logs("fails"), "why\n");
    node.delete("fails");
    assert_eq!(node.phase("fails"), "");
}

fn a_pod_waits_for_an_unknown_resource(node: &KubernetesNode) {
    let allocatable = node.allocatable();
    assert_eq!(allocatable["pods"], "110");
    assert!(!allocatable.keys().any(|key| key.contains('/')), "{allocatable:?}");
    node.pod("pending", &[("nvidia.com/mig-9g.1gb", 1)], &["probe"]);
    let why = "0/1 nodes are available: 1 Insufficient nvidia.com/mig-9g.1gb.";
    node.until("the scheduler reports the reason", || node.describe("pending").contains(why));
    assert_eq!(node.phase("pending"), "Pending");
    node.delete("pending");
}

fn pods_outlive_kubelet(node: &mut KubernetesNode) {
    let label = "{.metadata.labels.nvidia\\.com/mig\\.strategy}";
    let output = node.kubectl_ok(&["label", "node", NAME, "nvidia.com/mig.strategy=mixed"]);
    assert!(output.contains("labeled"), "{output}");
    node.pod("stays", &[], &["sleep", "1000000"]);
    node.until_phase("stays", "Running");
    let mark = |command: &str| {
        let run = node.exec("stays", &["sh", "-c", command]);
        run.assert_code(0);
        run.stdout
    };
    mark("echo here >/tmp/mark");
    let failed = node.exec("stays", &["sh", "-c", "exit 7"]);
    failed.assert_code(7);

    node.restart_kubelet();
    node.pod("later", &[], &["probe"]);
    node.until_phase("later", "Succeeded");
    assert_eq!(node.phase("stays"), "Running");
    let run = node.exec("stays", &["head", "-n", "1", "/tmp/mark"]);
    assert_eq!(run.stdout, "here\n", "{}", run.stderr);
    assert_eq!(node.node_field(label), "mixed");
}

/// Returns the sysctls that a kubelet sets for the whole machine.
fn sysctls() -> String {
    let names = ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"];
    let read = |name| fs::read_to_string(Path::new("/proc/sys").join(name)).expect("it is there");
    names.map(read).concat()
}

/// Returns the command lines that name a node.
fn processes_of(name: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("it is there").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(name))
        .collect()
}

/// Returns the cgroups of a node, of each controller.
fn groups_of(name: &str) -> Vec<String> {
    let controllers = fs::read_dir("/sys/fs/cgroup").expect("it is there").flatten();
    let groups = controllers.map(|entry| entry.path().join(name)).filter(|path| path.exists());
    groups.map(|path| path.display().to_string()).collect()
}
