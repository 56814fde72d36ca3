//! `mig-cdi-kubelet` with a strict fake kubelet: the resources that it advertises, its answers, and its log.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost,
    allocations::{all_resolve, annotated, defined},
    fake_kubelet::FakeKubelet,
    running_plugin::{RunningPlugin, kubelet_dir},
};
use std::fs;

const GPU: &str = "[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:07:00.0\"\n";
const WHOLE: &str = "[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:47:00.0\"\nmig = false\n";

fn node(instances: &str) -> String {
    format!("{GPU}instances = [{instances}]\n")
}

/// Starts a plugin and a kubelet on a host, and waits until they know each other.
fn start_both(description: &str, args: &[&str]) -> (FakeHost, FakeKubelet, RunningPlugin) {
    let host = FakeHost::new(description);
    let kubelet = FakeKubelet::start(&kubelet_dir(&host));
    let plugin = RunningPlugin::start(&host, args);
    (host, kubelet, plugin)
}

#[test]
fn mixed_advertises_a_resource_per_profile() {
    for (preset_name, wanted) in [
        ("dgx-a100", &[("mig-1g.10gb", 56)][..]),
        (
            "hgx-h100",
            &[
                ("gpu", 1),
                ("mig-1c.3g.40gb", 1),
                ("mig-2c.3g.40gb", 1),
                ("mig-1g.20gb", 1),
                ("mig-1g.10gb.me", 1),
                ("mig-1g.10gb", 8),
                ("mig-1c.7g.80gb", 7),
                ("mig-3g.40gb", 2),
                ("mig-2c.4g.40gb", 1),
                ("mig-1c.4g.40gb", 1),
                ("mig-7g.80gb", 1),
            ],
        ),
        ("a30", &[("mig-1g.6gb", 5), ("mig-1g.6gb.me", 1), ("mig-2g.12gb", 1)]),
    ] {
        let (host, kubelet, plugin) = start_both(preset(preset_name).unwrap(), &[]);
        kubelet.until_counts(preset_name, wanted);
        all_resolve(&host, &kubelet);
        if preset_name == "hgx-h100" {
            plugin.until_logged("gpu 3: in mig mode without a slice; partition it (mig-cdi apply)");
        }
        assert_eq!(kubelet.registrations().len(), wanted.len());
        assert_eq!(kubelet.faults(), [""; 0]);
        assert_eq!(plugin.stop(), Some(0));
    }
}

#[test]
fn single_advertises_the_most_frequent_profile() {
    let (host, kubelet, plugin) = start_both(preset("a30").unwrap(), &["--mig-strategy=single"]);
    kubelet.until_counts("one profile", &[("gpu", 5)]);
    plugin.until_logged("1 slice of 2g.12gb: the strategy single advertises only those of 1g.6gb");
    plugin.until_logged("1 slice of 1g.6gb+me: ");
    all_resolve(&host, &kubelet);
    let with_whole = format!("{}{WHOLE}", node("{ profile = \"3g.40gb\" }"));
    let (host, kubelet, plugin) = start_both(&with_whole, &["--mig-strategy=single"]);
    kubelet.until_counts("a slice", &[("gpu", 1)]);
    plugin
        .until_logged("gpu 1: not in mig mode, and under the strategy single nvidia.com/gpu is a");
    all_resolve(&host, &kubelet);
    assert!(kubelet.healthy("nvidia.com/gpu").iter().all(|id| id.starts_with("MIG-")));
    // Without a GPU in MIG mode, whole GPUs are advertised.
    let (host, kubelet, _plugin) = start_both(WHOLE, &["--mig-strategy=single"]);
    kubelet.until_counts("a gpu", &[("gpu", 1)]);
    all_resolve(&host, &kubelet);
    assert!(kubelet.healthy("nvidia.com/gpu").iter().all(|id| id.starts_with("GPU-")));
    assert_eq!(kubelet.faults(), [""; 0]);
}

#[test]
fn none_advertises_whole_gpus_only() {
    let both = format!("{}{WHOLE}", node("{ profile = \"3g.40gb\" }"));
    let (host, kubelet, plugin) = start_both(&both, &["--mig-strategy=none"]);
    kubelet.until_counts("a gpu", &[("gpu", 1)]);
    plugin.until_logged("gpu 0: in mig mode, and the strategy none advertises no slices");
    all_resolve(&host, &kubelet);
    let (host, kubelet, plugin) = start_both(&both, &["--leave-gpus"]);
    kubelet.until_counts("slices alone", &[("mig-3g.40gb", 1)]);
    all_resolve(&host, &kubelet);
    assert!(!host.out().join("nvidia.com-gpu.json").exists());
    assert_eq!(plugin.stop(), Some(0));
}

#[test]
fn devices_are_passed_by_every_requested_strategy() {
    let two = "{ profile = \"2g.20gb\" }, { profile = \"2g.20gb\" }, { profile = \"3g.40gb\" }";
    let (_host, kubelet, _plugin) = start_both(&node(two), &["--device-list-strategy=envvar"]);
    kubelet.until_counts("slices", &[("mig-2g.20gb", 2), ("mig-3g.40gb", 1)]);
    let ids = Vec::from_iter(kubelet.healthy("nvidia.com/mig-2g.20gb"));
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let answer = kubelet.allocate("nvidia.com/mig-2g.20gb", &[&ids, &ids[..1]]).unwrap();
    let [both, one] = &answer.container_responses[..] else { panic!("{answer:?}") };
    assert_eq!(both.envs["NVIDIA_VISIBLE_DEVICES"], ids.join(","));
    assert_eq!(one.envs["NVIDIA_VISIBLE_DEVICES"], ids[0]);
    assert!(both.annotations.is_empty() && both.cdi_devices.is_empty());
    drop((_plugin, kubelet, _host));
    let words = "--device-list-strategy=cdi-annotations,cdi-cri";
    let (host, kubelet, _plugin) = start_both(&node(two), &[words]);
    kubelet.until_counts("slices", &[("mig-2g.20gb", 2), ("mig-3g.40gb", 1)]);
    // A container with devices of both resources: the kubelet merges the annotations, and none may be lost.
    let ask = |resource: &str| {
        let ids = Vec::from_iter(kubelet.healthy(resource));
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        kubelet.allocate(resource, &[&ids]).unwrap().container_responses.remove(0).annotations
    };
    let mut merged = ask("nvidia.com/mig-2g.20gb");
    merged.extend(ask("nvidia.com/mig-3g.40gb"));
    let names = annotated(&merged);
    assert_eq!((merged.len(), names.len()), (2, 3), "{merged:?}");
    assert!(names.iter().all(|name| defined(&host).contains(*name)), "{names:?}");
}

#[test]
fn unknown_devices_are_refused_and_empty_requests_do_no_harm() {
    let two = node("{ profile = \"2g.20gb\" }, { profile = \"2g.20gb\" }");
    let (host, kubelet, plugin) = start_both(&two, &[]);
    let resource = "nvidia.com/mig-2g.20gb";
    kubelet.until_counts("slices", &[("mig-2g.20gb", 2)]);
    let before = kubelet.healthy(resource);
    for ids in [&["MIG-none"][..], &[""], &["../../etc/shadow"], &["MIG-\u{0}\u{7f}é"]] {
        let status = kubelet.allocate(resource, &[ids]).unwrap_err();
        assert_eq!(
            status.message(),
            format!(
                "allocate {} of {resource}: there is no such device any more; create the pod again",
                ids[0]
            )
        );
    }
    // A request without a container, and a number of containers that no pod has.
    assert_eq!(kubelet.allocate(resource, &[]).unwrap().container_responses, []);
    assert!(kubelet.allocate(resource, &[&[]]).unwrap().container_responses.len() == 1);
    let id = before.first().unwrap().as_str();
    let many: Vec<&[&str]> = vec![std::slice::from_ref(&id); 1000];
    assert_eq!(kubelet.allocate(resource, &many).unwrap().container_responses.len(), 1000);
    let ids: Vec<&str> = before.iter().map(String::as_str).collect();
    assert_eq!(kubelet.prefer(resource, (&ids, &[]), 1).unwrap().len(), 1);
    assert_eq!(kubelet.prefer(resource, (&ids, &["MIG-none"]), i32::MIN).unwrap(), [""; 0]);
    // A slice is destroyed: it is refused, and the other is still allocated.
    host.change_to(&node("{ profile = \"2g.20gb\" }"));
    kubelet.until_counts("one slice is destroyed", &[("mig-2g.20gb", 1)]);
    let after = kubelet.healthy(resource);
    let gone = before.difference(&after).next().unwrap();
    let status = kubelet.allocate(resource, &[&[gone]]).unwrap_err();
    assert!(status.message().contains("it is gone: gpu"), "{status}");
    all_resolve(&host, &kubelet);
    // All slices are destroyed: the resource stays, and is empty.
    host.change_to(&node(""));
    kubelet.until_counts("all slices are destroyed", &[("mig-2g.20gb", 0)]);
    host.change_to(&two);
    kubelet.until_counts("both slices again", &[("mig-2g.20gb", 2)]);
    assert_eq!(kubelet.healthy(resource), before);
    host.change_to(&node("{ profile = \"3g.40gb\" }"));
    kubelet.until_counts("another profile", &[("mig-2g.20gb", 0), ("mig-3g.40gb", 1)]);
    all_resolve(&host, &kubelet);
    assert_eq!(kubelet.faults(), [""; 0]);
    assert_eq!(plugin.stop(), Some(0));
}

/// Spec as nvidia-ctk writes it (`nvidia-ctk cdi generate`): whole GPUs with the names that ours would have.
const OTHER_SPEC: &str = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    env: [A=1]\n\
                      - name: \"1\"\n  containerEdits:\n    env: [A=1]\n";

#[test]
fn whole_gpus_are_not_advertised_beside_another_spec_of_them() {
    let both = format!("{}{WHOLE}", node("{ profile = \"3g.40gb\" }"));
    let host = FakeHost::new(&both);
    let other_spec = host.out().join("nvidia.yaml");
    fs::write(&other_spec, OTHER_SPEC).unwrap();
    let kubelet = FakeKubelet::start(&kubelet_dir(&host));
    let plugin = RunningPlugin::start(&host, &[]);
    kubelet.until_counts("slices", &[("mig-3g.40gb", 1)]);
    plugin.until_logged("whole gpus are omitted: ");
    plugin.until_logged("nvidia.yaml defines nvidia.com/gpu=");
    plugin.until_logged("gpu 1: no cdi spec of mig-cdi defines it");
    let ours = host.out().join("nvidia.com-gpu.json");
    assert!(!ours.exists());
    all_resolve(&host, &kubelet);
    // Slices still follow every change.
    host.change_to(&format!("{}{WHOLE}", node("{ profile = \"2g.20gb\" }")));
    kubelet.until_counts("another", &[("mig-3g.40gb", 0), ("mig-2g.20gb", 1)]);
    fs::remove_file(&other_spec).unwrap();
    let with_gpu = [("mig-3g.40gb", 0), ("mig-2g.20gb", 1), ("gpu", 1)];
    kubelet.until_counts("the other spec is removed", &with_gpu);
    assert!(ours.exists());
    all_resolve(&host, &kubelet);
    // The other spec appears while ours exists: engines would reject a device that both define, so ours is removed.
    fs::write(&other_spec, OTHER_SPEC).unwrap();
    let without = [("mig-3g.40gb", 0), ("mig-2g.20gb", 1), ("gpu", 0)];
    kubelet.until_counts("the other spec appears", &without);
    assert!(!ours.exists());
    assert_eq!(kubelet.faults(), [""; 0]);
}
