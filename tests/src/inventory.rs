//! The inventory of a fake host, and the labels that the plugin makes of it.

use crate::{FakeHost, bare, program, run};
use clap::Parser;
use mig_cdi_args::WatchCommandLine;
use mig_cdi_gen::{
    child,
    inventory::Inventory,
    refresh::{RefreshReply, RefreshRequest},
};
use mig_cdi_kubelet::{
    labels::labels,
    strategy::{Strategy, node_resources},
};
use std::{collections::BTreeMap, process::Command};

/// All strategies.
pub const STRATEGIES: [Strategy; 3] = [Strategy::None, Strategy::Single, Strategy::Mixed];

/// Returns the inventory of a host as the plugin reads it.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn inventory(host: &FakeHost) -> Inventory {
    let output = format!("--output={}", host.spec().display());
    let words = host.flags().into_iter().chain([output, "--leave-nodes".to_owned()]);
    let command_line = WatchCommandLine::try_parse_from(words).expect("valid options");
    let mut setup = command_line.setup().expect("valid settings");
    setup.node.roots.reads_cuda_version = true;
    let request = RefreshRequest {
        roots: setup.node.roots,
        source: setup.node.source,
        generate: setup.generate,
        repair_nodes: false,
        wants_inventory: true,
        wants_all_gpus: false,
    };
    let args = child::args(child::REFRESH, &request).expect("arguments");
    let (key, node) = host.env();
    let run = run(bare(&mut Command::new(program("mig-cdi"))).args(args).env(key, node));
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    match serde_json::from_str(&run.stdout).expect("a reply") {
        RefreshReply::Done(report) => report.inventory.expect("an inventory"),
        RefreshReply::Failed(failure) => panic!("{failure}"),
    }
}

/// Returns the labels of a node.
#[must_use]
pub fn node_labels(inventory: &Inventory, strategy: Strategy) -> BTreeMap<String, String> {
    labels(inventory, strategy, &node_resources(inventory, strategy))
}

/// Returns the labels as the files of `tests/golden/labels` have them.
#[must_use]
pub fn label_lines(inventory: &Inventory, strategy: Strategy) -> String {
    let labels = node_labels(inventory, strategy);
    labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}
