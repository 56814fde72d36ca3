//! User-space files of the driver for a container, and the driver capabilities that select them.

use serde::Serialize;
use std::{fmt, str::FromStr};

/// A driver capability: driver files by what a program needs them for, as in `NVIDIA_DRIVER_CAPABILITIES`. It has
/// nothing to do with the capability nodes of MIG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverCapability {
    /// CUDA and `OpenCL`.
    Compute,
    /// nvidia-smi and NVML.
    Utility,
    /// Video encoding and decoding.
    Video,
    /// `OpenGL` and Vulkan.
    Graphics,
    /// X11.
    Display,
    /// NGX: DLSS and similar.
    Ngx,
    /// 32-bit libraries of the other capabilities.
    Compat32,
}

impl DriverCapability {
    /// Every driver capability.
    pub const ALL: [DriverCapability; 7] = [
        DriverCapability::Compute,
        DriverCapability::Utility,
        DriverCapability::Video,
        DriverCapability::Graphics,
        DriverCapability::Display,
        DriverCapability::Ngx,
        DriverCapability::Compat32,
    ];

    /// Returns the name in `NVIDIA_DRIVER_CAPABILITIES`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DriverCapability::Compute => "compute",
            DriverCapability::Utility => "utility",
            DriverCapability::Video => "video",
            DriverCapability::Graphics => "graphics",
            DriverCapability::Display => "display",
            DriverCapability::Ngx => "ngx",
            DriverCapability::Compat32 => "compat32",
        }
    }
}

/// The driver capabilities of a container; empty for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverCapabilities(Vec<DriverCapability>);

/// A text that is not a list of driver capabilities, cut at 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a list of compute, utility, video, graphics, display, ngx, compat32, or all, or none"
)]
pub struct DriverCapabilitiesError(String);

impl DriverCapabilities {
    /// Reports whether a driver capability is requested.
    #[must_use]
    pub fn has(&self, capability: DriverCapability) -> bool {
        self.0.contains(&capability)
    }

    /// Reports whether a driver capability is requested by its name, and not by `all`.
    #[must_use]
    pub fn names(&self, capability: DriverCapability) -> bool {
        self.has(capability) && !DriverCapabilities::all().0.iter().all(|each| self.has(*each))
    }

    /// `all`. 32-bit libraries are rarely installed, so only `compat32` itself requests them.
    fn all() -> DriverCapabilities {
        let all = DriverCapability::ALL.into_iter();
        DriverCapabilities(all.filter(|each| *each != DriverCapability::Compat32).collect())
    }

    /// Reports whether no driver capability is requested, only device nodes.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for DriverCapabilities {
    /// `compute` and `utility`, the default of NVIDIA's container toolkit.
    fn default() -> Self {
        DriverCapabilities(vec![DriverCapability::Compute, DriverCapability::Utility])
    }
}

impl FromStr for DriverCapabilities {
    type Err = DriverCapabilitiesError;

    fn from_str(text: &str) -> Result<Self, DriverCapabilitiesError> {
        match text {
            "none" => return Ok(DriverCapabilities(Vec::new())),
            "all" => return Ok(DriverCapabilities::all()),
            _ => {}
        }
        let find =
            |name: &str| DriverCapability::ALL.into_iter().find(|c| c.as_str() == name.trim());
        let mut found: Vec<_> = text
            .split(',')
            .map(find)
            .collect::<Option<_>>()
            .ok_or_else(|| DriverCapabilitiesError(text.chars().take(80).collect()))?;
        // Sorted, so that equal lists give equal specs.
        found.sort_unstable();
        found.dedup();
        Ok(DriverCapabilities(found))
    }
}

impl fmt::Display for DriverCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<_> = self.0.iter().map(|c| c.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

/// The destination of a driver file in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    // All of them, since the distribution of the image decides which one its loader searches.
    /// Every directory that the container's dynamic loader searches, under these names.
    Library(Vec<String>),
    /// Every directory for 32-bit libraries, under these names.
    Library32(Vec<String>),
    /// This absolute path.
    At(String),
}

/// A file, directory or socket of the driver on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverFile {
    /// Absolute path on the host with every link resolved.
    pub host_path: String,
    /// Path or directories in the container.
    pub destination: Destination,
    /// Whether only rendering needs it: it goes to slices with a graphics profile.
    pub graphics_only: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_users_write_them() {
        let parse = |text: &str| text.parse::<DriverCapabilities>();
        assert_eq!(parse("utility,compute").unwrap(), DriverCapabilities::default());
        assert_eq!(parse("compute, compute").unwrap().to_string(), "compute");
        assert_eq!(parse("all").unwrap().to_string(), "compute,utility,video,graphics,display,ngx");
        assert!(parse("none").unwrap().is_none());
        let names = |text: &str| parse(text).unwrap().names(DriverCapability::Ngx);
        assert_eq!(["ngx", "compute,ngx", "all", "compute"].map(names), [true, true, false, false]);
        for bad in ["", "cuda", "compute,", "compute;utility", "all,none"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
