//! Names of CDI: the kind of a spec and the names of its devices. The rules are those of
//! container-device-interface, `pkg/parser/parser.go:119-199`, but for one that is stricter here.

use serde::Serialize;
use std::{fmt, str::FromStr};

/// A name that CDI, or an engine in use, does not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct CdiNameError {
    expected: &'static str,
    text: String,
}

impl CdiNameError {
    /// Keeps the first 80 characters of the text: it comes from a file or a command line, and goes into a message.
    pub(super) fn new(expected: &'static str, text: &str) -> Self {
        CdiNameError { expected, text: text.chars().take(80).collect() }
    }
}

/// `vendor/class`, for example `nvidia.com/mig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    vendor: String,
    class: String,
}

impl Kind {
    /// The class, `mig` of `nvidia.com/mig`.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// The kind of the same vendor with the class `gpu`.
    #[must_use]
    pub fn with_class_gpu(&self) -> Kind {
        // `--gpus` of podman and docker looks up this class (podman pull request 28008, moby `devices_nvidia_linux.go`).
        Kind { vendor: self.vendor.clone(), class: "gpu".to_owned() }
    }

    /// The file name, without suffix, that engines and administrators expect for this kind.
    #[must_use]
    pub fn file_stem(&self) -> String {
        // As `GenerateSpecName` of container-device-interface makes it (`pkg/cdi/spec.go`).
        format!("{}-{}", self.vendor, self.class)
    }
}

impl FromStr for Kind {
    type Err = CdiNameError;

    /// Accepts what CDI accepts, but no part of one character.
    fn from_str(text: &str) -> Result<Self, CdiNameError> {
        let is_part = |part: &str| {
            let inner =
                part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            let first = part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
            let last = part.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric());
            // A part of one character makes the Go library panic with "slice bounds out of range [1:0]" in every
            // release up to 1.1.0, so one such spec stops the engine (container-device-interface issue 320).
            inner && first && last && part.len() > 1
        };
        match text.split_once('/') {
            Some((vendor, class)) if is_part(vendor) && is_part(class) => {
                Ok(Kind { vendor: vendor.to_owned(), class: class.to_owned() })
            }
            _ => Err(CdiNameError::new(
                "a CDI kind: vendor/class, each of two or more letters, digits, '_', '-' or '.', \
                 a letter first and a letter or digit last",
                text,
            )),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.class)
    }
}

/// Name of a device within its kind: letters, digits, `_`, `-`, `.` and `:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeviceName(String);

impl DeviceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeviceName {
    type Err = CdiNameError;

    fn from_str(text: &str) -> Result<Self, CdiNameError> {
        // No '+', so a profile such as 1g.10gb+me goes into a name as 1g.10gb.me (`Profile::cdi_safe`).
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
        let ends = [text.bytes().next(), text.bytes().last()];
        let is_good = text.bytes().all(inner)
            && ends.iter().all(|b| b.is_some_and(|b| b.is_ascii_alphanumeric()));
        match is_good {
            true => Ok(DeviceName(text.to_owned())),
            false => Err(CdiNameError::new(
                "a CDI device name: letters, digits, '_', '-', '.' and ':', a letter or digit at both ends",
                text,
            )),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_stop_engines_are_refused() {
        assert_eq!("nvidia.com/mig".parse::<Kind>().unwrap().to_string(), "nvidia.com/mig");
        for bad in [
            "",
            "nvidia.com",
            "nvidia.com/",
            "/mig",
            "nvidia.com/m",
            "n/mig",
            "1nvidia.com/mig",
            "nvidia.com/1mig",
            "nvidia.com./mig",
            "nvidia.com/mig-",
            "nvidia.com/m ig",
            "a/b/c",
            "nvidia.com/mig=x",
            "nvidia.com/mïg",
        ] {
            assert!(bad.parse::<Kind>().is_err(), "{bad}");
        }
    }

    #[test]
    fn device_names_follow_cdi() {
        for good in ["0", "0:1", "0:1c.3g.40gb:4:1", "MIG-f90f1469", "all", "0:1g.24gb-me:3"] {
            assert_eq!(good.parse::<DeviceName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", ":a", "1g.10gb+me", "a/b", "a b", "a=b", "é"] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad}");
        }
    }
}
