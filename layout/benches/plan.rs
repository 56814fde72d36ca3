//! Measures the time of planning: `cargo bench -p mig-cdi-layout`. One plan, and one for each of 16 GPUs,
//! from random partitionings with random holders to random desired layouts, possible or not. Each time is
//! the least of five: the others measure what else the machine does. Nothing is asserted.

use mig_cdi_layout::{
    Action, CurrentComputeInstance, CurrentInstance, DesiredLayout, GpuCapacity, plan,
};
use mig_cdi_model::{CiId, GiId};
use mig_cdi_sim::MODELS;
use std::time::{Duration, Instant};

const PLANS: usize = 32_000;

fn main() {
    println!("model         | one plan us: median   99%   worst | 16 plans us: worst | possible");
    for model in MODELS.iter().filter(|model| !model.profiles.is_empty()) {
        measure(model.key, &model.capacity());
    }
}

fn roll(state: &mut u64, sides: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % sides
}

/// Adds random instances while they fit, and perhaps one more.
fn random_layout(capacity: &GpuCapacity, state: &mut u64, pins: bool, over: bool) -> DesiredLayout {
    let mut layout = DesiredLayout::default();
    for _ in 0..roll(state, 16) {
        let profile = &capacity.profiles[roll(state, capacity.profiles.len())];
        let place = profile.placements[roll(state, profile.placements.len())];
        let pin =
            if pins && roll(state, 2) == 0 { format!("@{}", place.start) } else { String::new() };
        let part: DesiredLayout = format!("{}{pin}", profile.name).parse().expect("a layout");
        let more = DesiredLayout { instances: [layout.instances.clone(), part.instances].concat() };
        if plan(capacity, &[], &more).is_ok() {
            layout = more;
        } else if over && roll(state, 4) == 0 {
            return more;
        }
    }
    layout
}

fn instances(capacity: &GpuCapacity, state: &mut u64) -> Vec<CurrentInstance> {
    let plan =
        plan(capacity, &[], &random_layout(capacity, state, true, false)).expect("it was possible");
    let mut instances = Vec::new();
    for step in plan.steps {
        let id = GiId(instances.len() as u32);
        match step.action {
            Action::CreateGpuInstance { profile, placement, .. } => {
                let compute = Vec::new();
                instances.push(CurrentInstance {
                    id,
                    profile,
                    placement,
                    holders: Vec::new(),
                    compute,
                });
            }
            Action::CreateComputeInstance { placement, .. } => {
                let is_held = roll(state, 8) == 0;
                let holders = is_held.then(|| "somebody".to_owned()).into_iter().collect();
                let compute = CurrentComputeInstance { id: CiId(0), placement, holders };
                instances.last_mut().expect("made before").compute.push(compute);
            }
            _ => {}
        }
    }
    instances
}

fn measure(key: &str, capacity: &GpuCapacity) {
    let mut state = 7;
    let (mut times, mut possible) = (Vec::new(), 0);
    for _ in 0..PLANS {
        let current = instances(capacity, &mut state);
        let desired = random_layout(capacity, &mut state, current.len().is_multiple_of(2), true);
        let time = || {
            let start = Instant::now();
            let found = plan(capacity, &current, &desired).is_ok();
            (start.elapsed(), found)
        };
        let (least, found) = (0..5).map(|_| time()).min().expect("five");
        times.push(least);
        possible += usize::from(found);
    }
    let sixteen = times.chunks(16).map(|chunk| chunk.iter().sum::<Duration>()).max();
    times.sort_unstable();
    let at = |part: usize| times[(PLANS - 1) * part / 1000].as_micros();
    let (middle, late, worst) = (at(500), at(990), at(1000));
    let sixteen = sixteen.unwrap_or_default().as_micros();
    let share = 100 * possible / PLANS;
    println!("{key:13} | {middle:20} {late:5} {worst:7} | {sixteen:18} | {share:6} %");
}
