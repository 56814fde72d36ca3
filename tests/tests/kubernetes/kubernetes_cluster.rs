//! A real cluster of one node: labels in both directions, and Events.

use mig_cdi_tests::{
    FakeHost,
    kubernetes::{KubernetesNode, NAME},
};
use std::fs;

const LAYOUTS: &str = r#"version: v1
mig-configs:
  mixed:
    - devices: all
      mig-enabled: true
      mig-devices: {"2g.20gb": 1, "1g.10gb": 2}
  whole:
    - devices: all
      mig-enabled: true
      mig-devices: {"7g.80gb": 1}
"#;

/// Returns a label or an annotation of the node.
fn metadata_value(node: &KubernetesNode, kind: &str, key: &str) -> String {
    node.node_field(&format!("{{.metadata.{kind}.{}}}", key.replace('.', "\\.")))
}

fn state(node: &KubernetesNode) -> String {
    metadata_value(node, "labels", "nvidia.com/mig.config.state")
}

fn set_layout_label(node: &KubernetesNode, layout: &str) {
    let label = format!("nvidia.com/mig.config={layout}");
    let output = node.kubectl_ok(&["label", "node", NAME, "--overwrite", &label]);
    assert!(output.contains("labeled"), "{output}");
}

fn until_advertised(node: &KubernetesNode, what: &str, wanted: &[(&str, &str)]) {
    node.until(what, || {
        let found = node.allocatable();
        wanted.iter().all(|(profile, count)| {
            let count_now = found.get(&format!("nvidia.com/mig-{profile}"));
            count_now.map_or("0", String::as_str) == *count
        })
    });
}

#[test]
fn a_label_partitions_gpus_around_running_pods() {
    let host = FakeHost::with_nodes(
        "[[gpu]]\nmodel = \"a100-80gb\"\n\
         instances = [{ profile = \"2g.20gb\", start = 0 }, { profile = \"2g.20gb\", start = 2 }]\n",
    );
    host.install();
    let node = KubernetesNode::start(&host);
    let layouts = node.dir().join("layouts.yaml");
    fs::write(&layouts, LAYOUTS).expect("write the layouts");
    let mut args = vec![
        format!("--node-name={NAME}"),
        format!("--kubeconfig={}", node.kubeconfig().display()),
        format!("--layouts-file={}", layouts.display()),
        format!("--journal-dir={}", node.dir().join("journal").display()),
        "--node-labels".to_owned(),
    ];
    let start =
        |args: &[String]| node.plugin(&host, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let plugin = start(&args);
    until_advertised(&node, "two slices", &[("2g.20gb", "2")]);
    let count =
        |profile: &str| metadata_value(&node, "labels", &format!("nvidia.com/mig-{profile}.count"));
    node.until("the node is labelled", || count("2g.20gb") == "2");
    node.pod("keeps", &[("nvidia.com/mig-2g.20gb", 1)], &["sleep", "1000000"]);
    node.until_phase("keeps", "Running");
    let sees = || node.exec("keeps", &["probe"]).stdout;
    let own = sees();
    assert!(own.contains("/dev/nvidia-caps/"), "{own}");

    // The unused slice is replaced by others, and the labels follow.
    set_layout_label(&node, "mixed");
    node.until("the gpu is partitioned", || state(&node) == "success");
    until_advertised(&node, "other slices", &[("2g.20gb", "1"), ("1g.10gb", "2")]);
    node.until("labels follow", || {
        (count("2g.20gb"), count("1g.10gb")) == ("1".into(), "2".into())
    });
    assert_eq!((node.phase("keeps").as_str(), sees()), ("Running", own.clone()));

    // The slice of the pod prevents the layout: the pod is not disturbed, and the node reports the reason.
    set_layout_label(&node, "whole");
    node.until("the layout is refused", || state(&node) == "failed");
    let why = metadata_value(&node, "annotations", "nvidia.com/mig-cdi.config.reason");
    assert!(why.contains("in use by") && why.contains("pod default/keeps"), "{why}");
    node.until("an event reports it", || {
        let events =
            node.kubectl_ok(&["get", "events", "--field-selector=reason=RepartitionFailed"]);
        events.contains("pod default/keeps") && events.contains("Warning")
    });
    assert!(node.describe_node().contains("RepartitionFailed"));
    assert_eq!((node.phase("keeps").as_str(), sees()), ("Running", own));
    until_advertised(
        &node,
        "the slices are unchanged",
        &[("2g.20gb", "1"), ("1g.10gb", "2"), ("7g.80gb", "0")],
    );

    // The layout is applied when the pod has ended.
    node.delete("keeps");
    node.until("the gpu is partitioned", || state(&node) == "success");
    until_advertised(&node, "one slice", &[("2g.20gb", "0"), ("1g.10gb", "0"), ("7g.80gb", "1")]);
    assert_eq!(metadata_value(&node, "annotations", "nvidia.com/mig-cdi.config.reason"), "");

    // A pod that was bound to the node for a destroyed slice is refused, and never runs.
    node.bound_pod("late", ("nvidia.com/mig-2g.20gb", 1), &["probe"]);
    node.until("the pod is refused", || node.phase("late") == "Failed");
    let why = node.describe("late");
    assert!(why.contains("nvidia.com/mig-2g.20gb"), "{why}");

    // Slices that the strategy does not advertise are logged, and labelled.
    drop(plugin);
    args.push("--mig-strategy=none".to_owned());
    let _plugin = start(&args);
    node.until("an event reports the withheld slices", || {
        let events = node.kubectl_ok(&["get", "events", "--field-selector=reason=Withheld"]);
        events.contains("the strategy none advertises no slices") && events.contains("Warning")
    });
    node.until("a label reports them too", || {
        metadata_value(&node, "labels", "nvidia.com/mig-cdi.state") == "withheld"
            && count("7g.80gb").is_empty()
    });
}
