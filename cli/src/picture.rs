//! A picture of how GPUs are divided: memory slices, the compute slices that go with them, who holds what,
//! what is free and what still fits.
//!
//! Values in, text out: no driver is asked here and nothing is written. A [`Strip`] can only be made of
//! what can be drawn: every memory slice is in one part, and every compute slice of a GPU instance in one cell.

mod legend;
mod strip;
mod style;
mod svg;
mod text;
mod tree;

pub(crate) use strip::Strip;
pub(crate) use style::Style;
pub(crate) use svg::svg;
pub(crate) use text::text;
pub(crate) use tree::tree;

use strip::Part;

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    /// In the order in which they are drawn.
    pub cards: Vec<Card>,
    /// The CDI kind of the devices, `nvidia.com/mig`.
    pub kind: String,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    /// `GPU 0: NVIDIA H100 80GB HBM3 at 0000:19:00.0`.
    pub heading: String,
    /// Who holds all of it.
    pub holders: Vec<String>,
    /// How it is divided.
    pub state: State,
}

/// How a GPU is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Not at all: why, and what to do about it.
    Whole(String),
    /// So.
    Divided(Strip),
    /// Nobody tells where its instances lie: why, and the names of its devices.
    Untold(String, Vec<String>),
}

impl Picture {
    /// A device that a container could be given.
    fn example(&self) -> Option<&str> {
        self.strips().flat_map(Strip::devices).find_map(|device| device.name.as_deref())
    }

    fn strips(&self) -> impl Iterator<Item = &Strip> {
        self.cards.iter().filter_map(|card| match &card.state {
            State::Divided(strip) => Some(strip),
            _ => None,
        })
    }

    fn is_in_use(&self) -> bool {
        self.strips().flat_map(|strip| &strip.parts).any(Part::is_in_use)
    }

    /// A compute slice that no compute instance has.
    fn has_spare(&self) -> bool {
        let mut parts = self.strips().flat_map(|strip| &strip.parts);
        parts.any(|part| match part {
            Part::Free(_) => false,
            Part::Taken(taken) => taken.cells.iter().any(|cell| cell.device.is_none()),
        })
    }
}
