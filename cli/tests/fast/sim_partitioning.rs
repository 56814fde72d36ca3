//! Changes of a simulated driver: instances are created and destroyed by the rules of NVIDIA's MIG user guide.

use mig_cdi_model::Placement;
use mig_cdi_sim::{
    MODELS, Model, PRESETS, ProcessDescription, ProcessKind, Refusal, SimulatedNode,
};
use mig_cdi_tests::all_layouts::AllLayouts;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn node(model: &str, keys: &str) -> SimulatedNode {
    SimulatedNode::parse(&format!("[[gpu]]\nmodel = \"{model}\"\n{keys}\n")).unwrap()
}

/// Small pseudo-random generator.
fn random(state: &mut u64, sides: u32) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as u32 % sides
}

/// Returns profile ids and placements.
fn layout_of(node: &SimulatedNode) -> BTreeSet<(u32, Placement)> {
    node.gpus[0].instances.iter().map(|gi| (gi.profile.id, gi.placement)).collect()
}

fn assert_round_trip(node: &SimulatedNode) {
    let text = node.to_toml();
    let again = SimulatedNode::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(&again, node, "{text}");
}

#[test]
fn creating_instances_reaches_every_layout_and_no_other() {
    for key in ["a100-80gb", "a30", "h100-80gb"] {
        let model = Model::find(key).unwrap();
        let AllLayouts { placements, layouts } = AllLayouts::of(model);
        let placement = |i: usize| {
            let row = &model.profiles[placements[i].0];
            (row.id, Placement { start: placements[i].1, size: row.size })
        };
        let known: BTreeSet<BTreeSet<_>> = layouts
            .iter()
            .map(|l| (0..32).filter(|i| l >> i & 1 == 1).map(placement).collect())
            .collect();
        let mut seen = BTreeSet::from([BTreeSet::new()]);
        let mut todo = vec![node(key, "")];
        while let Some(from) = todo.pop() {
            for &(row, start) in &placements {
                let mut to = from.clone();
                match to.create_gpu_instance(0, model.profiles[row].id, Some(start)) {
                    Ok(_) if seen.insert(layout_of(&to)) => todo.push(to),
                    Ok(_) => {}
                    Err(reason) => assert_eq!(reason, Refusal::InsufficientResources),
                }
            }
        }
        assert_eq!(seen, known, "{key}");
        println!("{key}: {} layouts", seen.len());
    }
}

/// The remaining capacity of each profile can be created, and one more cannot.
#[test]
fn remaining_capacity_is_exact() {
    let mut seed = 11;
    for model in &MODELS {
        for _ in 0..60 {
            let mut node = node(model.key, "");
            for _ in 0..random(&mut seed, 5) * u32::from(!model.profiles.is_empty()) {
                let row = model.profiles[random(&mut seed, model.profiles.len() as u32) as usize];
                let start = row.starts[random(&mut seed, row.starts.len() as u32) as usize];
                let _ = node.create_gpu_instance(0, row.id, Some(start));
            }
            for row in model.profiles {
                let remaining = node.remaining_capacity(0, row.id).unwrap();
                assert!(remaining <= row.max);
                let all = node.possible_placements(0, row.id).unwrap();
                assert_eq!(all.iter().map(|p| p.start).collect::<Vec<_>>(), row.starts);
                let most = most(&node, row.id, row.starts);
                assert_eq!(remaining, most, "{} {} {:?}", model.key, row.name, layout_of(&node));
            }
        }
    }
}

/// Returns the largest number of instances of a profile, found by trying every order of starts.
fn most(node: &SimulatedNode, profile: u32, starts: &[u32]) -> u32 {
    let made = starts.iter().enumerate().filter_map(|(i, &start)| {
        let mut more = node.clone();
        more.create_gpu_instance(0, profile, Some(start)).ok()?;
        Some(1 + most(&more, profile, &starts[i + 1..]))
    });
    made.max().unwrap_or(0)
}

/// NVIDIA's MIG user guide: 19, 19, 14 leave no room for 9 on an A100 where the driver chooses the placements, though
/// a placement of all four exists; and the second of two 3g starts at 0.
#[test]
fn default_placements_match_the_mig_user_guide() {
    let mut a100 = node("a100-40gb", "");
    for profile in [19, 19, 14] {
        a100.create_gpu_instance(0, profile, None).unwrap();
    }
    assert_eq!(a100.create_gpu_instance(0, 9, None), Err(Refusal::InsufficientResources));
    let mut a100 = node("a100-40gb", "");
    for (id, start) in [(1, 4), (2, 0)] {
        assert_eq!(a100.create_gpu_instance(0, 9, None), Ok(id));
        let there = a100.gpus[0].instances.iter().find(|gi| gi.id == id).unwrap();
        assert_eq!(there.placement, Placement { start, size: 4 });
    }
}

/// The driver draws ids from a range for each profile, the lowest free one first, also after a destroy.
#[test]
fn an_instance_id_is_the_lowest_free_of_its_range() {
    for (key, profile, ids) in [
        ("a100-80gb", 19, &[7, 8, 9, 10, 11, 12, 13][..]),
        ("a100-80gb", 14, &[3, 4, 5]),
        ("a100-80gb", 15, &[3, 4, 5, 6]),
        ("a100-80gb", 9, &[1, 2]),
        ("a100-80gb", 5, &[1]),
        ("a100-80gb", 0, &[0]),
        ("a30", 14, &[3, 4, 5, 6]),
        ("a30", 5, &[1, 2]),
    ] {
        let mut node = node(key, "");
        let made: Vec<_> = ids.iter().map(|_| node.create_gpu_instance(0, profile, None)).collect();
        assert_eq!(made, ids.iter().copied().map(Ok).collect::<Vec<_>>(), "{key} {profile}");
        assert_eq!(node.create_gpu_instance(0, profile, None), Err(Refusal::InsufficientResources));
        node.destroy_gpu_instance(0, ids[0]).unwrap();
        assert_eq!(node.create_gpu_instance(0, profile, None), Ok(ids[0]));
        assert_round_trip(&node);
    }
}

#[test]
fn compute_instances_have_placements_ids_and_names() {
    let mut node =
        node("a100-80gb", "instances = [{ profile = \"3g.40gb\", id = 2, compute = [] }]");
    assert_eq!(node.remaining_compute_capacity(0, 2, 0), Ok(3));
    assert_eq!(node.remaining_compute_capacity(0, 2, 1), Ok(1));
    assert_eq!(node.create_compute_instance(0, 2, 0, Some(2)), Ok(0));
    assert_eq!(node.create_compute_instance(0, 2, 0, Some(2)), Err(Refusal::InsufficientResources));
    assert_eq!(node.create_compute_instance(0, 2, 2, None), Err(Refusal::InsufficientResources));
    assert_eq!(node.create_compute_instance(0, 2, 1, Some(2)), Err(Refusal::InvalidArgument));
    assert_eq!(node.create_compute_instance(0, 2, 3, None), Err(Refusal::NotSupported));
    assert_eq!(node.create_compute_instance(0, 7, 0, None), Err(Refusal::NotFound));
    assert_eq!(node.create_compute_instance(0, 2, 1, None), Ok(1));
    let places: Vec<_> = node
        .possible_compute_placements(0, 2, 1)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(places, ["0:2", "1:2"]);
    let names: Vec<_> = node.gpus[0].instances[0].compute.iter().map(|ci| &ci.name[22..]).collect();
    assert_eq!(names, ["MIG 1c.3g.40gb", "MIG 2c.3g.40gb"]);
    assert_round_trip(&node);
    assert_eq!(node.destroy_compute_instance(0, 2, 0), Ok(()));
    assert_eq!(node.destroy_compute_instance(0, 2, 0), Err(Refusal::NotFound));
    let described =
        "instances = [{ profile = \"3g.40gb\", id = 2, compute = [{ profile = \"2c\", id = 1 }] }]";
    assert_eq!(node, self::node("a100-80gb", described));
}

#[test]
fn compute_profile_ids_match_the_driver() {
    for (key, profile, id, size) in [
        ("gh200-96gb", "1g.24gb", 7, 1),
        ("gh200-96gb", "1g.12gb", 0, 1),
        ("h100-80gb", "1g.20gb", 0, 1),
        ("h100-80gb", "4g.40gb", 3, 4),
        ("h100-80gb", "7g.80gb", 4, 7),
    ] {
        let row = Model::find(key).unwrap().profile(profile).unwrap();
        assert_eq!((row.compute_id(size), row.compute_size(id)), (id, Some(size)), "{profile}");
    }
}

#[test]
fn instances_in_use_are_not_destroyed() {
    let keys = "instances = [{ profile = \"3g.40gb\", id = 1, compute = [\"1c@2\", \"1c\"] }]\n\
                processes = [{ pid = 9, gi = 1, ci = 0 }]";
    let mut node = node("a100-80gb", keys);
    assert_eq!(node.destroy_compute_instance(0, 1, 0), Err(Refusal::InUse));
    assert_eq!(node.destroy_compute_instance(0, 1, 1), Ok(()));
    assert_eq!(node.destroy_gpu_instance(0, 1), Err(Refusal::InUse));
    assert_eq!(node.set_mig_mode(0, false), Err(Refusal::InUse));
    node.gpus[0].processes =
        vec![ProcessDescription { pid: 9, gi: None, ci: None, kind: ProcessKind::Compute }];
    assert_eq!(node.create_gpu_instance(0, 19, None), Err(Refusal::InUse));
    assert_eq!(node.destroy_compute_instance(0, 1, 0), Ok(()));
    assert_eq!(node.destroy_gpu_instance(0, 1), Err(Refusal::InUse));
    node.gpus[0].processes.clear();
    assert_eq!(node.destroy_gpu_instance(0, 1), Ok(()));
    assert_eq!(node.destroy_gpu_instance(0, 1), Err(Refusal::NotFound));
}

#[test]
fn mig_mode_changes_as_the_architecture_allows() {
    let process = "processes = [{ pid = 9 }]";
    for (key, keys, on, answer, after) in [
        ("a100-80gb", "", false, Ok(true), (false, false)),
        ("a100-80gb", "held = true", false, Ok(false), (true, false)),
        ("a100-80gb", process, false, Ok(false), (true, false)),
        ("a30", "mig = false", true, Ok(true), (true, true)),
        ("a30", "mig = false\nheld = true", true, Ok(false), (false, true)),
        ("a30", "mig = false\nmig-pending = true", false, Ok(true), (false, false)),
        ("a30", "instances = [{ profile = \"1g.6gb\" }]", false, Err(Refusal::InUse), (true, true)),
        ("h100-80gb", "held = true", false, Ok(true), (false, false)),
        ("h100-80gb", process, false, Err(Refusal::InUse), (true, true)),
        ("l40s", "", true, Err(Refusal::NotSupported), (false, false)),
        ("a30", "lost = true", false, Err(Refusal::GpuLost), (true, true)),
    ] {
        let mut node = node(key, keys);
        assert_eq!(node.set_mig_mode(0, on), answer, "{key} {keys}");
        assert_eq!(
            (node.gpus[0].is_mig_enabled, node.gpus[0].is_mig_enabled_after_reset),
            after,
            "{key} {keys}"
        );
        assert_round_trip(&node);
    }
    let mut off = node("a30", "mig = false");
    assert_eq!(off.create_gpu_instance(0, 14, None), Err(Refusal::NotSupported));
    assert_eq!(off.create_gpu_instance(1, 14, None), Err(Refusal::InvalidArgument));
    assert_eq!(off.remaining_capacity(0, 14), Err(Refusal::NotSupported));
    assert_eq!(
        off.possible_placements(0, 14).unwrap().len(),
        4,
        "nvml.h: whether MIG is on or not"
    );
}

#[test]
fn bad_compute_instances_and_processes_are_refused_with_the_reason() {
    let gi =
        |compute: &str| format!("instances = [{{ profile = \"3g.40gb\", compute = [{compute}] }}]");
    for (keys, reason) in [
        (gi("\"1c@3\""), "gpu 0: compute instance \"1c\" of 3g.40gb cannot start at 3"),
        (gi("\"1c@1\", \"2c@0\""), "gpu 0: two compute instances of 3g.40gb have slice 0"),
        (gi("\"1c@1\", \"2c\""), "gpu 0: no 2 slices side by side are left in 3g.40gb"),
        (gi("\"1c@x\""), "line 3: no slice after the @ of \"1c@x\""),
        (
            gi("{ profile = \"1c\", colour = 1 }"),
            "line 3: unknown field `colour`, expected one of `profile`, `start`, `id`",
        ),
        (
            gi("{ profile = \"1c\", id = 8 }"),
            "gpu 0: no compute instance has id 8; the last one is 7",
        ),
        (
            gi("{ profile = \"1c\", id = 1 }, { profile = \"1c\", id = 1 }"),
            "gpu 0: two compute instances of 3g.40gb have id 1",
        ),
        (
            "processes = [{ pid = 1, gi = 3 }]".into(),
            "gpu 0: process 1 is in gpu instance 3, which does not exist",
        ),
        ("processes = [{ pid = 1, ci = 3 }]".into(), "gpu 0: process 1 has ci 3 and no gi"),
        (
            gi("") + "\nprocesses = [{ pid = 1, gi = 1, ci = 0 }]",
            "gpu 0: process 1 is in compute instance 0 of gpu instance 1, which does not exist",
        ),
    ] {
        let refused = SimulatedNode::parse(&format!("[[gpu]]\nmodel = \"a100-80gb\"\n{keys}\n"));
        assert_eq!(refused.unwrap_err().to_string(), reason);
    }
}

#[test]
fn presets_and_faulty_nodes_round_trip() {
    for (_, text) in PRESETS {
        assert_round_trip(&SimulatedNode::parse(text).unwrap());
    }
    let golden = mig_cdi_tests::project().join("tests/golden/faults");
    let mut count = 0;
    for case in std::fs::read_dir(golden).unwrap() {
        let text = std::fs::read_to_string(case.unwrap().path().join("node.toml")).unwrap();
        count +=
            usize::from(SimulatedNode::parse(&text).map(|node| assert_round_trip(&node)).is_ok());
    }
    assert!(count >= 20, "{count} nodes");
}

/// Returns a random node description with every key.
fn any_node(seed: &mut u64, texts: &[String]) -> String {
    let quoted = |text: &String| {
        let escaped = |c: char| format!("\\U{:08X}", u32::from(c));
        format!("\"{}\"", text.chars().map(escaped).collect::<String>())
    };
    let text = |seed: &mut u64| quoted(&texts[random(seed, texts.len() as u32) as usize]);
    let mut toml = format!("description = {}\ndriver = {}\n", text(seed), text(seed));
    toml += &format!(
        "majors.drm = {}\nmajors.nvidia-caps = {}\n",
        random(seed, 500),
        random(seed, 500)
    );
    toml += &format!("faults.names-without-profile = {}\n", random(seed, 2) == 0);
    toml += &format!("faults.missing-nodes = [{}, {}]\n", text(seed), text(seed));
    toml += &format!(
        "faults.files = [{{ path = {}, text = {}, bytes = [1, 255], remove = {} }}]\n",
        text(seed),
        text(seed),
        random(seed, 2) == 0
    );
    for index in 0..random(seed, 4) {
        let model = &MODELS[random(seed, MODELS.len() as u32) as usize];
        toml += &format!("[[gpu]]\nmodel = \"{}\"\nminor = {}\n", model.key, 31 - index);
        toml += &format!("held = {}\nlost = {}\n", random(seed, 2) == 0, random(seed, 9) == 0);
        toml += &format!("processes = [{{ pid = {}, kind = \"mps\" }}]\n", random(seed, 99));
        if random(seed, 3) == 0 {
            toml += &format!(
                "mig-pending = {}\ndri = {{ card = 1, render = 130 }}\n",
                random(seed, 2) == 0
            );
        }
    }
    toml
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// After random changes, the description of a node parses into the same node.
    #[test]
    fn a_changed_node_is_written_as_it_is(seed in any::<u64>(), texts in prop::collection::vec(any::<String>(), 4)) {
        let mut seed = seed;
        let mut node = SimulatedNode::parse(&any_node(&mut seed, &texts)).unwrap();
        assert_round_trip(&node);
        for _ in 0..40 {
            if node.gpus.is_empty() {
                break;
            }
            let gpu = random(&mut seed, node.gpus.len() as u32) as usize;
            if random(&mut seed, 3) == 0 {
                node.gpus[gpu].processes.clear();
            }
            let (gi, any) = (random(&mut seed, 15), random(&mut seed, 22));
            let start = (random(&mut seed, 2) == 0).then(|| random(&mut seed, 8));
            let _ = match random(&mut seed, 9) {
                0..=2 => node.create_gpu_instance(gpu, any, start).map(drop),
                3..=5 => node.create_compute_instance(gpu, gi, any % 8, start).map(drop),
                6 => node.destroy_gpu_instance(gpu, gi),
                7 => node.destroy_compute_instance(gpu, gi, any % 8),
                _ => node.set_mig_mode(gpu, any % 2 == 0).map(drop),
            };
            assert_round_trip(&node);
        }
    }
}
