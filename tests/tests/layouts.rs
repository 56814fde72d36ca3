//! Layout files: what `mig_cdi_config::layouts` reads, selects, refuses and writes.

use mig_cdi_config::layouts::{
    Assignment, BadLayouts, Candidate, GpuWord, Layout, Layouts, Selected, mig_parted_yaml,
    pinned_yaml,
};
use mig_cdi_layout::{Instance, Item, Wish, plan};
use mig_cdi_model::GpuIndex;
use mig_cdi_sim::Model;
use proptest::prelude::*;
use std::fs;

/// PCI device and vendor of the models, as in driver files of NVIDIA/open-gpu-kernel-modules
/// (`g_nv_name_released.h`).
const IDS: [(&str, u32); 6] = [
    ("a30", 0x20b7_10de),
    ("a100-40gb", 0x20b0_10de),
    ("a100-80gb", 0x20b2_10de),
    ("h100-80gb", 0x2330_10de),
    ("h200", 0x2335_10de),
    ("b200", 0x2901_10de),
];

fn file(name: &str) -> String {
    let path = format!("{}/layouts/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap()
}

fn gpu(index: u32, device_id: u32) -> Candidate {
    Candidate {
        index: GpuIndex(index),
        uuid: format!("GPU-{index:08x}-0000-4000-8000-000000000000").parse().unwrap(),
        pci: format!("0000:{:02x}:00.0", 7 + 4 * index).parse().unwrap(),
        device_id,
        subsystem_id: 0x1463_10de,
    }
}

/// Four A100 80GB.
fn node() -> Vec<Candidate> {
    (0..4).map(|index| gpu(index, 0x20b2_10de)).collect()
}

fn wish(text: &str) -> Layout {
    Layout::Divided(text.parse().unwrap())
}

/// What is selected, by GPU: `0=off:5`, or `0=3g.40gb:7` with the line.
fn said(selected: &[Selected]) -> Vec<String> {
    let word = |layout: &Layout| match layout {
        Layout::Off => "off".to_owned(),
        Layout::Divided(wish) => wish.to_string(),
    };
    let say = |s: &Selected| format!("{}={} {}", s.gpu, word(&s.layout), s.origin);
    selected.iter().map(say).collect()
}

fn refused(text: &str, config: &str) -> String {
    let refused = Layouts::parse(text).and_then(|layouts| layouts.select(config, &node()));
    refused.expect_err(text).to_string()
}

#[test]
fn names_that_users_know_give_each_model_what_it_can_hold() {
    let layouts = Layouts::parse(&file("well-known")).unwrap();
    let names: Vec<_> = layouts.names().map(str::to_owned).collect();
    for (key, id) in IDS {
        let (offer, node) = (Model::find(key).unwrap().offer(), [gpu(0, id)]);
        let mut tried = 0;
        for name in &names {
            let selected = layouts.select(name, &node).unwrap();
            let Some(Selected { layout: Layout::Divided(wish), named: false, .. }) =
                selected.first()
            else {
                assert!(name == "all-disabled" || selected.is_empty(), "{key} {name}");
                continue;
            };
            let own = |item: &Item| plan(&offer, &[], &item.word.parse().unwrap()).is_ok();
            if !wish.items.iter().all(own) {
                assert!(!name.contains("balanced"), "{key}");
                continue;
            }
            let plan = plan(&offer, &[], wish).unwrap_or_else(|e| panic!("{key} {name}: {e}"));
            assert_eq!(plan.created(), wish.items.len());
            tried += 1;
            // No more of the same fits.
            if name != "all-balanced" && name != "all-enabled" {
                let mut more = wish.clone();
                more.items.push(more.items[0].clone());
                assert!(mig_cdi_layout::plan(&offer, &[], &more).is_err(), "{key} {name}");
            }
        }
        assert_eq!(tried, offer.profiles.len() + 2, "{key}: every profile, all-enabled, balanced");
    }
}

#[test]
fn a_file_of_mig_parted_is_read_as_mig_parted_reads_it() {
    let layouts = Layouts::parse(&file("by-number")).unwrap();
    assert_eq!(layouts.names().collect::<Vec<_>>(), ["halves", "shared", "by-card"]);
    let select = |name, gpus: &[Candidate]| said(&layouts.select(name, gpus).unwrap());
    assert_eq!(
        select("halves", &node()),
        [
            "0=off line 5",
            "1=off line 5",
            "2=3g.40gb,3g.40gb line 7",
            "3=4g.40gb,1g.10gb,1g.10gb,1g.10gb line 11",
        ]
    );
    // Compute instances fill as few GPU instances as they can.
    assert_eq!(
        select("shared", &node()),
        [2, 3].map(|gpu| format!("{gpu}=3g.40gb(2c,1c),3g.40gb(1c,1c,1c) line 19"))
    );
    let mut cards = node();
    cards[1].subsystem_id = 0x1464_10de;
    cards[2].device_id = 0x2330_10de;
    assert_eq!(select("by-card", &cards), ["0=7g.80gb line 27", "3=7g.80gb line 27"]);
}

#[test]
fn additions_name_cards_and_places() {
    let layouts = Layouts::parse(&file("additions")).unwrap();
    let select = |name| said(&layouts.select(name, &node()).unwrap());
    assert_eq!(
        select("pinned"),
        [
            "0=3g.40gb@4,1g.10gb,1g.10gb,4g.40gb(2c@2,1c@0) line 10",
            "1=3g.40gb@4,3g.40gb@0(1c,2c) line 5",
            "2=3g.40gb@4,3g.40gb@0(1c,2c) line 5",
            "3=3g.40gb(none),1c.3g.40gb line 13",
        ]
    );
    assert_eq!(select("short").len(), 2);
}
