//! Files of the driver that a container can be given.

use serde::Serialize;
use std::{fmt, str::FromStr};

/// What a program wants the driver for: the classes of `NVIDIA_DRIVER_CAPABILITIES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// CUDA, `OpenCL`.
    Compute,
    /// nvidia-smi and NVML.
    Utility,
    /// Encoding and decoding of video.
    Video,
    /// `OpenGL`, Vulkan.
    Graphics,
    /// X11.
    Display,
    /// DLSS and the like.
    Ngx,
    /// 32-bit libraries of the other classes.
    Compat32,
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 7] = [
        Capability::Compute,
        Capability::Utility,
        Capability::Video,
        Capability::Graphics,
        Capability::Display,
        Capability::Ngx,
        Capability::Compat32,
    ];

    /// The name that users know.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Capability::Compute => "compute",
            Capability::Utility => "utility",
            Capability::Video => "video",
            Capability::Graphics => "graphics",
            Capability::Display => "display",
            Capability::Ngx => "ngx",
            Capability::Compat32 => "compat32",
        }
    }
}

/// Which files of the driver a container gets: none, all, or those of some classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities(Vec<Capability>);

/// A list that names no such classes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a list of compute, utility, video, graphics, display, ngx, compat32, or all, or none"
)]
pub struct BadCapabilities(String);

impl Capabilities {
    /// True when the class is asked for.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.0.contains(&capability)
    }

    /// True when nothing but device nodes is asked for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for Capabilities {
    /// What NVIDIA's toolkit gives without being asked.
    fn default() -> Self {
        Capabilities(vec![Capability::Compute, Capability::Utility])
    }
}

impl FromStr for Capabilities {
    type Err = BadCapabilities;

    fn from_str(text: &str) -> Result<Self, BadCapabilities> {
        match text {
            "none" => return Ok(Capabilities(Vec::new())),
            // 32-bit libraries are for those who ask for them by name.
            "all" => {
                let all = Capability::ALL.into_iter().filter(|c| *c != Capability::Compat32);
                return Ok(Capabilities(all.collect()));
            }
            _ => {}
        }
        let find = |name: &str| Capability::ALL.into_iter().find(|c| c.as_str() == name.trim());
        let mut found: Vec<_> = text
            .split(',')
            .map(find)
            .collect::<Option<_>>()
            .ok_or_else(|| BadCapabilities(text.chars().take(80).collect()))?;
        found.sort_unstable();
        found.dedup();
        Ok(Capabilities(found))
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<_> = self.0.iter().map(|c| c.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

/// Where a file of the driver belongs in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In every directory that the container's dynamic loader searches, under these names.
    Library(Vec<String>),
    /// The same, for 32-bit libraries.
    Library32(Vec<String>),
    /// At this absolute path.
    At(String),
}

/// A file, directory or socket of the driver on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverFile {
    /// Absolute path with every link resolved.
    pub host_path: String,
    /// Where it goes.
    pub place: Place,
    /// Only rendering needs it: for slices with graphics alone.
    pub graphics_only: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_users_write_them() {
        let parse = |text: &str| text.parse::<Capabilities>();
        assert_eq!(parse("utility,compute").unwrap(), Capabilities::default());
        assert_eq!(parse("compute, compute").unwrap().to_string(), "compute");
        assert_eq!(parse("all").unwrap().to_string(), "compute,utility,video,graphics,display,ngx");
        assert!(parse("none").unwrap().is_none());
        for bad in ["", "cuda", "compute,", "compute;utility", "all,none"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
