//! All layouts of a simulated GPU: every set of GPU instances that `SimulatedNode::parse` accepts, found by trying.

use mig_cdi_model::Placement;
use mig_cdi_sim::{Model, SimulatedNode};
use std::fmt::Write as _;

/// Row of the model's profile table, and a start.
pub type ProfilePlacement = (usize, u32);

/// All layouts of a model. One is a set of placements, as bits.
#[derive(Debug)]
pub struct AllLayouts {
    /// Placements by bit.
    pub placements: Vec<ProfilePlacement>,
    /// Layouts, the empty one first.
    pub layouts: Vec<u32>,
}

impl AllLayouts {
    /// Finds all layouts of a model.
    #[must_use]
    pub fn of(model: &Model) -> AllLayouts {
        let rows = model.profiles.iter().enumerate();
        let placements: Vec<ProfilePlacement> =
            rows.flat_map(|(i, row)| row.starts.iter().map(move |&start| (i, start))).collect();
        let mut layouts = vec![0u32];
        let mut next = 0;
        // Every subset of an accepted layout is accepted, so adding in one order reaches all.
        while next < layouts.len() {
            let from = layouts[next];
            for placement in (32 - from.leading_zeros()) as usize..placements.len() {
                let layout = from | 1 << placement;
                let parts = members(layout).map(|i| part(model, placements[i], None));
                if accepted(model, &parts.collect::<Vec<_>>()) {
                    layouts.push(layout);
                }
            }
            next += 1;
        }
        AllLayouts { placements, layouts }
    }
}

/// Returns the bits of a set.
pub fn members(layout: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |i| layout >> i & 1 == 1)
}

/// Returns the text of an instance in a node description.
#[must_use]
pub fn part(
    model: &Model,
    (row, start): ProfilePlacement,
    compute: Option<&[Placement]>,
) -> String {
    let mut text = format!("{{ profile = \"{}\", start = {start}", model.profiles[row].name);
    if let Some(compute) = compute {
        let names: Vec<_> = compute.iter().map(|place| format!("\"{}c\"", place.size)).collect();
        let _ = write!(text, ", compute = [{}]", names.join(","));
    }
    text + " }"
}

/// Returns whether a GPU can have these instances of a node description.
#[must_use]
pub fn accepted(model: &Model, parts: &[String]) -> bool {
    let (key, parts) = (model.key, parts.join(","));
    SimulatedNode::parse(&format!("[[gpu]]\nmodel = \"{key}\"\ninstances = [{parts}]\n")).is_ok()
}
