//! Shared code of the tests: programs as they are built or installed, and worlds to run them in.
//!
//! A test runs the real programs and compares what they print and write. Only the machine is fake, and all of it is made
//! from one [node description](mig_cdi_sim): a [`FakeHost`] has the driver's files and device nodes below a directory,
//! and a fake NVML (`tests/fake-nvml`). Making device nodes needs root. This crate asserts nothing about the product:
//! that is done in `tests/tests`.
//!
//! | to do this | use |
//! |---|---|
//! | run a program to its end | [`program`], [`run`], [`mig_cdi()`], [`FakeHost::run`] |
//! | wait for a child, or end threads with their test | [`deadline`] |
//! | make a program that the test then runs | [`copy_program`], [`script_program`], [`write_program`] |
//! | install the driver's files as a distribution does | [`driver`] |
//! | change the node while `mig-cdi watch` runs | [`watch::Watch`], [`FakeHost::change_to`] |
//! | partition GPUs that processes and containers hold | [`partition_host::PartitionHost`] |
//! | configure an engine's files | [`configure_host::ConfigureHost`] |
//! | start a container in a real engine | [`podman::Podman`], [`docker::Docker`], [`containerd::Containerd`] |
//! | run the hook on a container of an attacker | [`prepared_container::PreparedContainer`] |
//! | run the plugin with a fake kubelet or API server | [`running_plugin::RunningPlugin`], [`fake_kubelet::FakeKubelet`], [`fake_api_server::FakeApiServer`] |
//! | run pods in a real Kubernetes node | [`kubernetes::KubernetesNode`] |
//! | call the fake NVML's C functions | [`nvml_call::Caller`] |
//!
//! # Example
//! The program writes a spec for a host with one slice:
//!
//! ```no_run
//! use mig_cdi_tests::FakeHost;
//!
//! let node = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"2g.20gb\", start = 0 }]\n";
//! let host = FakeHost::new(node);
//! host.generate(&["--names=slot"]).assert_code(0);
//! assert!(host.read_spec().unwrap().contains("0:2g.20gb:0"));
//!
//! // The slice is destroyed, as a driver does it: the next spec is none.
//! host.change_to("[[gpu]]\nmodel = \"a100-80gb\"\n");
//! host.generate(&["--names=slot"]).assert_code(0);
//! assert_eq!(host.read_spec(), None);
//! ```

pub mod all_layouts;
#[cfg(feature = "plugin")]
pub mod allocations;
pub mod chart;
pub mod closed_cgroup;
pub mod configure_host;
pub mod containerd;
pub mod daemon;
pub mod deadline;
pub mod debian_release;
pub mod docker;
pub mod docs;
pub mod documented_commands;
pub mod drawing;
pub mod driver;
mod driver_layouts;
mod driver_release;
pub mod engine_checks;
pub mod engine_files;
#[cfg(feature = "plugin")]
pub mod fake_api_server;
#[cfg(feature = "plugin")]
pub mod fake_cluster;
mod fake_host;
#[cfg(feature = "plugin")]
pub mod fake_kubelet;
#[cfg(feature = "plugin")]
pub mod fake_pod_resources;
pub mod golden;
pub mod hook;
#[cfg(feature = "plugin")]
pub mod inventory;
pub mod kubernetes;
pub mod nvml_call;
pub mod partition_host;
pub mod podman;
pub mod prepared_container;
mod programs;
#[cfg(feature = "plugin")]
pub mod running_plugin;
pub mod spec_json;
pub mod units;
pub mod watch;

pub use fake_host::{BASE, FakeHost};
pub use programs::{
    Run, SHIPPED_CRATES, bare, build_dir, copy_program, copy_tree, fake_nvml, make_install,
    mig_cdi, program, project, run, script_program, through, without_capabilities, write_program,
};
