//! The labels of a node with slices that need DRI nodes, which only a host with device nodes has.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost,
    inventory::{STRATEGIES, inventory, label_lines},
    project,
};
use std::fs;

#[test]
fn labels_of_slices_with_graphics_are_as_expected() {
    let name = "rtx-pro-6000";
    let inventory = inventory(&FakeHost::with_nodes(preset(name).unwrap()));
    for strategy in STRATEGIES {
        let file = format!("tests/golden/labels/{name}.{}.txt", strategy.as_str());
        let text = label_lines(&inventory, strategy);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(project().join(&file), &text).unwrap();
        }
        let expected = fs::read_to_string(project().join(&file)).unwrap_or_default();
        similar_asserts::assert_eq!(text, expected, "{file}");
    }
}
