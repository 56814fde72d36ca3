//! Styles of the names of MIG devices.

use serde::{Deserialize, Serialize};

/// Style of the name of a MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NameStyle {
    /// MIG-… as nvidia-smi -L prints it.
    Uuid,
    /// gpu:profile:start, as 0:2g.20gb:4; it vanishes when the layout changes. A compute instance smaller than its GPU instance
    /// adds its own start: 0:1c.3g.40gb:4:1.
    Slot,
    /// gpu:mig, as 0:1. It can become another slice when others come and go.
    Index,
}

impl NameStyle {
    /// The style as a user types it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NameStyle::Uuid => "uuid",
            NameStyle::Slot => "slot",
            NameStyle::Index => "index",
        }
    }
}

impl std::str::FromStr for NameStyle {
    type Err = NameStyleError;

    fn from_str(text: &str) -> Result<NameStyle, NameStyleError> {
        let styles = [NameStyle::Uuid, NameStyle::Slot, NameStyle::Index];
        styles
            .into_iter()
            .find(|style| style.as_str() == text)
            .ok_or_else(|| NameStyleError(text.chars().take(80).collect()))
    }
}

/// A text that names no [`NameStyle`], cut at 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not uuid, slot or index")]
pub struct NameStyleError(String);
