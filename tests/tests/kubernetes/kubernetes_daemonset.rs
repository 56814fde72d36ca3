//! The DaemonSet in a real cluster of one node. No controller runs there, so the test makes the pod from the template
//! that the API server has accepted.

use mig_cdi_tests::{
    FakeHost,
    chart::{documents, render},
    kubernetes::{KubernetesNode, minors},
    podman::Podman,
    program, project, run,
};
use serde_json::{Value, json};
use std::fs;

const IMAGE: (&str, &str) = ("example.com/mig-cdi-kubelet", "test");

/// Returns a node description with two slices on one GPU, the second of this profile.
fn slices(second: &str) -> String {
    format!(
        "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{{ profile = \"2g.20gb\", start = 0 }}, \
         {{ profile = \"{second}\", start = 2 }}]\n"
    )
}

/// Builds the image as users do, and loads it into the node's engine.
fn load_image(node: &KubernetesNode, host: &FakeHost) {
    let archive = host.out().with_file_name("image.tar");
    let script = format!(
        "export PODMAN
         image=$({} {} {}:{}) && $PODMAN save --quiet --format docker-archive --output {} \"$image\"",
        project().join("packaging/kubernetes/image").display(),
        program("mig-cdi-kubelet").display(),
        IMAGE.0,
        IMAGE.1,
        archive.display(),
    );
    let made = Podman::new(("runc", "v1")).script(host, &script);
    made.assert_code(0);
    let mut import = node.inside("ctr");
    import.arg(format!("--address={}", node.dir().join("socket").display()));
    let imported = run(import.args(["--namespace=k8s.io", "images", "import"]).arg(archive));
    imported.assert_code(0);
}

/// Prepares the host's directories at the paths of the chart: the specs that the engine reads, and an `/etc` in which
/// the kubelet can make directories without making them on this machine.
fn prepare(node: &KubernetesNode, host: &FakeHost) {
    let script = "set -e
        mkdir -p /run/cdi /run/etc
        mount --bind \"$1\" /run/cdi
        mount -t tmpfs tmpfs /run/etc
        mkdir /run/etc/upper /run/etc/work
        mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc";
    fs::create_dir_all(host.out()).expect("make a directory");
    let prepared = run(node.inside("sh").args(["-c", script, "sh"]).arg(host.out()));
    prepared.assert_code(0);
}

/// Returns the chart's documents as rendered for a driver below the root of this host.
fn rendered(host: &FakeHost) -> Vec<Value> {
    let driver_root = host.root().display().to_string();
    let rest: Vec<_> =
        host.flags().into_iter().filter(|flag| !flag.starts_with("--driver-root")).collect();
    let values = json!({"image": {"repository": IMAGE.0, "tag": IMAGE.1}, "runtimeClassName": "",
        "driverRoot": driver_root, "watchArgs": rest});
    documents(&render(&values.to_string()))
}

/// Returns a pod of the template, with the files that the fake driver reads.
fn pod_of(daemon_set: &Value, host: &FakeHost) -> Value {
    let mut pod = daemon_set["spec"]["template"].clone();
    let (key, path) = host.env();
    let dir = path.parent().expect("it has one").to_owned();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("plugin");
    pod["metadata"]["namespace"] = daemon_set["metadata"]["namespace"].clone();
    let add = |list: &mut Value, what: Value| list.as_array_mut().expect("a list").push(what);
    add(&mut pod["spec"]["volumes"], json!({"name": "fake", "hostPath": {"path": dir}}));
    let container = &mut pod["spec"]["containers"][0];
    add(&mut container["env"], json!({"name": key, "value": path}));
    add(
        &mut container["volumeMounts"],
        json!({"name": "fake", "mountPath": dir, "readOnly": true}),
    );
    pod
}

fn until_advertised(node: &KubernetesNode, what: &str, wanted: &[(&str, &str)]) {
    let plugin = || {
        let namespace = "--namespace=mig-cdi";
        let described = node.kubectl(&["describe", "pod", "plugin", namespace]).stdout;
        format!("{described}{}", node.kubectl(&["logs", "plugin", namespace]).stdout)
    };
    let begin = std::time::Instant::now();
    node.until(what, || {
        assert!(begin.elapsed().as_secs() < 240, "timeout: {what}: {}", plugin());
        let found = node.allocatable();
        wanted.iter().all(|(profile, count)| {
            let now = found.get(&format!("nvidia.com/mig-{profile}"));
            now.map_or("0", String::as_str) == *count
        })
    });
}

#[test]
fn one_daemon_set_advertises_slices() {
    let host = FakeHost::with_nodes(&slices("2g.20gb"));
    host.install();
    let node = KubernetesNode::start(&host);
    prepare(&node, &host);
    load_image(&node, &host);

    // The API server accepts the whole manifest.
    let plain = project().join("packaging/kubernetes/mig-cdi.yaml");
    let plain = fs::read_to_string(plain).expect("it is there");
    node.apply(plain.split_once("---\n").expect("the namespace is first").0);
    let documents = rendered(&host);
    for document in &documents {
        node.apply(&document.to_string());
    }
    let daemon_set = documents.iter().find(|document| document["kind"] == "DaemonSet");
    let pod = pod_of(daemon_set.expect("there is one"), &host).to_string();

    // It is not scheduled on nodes without an NVIDIA GPU.
    node.apply(&pod);
    let get = ["get", "pod", "plugin", "--namespace=mig-cdi", "--output=jsonpath={.status}"];
    node.until("the scheduler reports the reason", || {
        node.kubectl_ok(&get).contains("didn't match")
    });
    let output = node.kubectl_ok(&["label", "node", "node", "nvidia.com/gpu.present=true"]);
    assert!(output.contains("labeled"), "{output}");
    until_advertised(&node, "two slices", &[("2g.20gb", "2"), ("1g.10gb", "0")]);

    let resource = "nvidia.com/mig-2g.20gb";
    node.pod("one", &[(resource, 1)], &["sleep", "1000000"]);
    node.pod("two", &[(resource, 1)], &["sleep", "1000000"]);
    node.until_phase("one", "Running");
    node.until_phase("two", "Running");
    let sees = |pod: &str| minors(&node.exec(pod, &["probe"]).stdout);
    let (one, two) = (sees("one"), sees("two"));
    assert!(one.len() == 2 && two.len() == 2 && one.is_disjoint(&two), "{one:?} {two:?}");
    let (stays, ends) = if one < two { ("one", "two") } else { ("two", "one") };
    let own = sees(stays);

    // A slice that no pod has is replaced, and the node reports it: to the scheduler, and in its labels.
    node.delete(ends);
    host.change_to(&slices("1g.10gb"));
    until_advertised(&node, "another slice", &[("2g.20gb", "1"), ("1g.10gb", "1")]);
    let features = "/etc/kubernetes/node-feature-discovery/features.d/mig-cdi";
    node.until("its labels change", || {
        let output = run(node.inside("cat").arg(features)).stdout;
        output.contains("nvidia.com/mig-1g.10gb.count=1\n")
    });

    // Another pod of the plugin takes over, as when its image is updated. Nothing is allocated twice.
    let output = node.kubectl_ok(&["delete", "pod", "plugin", "--namespace=mig-cdi"]);
    assert!(output.contains("deleted"), "{output}");
    until_advertised(&node, "nothing", &[("2g.20gb", "0"), ("1g.10gb", "0")]);
    node.apply(&pod);
    until_advertised(&node, "the same", &[("2g.20gb", "1"), ("1g.10gb", "1")]);
    node.pod("more", &[(resource, 1)], &["probe"]);
    let why = format!("Insufficient {resource}");
    node.until("no other slice is free", || node.describe("more").contains(&why));
    assert_eq!((node.phase(stays).as_str(), sees(stays)), ("Running", own));
}
