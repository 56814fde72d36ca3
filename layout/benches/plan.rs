//! What planning costs: `cargo bench -p mig-cdi-layout`. One plan, and a plan for each of 16 GPUs, from
//! random layouts with random use to random wishes, possible or not. Each time is the least of five: the
//! others measure what else the machine does. Nothing is asserted.

use mig_cdi_layout::{Action, Compute, Instance, Offer, Wish, plan};
use mig_cdi_model::{CiId, GiId};
use mig_cdi_sim::MODELS;
use std::time::{Duration, Instant};

const PLANS: usize = 32_000;

fn main() {
    println!("model         | one plan us: median   99%   worst | 16 plans us: worst | possible");
    for model in MODELS.iter().filter(|model| !model.profiles.is_empty()) {
        measure(model.key, &model.offer());
    }
}

fn roll(state: &mut u64, sides: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % sides
}

/// Words added while they fit, and perhaps one more.
fn wish(offer: &Offer, state: &mut u64, pins: bool, over: bool) -> Wish {
    let mut wish = Wish::default();
    for _ in 0..roll(state, 16) {
        let profile = &offer.profiles[roll(state, offer.profiles.len())];
        let place = profile.placements[roll(state, profile.placements.len())];
        let pin =
            if pins && roll(state, 2) == 0 { format!("@{}", place.start) } else { String::new() };
        let word: Wish = format!("{}{pin}", profile.name).parse().expect("a wish");
        let more = Wish { items: [wish.items.clone(), word.items].concat() };
        if plan(offer, &[], &more).is_ok() {
            wish = more;
        } else if over && roll(state, 4) == 0 {
            return more;
        }
    }
    wish
}

fn instances(offer: &Offer, state: &mut u64) -> Vec<Instance> {
    let plan = plan(offer, &[], &wish(offer, state, true, false)).expect("it was possible");
    let mut instances = Vec::new();
    for step in plan.steps {
        let id = GiId(instances.len() as u32);
        match step.action {
            Action::CreateGpu { profile, placement, .. } => {
                let compute = Vec::new();
                instances.push(Instance { id, profile, placement, holder: None, compute });
            }
            Action::CreateCompute { placement, .. } => {
                let holder = (roll(state, 8) == 0).then(|| "somebody".to_owned());
                let compute = Compute { id: CiId(0), placement, holder };
                instances.last_mut().expect("made before").compute.push(compute);
            }
            _ => {}
        }
    }
    instances
}

fn measure(key: &str, offer: &Offer) {
    let mut state = 7;
    let (mut times, mut possible) = (Vec::new(), 0);
    for _ in 0..PLANS {
        let current = instances(offer, &mut state);
        let wish = wish(offer, &mut state, current.len().is_multiple_of(2), true);
        let time = || {
            let start = Instant::now();
            let found = plan(offer, &current, &wish).is_ok();
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
