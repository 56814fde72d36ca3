//! `mig-cdi-kubelet` on a host with device nodes and the driver's files: slices that need DRI nodes, and what CDI's own library
//! reads of its answers.

use container_device_interface::{annotations::parse_annotations, spec::read_spec};
use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost,
    allocations::{all_resolve, defined},
    driver::DistributionLayout,
    fake_kubelet::FakeKubelet,
    running_plugin::{RunningPlugin, kubelet_dir},
};

#[test]
fn slices_with_graphics_are_advertised() {
    let wanted = [("mig-2g.48gb.gfx", 1), ("mig-1g.24gb.gfx", 1), ("mig-1g.24gb-me", 1)];
    let host = FakeHost::with_nodes(preset("rtx-pro-6000").unwrap());
    let kubelet = FakeKubelet::start(&kubelet_dir(&host));
    let plugin = RunningPlugin::start(&host, &[]);
    kubelet.until_counts("the slices", &wanted);
    all_resolve(&host, &kubelet);
    assert_eq!(kubelet.registrations().len(), wanted.len());
    assert_eq!(kubelet.faults(), [""; 0]);
    assert_eq!(plugin.stop(), Some(0));
}

/// A container with slices of two resources: the kubelet merges the annotations, and none may be lost.
#[test]
fn annotations_and_specs_are_read_by_the_library_of_cdi() {
    let node = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"2g.20gb\" }, \
        { profile = \"2g.20gb\" }, { profile = \"3g.40gb\" }]\n";
    let host = FakeHost::with_driver(node, DistributionLayout::Debian);
    let kubelet = FakeKubelet::start(&kubelet_dir(&host));
    let _plugin = RunningPlugin::start(&host, &["--device-list-strategy=cdi-annotations,cdi-cri"]);
    kubelet.until_counts("slices", &[("mig-2g.20gb", 2), ("mig-3g.40gb", 1)]);
    all_resolve(&host, &kubelet);
    let annotations = |resource: &str| {
        let ids = Vec::from_iter(kubelet.healthy(resource));
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        kubelet.allocate(resource, &[&ids]).unwrap().container_responses.remove(0).annotations
    };
    let mut merged = annotations("nvidia.com/mig-2g.20gb");
    merged.extend(annotations("nvidia.com/mig-3g.40gb"));
    let (keys, names) = parse_annotations(&merged).unwrap();
    assert_eq!((keys.len(), names.len()), (2, 3), "{merged:?}");
    assert!(names.iter().all(|name| defined(&host).contains(name)), "{names:?}");
    let spec = read_spec(&host.spec(), 0).unwrap();
    let devices = spec.devices.into_keys().map(|name| format!("nvidia.com/mig={name}"));
    assert_eq!(defined(&host), devices.collect());
}
