//! Conformance with the CDI project's own Rust library: it parses and validates every spec, finds the expected
//! devices, and accepts no lower CDI version.

use container_device_interface::{spec::read_spec, version::minimum_required_version};
use mig_cdi_gen::{
    discover::{Source, discover},
    spec::{BuiltSpec, DeviceSet, Format, NameStyle, SpecOptions, build, to_text},
};
use mig_cdi_model::cdi::{Device, Spec, Version};
use mig_cdi_sim::{PRESETS, SimulatedMachine, SimulatedNode};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn options() -> SpecOptions {
    SpecOptions {
        kind: "nvidia.com/mig".parse().unwrap(),
        names: vec![NameStyle::Uuid, NameStyle::Slot],
        source: Source::Nvml,
        library_dirs: Vec::new(),
        params_file: None,
        wants_graphics: true,
        admin: Vec::new(),
        sets_cuda_env: false,
        wants_annotations: false,
        verify: None,
        ldcache: None,
        max_version: Version::V0_5_0,
        limited_by: None,
    }
}

fn built(description: &str, options: &SpecOptions) -> Result<BuiltSpec, String> {
    let node = SimulatedNode::parse(description).map_err(|e| e.to_string())?;
    let discovery =
        discover(&SimulatedMachine::new(node), options.source).map_err(|e| e.to_string())?;
    let mut built =
        build(&discovery.topology, &[], DeviceSet::Mig, options).map_err(|e| e.to_string())?;
    built.problems.extend(discovery.problems);
    Ok(built)
}

fn conforms(spec: &Spec, format: Format) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("spec.{}", format.suffix()));
    std::fs::write(&path, to_text(spec, format).unwrap()).unwrap();
    let read = read_spec(&path, 0).unwrap_or_else(|e| panic!("{format:?}: {e:#}"));
    let names =
        |devices: &[Device]| devices.iter().map(|d| d.name.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(read.devices.keys().cloned().collect::<BTreeSet<_>>(), names(&spec.devices));
    let least = minimum_required_version(&read.cdi_spec).unwrap();
    assert_eq!(Some(least.to_string().trim_start_matches('v')), spec.cdi_version.as_deref());
}

#[test]
fn every_preset_conforms_in_every_name_style() {
    let all = vec![NameStyle::Index, NameStyle::Slot, NameStyle::Uuid];
    let annotated =
        SpecOptions { wants_annotations: true, max_version: Version::V0_6_0, ..options() };
    let variants = [
        options(),
        SpecOptions { names: all, sets_cuda_env: true, ..options() },
        SpecOptions { names: vec![NameStyle::Uuid], ..options() },
        SpecOptions { source: Source::Proc, ..options() },
        SpecOptions { kind: "example.org/gpu-slice.v2".parse().unwrap(), ..annotated.clone() },
        annotated,
    ];
    for (preset, description) in PRESETS {
        for options in &variants {
            let built = built(description, options).unwrap();
            assert_eq!(built.problems, [], "{preset}");
            let spec = built.spec.unwrap();
            conforms(&spec, Format::Json);
            conforms(&spec, Format::Yaml);
        }
    }
}

/// Random GPU of some model, with those of a random list of instances that fit.
fn gpu() -> impl Strategy<Value = String> {
    let picks = prop::collection::vec((any::<prop::sample::Index>(), 0u32..3), 0..9);
    (prop::sample::select(&mig_cdi_sim::MODELS[..]), picks).prop_map(|(model, picks)| {
        let dri = "dri = { card = 1, render = 128 }\n";
        let head = format!("[[gpu]]\nmodel = \"{}\"\n{dri}instances = [", model.key);
        let mut text = head + "]\n";
        for (profile, split) in picks.iter().filter(|_| !model.profiles.is_empty()) {
            let profile = profile.get(model.profiles).name;
            let compute =
                ["", ", compute = [\"1c\"]", ", compute = [\"1c\", \"1c\"]"][*split as usize];
            let instance = format!("{{ profile = \"{profile}\"{compute} }}, ]\n");
            let longer = text.trim_end().trim_end_matches(']').to_owned() + &instance;
            if SimulatedNode::parse(&longer).is_ok() {
                text = longer;
            }
        }
        text
    })
}

fn node() -> impl Strategy<Value = String> {
    (prop::collection::vec(gpu(), 1..6), any::<prop::sample::Index>()).prop_map(|(gpus, rotate)| {
        // Minors that differ from the indices.
        let n = gpus.len();
        let gpus = gpus.iter().enumerate().map(|(i, gpu)| {
            let minor = (i + rotate.index(n)) % n;
            gpu.replacen(
                "[[gpu]]\n",
                &format!("[[gpu]]\nminor = {minor}\npci = \"0000:{:02x}:00.0\"\n", i + 1),
                1,
            )
            .replace("card = 1, render = 128", &format!("card = {i}, render = {}", 128 + i))
        });
        gpus.collect()
    })
}

/// Random damage after which no file has another valid content: removed, cut or overwritten with garbage.
fn damage() -> impl Strategy<Value = (prop::sample::Index, u8, prop::sample::Index)> {
    (any::<prop::sample::Index>(), 0u8..4, any::<prop::sample::Index>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_topology_conforms_and_is_complete(description in node()) {
        let built = built(&description, &options()).unwrap();
        prop_assert_eq!(&built.problems, &[]);
        let node = SimulatedNode::parse(&description).unwrap();
        let expected: Vec<_> = node.gpus.iter().flat_map(|gpu| {
            gpu.instances.iter().flat_map(move |gi| gi.compute.iter().map(move |ci| (gpu, gi, ci)))
        }).collect();
        prop_assert_eq!(built.devices.len(), expected.len());
        let Some(spec) = built.spec else {
            prop_assert!(expected.is_empty());
            return Ok(());
        };
        conforms(&spec, Format::Json);
        conforms(&spec, Format::Yaml);
        for (gpu, gi, ci) in expected {
            // `nv-caps.c:57-148`: minors 0 to 2 are no slices; 135 for each GPU, 9 for each GPU
            // instance.
            let cap = 3 + 135 * gpu.minor + 9 * gi.id;
            let mut numbers = vec![(195, gpu.minor), (508, cap), (508, cap + 1 + ci.id)];
            if gi.profile.name.contains("+gfx") {
                let dri = gpu.dri.unwrap();
                // Each by its own path, and by that of udev's link.
                numbers.extend([(226, dri.card), (226, dri.render)].repeat(2));
            }
            numbers.sort_unstable();
            let uuid = ci.uuid.to_string();
            let entries = spec.devices.iter().filter(|device| {
                device.container_edits.env.iter().any(|v| v.contains(&uuid)) && device.name.as_str() != "all"
            });
            let mut count = 0;
            for entry in entries {
                let nodes = &entry.container_edits.device_nodes;
                let mut found: Vec<_> = nodes.iter().map(|n| (n.major, n.minor)).collect();
                found.sort_unstable();
                prop_assert_eq!(&found, &numbers);
                prop_assert!(nodes.iter().all(|n| n.kind.as_deref() == Some("c") && n.permissions.as_deref() == Some("rw")));
                count += 1;
            }
            prop_assert_eq!(count, 2, "one entry by uuid, one by slot");
        }
    }

    /// With damaged driver files, each written device equals the device that is written without the damage.
    #[test]
    fn damage_never_changes_a_device(description in node(), damages in prop::collection::vec(damage(), 1..4)) {
        let whole = built(&description, &options()).unwrap();
        let tree = mig_cdi_sim::ProcTree::of(&SimulatedNode::parse(&description).unwrap());
        let paths: Vec<_> = tree.files.keys().collect();
        let mut damaged = description.clone();
        for (path, how, place) in damages {
            let path = path.get(&paths);
            let cut = place.index(tree.files[*path].len());
            let how = match how {
                0 => "remove = true".to_owned(),
                1 => "bytes = [255, 254]".to_owned(),
                2 => "size = 2000000".to_owned(),
                _ => format!("truncate = {cut}"),
            };
            damaged += &format!("\n[[faults.files]]\npath = \"{path}\"\n{how}\n");
        }
        let good = whole.spec.iter().flat_map(|spec| &spec.devices).filter(|d| d.name.as_str() != "all");
        let good: Vec<&Device> = good.collect();
        if let Ok(built) = built(&damaged, &options()) {
            for device in built.spec.iter().flat_map(|s| &s.devices).filter(|d| d.name.as_str() != "all") {
                prop_assert!(good.contains(&device), "{} is new or changed", device.name);
            }
            if built.devices.len() < whole.devices.len() {
                prop_assert!(!built.problems.is_empty(), "a device is missing without a problem");
            }
        }
    }
}
