//! The deployment to Kubernetes: the chart with Helm's own library, its rendered manifests, and the image in podman.
//! No cluster runs here.

use mig_cdi_tests::{
    FakeHost,
    chart::{documents, helm, render, render_for},
    podman::Podman,
    program, project, run,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

/// Values that enable every feature.
const ALL: &str = "
migStrategy: single
leaveGpus: true
driverRoot: /run/nvidia/driver
labels: nfd
deviceNodes: true
watchArgs: [--interval=500]
image: { repository: registry.example.com/mig-cdi-kubelet, tag: one }
runtimeClassName: \"\"
seLinuxType: spc_t
";

/// Values that enable every feature with the API server.
const CLUSTER: &str = "
labels: api
partitioning: { enabled: true, configMap: layouts }
";

fn of_kind(text: &str, kind: &str) -> Option<Value> {
    documents(text).into_iter().find(|document| document["kind"] == kind)
}

fn pod(text: &str) -> Value {
    of_kind(text, "DaemonSet").unwrap()["spec"]["template"]["spec"].clone()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// Returns the host paths of a pod by their paths in the container, and whether the container can write there.
fn host_paths(pod: &Value) -> BTreeMap<String, (String, bool)> {
    let volumes = pod["volumes"].as_array().unwrap();
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    assert_eq!(volumes.len(), mounts.len());
    let found = mounts.iter().filter_map(|mount| {
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let path = volume["hostPath"]["path"].as_str()?;
        let writes = mount["readOnly"] != true;
        Some((mount["mountPath"].as_str().unwrap().to_owned(), (path.to_owned(), writes)))
    });
    found.collect()
}

#[test]
fn helm_lint_accepts_the_chart() {
    for values in ["", ALL, CLUSTER, "labels: api", "labels: none"] {
        let linted = helm("lint", values);
        assert_eq!((linted.code, linted.stdout.as_str(), linted.stderr.as_str()), (0, "", ""));
    }
    // Values that the chart does not know, or that are invalid, are refused.
    for (values, why) in [
        ("migStrategy: all", "'none', 'single', 'mixed'"),
        ("labls: nfd", "'labls' not allowed"),
        ("deviceListStrategy: cdi", "does not match pattern"),
        ("partitioning: { enabled: true }", "name a ConfigMap with layouts"),
    ] {
        let refused = helm("render", values);
        assert!(refused.code != 0 && refused.stderr.contains(why), "{}", refused.stderr);
    }
    assert_ne!(helm("lint", "migStrategy: all").code, 0);
}

#[test]
fn the_shipped_manifest_is_the_rendered_chart() {
    let path = project().join("packaging/kubernetes/mig-cdi.yaml");
    let mut plain = fs::read_to_string(&path).unwrap();
    let namespace = plain.split_once("---\n").unwrap().0.to_owned();
    let expected = format!("{namespace}{}", render(""));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &expected).unwrap();
        plain.clone_from(&expected);
    }
    similar_asserts::assert_eq!(plain, expected);
    let namespace = of_kind(&namespace, "Namespace").unwrap();
    for document in documents(&plain) {
        let own = &document["metadata"]["namespace"];
        assert!(own.is_null() || own == "default" || *own == namespace["metadata"]["name"]);
    }
}

/// No container is privileged, and each capability and host path has a comment with its reason.
#[test]
fn the_pod_has_only_explained_capabilities_and_host_paths() {
    for (values, capabilities, paths) in [
        (
            "",
            vec!["SYS_ADMIN"],
            vec![
                "/etc/cdi",
                "/etc/kubernetes/node-feature-discovery/features.d +",
                "/run/cdi +",
                "/run/mig-cdi +",
                "/var/lib/kubelet/device-plugins +",
                "/var/lib/kubelet/pod-resources",
            ],
        ),
        (
            ALL,
            vec!["SYS_ADMIN", "MKNOD", "CHOWN"],
            vec![
                "/etc/cdi",
                "/etc/kubernetes/node-feature-discovery/features.d +",
                "/host/dev +",
                "/run/cdi +",
                "/run/mig-cdi +",
                "/run/nvidia/driver",
                "/var/lib/kubelet/device-plugins +",
                "/var/lib/kubelet/pod-resources",
            ],
        ),
        (
            CLUSTER,
            vec!["SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH", "NET_ADMIN"],
            vec![
                "/etc/cdi",
                "/run/cdi +",
                "/run/mig-cdi +",
                "/var/lib/kubelet/device-plugins +",
                "/var/lib/kubelet/pod-resources",
                "/var/lib/mig-cdi +",
            ],
        ),
    ] {
        let text = render(values);
        let pod = pod(&text);
        for word in ["privileged:", "hostNetwork", "hostIPC"] {
            assert!(!text.contains(word), "{word}");
        }
        let examines_processes = capabilities.contains(&"SYS_PTRACE");
        assert_eq!(pod["hostPID"] == true, examines_processes);
        let profile = &pod["securityContext"]["appArmorProfile"]["type"];
        assert_eq!(profile == "Unconfined", examines_processes, "{profile}");
        assert_eq!(text.matches("Unconfined").count(), usize::from(examines_processes));
        let containers = pod["containers"].as_array().unwrap();
        assert!(containers.len() == 1 && pod["initContainers"].is_null());
        let security = &containers[0]["securityContext"];
        assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"]);
        assert_eq!(strings(&security["capabilities"]["add"]), capabilities);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let found = host_paths(&pod);
        let listed = found.iter().map(|(at, (_, writes))| match writes {
            true => format!("{at} +"),
            false => at.clone(),
        });
        assert_eq!(listed.collect::<Vec<_>>(), paths);
        explained(&text, &pod);
    }
}

/// A pod that looks at processes is not confined by AppArmor, in every version of Kubernetes: since 1.30 that is a field of the pod, and
/// before an annotation with the name of the container.
#[test]
fn a_pod_that_examines_processes_is_unconfined_in_every_kubernetes() {
    for (version, has_field) in [
        ("v1.26.0", false),
        ("v1.29.14", false),
        ("v1.29.9-gke.100", false),
        ("v1.30.0", true),
        ("v1.30.3-eks-2f46c53", true),
        ("v1.34.1", true),
    ] {
        for (values, examines_processes) in [("", false), (ALL, false), (CLUSTER, true)] {
            let text = render_for(version, values);
            let template = &of_kind(&text, "DaemonSet").unwrap()["spec"]["template"];
            let container = template["spec"]["containers"][0]["name"].as_str().unwrap();
            let name = format!("container.apparmor.security.beta.kubernetes.io/{container}");
            let has_annotation = template["metadata"]["annotations"][name] == "unconfined";
            let profile = &template["spec"]["securityContext"]["appArmorProfile"]["type"];
            let found = (profile == "Unconfined", has_annotation);
            let expected = (examines_processes && has_field, examines_processes && !has_field);
            assert_eq!(found, expected, "{version} {values}");
            let count = text.to_lowercase().matches("unconfined").count();
            assert_eq!(count, usize::from(examines_processes), "{version} {values}");
        }
    }
}

/// Asserts that a comment stands before each, and that the page for users names it.
fn explained(text: &str, pod: &Value) {
    let page = fs::read_to_string(project().join("docs/kubernetes.md")).unwrap();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let mut things = strings(&pod["containers"][0]["securityContext"]["capabilities"]["add"])
        .into_iter()
        .map(|name| (format!("- {name}"), format!("CAP_{name}")))
        .collect::<Vec<_>>();
    for volume in pod["volumes"].as_array().unwrap() {
        let name = format!("- name: {}", volume["name"].as_str().unwrap());
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            things.push((name, path.to_owned()));
        }
    }
    for (line, word) in things {
        // Of a volume the last line is the volume itself, the one before is the mount.
        let at = lines.iter().rposition(|found| *found == line).unwrap();
        assert!(lines[at - 1].starts_with("# "), "{line} has no reason");
        assert!(page.contains(&format!("`{word}`")), "docs/kubernetes.md does not name {word}");
    }
}

/// The permissions in the cluster: each role's resource and verbs.
#[test]
fn the_roles_grant_only_what_the_plugin_requests() {
    for values in [CLUSTER, "labels: api", "partitioning: { enabled: true, configMap: layouts }"] {
        let text = render(values);
        let all = documents(&text);
        let kind = |kind: &'static str| all.iter().filter(move |document| document["kind"] == kind);
        let rules = |wanted| {
            let roles: Vec<_> = kind(wanted).collect();
            let rules = roles[0]["rules"].as_array().unwrap();
            assert_eq!(
                (roles.len(), rules.len(), strings(&rules[0]["apiGroups"])),
                (1, 1, vec![""])
            );
            (strings(&rules[0]["resources"]), strings(&rules[0]["verbs"]))
        };
        assert_eq!(rules("ClusterRole"), (vec!["nodes"], vec!["watch", "patch"]));
        assert_eq!(rules("Role"), (vec!["events"], vec!["create"]));
        for name in ["ClusterRoleBinding", "RoleBinding"] {
            let bindings: Vec<_> = kind(name).collect();
            assert_eq!(
                (bindings.len(), &bindings[0]["subjects"][0]["name"]),
                (1, &"mig-cdi".into())
            );
        }
        let pod = pod(&text);
        assert_eq!(pod["automountServiceAccountToken"], true);
        let env = pod["containers"][0]["env"].as_array().unwrap();
        let node = env.iter().find(|variable| variable["name"] == "NODE_NAME").unwrap();
        assert_eq!(node["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
    }
}

/// Without these features the plugin talks to its own kubelet only.
#[test]
fn without_cluster_features_there_is_no_role() {
    for values in ["", ALL, "labels: none"] {
        let text = render(values);
        let kinds = documents(&text).iter().map(|d| d["kind"].to_string()).collect::<Vec<_>>();
        assert_eq!(kinds, ["\"ServiceAccount\"", "\"DaemonSet\""]);
        assert_eq!(pod(&text)["automountServiceAccountToken"], false);
    }
}

/// The plugin parses all arguments of the container and fails at an unknown last one.
#[test]
fn the_plugin_accepts_its_arguments() {
    for values in ["", ALL, CLUSTER] {
        let pod = pod(&render(values));
        let dir = tempfile::tempdir().unwrap();
        let mut kubelet = Command::new(program("mig-cdi-kubelet"));
        kubelet.env_clear().env("NODE_NAME", "node").arg("--kubelet-dir").arg(dir.path());
        kubelet.args(strings(&pod["containers"][0]["args"])).arg("--no-such-word");
        let refused = run(&mut kubelet);
        refused.assert_code(2);
        let unexpected: BTreeSet<_> =
            refused.stderr.lines().filter(|line| line.contains("unexpected argument")).collect();
        assert!(
            unexpected.len() == 1
                && unexpected.iter().all(|line| line.contains("'--no-such-word'")),
            "{}",
            refused.stderr
        );
    }
}

/// The image is built without a registry and contains all files that the program loads.
#[test]
fn the_image_runs() {
    let host = FakeHost::with_nodes("[[gpu]]\nmodel = \"a100-80gb\"\n");
    let script = format!(
        "export PODMAN
         image=$({} {} example.com/mig-cdi-kubelet:test)
         run() {{ $PODMAN $RUN --network none --read-only --cap-drop ALL --cap-add SYS_ADMIN \"$@\"; }}
         run \"$image\" --version
         run --entrypoint /usr/bin/mig-cdi \"$image\" list --node a30
         run --entrypoint /usr/bin/mig-cdi \"$image\" doctor --no-such-word 2>&1 | head -1",
        project().join("packaging/kubernetes/image").display(),
        program("mig-cdi-kubelet").display(),
    );
    let ran = Podman::new(("runc", "v1")).script(&host, &script);
    ran.assert_code(0);
    let version = concat!("mig-cdi-kubelet ", env!("CARGO_PKG_VERSION"), "\n");
    assert!(ran.stdout.starts_with(version), "{}", ran.stdout);
    assert!(ran.stdout.contains("MIG"), "{}", ran.stdout);
    assert!(ran.stdout.contains("--no-such-word"), "{}", ran.stdout);
}
