//! `mig-cdi-kubelet` on a GPU whose slices need DRI nodes, which only a host with device nodes has.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost,
    allocations::all_resolve,
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
