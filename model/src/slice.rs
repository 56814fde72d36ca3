//! Facts about a slice that a CDI spec records: an environment variable for the container, and the argument
//! with which the hook verifies at a container's start that the spec is current.
//!
//! Both are needed because the driver reuses ids: after a repartitioning, GPU instance 2 of a GPU can be another
//! tenant's, with the same device nodes and even the same MIG UUID (`gpu_uuid.c:91-245`).

use crate::{CiId, GiId, GpuMinor, GpuUuid, Major, MigUuid, Minor, Placement, Profile};
use std::{fmt, str::FromStr};

/// The ids of a slice in the driver's capability tree, `gpuN/mig/giM/ciC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceId {
    /// GPU minor `N`.
    pub gpu: GpuMinor,
    /// GPU instance id `M`.
    pub gi: GiId,
    /// Compute instance id `C`.
    pub ci: CiId,
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gpu minor {} gi {} ci {}", self.gpu, self.gi, self.ci)
    }
}

/// A text that does not describe a slice in the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct SliceTextError {
    /// Form that was expected.
    pub expected: &'static str,
    /// The text, cut at 120 characters.
    pub text: String,
}

impl SliceTextError {
    fn new(expected: &'static str, text: &str) -> Self {
        SliceTextError { expected, text: text.chars().take(120).collect() }
    }
}

/// Parses a number that has nothing but digits, as the driver writes it.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Parses exactly `N` numbers.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[u32; N]> {
    let parts: Option<Vec<u32>> = text.split(separator).map(number).collect();
    parts?.try_into().ok()
}

/// Parses an optional value: `Some(None)` for the empty text, `None` for a text that is not of its form.
fn optional<T: FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

/// The environment variable that names a slice of a container: `MIG_CDI_DEVICE_0_3_0=MIG-…,2g.20gb,GPU-…`.
///
/// The ids are in its name: engines merge the variables of several devices by name, and two slices in one
/// container must not overwrite each other's. A value that is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceVariable {
    /// Ids of the slice, in the name of the variable.
    pub id: SliceId,
    /// MIG UUID.
    pub uuid: Option<MigUuid>,
    /// Profile.
    pub profile: Option<Profile>,
    /// GPU UUID.
    pub gpu: Option<GpuUuid>,
}

impl DeviceVariable {
    const PREFIX: &str = "MIG_CDI_DEVICE_";

    /// Parses `NAME=value`. Returns `None` for any other variable.
    ///
    /// # Errors
    /// [`SliceTextError`] for a variable with our prefix that is not of this form.
    pub fn parse(text: &str) -> Option<Result<DeviceVariable, SliceTextError>> {
        let rest = text.strip_prefix(DeviceVariable::PREFIX)?;
        let parse = || {
            let (id, value) = rest.split_once('=')?;
            let [gpu, gi, ci] = numbers(id, '_')?;
            let mut values = value.split(',');
            let mut next = || values.next();
            let (uuid, profile, gpu_uuid) = (next()?, next()?, next()?);
            // A fourth value would be of a newer mig-cdi, and of a meaning that is not known here.
            next().is_none().then_some(())?;
            Some(DeviceVariable {
                id: SliceId { gpu: GpuMinor(gpu), gi: GiId(gi), ci: CiId(ci) },
                uuid: optional(uuid)?,
                profile: optional(profile)?,
                gpu: optional(gpu_uuid)?,
            })
        };
        let bad = "MIG_CDI_DEVICE_<gpu minor>_<gi>_<ci>=<mig uuid>,<profile>,<gpu uuid>";
        Some(parse().ok_or_else(|| SliceTextError::new(bad, text)))
    }
}

impl fmt::Display for DeviceVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SliceId { gpu, gi, ci } = self.id;
        write!(f, "{}{gpu}_{gi}_{ci}=", DeviceVariable::PREFIX)?;
        let uuid = self.uuid.as_ref().map(ToString::to_string).unwrap_or_default();
        let profile = self.profile.as_ref().map_or("", Profile::as_str);
        let gpu = self.gpu.as_ref().map(ToString::to_string).unwrap_or_default();
        write!(f, "{uuid},{profile},{gpu}")
    }
}

/// The slice that a spec expects at a device:
/// `0:3:0,nodes=195:508:30:31,gpu=GPU-…,mig=MIG-…,profile=2g.20gb,at=0:2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedSlice {
    /// Ids of the slice.
    pub id: SliceId,
    /// Major number of the GPU's node; its minor is in the id.
    pub gpu_major: Major,
    /// Major number of the capability nodes.
    pub caps_major: Major,
    /// Capability minor of the GPU instance.
    pub gi_cap: Minor,
    /// Capability minor of the compute instance.
    pub ci_cap: Minor,
    /// GPU UUID, where the driver knew it.
    pub gpu: Option<GpuUuid>,
    /// MIG UUID; known from NVML only, like everything below.
    pub mig: Option<MigUuid>,
    /// Profile.
    pub profile: Option<Profile>,
    /// Placement of its GPU instance, in memory slices.
    pub placement: Option<Placement>,
    /// Placement of the compute instance, in compute slices of its GPU instance.
    pub ci_placement: Option<Placement>,
}

impl fmt::Display for ExpectedSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SliceId { gpu, gi, ci } = self.id;
        let ExpectedSlice { gpu_major, caps_major, gi_cap, ci_cap, .. } = self;
        // One order of keys: a spec is rewritten only when its bytes change, and the watchers of engines notice a rewrite.
        write!(f, "{gpu}:{gi}:{ci},nodes={gpu_major}:{caps_major}:{gi_cap}:{ci_cap}")?;
        let mut field = |key, value: Option<&dyn fmt::Display>| {
            value.map_or(Ok(()), |value| write!(f, ",{key}={value}"))
        };
        field("gpu", self.gpu.as_ref().map(|v| v as _))?;
        field("mig", self.mig.as_ref().map(|v| v as _))?;
        field("profile", self.profile.as_ref().map(|v| v as _))?;
        field("at", self.placement.as_ref().map(|v| v as _))?;
        field("ci-at", self.ci_placement.as_ref().map(|v| v as _))
    }
}

impl FromStr for ExpectedSlice {
    type Err = SliceTextError;

    fn from_str(text: &str) -> Result<Self, SliceTextError> {
        let bad = "a slice such as 0:3:0,nodes=195:508:30:31,gpu=GPU-…";
        ExpectedSlice::parse(text).ok_or_else(|| SliceTextError::new(bad, text))
    }
}

impl ExpectedSlice {
    /// Parses each key at most once, and no unknown one: the hook must not start a container for which it
    /// ignored an expectation.
    fn parse(text: &str) -> Option<ExpectedSlice> {
        let mut fields = text.split(',');
        let [gpu, gi, ci] = numbers(fields.next()?, ':')?;
        // Majors and minors first and always: a node with stale numbers opens another driver's device or another
        // tenant's instance.
        let [gpu_major, caps_major, gi_cap, ci_cap] =
            numbers(fields.next()?.strip_prefix("nodes=")?, ':')?;
        let mut slice = ExpectedSlice {
            id: SliceId { gpu: GpuMinor(gpu), gi: GiId(gi), ci: CiId(ci) },
            gpu_major: Major(gpu_major),
            caps_major: Major(caps_major),
            gi_cap: Minor(gi_cap),
            ci_cap: Minor(ci_cap),
            gpu: None,
            mig: None,
            profile: None,
            placement: None,
            ci_placement: None,
        };
        for field in fields {
            let (key, value) = field.split_once('=')?;
            match key {
                "gpu" => once(&mut slice.gpu, value.parse().ok()),
                "mig" => once(&mut slice.mig, value.parse().ok()),
                "profile" => once(&mut slice.profile, value.parse().ok()),
                "at" => once(&mut slice.placement, placement(value)),
                "ci-at" => once(&mut slice.ci_placement, placement(value)),
                _ => None,
            }?;
        }
        Some(slice)
    }
}

/// Sets a field that must not be set yet.
fn once<T>(field: &mut Option<T>, value: Option<T>) -> Option<()> {
    field.replace(value?).is_none().then_some(())
}

fn placement(text: &str) -> Option<Placement> {
    let [start, size] = numbers(text, ':')?;
    Some(Placement { start, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77";
    const MIG: &str = "MIG-b3c02e6f-4949-5c5e-80cc-f09e85bd7e98";

    #[test]
    fn expected_slices_parse_from_their_own_text() {
        for text in [
            "0:3:0,nodes=195:508:30:31".to_owned(),
            format!("0:3:0,nodes=195:508:30:31,gpu={GPU}"),
            format!(
                "7:13:7,nodes=195:508:9999:1,gpu={GPU},mig={MIG},profile=1c.2g.20gb,at=0:2,ci-at=1:1"
            ),
        ] {
            assert_eq!(text.parse::<ExpectedSlice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn unknown_and_repeated_keys_are_refused() {
        for bad in [
            "",
            "0:3:0",
            "0:3,nodes=195:508:30:31",
            "0:3:0,nodes=195:508:30",
            "0:3:0,nodes=195:508:30:31:32",
            "0:3:0,nodes=195:508:30:+31",
            "0:3:0,nodes=195:508:30:31,",
            "0:3:0,nodes=195:508:30:31,at=0:2,at=0:2",
            "0:3:0,nodes=195:508:30:31,colour=red",
            "0:3:0,nodes=195:508:30:31,gpu=GPU-1",
            "0:3:0,nodes=195:508:30:31,profile=",
            "0:3:0,nodes=195:508:30:4294967296",
        ] {
            assert!(bad.parse::<ExpectedSlice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_parse_from_their_own_text() {
        for value in [format!("{MIG},2g.20gb,{GPU}"), format!(",,{GPU}"), ",,".to_owned()] {
            let text = format!("MIG_CDI_DEVICE_0_3_0={value}");
            assert_eq!(DeviceVariable::parse(&text).unwrap().unwrap().to_string(), text);
        }
        assert!(DeviceVariable::parse("PATH=/bin").is_none());
        for bad in
            ["0_3=,,", "0_3_0", "0_3_0=", "0_3_0=,", "0_3_0=,,,", "a_3_0=,,", "0_3_0=MIG-1,,"]
        {
            assert!(
                DeviceVariable::parse(&format!("MIG_CDI_DEVICE_{bad}")).unwrap().is_err(),
                "{bad}"
            );
        }
    }
}
