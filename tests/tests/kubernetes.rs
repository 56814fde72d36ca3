//! A real Kubernetes node with slices.

use mig_cdi_tests::{
    kubernetes::{NAME, Node},
    matrix,
};
use std::{collections::BTreeSet, fs, path::Path};

/// The node that the other tests stand on is one: what it does without slices.
#[test]
fn a_node_without_slices() {
    let sysctls = sysctls();
    let host = matrix::host();
    let mut node = Node::start(&host);
    pods_run_and_end(&node);
    a_resource_that_nobody_has_keeps_a_pod_waiting(&node);
    pods_outlive_kubelet(&mut node);

    let name = node.dir().file_name().expect("it has a name").to_str().expect("text").to_owned();
    assert!(!processes_of(&name).is_empty() && !groups_of(&name).is_empty(), "the node is {name}");
    drop(node);
    assert_eq!(processes_of(&name), [""; 0]);
    assert_eq!(groups_of(&name), [""; 0]);
    assert_eq!(sysctls, self::sysctls());
}

/// The first of the plugin's: what a pod asks for is what it sees, and nobody else has it.
#[test]
fn a_pod_gets_its_slices() {
    let host = matrix::host();
    let node = Node::start(&host);
    let _plugin = node.plugin(&host, &[]);
    node.until("the node has slices", || {
        let slices = node.allocatable();
        let of = |profile: &str| slices.get(&format!("nvidia.com/mig-{profile}")).cloned();
        (of("2g.20gb"), of("1g.10gb")) == (Some("3".to_owned()), Some("1".to_owned()))
    });
    let resource = "nvidia.com/mig-2g.20gb";
    node.pod("one", &[(resource, 1)], &["sleep", "1000000"]);
    node.until_phase("one", "Running");
    let probe = ["probe", "508:30", "508:39", "508:48"];
    let one = node.exec("one", &probe).stdout;
    node.pod("two", &[(resource, 2)], &probe);
    node.until_phase("two", "Succeeded");
    let two = node.logs("two");

    let (mut minors, others) = (minors(&one), minors(&two));
    assert_eq!((minors.len(), others.len()), (2, 4), "{one}{two}");
    minors.extend(others);
    assert_eq!(minors, BTreeSet::from([30, 31, 39, 40, 48, 49]), "{one}{two}");
    for (said, own) in [(&one, 1), (&two, 2)] {
        let made = |how: &str| {
            said.lines().filter(|line| line.starts_with("made") && line.ends_with(how)).count()
        };
        assert_eq!((made("ENXIO"), made("EPERM")), (own, 3 - own), "{said}");
    }
    node.pod("four", &[(resource, 4)], &["probe"]);
    let why = format!("Insufficient {resource}");
    node.until("the scheduler says why", || node.describe("four").contains(&why));
}

/// The minors of the nodes of slices that a probe has seen.
fn minors(said: &str) -> BTreeSet<u32> {
    let paths =
        said.lines().filter_map(|line| line.strip_prefix("node /dev/nvidia-caps/nvidia-cap"));
    paths.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

fn pods_run_and_end(node: &Node) {
    node.pod("ends", &[], &["probe", "508:30", "195:0"]);
    node.pod("fails", &[], &["sh", "-c", "echo why >&2; exit 3"]);
    node.until_phase("ends", "Succeeded");
    assert_eq!(node.logs("ends"), "made 508:30 EPERM\nmade 195:0 EPERM\n");
    node.until_phase("fails", "Failed");
    assert_eq!(node.logs("fails"), "why\n");
    node.delete("fails");
    assert_eq!(node.phase("fails"), "");
}

fn a_resource_that_nobody_has_keeps_a_pod_waiting(node: &Node) {
    let allocatable = node.allocatable();
    assert_eq!(allocatable["pods"], "110");
    assert!(!allocatable.keys().any(|key| key.contains('/')), "{allocatable:?}");
    node.pod("asks", &[("nvidia.com/mig-9g.1gb", 1)], &["probe"]);
    let why = "0/1 nodes are available: 1 Insufficient nvidia.com/mig-9g.1gb.";
    node.until("the scheduler says why", || node.describe("asks").contains(why));
    assert_eq!(node.phase("asks"), "Pending");
    node.delete("asks");
}

fn pods_outlive_kubelet(node: &mut Node) {
    let label = "{.metadata.labels.nvidia\\.com/mig\\.strategy}";
    let said = node.ask(&["label", "node", NAME, "nvidia.com/mig.strategy=mixed"]);
    assert!(said.contains("labeled"), "{said}");
    node.pod("stays", &[], &["sleep", "1000000"]);
    node.until_phase("stays", "Running");
    let mark = |command: &str| {
        let run = node.exec("stays", &["sh", "-c", command]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    };
    mark("echo here >/tmp/mark");
    let failed = node.exec("stays", &["sh", "-c", "exit 7"]);
    assert_eq!(failed.code, 7, "{}", failed.stderr);

    node.restart_kubelet();
    node.pod("later", &[], &["probe"]);
    node.until_phase("later", "Succeeded");
    assert_eq!(node.phase("stays"), "Running");
    let run = node.exec("stays", &["head", "-n", "1", "/tmp/mark"]);
    assert_eq!(run.stdout, "here\n", "{}", run.stderr);
    assert_eq!(node.of_node(label), "mixed");
}

/// What a kubelet would set for the whole machine.
fn sysctls() -> String {
    let names = ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"];
    let read = |name| fs::read_to_string(Path::new("/proc/sys").join(name)).expect("it is there");
    names.map(read).concat()
}

/// The command lines that name a node.
fn processes_of(name: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("it is there").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(name))
        .collect()
}

/// The cgroups of a node, of each controller.
fn groups_of(name: &str) -> Vec<String> {
    let controllers = fs::read_dir("/sys/fs/cgroup").expect("it is there").flatten();
    let groups = controllers.map(|entry| entry.path().join(name)).filter(|path| path.exists());
    groups.map(|path| path.display().to_string()).collect()
}
