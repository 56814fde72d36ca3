//! The labels of a node, from the real program's inventory of a fake driver, compared with `tests/golden/labels`; and
//! properties of the labels of any inventory. `cargo xtask golden kubelet_labels` writes the expected labels.

use mig_cdi_gen::inventory::{GpuEntry, Inventory, SliceEntry};
use mig_cdi_kubelet::{
    feature_file,
    labels::labels,
    strategy::{NodeResources, Strategy as Mig},
};
use mig_cdi_model::{Attributes, MajorMinor};
use mig_cdi_sim::PRESETS;
use mig_cdi_tests::{
    FakeHost,
    inventory::{STRATEGIES, inventory, label_lines, node_labels},
    project,
};
use proptest::{option, prelude::*};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
};

/// Returns the value of a label by its key after `nvidia.com/`.
fn value<'a>(labels: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    labels.get(&format!("nvidia.com/{name}")).map(String::as_str)
}

#[test]
fn labels_of_the_presets_are_as_expected() {
    let dir = project().join("tests/golden/labels");
    // Slices with graphics need nodes of the host: `labels_of_slices_with_graphics_are_as_expected`.
    for (name, description) in PRESETS.iter().filter(|(name, _)| *name != "rtx-pro-6000") {
        let inventory = inventory(&FakeHost::new(description));
        for strategy in STRATEGIES {
            let text = label_lines(&inventory, strategy);
            let path = dir.join(format!("{name}.{}.txt", strategy.as_str()));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::create_dir_all(&dir).unwrap();
                fs::write(&path, &text).unwrap();
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            similar_asserts::assert_eq!(text, expected, "{}", path.display());
        }
    }
}

#[test]
fn the_numa_node_is_read_from_the_host() {
    let node = "[[gpu]]\nmodel = \"a30\"\nnuma = 1\n[[gpu]]\nmodel = \"a30\"\n";
    let inventory = inventory(&FakeHost::new(node));
    let found: Vec<_> = inventory.gpus.iter().map(|gpu| (gpu.numa, gpu.class)).collect();
    assert_eq!(found, [(Some(1), Some(0x03_0200)), (None, Some(0x03_0200))]);
}

/// Returns a GPU with slices of these profiles.
fn gpu(index: u32, model: &str, profiles: &[&str]) -> GpuEntry {
    let slice = |(ci, profile): (u32, &&str)| SliceEntry {
        name: format!("nvidia.com/mig={index}:{ci}"),
        profile: Some((*profile).to_owned()),
        gi: ci,
        memory_mib: Some(9728),
        ..SliceEntry::default()
    };
    GpuEntry {
        index: Some(index),
        model: model.to_owned(),
        name: Some(format!("nvidia.com/gpu={index}")),
        memory_mib: Some(81_920),
        compute_capability: Some(MajorMinor { major: 8, minor: 0 }),
        mig_enabled: !profiles.is_empty(),
        slices: (0..).zip(profiles).map(slice).collect(),
        ..GpuEntry::default()
    }
}

fn node(gpus: Vec<GpuEntry>) -> Inventory {
    Inventory { driver_version: "580.105.08".into(), gpus, ..Inventory::default() }
}

#[test]
fn single_labels_the_most_frequent_profile_and_reports_the_rest() {
    let mut inventory =
        node(vec![gpu(0, "NVIDIA A100-SXM4-80GB", &["1g.10gb", "1g.10gb", "2g.20gb"])]);
    let found = node_labels(&inventory, Mig::Single);
    assert_eq!(value(&found, "gpu.product"), Some("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"));
    assert_eq!(value(&found, "gpu.count"), Some("2"));
    assert_eq!(value(&found, "gpu.replicas"), Some("1"));
    assert_eq!(value(&found, "gpu.memory"), Some("9728"));
    assert_eq!(value(&found, "gpu.family"), Some("ampere"));
    assert_eq!(value(&found, "mig.strategy"), Some("single"));
    assert_eq!(value(&found, "mig-cdi.state"), Some("withheld"));
    for slice in &mut inventory.gpus[0].slices {
        slice.memory_mib = None;
    }
    let found = node_labels(&inventory, Mig::Single);
    assert_eq!(value(&found, "gpu.memory"), None, "that of the whole gpu is not that of a slice");
}

#[test]
fn single_counts_nothing_without_a_slice() {
    let mut empty = gpu(0, "NVIDIA A100-SXM4-80GB", &[]);
    empty.mig_enabled = true;
    let found = node_labels(&node(vec![empty]), Mig::Single);
    assert_eq!(value(&found, "gpu.product"), Some("NVIDIA-A100-SXM4-80GB-MIG-INVALID"));
    for name in ["gpu.count", "gpu.replicas", "gpu.memory"] {
        assert_eq!(value(&found, name), Some("0"), "{name}");
    }
    assert_eq!(value(&found, "mig-cdi.state"), Some("withheld"));
}

#[test]
fn single_without_mig_gives_the_labels_of_none() {
    let inventory = node(vec![gpu(0, "NVIDIA A100-SXM4-80GB", &[])]);
    let mut single = node_labels(&inventory, Mig::Single);
    assert_eq!(single.remove("nvidia.com/mig.strategy").as_deref(), Some("single"));
    assert_eq!(single, node_labels(&inventory, Mig::None));
    assert_eq!(value(&single, "mig-cdi.state"), Some("ok"));
    assert_eq!(value(&single, "gpu.replicas"), Some("1"));
}

#[test]
fn the_product_label_prefers_a_gpu_without_mig_then_the_most_frequent_then_the_first() {
    let [a, b, c] = ["NVIDIA A100-SXM4-80GB", "NVIDIA A30", "NVIDIA L40S"];
    let slices = ["1g.10gb", "2g.20gb"];
    let gpus = |models: &[(&str, bool)]| {
        let make = |(index, (model, mig_enabled)): (u32, &(&str, bool))| {
            gpu(index, model, if *mig_enabled { &slices } else { &[] })
        };
        node((0..).zip(models).map(make).collect())
    };
    for (models, product, count) in [
        (vec![(a, true), (a, true), (b, false)], "NVIDIA-A30", "1"),
        (vec![(a, false), (b, false), (b, false)], "NVIDIA-A30", "2"),
        (vec![(c, false), (b, false)], "NVIDIA-L40S", "1"),
        (vec![(a, true), (a, false)], "NVIDIA-A100-SXM4-80GB", "2"),
        (vec![(b, true), (a, true)], "NVIDIA-A30", "1"),
    ] {
        let inventory = gpus(&models);
        for strategy in [Mig::None, Mig::Mixed] {
            let found = node_labels(&inventory, strategy);
            assert_eq!(value(&found, "gpu.product"), Some(product), "{models:?}");
            assert_eq!(value(&found, "gpu.count"), Some(count), "{models:?}");
        }
    }
    let mixed = node_labels(&gpus(&[(a, true), (b, true), (c, false)]), Mig::Mixed);
    assert_eq!(value(&mixed, "mig-1g.10gb.count"), Some("2"));
    assert_eq!(value(&mixed, "mig-1g.10gb.product"), Some("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"));
    assert_eq!(value(&mixed, "mig-2g.20gb.sharing-strategy"), Some("none"));
    assert_eq!(value(&mixed, "mig.strategy"), Some("mixed"));
}

#[test]
fn omitted_devices_are_withheld_and_a_node_without_a_gpu_has_no_label() {
    let mut inventory = node(vec![gpu(0, "NVIDIA A30", &[])]);
    inventory.problems.push("gpu 1: has fallen off the bus".into());
    assert_eq!(value(&node_labels(&inventory, Mig::Mixed), "mig-cdi.state"), Some("withheld"));
    assert_eq!(labels(&node(Vec::new()), Mig::Mixed, &NodeResources::default()), BTreeMap::new());
}

fn any_slice() -> impl Strategy<Value = SliceEntry> {
    let profile = prop_oneof![
        3 => "[1-7]c\\.[1-7]g\\.[0-9]{1,3}gb(\\+me|\\+me\\.all|-me|\\+gfx)?".boxed(),
        1 => any::<String>().boxed(),
        1 => "[a-zA-Z0-9.+_-]{40,70}".boxed(),
    ];
    let attributes = option::of(any::<[u32; 8]>().prop_map(|n| Attributes {
        multiprocessors: (n[0] > 9).then_some(n[0]),
        gpu_slices: n[1],
        compute_slices: n[2],
        copy_engines: (n[3] > 9).then_some(n[3]),
        decoders: n[4],
        encoders: n[5],
        jpeg_engines: n[6],
        ofa_engines: n[7],
    }));
    (any::<u16>(), option::weighted(0.9, profile), any::<Option<u64>>(), attributes).prop_map(
        |(number, profile, memory_mib, attributes)| SliceEntry {
            name: format!("nvidia.com/mig={number}"),
            profile,
            memory_mib,
            attributes,
            ..SliceEntry::default()
        },
    )
}

fn any_gpu() -> impl Strategy<Value = GpuEntry> {
    let release = option::of((any::<u32>(), any::<u32>()))
        .prop_map(|release| release.map(|(major, minor)| MajorMinor { major, minor }));
    let name = option::of(any::<u8>().prop_map(|number| format!("nvidia.com/gpu={number}")));
    let slices = prop::collection::vec(any_slice(), 0..6);
    let model = prop_oneof![any::<String>(), "NVIDIA [A-Z0-9a-z ()/.-]{0,90}"];
    let rest = (any::<Option<u32>>(), any::<Option<bool>>(), any::<bool>());
    (model, any::<Option<u64>>(), release, name, slices, rest).prop_map(
        |(model, memory_mib, compute_capability, name, slices, (class, capable, mig_enabled))| {
            GpuEntry {
                model,
                memory_mib,
                compute_capability,
                class,
                mig_capable: capable,
                mig_enabled,
                name,
                slices: if mig_enabled { slices } else { Vec::new() },
                ..GpuEntry::default()
            }
        },
    )
}

fn any_inventory() -> impl Strategy<Value = Inventory> {
    let version = prop_oneof!["[0-9]{1,3}(\\.[0-9]{1,3}){0,3}", any::<String>()];
    let gpus = prop::collection::vec(any_gpu(), 0..5);
    (version, any::<Option<(u32, u32)>>(), any::<Option<String>>(), gpus).prop_map(
        |(driver_version, cuda, machine, gpus)| Inventory {
            driver_version,
            cuda_version: cuda.map(|(major, minor)| MajorMinor { major, minor }),
            machine,
            gpus,
            config: None,
            problems: Vec::new(),
        },
    )
}

/// Returns whether a label value is valid: k8s.io/apimachinery, `IsValidLabelValue`, and `IsQualifiedName` for one
/// that must not be empty.
fn is_valid(value: &str, may_be_empty: bool) -> bool {
    let (first, last) = (value.chars().next(), value.chars().last());
    let is_end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (may_be_empty || !value.is_empty())
        && value.len() <= 63
        && is_end(first)
        && is_end(last)
        && value.chars().all(is_fit)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn labels_of_any_inventory_are_accepted_by_kubernetes(inventory in any_inventory()) {
        for strategy in STRATEGIES {
            for (key, value) in node_labels(&inventory, strategy) {
                let name = key.strip_prefix("nvidia.com/");
                prop_assert!(name.is_some_and(|name| is_valid(name, false)), "{key}");
                prop_assert!(is_valid(&value, true), "{key}={value}");
            }
        }
    }
}

#[test]
fn the_feature_file_is_written_on_change_and_removed_with_its_labels() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("features.d");
    let path = dir.join("mig-cdi");
    let labels = |count: &str| {
        BTreeMap::from([
            ("nvidia.com/gpu.count".to_owned(), count.to_owned()),
            ("nvidia.com/cuda.driver-version.revision".to_owned(), String::new()),
        ])
    };
    assert!(!feature_file::remove(&path).unwrap(), "not even its directory is there");
    assert!(feature_file::write(&path, &labels("7")).unwrap());
    let text = "nvidia.com/cuda.driver-version.revision=\nnvidia.com/gpu.count=7\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    let inode = fs::metadata(&path).unwrap().ino();
    assert!(!feature_file::write(&path, &labels("7")).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "the same file");
    assert!(feature_file::write(&path, &labels("6")).unwrap());
    assert_ne!(fs::metadata(&path).unwrap().ino(), inode, "another in its place");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
    assert!(feature_file::write(&path, &BTreeMap::new()).unwrap(), "no labels, no file");
    assert!(!path.exists());
    assert!(feature_file::write(&path, &labels("7")).unwrap());
    assert!(feature_file::remove(&path).unwrap());
    assert!(!feature_file::remove(&path).unwrap());
}

#[test]
fn an_impossible_feature_file_is_refused_with_the_cure() {
    let root = tempfile::tempdir().unwrap();
    let labels = BTreeMap::from([("nvidia.com/gpu.count".to_owned(), "7".to_owned())]);
    let error_of =
        |path: &std::path::Path| feature_file::write(path, &labels).unwrap_err().to_string();
    assert!(error_of(&root.path().join(".hidden")).contains("not the name of a feature file"));
    assert!(error_of("mig-cdi".as_ref()).contains("not the name of a feature file"));
    let missing = error_of(&root.path().join("a/b/mig-cdi"));
    assert!(missing.contains("a/b") && missing.contains("mount the host's directory"), "{missing}");
    fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
    let open = error_of(&root.path().join("mig-cdi"));
    assert!(open.contains("chmod go-w"), "{open}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}
