//! Transitions from every layout of an A100-80GB to every other: the simulated driver executes the plan, and refuses
//! what the real one would.

use mig_cdi_layout::{
    Action, CurrentComputeInstance, CurrentInstance, DesiredInstance, DesiredLayout, GpuCapacity,
    ParentInstance, plan,
};
use mig_cdi_model::{CiId, GiId, Placement};
use mig_cdi_sim::{Model, SimulatedNode};
use mig_cdi_tests::all_layouts::AllLayouts;
use std::{collections::BTreeSet, thread};

/// One layout, as the driver, the planner and the user describe it.
struct LayoutState {
    node: SimulatedNode,
    instances: Vec<CurrentInstance>,
    desired: DesiredLayout,
    placements: BTreeSet<(u32, Placement)>,
}

#[derive(Default)]
struct Totals {
    pairs: u64,
    there: u64,
    destroyed: u64,
}

fn instances(node: &SimulatedNode) -> Vec<CurrentInstance> {
    let compute = |ci: &mig_cdi_sim::SimulatedComputeInstance| CurrentComputeInstance {
        id: CiId(ci.id),
        placement: ci.placement,
        holders: vec![],
    };
    let instance = |gi: &mig_cdi_sim::SimulatedInstance| CurrentInstance {
        id: GiId(gi.id),
        profile: gi.profile.id,
        placement: gi.placement,
        holders: vec![],
        compute: gi.compute.iter().map(compute).collect(),
    };
    node.gpus[0].instances.iter().map(instance).collect()
}

fn layout_state(
    offer: &GpuCapacity,
    empty: &SimulatedNode,
    placements: &[(u32, u32)],
) -> LayoutState {
    let mut node = empty.clone();
    for &(profile, start) in placements {
        let gi = node.create_gpu_instance(0, profile, Some(start)).expect("a layout");
        let slices = offer.by_id(profile).expect("its profile").slices;
        let row = node.gpus[0].instances.iter().find(|there| there.id == gi).expect("made").profile;
        node.create_compute_instance(0, gi, row.compute_id(slices), Some(0)).expect("a whole one");
    }
    let instances = instances(&node);
    let items = instances.iter().map(|there| DesiredInstance::of(offer, there)).collect();
    let placements = instances.iter().map(|there| (there.profile, there.placement)).collect();
    LayoutState { node, instances, desired: DesiredLayout { instances: items }, placements }
}

/// Executes the steps and returns the number of destroyed GPU instances.
fn transition(offer: &GpuCapacity, from: &LayoutState, to: &LayoutState) -> u64 {
    let plan = plan(offer, &from.instances, &to.desired).expect("nothing is in use");
    let mut node = from.node.clone();
    let mut made = Vec::new();
    for step in &plan.steps {
        let done = match &step.action {
            Action::DestroyComputeInstance { gi, ci } => {
                node.destroy_compute_instance(0, gi.0, ci.0)
            }
            Action::DestroyGpuInstance { gi } => node.destroy_gpu_instance(0, gi.0),
            Action::CreateGpuInstance { profile, placement, .. } => node
                .create_gpu_instance(0, *profile, Some(placement.start))
                .map(|gi| made.push((*placement, gi))),
            Action::CreateComputeInstance { parent, placement, .. } => {
                let gi = match parent {
                    ParentInstance::Existing(gi) => gi.0,
                    ParentInstance::Created(at) => {
                        made.iter().find(|(place, _)| place == at).expect("made").1
                    }
                };
                let profile = node.gpus[0].instances.iter().find(|there| there.id == gi);
                let profile = profile.expect("it is there").profile.compute_id(placement.size);
                node.create_compute_instance(0, gi, profile, Some(placement.start)).map(drop)
            }
        };
        done.unwrap_or_else(|e| panic!("{e}: {} of {:?}", step.action, plan.steps));
    }
    let end = instances(&node);
    let placements: BTreeSet<_> =
        end.iter().map(|there| (there.profile, there.placement)).collect();
    assert_eq!(placements, to.placements);
    assert!(end.iter().all(|there| there.compute.len() == 1));
    // An instance that both layouts have stays, with its id.
    let stays =
        |there: &&CurrentInstance| to.placements.contains(&(there.profile, there.placement));
    for kept in from.instances.iter().filter(stays) {
        assert!(end.contains(kept), "{kept:?} was not kept");
    }
    let destroyed = from.placements.difference(&to.placements).count();
    assert_eq!(plan.destroyed(), destroyed);
    destroyed as u64
}

#[test]
fn every_layout_is_reached_from_every_other() {
    let model = Model::find("a100-80gb").expect("a model");
    let offer = model.capacity();
    let empty = SimulatedNode::parse("[[gpu]]\nmodel = \"a100-80gb\"\n").expect("a node");
    let AllLayouts { placements, layouts } = AllLayouts::of(model);
    let of = |layout: &u32| -> Vec<(u32, u32)> {
        let members = (0..32).filter(|i| layout >> i & 1 == 1).map(|i: usize| placements[i]);
        members.map(|(row, start)| (model.profiles[row].id, start)).collect()
    };
    let states: Vec<_> =
        layouts.iter().map(|layout| layout_state(&offer, &empty, &of(layout))).collect();
    let (states, offer) = (&states, &offer);
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let part = |worker: usize| {
        let mut totals = Totals::default();
        for from in states.iter().skip(worker).step_by(workers) {
            for to in states {
                totals.pairs += 1;
                totals.there += from.instances.len() as u64;
                totals.destroyed += transition(offer, from, to);
            }
        }
        totals
    };
    let totals: Vec<Totals> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || part(worker))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker")).collect()
    });
    let sum = |part: fn(&Totals) -> u64| totals.iter().map(part).sum::<u64>();
    let (pairs, there, destroyed) = (sum(|t| t.pairs), sum(|t| t.there), sum(|t| t.destroyed));
    assert_eq!(pairs, (layouts.len() * layouts.len()) as u64);
    println!(
        "{} layouts, {pairs} changes: {destroyed} gpu instances destroyed; {there} by destroying everything",
        layouts.len()
    );
}
