//! Plans of `mig_cdi_layout::plan`, compared with every layout that a simulated GPU accepts.
//!
//! The layouts are not computed here: they are all those that `SimulatedNode::parse` accepts, found by trying. A plan is
//! optimal if none of them needs fewer destroyed instances.

use mig_cdi_layout::{
    Action, CurrentComputeInstance, CurrentInstance, DesiredLayout, GpuCapacity, Impossible,
    ParentInstance, PartitionPlan, plan,
};
use mig_cdi_model::{CiId, GiId, Placement};
use mig_cdi_sim::{MODELS, Model, ProfileRow};
use mig_cdi_tests::all_layouts::{AllLayouts, ProfilePlacement, accepted, members, part};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    sync::OnceLock,
};

/// All layouts of a model. One is a set of placements, as bits.
struct LayoutSpace {
    model: &'static Model,
    capacity: GpuCapacity,
    placements: Vec<ProfilePlacement>,
    layouts: Vec<u32>,
    known: HashSet<u32>,
    /// Layouts by the count of each profile row.
    by_counts: BTreeMap<Vec<usize>, Vec<u32>>,
}

impl LayoutSpace {
    fn of(key: &str) -> LayoutSpace {
        let model = Model::find(key).unwrap();
        let AllLayouts { placements, layouts } = AllLayouts::of(model);
        let known = layouts.iter().copied().collect();
        let mut space = LayoutSpace {
            capacity: model.capacity(),
            by_counts: BTreeMap::new(),
            model,
            placements,
            layouts,
            known,
        };
        for &layout in &space.layouts {
            let counts = space.counts(layout);
            space.by_counts.entry(counts).or_default().push(layout);
        }
        space
    }

    fn counts(&self, layout: u32) -> Vec<usize> {
        let mut counts = vec![0; self.model.profiles.len()];
        members(layout).for_each(|i| counts[self.placements[i].0] += 1);
        counts
    }

    fn row(&self, index: usize) -> &'static ProfileRow {
        &self.model.profiles[self.placements[index].0]
    }

    fn index_of(&self, profile: u32, placement: Placement) -> usize {
        let is = |candidate: &ProfilePlacement| {
            let row = &self.model.profiles[candidate.0];
            row.id == profile && Placement { start: candidate.1, size: row.size } == placement
        };
        self.placements.iter().position(is).expect("a placement that the model has")
    }

    /// Returns the GPU as a driver would report it, each instance with one compute instance. Ids are positions in `placements`.
    fn instances(&self, layout: u32, used: u32) -> Vec<CurrentInstance> {
        let instance = |index: usize| {
            let row = self.row(index);
            let holder = (used >> index & 1 == 1).then(|| format!("holder-{index}"));
            let holders = holder.into_iter().collect();
            let placement = Placement { start: 0, size: row.slices };
            CurrentInstance {
                id: GiId(index as u32),
                profile: row.id,
                placement: Placement { start: self.placements[index].1, size: row.size },
                holders: vec![],
                compute: vec![CurrentComputeInstance { id: CiId(0), placement, holders }],
            }
        };
        members(layout).map(instance).collect()
    }

    fn desired(&self, counts: &[usize]) -> DesiredLayout {
        let rows = self.model.profiles.iter().zip(counts).filter(|(_, count)| **count > 0);
        let words: Vec<_> = rows.map(|(row, count)| format!("{count}x{}", row.name)).collect();
        let text = if words.is_empty() { "none".to_owned() } else { words.join(",") };
        text.parse().unwrap()
    }

    /// Executes the steps for GPU instances, each to a known layout, and returns the last one.
    fn execute(&self, from: u32, plan: &PartitionPlan) -> u32 {
        let mut now = from;
        for step in &plan.steps {
            match step.action {
                Action::DestroyGpuInstance { gi } => {
                    assert_eq!(now >> gi.0 & 1, 1, "{gi} is there");
                    now &= !(1 << gi.0);
                }
                Action::CreateGpuInstance { profile, placement, .. } => {
                    now |= 1 << self.index_of(profile, placement);
                }
                _ => {}
            }
            assert!(self.known.contains(&now), "{now:b} after {}", step.action);
        }
        now
    }
}

fn layout_space(key: &'static str) -> &'static LayoutSpace {
    static SPACES: [OnceLock<LayoutSpace>; 3] = [const { OnceLock::new() }; 3];
    let index = ["a100-80gb", "h100-80gb", "a30"].iter().position(|k| *k == key).unwrap();
    SPACES[index].get_or_init(|| LayoutSpace::of(key))
}

/// Small pseudo-random generator; its seed is printed.
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 32) as u32
}

/// Returns the fewest instances that must be destroyed, by trying every layout with these counts.
fn fewest(targets: &[u32], from: u32, used: u32) -> Option<u32> {
    let reachable = targets.iter().filter(|target| used & !**target == 0);
    reachable.map(|target| (from & !target).count_ones()).min()
}

/// Plans from every layout to every multiset of profiles, with nothing in use; a quarter of them again with some
/// instances in use.
fn every_pair(key: &'static str) {
    let space = layout_space(key);
    let mut seed = 7;
    let (mut pairs, mut possible, mut destroyed, mut all) = (0u64, 0u64, 0u64, 0u64);
    let mut blocked = 0u64;
    for (counts, targets) in &space.by_counts {
        let desired = space.desired(counts);
        for &from in &space.layouts {
            let used = from & random(&mut seed) & random(&mut seed);
            let runs = if random(&mut seed).is_multiple_of(4) { 2 } else { 1 };
            for used in [0, used].into_iter().take(runs) {
                pairs += 1;
                let best = fewest(targets, from, used);
                match plan(&space.capacity, &space.instances(from, used), &desired) {
                    Ok(plan) => {
                        let to = space.execute(from, &plan);
                        assert!(targets.contains(&to), "the layout is reached");
                        assert_eq!(used & !to, 0, "what is in use stays");
                        assert_eq!(plan.destroyed() as u32, (from & !to).count_ones());
                        assert_eq!(Some(plan.destroyed() as u32), best, "{from:b} to {counts:?}");
                        assert_eq!(plan.created() as u32, (to & !from).count_ones());
                        possible += 1;
                        destroyed += plan.destroyed() as u64;
                        all += u64::from(from.count_ones());
                    }
                    Err(Impossible::InUse { blockers, .. }) => {
                        assert_eq!(best, None, "{from:b} {used:b} to {counts:?}");
                        let some = blockers.iter().fold(0, |mask, b| mask | 1 << b.gi.0);
                        assert_eq!(some & !used, 0, "only what is in use blocks");
                        let rest = used & !some;
                        assert!(fewest(targets, from, rest).is_some(), "no others block");
                        for gi in members(some) {
                            assert_eq!(fewest(targets, from, rest | 1 << gi), None, "each blocks");
                        }
                        blocked += 1;
                    }
                    Err(other) => panic!("{from:b} to {counts:?}: {other}"),
                }
            }
        }
    }
    println!(
        "{key}: {} layouts, {} requests, {pairs} plans (seed 7): {possible} possible, {blocked} \
         blocked by use; {destroyed} GPU instances destroyed, {all} by destroying everything",
        space.layouts.len(),
        space.by_counts.len(),
    );
}

#[test]
fn every_a100_layout_is_reached_with_the_fewest_destroyed_instances() {
    every_pair("a100-80gb");
}

#[test]
fn every_a30_layout_is_reached_with_the_fewest_destroyed_instances() {
    every_pair("a30");
}

/// Exactly those multisets of up to four instances of a profile are refused that have no layout.
#[test]
fn a_layout_is_refused_exactly_when_no_placement_exists() {
    for key in ["a100-80gb", "a30"] {
        let space = layout_space(key);
        let (mut yes, mut no) = (0, 0);
        let mut counts = vec![0; space.model.profiles.len()];
        loop {
            let i = (0..counts.len()).find(|&i| {
                counts[i] =
                    (counts[i] + 1) % if space.model.profiles[i].slices > 2 { 4 } else { 5 };
                counts[i] != 0
            });
            if i.is_none() {
                break;
            }
            let found = plan(&space.capacity, &[], &space.desired(&counts));
            assert_eq!(
                found.is_ok(),
                space.by_counts.contains_key(&counts),
                "{counts:?} {found:?}"
            );
            *(if found.is_ok() { &mut yes } else { &mut no }) += 1;
        }
        println!("{key}: {yes} layouts possible, {no} refused");
    }
}

/// The capacity that follows from the driver's maximum counts equals that of the tables.
#[test]
fn capacities_of_all_models_match_the_tables() {
    for model in MODELS.iter().filter(|model| model.key != "limit") {
        assert_eq!(model.capacity().memory_slices(), model.memory_slices, "{}", model.key);
        for row in model.profiles {
            let fits = |count| {
                let desired = format!("{count}x{}", row.name).parse().unwrap();
                plan(&model.capacity(), &[], &desired)
            };
            assert!(fits(row.max).is_ok(), "{} {}", model.key, row.name);
            assert!(fits(row.max + 1).is_err(), "{} {}", model.key, row.name);
        }
    }
}

/// Executes a plan step by step as a driver would. After each step a node description of the GPU must be valid. New
/// instances get ids from 100 up.
fn simulate(
    model: &Model,
    current: &[CurrentInstance],
    plan: &PartitionPlan,
) -> Vec<CurrentInstance> {
    let mut now = current.to_vec();
    for (step, id) in plan.steps.iter().zip(100..) {
        match &step.action {
            Action::DestroyComputeInstance { gi, ci } => {
                let there = now.iter_mut().find(|there| there.id == *gi).unwrap();
                let at = there.compute.iter().position(|c| c.id == *ci).unwrap();
                assert!(there.holders.is_empty());
                assert!(there.compute.remove(at).holders.is_empty());
            }
            Action::DestroyGpuInstance { gi } => {
                let at = now.iter().position(|there| there.id == *gi).unwrap();
                let gone = now.remove(at);
                assert!(!gone.in_use() && gone.compute.is_empty(), "{gone:?}");
            }
            Action::CreateGpuInstance { profile, placement, .. } => {
                let (profile, placement) = (*profile, *placement);
                let id = GiId(id);
                now.push(CurrentInstance {
                    id,
                    profile,
                    placement,
                    holders: vec![],
                    compute: vec![],
                });
            }
            Action::CreateComputeInstance { parent, profile, placement } => {
                let is_parent = |there: &&mut CurrentInstance| match parent {
                    ParentInstance::Existing(gi) => there.id == *gi,
                    ParentInstance::Created(place) => there.placement == *place,
                };
                let there = now.iter_mut().find(is_parent).unwrap();
                let apart = |c: &CurrentComputeInstance| disjoint(c.placement, *placement);
                assert!(there.compute.iter().all(apart), "{there:?} {placement}");
                let offer = model.capacity();
                let offer = &offer.by_id(there.profile).unwrap().compute;
                let offer = offer.iter().find(|offer| offer.id == *profile).unwrap();
                assert!(offer.placements.contains(placement));
                there.compute.push(CurrentComputeInstance {
                    id: CiId(id),
                    placement: *placement,
                    holders: vec![],
                });
            }
        }
        assert!(accepted(model, &describe(model, &now)), "after {}: {now:?}", step.action);
    }
    now
}

fn describe(model: &Model, instances: &[CurrentInstance]) -> Vec<String> {
    let describe = |there: &CurrentInstance| {
        let row = model.profiles.iter().position(|row| row.id == there.profile).unwrap();
        let compute: Vec<_> = there.compute.iter().map(|c| c.placement).collect();
        part(model, (row, there.placement.start), Some(&compute))
    };
    instances.iter().map(describe).collect()
}

fn disjoint(a: Placement, b: Placement) -> bool {
    a.start + a.size <= b.start || b.start + b.size <= a.start
}

/// Returns every placement of compute instances of the row's sizes from a slice on.
fn compute_layouts(row: &ProfileRow, from: u32) -> Vec<Vec<Placement>> {
    if from >= row.slices {
        return vec![vec![]];
    }
    let mut all = compute_layouts(row, from + 1);
    for &size in row.compute_sizes().iter().filter(|size| from + **size <= row.slices) {
        for mut rest in compute_layouts(row, from + size) {
            rest.insert(0, Placement { start: from, size });
            all.push(rest);
        }
    }
    all
}

/// GPU instance of a requested layout: row, start, sizes and starts of its compute instances.
type RequestedInstance = (usize, Option<u32>, Vec<(u32, Option<u32>)>);

/// Pins a random part of the placements; largest first, pinned ones first.
fn pin_some(layout: &[Placement], mut pin: impl FnMut() -> bool) -> Vec<(u32, Option<u32>)> {
    let mut parts: Vec<_> =
        layout.iter().map(|place| (place.size, pin().then_some(place.start))).collect();
    parts.sort_by_key(|(size, start)| (u32::MAX - size, start.is_none(), *start));
    parts
}

/// Returns whether the placements are the requested compute instances, with each pinned one at its start.
fn is_split(places: &[Placement], parts: &[(u32, Option<u32>)]) -> bool {
    let Some(((size, start), rest)) = parts.split_first() else { return places.is_empty() };
    (0..places.len()).any(|i| {
        let fits = places[i].size == *size && start.is_none_or(|start| start == places[i].start);
        fits && is_split(&[&places[..i], &places[i + 1..]].concat(), rest)
    })
}

/// Random GPU and random requested layout.
struct Case {
    from: u32,
    current: Vec<CurrentInstance>,
    requested: Vec<RequestedInstance>,
    text: String,
}

impl Case {
    fn random(space: &LayoutSpace, dice: &[u32]) -> Case {
        let mut dice = dice.iter().cycle();
        let mut random = |sides: usize| *dice.next().unwrap() as usize % sides;
        let from = space.layouts[random(space.layouts.len())];
        let mut current = space.instances(from, 0);
        for there in &mut current {
            let layouts = compute_layouts(space.row(there.id.0 as usize), 0);
            let layout = &layouts[random(layouts.len())];
            let holders = |n: usize| (n == 0).then(|| "somebody".to_owned()).into_iter().collect();
            let compute = layout.iter().zip(0..);
            there.compute = compute
                .map(|(&placement, id)| CurrentComputeInstance {
                    id: CiId(id),
                    placement,
                    holders: holders(random(5)),
                })
                .collect();
            there.holders = holders(random(9));
        }
        let used = used(&current);
        let mut to = random(space.layouts.len());
        if random(3) > 0 {
            while used & !space.layouts[to] != 0 {
                to = (to + 1) % space.layouts.len();
            }
        }
        let mut requested: Vec<RequestedInstance> = Vec::new();
        for index in members(space.layouts[to]) {
            let (row, start) = space.placements[index];
            let layouts = compute_layouts(space.row(index), 0);
            let there = current.iter().find(|there| there.id.0 == index as u32);
            let mut split = layouts[random(layouts.len())].clone();
            if let Some(there) = there.filter(|_| random(4) > 0) {
                split = there.compute.iter().map(|c| c.placement).collect();
            }
            let compute = pin_some(&split, || random(3) == 0);
            requested.push((row, (random(4) == 0).then_some(start), compute));
        }
        if random(5) == 0 {
            requested.push((random(space.model.profiles.len()), None, vec![(1, None)]));
        }
        let words: Vec<_> =
            requested.iter().map(|requested| layout_text(space, requested)).collect();
        let text = if words.is_empty() { "none".to_owned() } else { words.join(",") };
        Case { from, current, requested, text }
    }

    /// Returns the fewest destroyed GPU instances of any solution, by trying all layouts and all assignments.
    fn best(&self, space: &LayoutSpace) -> Option<u32> {
        let mut counts = vec![0; space.model.profiles.len()];
        self.requested.iter().for_each(|requested| counts[requested.0] += 1);
        let used = used(&self.current);
        let targets = space.by_counts.get(&counts)?.iter();
        let targets = targets.filter(|t| used & !**t == 0 && self.assign(space, 0, **t));
        targets.map(|target| (self.from & !target).count_ones()).min()
    }

    fn assign(&self, space: &LayoutSpace, next: usize, free: u32) -> bool {
        let Some((row, start, compute)) = self.requested.get(next) else { return true };
        members(free).any(|index| {
            let (row_there, start_there) = space.placements[index];
            let there = self.current.iter().find(|there| there.id.0 == index as u32);
            row_there == *row
                && start.is_none_or(|start| start == start_there)
                && there.is_none_or(|there| can_hold(space.row(index), there, compute))
                && self.assign(space, next + 1, free & !(1 << index))
        })
    }
}

fn used(current: &[CurrentInstance]) -> u32 {
    current.iter().filter(|there| there.in_use()).fold(0, |mask, there| mask | 1 << there.id.0)
}

fn layout_text(space: &LayoutSpace, (row, start, compute): &RequestedInstance) -> String {
    let start = start.map_or(String::new(), |start| format!("@{start}"));
    let at = |start: &Option<u32>| start.map_or(String::new(), |start| format!("@{start}"));
    let parts: Vec<_> = compute.iter().map(|(size, pin)| format!("{size}c{}", at(pin))).collect();
    let parts = if parts.is_empty() { "none".to_owned() } else { parts.join(",") };
    format!("{}{start}({parts})", space.model.profiles[*row].name)
}

/// Returns whether these compute instances are possible while those in use stay.
fn can_hold(row: &ProfileRow, there: &CurrentInstance, compute: &[(u32, Option<u32>)]) -> bool {
    let held = |c: &&CurrentComputeInstance| !there.holders.is_empty() || !c.holders.is_empty();
    let held: Vec<_> = there.compute.iter().filter(held).map(|c| c.placement).collect();
    let has = |layout: &Vec<Placement>| held.iter().all(|place| layout.contains(place));
    compute_layouts(row, 0).iter().any(|layout| is_split(layout, compute) && has(layout))
}

/// Returns whether each requested instance has one of its own, and none is left over.
fn is_met(space: &LayoutSpace, requested: &[RequestedInstance], left: &[CurrentInstance]) -> bool {
    let Some(((row, start, compute), rest)) = requested.split_first() else {
        return left.is_empty();
    };
    left.iter().enumerate().any(|(at, there)| {
        let places: Vec<_> = there.compute.iter().map(|c| c.placement).collect();
        there.profile == space.model.profiles[*row].id
            && start.is_none_or(|start| start == there.placement.start)
            && is_split(&places, compute)
            && is_met(space, rest, &[&left[..at], &left[at + 1..]].concat())
    })
}

/// The layout of a GPU, written as text and parsed again, needs no change on it, and creates the same on an empty
/// GPU.
fn stays_as_written(space: &LayoutSpace, there: &[CurrentInstance]) -> Result<(), TestCaseError> {
    let desired = DesiredLayout::of(&space.capacity, there);
    let text = desired.to_string();
    prop_assert_eq!(text.parse::<DesiredLayout>(), Ok(desired.clone()), "{}", text);
    let none = plan(&space.capacity, there, &desired).map(|plan| plan.steps);
    prop_assert_eq!(none, Ok(vec![]), "{}", text);
    let recreated = plan(&space.capacity, &[], &desired).unwrap();
    let recreated = simulate(space.model, &[], &recreated);
    prop_assert_eq!(shape(&recreated), shape(there), "{}", text);
    Ok(())
}

/// Returns placements and profiles, without ids and holders.
fn shape(gpu: &[CurrentInstance]) -> Vec<(Placement, u32, Vec<Placement>)> {
    let shape = |there: &CurrentInstance| {
        let mut compute: Vec<_> = there.compute.iter().map(|c| c.placement).collect();
        compute.sort_unstable();
        (there.placement, there.profile, compute)
    };
    let mut shapes: Vec<_> = gpu.iter().map(shape).collect();
    shapes.sort_unstable();
    shapes
}

fn check(space: &LayoutSpace, dice: &[u32]) -> Result<bool, TestCaseError> {
    let case = Case::random(space, dice);
    let desired: DesiredLayout = case.text.parse().unwrap();
    let best = case.best(space);
    let plan = match plan(&space.capacity, &case.current, &desired) {
        Ok(plan) => plan,
        Err(reason) => {
            prop_assert_eq!(best, None, "{} of {:?}: {}", case.text, case.current, reason);
            return Ok(false);
        }
    };
    prop_assert_eq!(Some(plan.destroyed() as u32), best, "{} {:?}", case.text, case.current);
    let after = simulate(space.model, &case.current, &plan);
    for there in &case.current {
        for held in
            there.compute.iter().filter(|c| !c.holders.is_empty() || !there.holders.is_empty())
        {
            let same = |a: &&CurrentInstance| a.id == there.id && a.placement == there.placement;
            prop_assert!(after.iter().find(same).unwrap().compute.contains(held));
        }
    }
    prop_assert!(is_met(space, &case.requested, &after), "{} is met by {:?}", case.text, after);
    for there in [&after, &case.current] {
        stays_as_written(space, there)?;
    }
    let again = mig_cdi_layout::plan(&space.capacity, &after, &desired).unwrap();
    prop_assert!(again.steps.is_empty(), "{} again: {:?}", case.text, again);
    Ok(true)
}

/// With compute instances, pins and holders: a plan exists if trying all solutions finds one, destroys no more
/// instances, and reaches the layout through states that the hardware accepts.
#[test]
fn random_plans_are_optimal_and_can_be_executed() {
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() };
    for key in ["a100-80gb", "h100-80gb", "a30"] {
        let mut runner = TestRunner::new(config.clone());
        let (possible, all) = (Cell::new(0), Cell::new(0));
        let dice = prop::collection::vec(any::<u32>(), 61);
        let tried = runner.run(&dice, |dice| {
            possible.set(possible.get() + usize::from(check(layout_space(key), &dice)?));
            all.set(all.get() + 1);
            Ok(())
        });
        tried.unwrap_or_else(|error| panic!("{key}: {error}"));
        println!("{key}: {} of {} random layouts possible", possible.get(), all.get());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// For any text the answer is a plan or a one-line error.
    #[test]
    fn any_text_gives_a_plan_or_a_one_line_error(text in "([1-9]x)?([0-9]|1[459]|[1-47]g\\.[1248]0gb|1c\\.3g\\.40gb)?[@(),0-9cx+]{0,6}") {
        let space = layout_space("a30");
        for offer in [Model::find("a100-80gb").unwrap().capacity(), space.capacity.clone(), GpuCapacity::default()] {
            let outcome = match text.parse::<DesiredLayout>() {
                Err(error) => error.to_string(),
                Ok(desired) => plan(&offer, &[], &desired).map_or_else(|e| e.to_string(), |_| "yes".into()),
            };
            prop_assert!(!outcome.is_empty() && outcome.lines().count() == 1, "{}", outcome);
        }
    }
}

/// Returns the GPU with a layout, with the compute instances of these numbers in use.
fn gpu(key: &str, desired: &str, held: &[usize]) -> Vec<CurrentInstance> {
    let model = Model::find(key).unwrap();
    let steps = plan(&model.capacity(), &[], &desired.parse().unwrap()).unwrap();
    let mut gpu = simulate(model, &[], &steps);
    for (i, there) in gpu.iter_mut().enumerate() {
        there.id = GiId(i as u32 + 1);
    }
    for (i, compute) in gpu.iter_mut().flat_map(|there| &mut there.compute).enumerate() {
        compute.id = CiId(i as u32);
        compute.holders = held.contains(&i).then(|| format!("web-{i}")).into_iter().collect();
    }
    gpu
}

#[test]
fn refusals_have_the_numbers_and_the_cure() {
    let a100 = "a100-80gb";
    for (key, current, held, desired, reason) in [
        (
            a100,
            "none",
            &[][..],
            "1g.10gb,2g.10gb",
            "2g.10gb is not a profile of this GPU; it has 1g.10gb (19), 1g.10gb+me (20), 1g.20gb (15), 2g.20gb (14), 3g.40gb (9), 4g.40gb (5), 7g.80gb (0)",
        ),
        (
            "l40s",
            "none",
            &[],
            "19",
            "19 is not a profile of this GPU, which has none; enable mig mode",
        ),
        (
            a100,
            "none",
            &[],
            "3x3g.40gb",
            "3 x 3g.40gb needs 12 memory slices of 8; did you mean 2g.20gb (profile 14)?",
        ),
        (a100, "none", &[], "8x19", "8 x 1g.10gb needs 8 compute slices of 7; request fewer"),
        (
            a100,
            "none",
            &[],
            "2x4g.40gb",
            "2 x 4g.40gb needs 8 compute slices of 7; did you mean 3g.40gb (profile 9)?",
        ),
        (
            a100,
            "none",
            &[],
            "2x1g.10gb+me",
            "2 x 1g.10gb+me needs 2 optical flow engines of 1; did you mean 1g.10gb (profile 19)?",
        ),
        (
            a100,
            "none",
            &[],
            "2x3g.40gb,2g.20gb",
            "3g.40gb + 3g.40gb + 2g.20gb need 10 memory slices of 8; 2g.20gb (profile 14) instead of 3g.40gb would fit",
        ),
        (
            "rtx-pro-6000",
            "none",
            &[],
            "1g.24gb+me.all,1g.24gb",
            "1g.24gb+me.all + 1g.24gb need 5 decoders of 4; 1g.24gb (profile 14) instead of 1g.24gb+me.all would fit",
        ),
        (a100, "none", &[], "3g.40gb@2", "3g.40gb@2 cannot start there; it can start at 0, 4"),
        (
            a100,
            "none",
            &[],
            "3g.40gb@0,1g.10gb,2g.20gb@2",
            "no placement is left for 3g.40gb@0 + 2g.20gb@2 side by side: 3g.40gb@0 takes 4 from 0, 2g.20gb@2 takes 2 from 2; without their @ all would fit",
        ),
        (
            a100,
            "none",
            &[],
            "4g.40gb(3c)",
            "4g.40gb(3c) has no such compute instance; it has those of 1, 2, 4 slices",
        ),
        (
            a100,
            "none",
            &[],
            "3g.40gb(2x2c)",
            "the compute instances of 3g.40gb(2x2c) need 4 compute slices side by side of 3; request fewer",
        ),
        (
            a100,
            "none",
            &[],
            "3g.40gb(2c@2)",
            "3g.40gb(2c@2) cannot have its 2c at 2; it can start at 0, 1",
        ),
        (
            a100,
            "none",
            &[],
            "3g.40gb(1c@1,2c)",
            "the compute instances of 3g.40gb(1c@1,2c) do not fit side by side; without their @ they would",
        ),
        (
            a100,
            "none",
            &[],
            "7g.80gb(2x1c@3)",
            "the compute instances of 7g.80gb(2x1c@3) do not fit side by side; without their @ they would",
        ),
        (
            a100,
            "3g.40gb@4(2c@1)",
            &[0],
            "3g.40gb@4(2c@0)",
            "gpu instance 1 (3g.40gb at 4:4) is in use by web-0, and the desired layout has no room for it; wait until it is released, or request less",
        ),
        (
            a100,
            "3g.40gb@4,1g.10gb",
            &[0],
            "7g.80gb",
            "gpu instance 1 (3g.40gb at 4:4) is in use by web-0, and the desired layout has no room for it; wait until it is released, or request less",
        ),
        (
            a100,
            "3g.40gb@4,1g.10gb",
            &[0],
            "4g.40gb",
            "gpu instance 1 (3g.40gb at 4:4) is in use by web-0, and the desired layout has no room for it; add 3g.40gb@4 to the layout, or wait until it is released",
        ),
        (
            a100,
            "3g.40gb@0(1c,2c),1g.10gb@6",
            &[0, 2],
            "none",
            "gpu instance 1 (3g.40gb at 0:4) is in use by web-0, gpu instance 2 (1g.10gb at 6:1) is in use by web-2, and the desired layout has no room for them; add 3g.40gb@0(2c,1c),1g.10gb@6 to the layout, or wait until they are released",
        ),
    ] {
        let offer = Model::find(key).unwrap().capacity();
        let refused = plan(&offer, &gpu_or_empty(key, current, held), &desired.parse().unwrap());
        assert_eq!(refused.unwrap_err().to_string(), reason);
    }
    let mut offer = Model::find(a100).unwrap().capacity();
    offer.profiles[3].max = 1;
    let refused = plan(&offer, &[], &"2x2g.20gb".parse().unwrap()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "2 x 2g.20gb, but the GPU holds 1 at most; did you mean 1g.20gb (profile 15)?"
    );
}

fn gpu_or_empty(key: &str, desired: &str, held: &[usize]) -> Vec<CurrentInstance> {
    if desired == "none" { Vec::new() } else { gpu(key, desired, held) }
}

#[test]
fn steps_are_ordered_and_have_reasons() {
    for (current, held, desired, steps) in [
        ("3g.40gb,1g.10gb", &[][..], "19,9", vec![]),
        (
            "3g.40gb@0(2c,1c),3g.40gb@4",
            &[0],
            "3g.40gb(2c),2x1g.10gb",
            vec![
                "destroy compute instance 2 of gpu instance 2: makes room for 1g.10gb",
                "destroy gpu instance 2: makes room for 1g.10gb",
                "destroy compute instance 1 of gpu instance 1: makes room for 3g.40gb(2c)",
                "create gpu instance 1g.10gb at 4:1: requested as 1g.10gb",
                "create compute instance 0:1 in the gpu instance at 4:1: requested as 1g.10gb",
                "create gpu instance 1g.10gb at 5:1: requested as 1g.10gb",
                "create compute instance 0:1 in the gpu instance at 5:1: requested as 1g.10gb",
            ],
        ),
        (
            "3g.40gb@4",
            &[],
            "3g.40gb(1c,2c)",
            vec![
                "destroy compute instance 0 of gpu instance 1: makes room for 3g.40gb(1c,2c)",
                "create compute instance 0:2 in gpu instance 1: requested as 3g.40gb(1c,2c)",
                "create compute instance 2:1 in gpu instance 1: requested as 3g.40gb(1c,2c)",
            ],
        ),
        (
            "3g.40gb@4(1c@0,1c@2),1g.10gb@0",
            &[1],
            "3g.40gb(1c@1,1c),1g.10gb@0(none)",
            vec![
                "destroy compute instance 0 of gpu instance 1: makes room for 3g.40gb(1c@1,1c)",
                "destroy compute instance 2 of gpu instance 2: makes room for 1g.10gb@0(none)",
                "create compute instance 1:1 in gpu instance 1: requested as 3g.40gb(1c@1,1c)",
            ],
        ),
    ] {
        let offer = Model::find("a100-80gb").unwrap().capacity();
        let plan = plan(&offer, &gpu("a100-80gb", current, held), &desired.parse().unwrap());
        let steps_of = plan.unwrap().steps;
        let outcome: Vec<_> =
            steps_of.iter().map(|s| format!("{}: {}", s.action, s.reason)).collect();
        assert_eq!(outcome, steps, "{current} to {desired}");
    }
}
