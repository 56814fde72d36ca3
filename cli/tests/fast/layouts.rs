//! Layout files: what `mig_cdi_config::layouts` parses, selects, refuses and writes.

use mig_cdi_config::layouts::{
    Assignment, GpuIdentity, GpuLayoutSetting, GpuSelector, Layouts, LayoutsError, SelectedLayout,
    mig_parted_yaml, pinned_yaml,
};
use mig_cdi_layout::{DesiredInstance, plan};
use mig_cdi_model::GpuIndex;
use mig_cdi_sim::Model;
use mig_cdi_tests::project;
use proptest::prelude::*;
use std::fs;

/// PCI device and vendor ids of the models, as in driver files of NVIDIA/open-gpu-kernel-modules
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
    let path = project().join(format!("tests/layouts/{name}.yaml"));
    fs::read_to_string(path).unwrap()
}

fn gpu(index: u32, device_id: u32) -> GpuIdentity {
    GpuIdentity {
        index: GpuIndex(index),
        uuid: format!("GPU-{index:08x}-0000-4000-8000-000000000000").parse().unwrap(),
        pci: format!("0000:{:02x}:00.0", 7 + 4 * index).parse().unwrap(),
        device_id,
        subsystem_id: 0x1463_10de,
    }
}

/// Returns four A100 80GB.
fn node() -> Vec<GpuIdentity> {
    (0..4).map(|index| gpu(index, 0x20b2_10de)).collect()
}

fn partitioned(text: &str) -> GpuLayoutSetting {
    GpuLayoutSetting::Partitioned(text.parse().unwrap())
}

/// Returns the selection by GPU: `0=off:5`, or `0=3g.40gb:7` with the line.
fn describe(selected: &[SelectedLayout]) -> Vec<String> {
    let word = |layout: &GpuLayoutSetting| match layout {
        GpuLayoutSetting::Off => "off".to_owned(),
        GpuLayoutSetting::Partitioned(desired) => desired.to_string(),
    };
    let describe_one = |s: &SelectedLayout| format!("{}={} {}", s.gpu, word(&s.layout), s.location);
    selected.iter().map(describe_one).collect()
}

fn refused(text: &str, config: &str) -> String {
    let refused = Layouts::parse(text).and_then(|layouts| layouts.select(config, &node()));
    refused.expect_err(text).to_string()
}

#[test]
fn well_known_names_give_each_model_what_fits() {
    let layouts = Layouts::parse(&file("well-known")).unwrap();
    let names: Vec<_> = layouts.names().map(str::to_owned).collect();
    for (key, id) in IDS {
        let (offer, node) = (Model::find(key).unwrap().capacity(), [gpu(0, id)]);
        let mut tried = 0;
        for name in &names {
            let selected = layouts.select(name, &node).unwrap();
            let Some(SelectedLayout {
                layout: GpuLayoutSetting::Partitioned(desired),
                is_named: false,
                ..
            }) = selected.first()
            else {
                assert!(name == "all-disabled" || selected.is_empty(), "{key} {name}");
                continue;
            };
            let own =
                |item: &DesiredInstance| plan(&offer, &[], &item.text.parse().unwrap()).is_ok();
            if !desired.instances.iter().all(own) {
                assert!(!name.contains("balanced"), "{key}");
                continue;
            }
            let plan = plan(&offer, &[], desired).unwrap_or_else(|e| panic!("{key} {name}: {e}"));
            assert_eq!(plan.created(), desired.instances.len());
            tried += 1;
            // No more instances of the same profile fit.
            if name != "all-balanced" && name != "all-enabled" {
                let mut more = desired.clone();
                more.instances.push(more.instances[0].clone());
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
    let select = |name, gpus: &[GpuIdentity]| describe(&layouts.select(name, gpus).unwrap());
    assert_eq!(
        select("halves", &node()),
        [
            "0=off line 5",
            "1=off line 5",
            "2=3g.40gb,3g.40gb line 7",
            "3=4g.40gb,1g.10gb,1g.10gb,1g.10gb line 11",
        ]
    );
    // Compute instances fill as few GPU instances as possible.
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
fn extensions_name_gpus_and_placements() {
    let layouts = Layouts::parse(&file("additions")).unwrap();
    let select = |name| describe(&layouts.select(name, &node()).unwrap());
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

/// Returns a file with one configuration `a`, which has one entry with these fields.
fn entry(fields: &str) -> String {
    let fields = fields.replace('\n', "\n      ");
    format!("version: v1\nmig-configs:\n  a:\n    - {fields}\n")
}

const ON: &str = "devices: all\nmig-enabled: true\nmig-devices";

#[test]
fn malformed_files_are_refused_with_the_line() {
    for (text, message) in [
        ("", "line 1: an empty file; begin with version: v1"),
        ("# nothing\n", "line 1: an empty file; begin with version: v1"),
        ("a", "line 1: the file is \"a\"; write version, mig-configs"),
        ("mig-configs: {a: []}", "line 1: no version; write version: v1"),
        ("\nversion: v2", "line 2: version \"v2\"; write version: v1"),
        ("version: v1\n", "line 1: no mig-configs; write at least one"),
        (
            "version: v1\nmig-configs: {}",
            "line 2: no configuration in mig-configs; write at least one",
        ),
        ("version: v1\nmig-configs: a", "line 2: mig-configs is \"a\"; write a name for each list"),
        (
            "version: v1\nmig-configs:\n  a: []",
            "line 3: \"a\" is not a list of entries; begin each with - devices:",
        ),
        (
            "version: v1\nhooks: x",
            "line 2: unknown field \"hooks\"; the file has version, mig-configs",
        ),
        ("version: v1\nversion: v1", "line 2: \"version\" again, after line 1"),
        ("version: v1\n---\nversion: v1", "line 2: a second document; write one per file"),
        ("version: [", "line 1: not YAML: "),
        ("version: v1\r\n? ", "line 2: unknown field \"\"; the file has"),
        ("version: v1\rhooks: x", "line 2: unknown field \"hooks\"; the file has"),
        ("version: v1\n\tmig-configs: {}", "line 1: not YAML: "),
        ("? [a]\n: b", "line 1: a list as a key; write a name"),
        ("version: !!str v1", "line 1: a tag; omit it"),
        ("a: &a [*a]", "line 1: an alias inside its own anchor; write it out"),
        ("a: *b", "line 1: not YAML: "),
        ("a: &a {b: c}\nd:\n  <<: *a", "line 3: a merge key; write out its content"),
    ] {
        let error = refused(text, "a");
        assert!(error.starts_with(message) && error.lines().count() == 1, "{text:?}: {error}");
    }
}

#[test]
fn malformed_entries_are_refused_with_the_line() {
    for (fields, message) in [
        ("devices: all", "line 4: no mig-enabled; an entry needs it"),
        ("mig-enabled: false", "line 4: no devices; an entry needs it"),
        (
            "devices: all\nmig-enabled: true",
            "line 4: no mig-devices; write {} for mig mode on and no instance",
        ),
        (
            "devices: all\nmig-enabled: false\nmig-devices:\n  1g.10gb: 7",
            "line 7: mig-devices with mig-enabled false; omit one of the two",
        ),
        (
            "devices: all\nmig-enabled: maybe",
            "line 5: mig-enabled is \"maybe\"; write true or false",
        ),
        ("devices: all\nmig-enabled: \"true\"", "line 5: mig-enabled is \"true\"; write true or"),
        (
            "devices: all\nmig-enable: true",
            "line 5: unknown field \"mig-enable\"; an entry has device-filter, devices, mig-enabled, mig-devices",
        ),
        (
            "devices: 0\nmig-enabled: false",
            "line 4: a gpu number outside a list; write devices: [0]",
        ),
        ("devices: [all]\nmig-enabled: false", "line 4: all in a list; write devices: all"),
        (
            "devices: [0,\n -1]\nmig-enabled: false",
            "line 5: \"-1\" is not a gpu; write its number, its UUID (GPU-...), its PCI address (0000:07:00.0) or all",
        ),
        ("devices: {0: 1}\nmig-enabled: false", "line 4: a map in devices"),
        ("devices: [GPU-1]\nmig-enabled: false", "line 4: \"GPU-1\" is not a gpu"),
        ("devices:\nmig-enabled: false", "line 4: \"\" is not a gpu"),
        ("devices: [1, 9]\nmig-enabled: false", "line 4: no gpu 9 on this node; it has 0, 1, 2, 3"),
        (
            "devices: [GPU-00000009-0000-4000-8000-000000000000]\nmig-enabled: false",
            "line 4: no gpu GPU-00000009-0000-4000-8000-000000000000 on this node; it has GPU-00000000-",
        ),
        (
            "devices: [0000:99:00.0]\nmig-enabled: false",
            "line 4: no gpu 0000:99:00.0 on this node; it has 0000:07:00.0, ",
        ),
        (
            "devices: [0, 0]\nmig-enabled: false",
            "line 4: gpu 0 (GPU-00000000-0000-4000-8000-000000000000) is selected by line 4 too; select it once",
        ),
        (
            "devices: [2]\nmig-enabled: false\n# again\ndevice-filter: 0x20B2",
            "line 7: \"0x20B2\" is not a device filter; write device and vendor such as 0x20B210DE",
        ),
        (
            "devices: all\nmig-enabled: false\ndevice-filter: [0x10DE20B2]",
            "line 6: \"0x10DE20B2\" is",
        ),
        (
            "devices: all\nmig-enabled: false\ndevice-filter: [[]]",
            "line 6: a list in device-filter",
        ),
        (
            "devices: [0000:07:00.0]\nmig-enabled: false\ndevice-filter: 0x233010DE",
            "line 4: 0000:07:00.0 is a 0x20B210DE, which the device-filter excludes; drop one of them",
        ),
    ] {
        let error = refused(&entry(fields), "a");
        assert!(error.starts_with(message) && error.lines().count() == 1, "{fields:?}: {error}");
    }
}

#[test]
fn impossible_devices_are_refused_with_the_line() {
    for (devices, message) in [
        (
            " all",
            "line 6: mig-devices is \"all\"; write a count for each profile, or a list of instances",
        ),
        ("\n  1g.10gb: -1", "line 7: \"-1\" of \"1g.10gb\"; write a count from 0 to 64"),
        ("\n  1g.10gb: 65", "line 7: \"65\" of \"1g.10gb\"; write a count from 0 to 64"),
        ("\n  1g.10gb: 99999999999999999999", "line 7: \"99999999999999999999\" of"),
        ("\n  1g.10gb: 1.5", "line 7: \"1.5\" of"),
        ("\n  1g.10gb: 010", "line 7: \"010\" of"),
        ("\n  1g.10gb: \"1\"", "line 7: \"1\" of"),
        ("\n  1g.10gb: [1]", "line 7: a list of \"1g.10gb\"; write a count"),
        ("\n  1g.10gb:", "line 7: \"\" of"),
        ("\n  1g.10gb: 40\n  2g.20gb: 40", "line 8: more than 64 instances; request fewer"),
        ("\n  1g.10gb: 1\n  1g.10gb: 1", "line 8: \"1g.10gb\" again, after line 7"),
        ("\n  1g.10gb: 0", "line 7: all counts are 0; write {} for no instance"),
        (
            "\n  1g.10gb.me: 1",
            "line 7: \"1g.10gb.me\" is not a GPU instance; write a profile such as 2g.20gb",
        ),
        ("\n  2x1g.10gb: 1", "line 7: \"2x1g.10gb\" is not a GPU instance; write a profile"),
        ("\n  all-1g: 1", "line 7: \"all-1g\" is not a GPU instance; write a profile"),
        (
            "\n  1c.3g.40gb@4: 2",
            "line 7: the count of \"1c.3g.40gb@4\" is ambiguous; write 3g.40gb@4(1c)",
        ),
        (
            "\n  - 3g.40gb\n  - 1g",
            "line 8: \"1g\" is not a GPU instance; write a profile such as 2g.20gb",
        ),
        ("\n  - [3g.40gb]", "line 7: a list in a list of instances such as 3g.40gb@4"),
        (
            " [3g.40gb(1c,2c)]",
            "line 6: \"3g.40gb(1c\" has unmatched brackets; write compute instances in one pair of brackets, such as 3g.40gb(1c,2c); an instance with a comma needs quotes",
        ),
        (" [64x1g.10gb, 1g.10gb]", "line 6: more than 64 instances; request fewer"),
    ] {
        let error = refused(&entry(&format!("{ON}:{devices}")), "a");
        assert!(error.starts_with(message) && error.lines().count() == 1, "{devices:?}: {error}");
    }
}

#[test]
fn unknown_and_repeated_names_and_gpus_are_reported() {
    let text = file("well-known");
    let error = refused(&text, "all-balancd");
    assert!(error.starts_with(
        "line 4: no layout \"all-balancd\"; did you mean \"all-balanced\"? the file has \"all-disabled\", \"all-enabled\", "
    ), "{error}");
    let two = "version: v1\nmig-configs:\n  a:\n    - devices: [1]\n      mig-enabled: false\n    - \
               devices: all\n      mig-enabled: false\n";
    assert_eq!(
        refused(two, "a"),
        "line 6: gpu 1 (GPU-00000001-0000-4000-8000-000000000000) is selected by line 4 too; select it once"
    );
    // With a filter for other models the indices are those of other nodes, so they may exceed ours.
    let other = entry("device-filter: 0x290110DE\ndevices: [0, 7]\nmig-enabled: false");
    assert_eq!(Layouts::parse(&other).unwrap().select("a", &node()), Ok(vec![]));
    // GPUs that no entry names stay as they are.
    let none = entry("devices: []\nmig-enabled: false\nmig-devices: null");
    assert_eq!(Layouts::parse(&none).unwrap().select("a", &node()), Ok(vec![]));
}

/// Input that would exhaust the machine's memory or time is refused quickly.
#[test]
fn alias_bombs_and_deep_nesting_are_refused() {
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        let before = format!("*a{},", i - 1).repeat(9);
        laughs += &format!("a{i}: &a{i} [{before}]\n");
    }
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(500_000), "*a,".repeat(100_000));
    for (bomb, message) in [
        (laughs, "too much in one file, with aliases written out; split it"),
        (long, "too much in one file"),
        ("[".repeat(1 << 20), "not YAML: recursion limit exceeded"),
        ("- ".repeat(1 << 19), "more than 16 lists and maps inside each other"),
        ("{a: ".repeat(1 << 18), "not YAML: recursion limit exceeded"),
        ("? ".repeat(1 << 19), "more than 16 lists and maps inside each other"),
        (format!("[{}]", "x,".repeat(1 << 19)), "too much in one file"),
        (entry(&format!("{ON}: [{}]", "64x1g.10gb,".repeat(9_000))), "more than 64 instances"),
        (
            entry(&format!("{ON}: [\"{}1g.10gb\"]", "64x1g.10gb,".repeat(9_000))),
            "requests more than 64 instances, and no GPU holds so many; request fewer",
        ),
    ] {
        let start = std::time::Instant::now();
        let error = refused(&bomb, "a");
        assert!(error.contains(message), "{error}");
        println!("{message}: {:?}", start.elapsed());
    }
}

#[test]
fn arguments_and_files_mean_the_same() {
    let assign = |words: &[&str]| -> Result<Vec<SelectedLayout>, LayoutsError> {
        let words: Result<Vec<Assignment>, _> = words.iter().map(|word| word.parse()).collect();
        Assignment::select(&words?, &node())
    };
    let words = ["2=3x2g.20gb,1g.10gb", "0=off", "GPU-00000003-0000-4000-8000-000000000000=none"];
    assert_eq!(
        describe(&assign(&words).unwrap()),
        [
            "0=off \"0=off\"",
            "2=2g.20gb,2g.20gb,2g.20gb,1g.10gb \"2=3x2g.20gb,1g.10gb\"",
            "3=none \"GPU-00000003-0000-4000-8000-000000000000=none\"",
        ]
    );
    let all = assign(&["all=7g.80gb"]).unwrap();
    assert!(
        all.len() == 4 && all.iter().all(|s| !s.is_named && s.layout == partitioned("7g.80gb"))
    );
    let pci: Assignment = "00000000:0b:00.0=3g.40gb@4(1c,2c@0)".parse().unwrap();
    assert_eq!(pci.gpu, GpuSelector::Pci(node()[1].pci));
    assert_eq!(pci.layout, partitioned("3g.40gb@4(1c,2c@0)"));
    for (words, message) in [
        (
            &["7g.80gb"][..],
            "\"7g.80gb\": no = between a gpu and its layout; write both, such as 0=3x2g.20gb,1g.10gb",
        ),
        (
            &["0="],
            "\"0=\": \"\" is not a GPU instance; write a profile such as 2g.20gb, its id, or none for an empty GPU, or off",
        ),
        (&["=off"], "\"=off\": \"\" is not a gpu; write its number"),
        (&["0-3=off"], "\"0-3=off\": \"0-3\" is not a gpu"),
        (&["4=off"], "\"4=off\": no gpu 4 on this node; it has 0, 1, 2, 3"),
        (
            &["all=off", "1=none"],
            "\"1=none\": gpu 1 (GPU-00000001-0000-4000-8000-000000000000) is selected by \"all=off\" too",
        ),
    ] {
        let error = assign(words).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

/// Random layout text of a few words; it need not fit.
fn any_layout() -> impl Strategy<Value = GpuLayoutSetting> {
    let name = "[1-7]g\\.(10|40)gb(\\+me(\\.all)?|-me|\\+gfx)?";
    let parts = "\\((none|[1-4]c(@[0-6])?(,[1-3]c(@[0-6])?){0,2})\\)";
    let word = format!("({name}|[0-9]{{1,2}})(@[0-7])?({parts})?");
    let layout =
        prop::collection::vec(prop::string::string_regex(&word).unwrap(), 0..6).prop_map(|words| {
            let text = if words.is_empty() { "none".to_owned() } else { words.join(",") };
            GpuLayoutSetting::Partitioned(text.parse().unwrap())
        });
    prop_oneof![1 => Just(GpuLayoutSetting::Off), 9 => layout]
}

/// Returns the part of a layout that mig-parted's format keeps: the count of each profile, without order.
fn kinds(layout: &GpuLayoutSetting) -> Option<Vec<String>> {
    let GpuLayoutSetting::Partitioned(desired) = layout else { return None };
    let kind = |item: &DesiredInstance| {
        let name = item.profile.to_string();
        let slices = name.split('g').next().unwrap().parse::<u32>();
        let parts = item.compute.as_ref();
        let parts: Option<Vec<_>> = parts.map(|all| all.iter().map(|part| part.slices).collect());
        format!("{name} {:?}", parts.filter(|parts| slices != Ok(parts[0])))
    };
    let mut kinds: Vec<_> = desired.instances.iter().map(kind).collect();
    kinds.sort();
    Some(kinds)
}

fn read_back(text: &str, name: &str) -> Vec<SelectedLayout> {
    let layouts = Layouts::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(layouts.names().collect::<Vec<_>>(), [name]);
    layouts.select(name, &node()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_checkpoint_reads_back_as_it_was(
        name in "\\PC{1,8}|[a\"\\\\\n\t\u{feff}\u{2028}#: -]{1,4}",
        layouts in prop::collection::vec(any_layout(), 0..4),
    ) {
        let gpus: Vec<_> = node().into_iter().map(|gpu| gpu.uuid).zip(layouts.clone()).collect();
        let back = read_back(&pinned_yaml(&name, &gpus), &name);
        prop_assert_eq!(back.into_iter().map(|s| s.layout).collect::<Vec<_>>(), layouts);
    }

    #[test]
    fn an_export_reads_back_or_fails_with_the_reason(layouts in prop::collection::vec(any_layout(), 0..4)) {
        let gpus: Vec<_> = (0..).map(GpuIndex).zip(layouts.clone()).collect();
        match mig_parted_yaml("now", &gpus) {
            Ok(text) => {
                let back = read_back(&text, "now");
                let back: Vec<_> = back.iter().map(|s| kinds(&s.layout)).collect();
                prop_assert_eq!(back, layouts.iter().map(kinds).collect::<Vec<_>>(), "{}", text);
            }
            Err(error) => {
                // Alone, the GPU at fault has the same fault; and it cannot be written at all.
                let layout = layouts[error.gpu.0 as usize].clone();
                prop_assert!(mig_parted_yaml("now", &[(error.gpu, layout)]).is_err());
                prop_assert!(!error.instance.is_empty() && error.to_string().lines().count() == 1);
            }
        }
    }

    /// For any text the answer is a value or a one-line error.
    #[test]
    fn any_file_is_parsed_or_refused_in_one_line(text in "version: v1\nmig-configs:\n  a:\n    - ((devices|mig-enabled|mig-devices|device-filter): ?([0a]|all|true|\\[[0,-]{0,3}\\]|\\{3g\\.40gb: [0-9-]{1,2}\\})\n      ){0,4}") {
        if let Err(error) = Layouts::parse(&text).and_then(|layouts| layouts.select("a", &node())) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
            prop_assert!(error.location.line().is_some());
        }
    }
}

#[test]
fn an_export_is_in_the_format_of_mig_parted() {
    let layouts =
        ["3g.40gb@4,1g.10gb@0,1g.10gb@1", "1g.10gb,3g.40gb,1g.10gb", "none"].map(partitioned);
    let mut gpus: Vec<_> = (0..).map(GpuIndex).zip(layouts).collect();
    gpus.push((GpuIndex(5), GpuLayoutSetting::Off));
    gpus.push((GpuIndex(6), partitioned("3g.40gb@0(2c@0,1c@2),4g.40gb(4c)")));
    assert_eq!(
        mig_parted_yaml("current", &gpus).unwrap(),
        "version: v1
mig-configs:
  \"current\":
    - devices: [0, 1]
      mig-enabled: true
      mig-devices:
        \"1g.10gb\": 2
        \"3g.40gb\": 1
    - devices: [2]
      mig-enabled: true
      mig-devices: {}
    - devices: [5]
      mig-enabled: false
    - devices: [6]
      mig-enabled: true
      mig-devices:
        \"1c.3g.40gb\": 1
        \"2c.3g.40gb\": 1
        \"4g.40gb\": 1
"
    );
    for (layout, message) in [
        ("9", "gpu 3: 9: mig-parted knows profiles by name only; a checkpoint can hold it"),
        (
            "1g.10gb,3g.40gb(none)",
            "gpu 3: 3g.40gb(none): mig-parted knows no gpu instance without compute instances; a checkpoint can hold it",
        ),
        (
            "3g.40gb(1c),3g.40gb(1c@1)",
            "gpu 3: 3g.40gb(1c): mig-parted would put its compute instances together with others; a checkpoint can hold it",
        ),
    ] {
        let error = mig_parted_yaml("current", &[(GpuIndex(3), partitioned(layout))]).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_checkpoint_pins_every_placement() {
    let uuid = node()[0].uuid.clone();
    let gpus = [(uuid, partitioned("3g.40gb@4(1c@0,2c@1),1g.10gb@0(none)"))];
    assert_eq!(
        pinned_yaml("checkpoint", &gpus),
        "version: v1
mig-configs:
  \"checkpoint\":
    - devices: [GPU-00000000-0000-4000-8000-000000000000]
      mig-enabled: true
      mig-devices:
        - \"3g.40gb@4(1c@0,2c@1)\"
        - \"1g.10gb@0(none)\"
"
    );
}

/// The documented layout files are accepted, and so are the documented layouts.
#[test]
fn the_documented_layouts_are_valid() {
    let path = project().join("docs/layouts.md");
    let text = fs::read_to_string(path).unwrap();
    let files: Vec<_> = text.split("```yaml\n").skip(1).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        Layouts::parse(file.split("```").next().unwrap()).unwrap();
    }
    let rows = text.split("| layout | means |").nth(1).unwrap().split("\n\n").next().unwrap();
    let documented: Vec<_> = rows.lines().filter_map(|line| line.split('`').nth(1)).collect();
    assert_eq!(documented.len(), 8);
    let offer = Model::find("a100-80gb").unwrap().capacity();
    for layout in documented {
        plan(&offer, &[], &layout.parse().unwrap()).unwrap_or_else(|e| panic!("{layout}: {e}"));
    }
}
