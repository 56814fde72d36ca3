//! Profile names as the driver and its users write them, and placements.
//!
//! Nothing here knows which profiles a GPU has: only the driver does.

use serde::Serialize;
use std::{fmt, str::FromStr};

/// The placement of an instance: `size` slices from slice `start` on, displayed as `start:size`.
///
/// A GPU instance is placed on memory slices of its GPU, a compute instance on compute slices of its GPU
/// instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Placement {
    /// First slice, from 0.
    pub start: u32,
    /// Number of slices.
    pub size: u32,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.size)
    }
}

/// A text that is not a MIG profile name, cut at 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MIG profile name such as 1g.10gb, 1c.3g.40gb or 1g.10gb+me")]
pub struct ProfileError(String);

/// The name of a MIG profile: `2g.20gb`, `1c.3g.40gb`, `1g.10gb+me`, `1g.24gb-me`.
///
/// The name is kept as it was given, since the driver decides how it is spelled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Profile {
    name: String,
    /// Whether it is the name of a compute instance that is smaller than its GPU instance.
    #[serde(skip)]
    partial: bool,
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let parse = || {
            // The first part is `2g`, or `1c` of a compute instance that does not span its GPU instance.
            let (first, rest) = text.split_once('.')?;
            let (partial, slices, rest) = match first.strip_suffix('c') {
                Some(compute) => {
                    count(compute)?;
                    let (slices, rest) = rest.split_once('.')?;
                    (true, slices, rest)
                }
                None => (false, first, rest),
            };
            count(slices.strip_suffix('g')?)?;
            let (memory, attributes) = rest.split_once("gb")?;
            // Thor's integrated GPU names its profiles `Xg.0gb`: it has no memory of its own to partition.
            (memory == "0" || count(memory).is_some()).then_some(())?;
            is_attributes(attributes).then_some(())?;
            Some(Profile { name: text.to_owned(), partial })
        };
        parse().ok_or_else(|| ProfileError(text.chars().take(64).collect()))
    }
}

/// Parses a positive number of at most four digits without a sign or a leading zero.
fn count(text: &str) -> Option<u32> {
    // The largest number in a name so far is that of 7g.278gb (GB300).
    let is_plain =
        !text.starts_with('0') && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// Reports whether a text is empty or a list of attributes: `+me` (media engines), `-me` (none of them),
/// `+me.all`, `+gfx` (graphics). A new driver may have others, so any alphanumeric text is one.
fn is_attributes(text: &str) -> bool {
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric());
    match text.strip_prefix(['+', '-']) {
        Some(words) => words.split(['+', '-', '.']).all(word),
        None => text.is_empty(),
    }
}

impl Profile {
    /// Returns the profile at the end of a MIG device's name in NVML:
    /// `NVIDIA A100-SXM4-80GB MIG 1c.3g.40gb`.
    #[must_use]
    pub fn from_device_name(name: &str) -> Option<Profile> {
        // From the right: the product name before it is NVIDIA's to choose. vGPU guests have it too ("GRID A100D-1-10C
        // MIG 1g.9gb").
        name.rsplit_once(" MIG ")?.1.trim().parse().ok()
    }

    /// Computes the name from sizes, for a driver that reports no name: compute slices of the compute
    /// instance and of its GPU instance, memory of the GPU instance in MiB and of the whole GPU in bytes.
    ///
    /// It rounds as NVIDIA/go-nvlib does (`mig_profile.go:384-392`, `getMigMemorySizeGB`): the fraction of
    /// the GPU up to the next eighth, of the GPU's memory in whole GiB. Attributes such as `+me` cannot be
    /// computed.
    #[must_use]
    pub fn from_sizes(
        compute: u32,
        slices: u32,
        memory_mib: u64,
        gpu_bytes: u64,
    ) -> Option<Profile> {
        // Checked arithmetic: sizes are the driver's answer, and an absurd one must not panic.
        let eighths = (memory_mib << 20)
            .checked_mul(8)?
            .checked_add(gpu_bytes)?
            .checked_sub(1)?
            .checked_div(gpu_bytes)?;
        let gib = gpu_bytes.div_ceil(1 << 30);
        // + 4 before / 8 rounds half up.
        let gb = eighths.checked_mul(gib)?.checked_add(4)? / 8;
        let prefix = if compute == slices { String::new() } else { format!("{compute}c.") };
        format!("{prefix}{slices}g.{gb}gb").parse().ok()
    }

    /// Returns the name as the driver writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Returns the profile of the GPU instance: the name without the `1c.` of a compute instance that does
    /// not span it.
    #[must_use]
    pub fn gpu_instance_profile(&self) -> Profile {
        match self.name.split_once("c.") {
            // The first `c.`: a partial name begins with its compute slices.
            Some((_, rest)) if self.partial => Profile { name: rest.to_owned(), partial: false },
            _ => self.clone(),
        }
    }

    /// Reports whether it names a compute instance that is smaller than its GPU instance.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Reports whether the profile can render: `+gfx`.
    #[must_use]
    pub fn has_graphics(&self) -> bool {
        self.name.split(['+', '-']).skip(1).any(|attribute| attribute == "gfx")
    }

    /// Returns the name with `+` replaced, as CDI allows only letters, digits, and `_ - . :` in a device name
    /// (container-device-interface `pkg/parser/parser.go`): `1g.10gb+me` becomes `1g.10gb.me`.
    #[must_use]
    pub fn cdi_safe(&self) -> String {
        self.name.replace('+', ".")
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_generation_are_read() {
        for name in [
            "1g.5gb",
            "7g.80gb",
            "1c.3g.40gb",
            "1g.10gb+me",
            "1g.24gb+me.all",
            "1g.24gb-me",
            "4g.96gb+gfx",
            "7g.278gb",
            "3g.0gb+gfx",
        ] {
            assert_eq!(name.parse::<Profile>().unwrap().as_str(), name);
        }
        for bad in [
            "",
            "g.5gb",
            "1g",
            "1g.5",
            "1g.5gbx",
            "0g.5gb",
            "1g.5gb+",
            "1g.5gb++me",
            "+1g.5gb",
            "01g.5gb",
            "1c.1g",
            "c.1g.5gb",
            "1g.5gb me",
            "1g.99999gb",
            "1g.5gb.me",
            "1g.5gb+me.",
        ] {
            assert!(bad.parse::<Profile>().is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_of_a_name() {
        let profile: Profile = "1c.3g.40gb".parse().unwrap();
        assert!(profile.is_partial());
        assert_eq!(profile.gpu_instance_profile(), "3g.40gb".parse().unwrap());
        let media: Profile = "1g.24gb+me.all".parse().unwrap();
        assert_eq!(media.cdi_safe(), "1g.24gb.me.all");
        assert!(!media.has_graphics());
        assert!("4g.96gb+gfx".parse::<Profile>().unwrap().has_graphics());
    }

    #[test]
    fn device_names_give_the_profile() {
        let of = |name| Profile::from_device_name(name).map(|p| p.to_string());
        assert_eq!(of("NVIDIA A100-SXM4-80GB MIG 1c.3g.40gb").as_deref(), Some("1c.3g.40gb"));
        assert_eq!(of("GRID A100D-1-10C MIG 1g.9gb").as_deref(), Some("1g.9gb"));
        assert_eq!(of("NVIDIA A100-SXM4-80GB"), None);
    }

    /// The sizes that nvidia-smi prints for an A100 80GB and an A30 give the names it prints.
    #[test]
    fn sizes_give_the_names_of_nvidia_smi() {
        let gib = |g: f64| (g * 1024.0) as u64;
        let a100 = 81_920 << 20;
        for (c, g, mem, name) in [
            (1, 1, 9.5, "1g.10gb"),
            (2, 2, 19.5, "2g.20gb"),
            (3, 3, 39.25, "3g.40gb"),
            (1, 3, 39.25, "1c.3g.40gb"),
            (7, 7, 79.0, "7g.80gb"),
        ] {
            assert_eq!(Profile::from_sizes(c, g, gib(mem), a100).unwrap().as_str(), name);
        }
        assert_eq!(Profile::from_sizes(1, 1, gib(5.81), 24_576 << 20).unwrap().as_str(), "1g.6gb");
        assert_eq!(Profile::from_sizes(1, 1, 1, 0), None);
        assert_eq!(Profile::from_sizes(1, 1, u64::MAX >> 23, 1), None);
        assert_eq!(Profile::from_sizes(1, 1, u64::MAX, u64::MAX), None);
    }
}
