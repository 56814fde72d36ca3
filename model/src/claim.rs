//! What a spec claims of a slice, in two forms: the variable that a container with the slice has, and
//! the one word from which the hook tells at a start whether it is still so.

use crate::{CiId, GiId, GpuMinor, GpuUuid, Major, MigUuid, Minor, Placement, Profile};
use std::{fmt, str::FromStr};

/// Which slice, by the numbers of the driver's capability tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceId {
    /// `N` of `gpuN/mig/giM/ciC`.
    pub gpu: GpuMinor,
    /// `M`.
    pub gi: GiId,
    /// `C`.
    pub ci: CiId,
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gpu minor {} gi {} ci {}", self.gpu, self.gi, self.ci)
    }
}

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct BadClaim {
    what: &'static str,
    text: String,
}

impl BadClaim {
    fn new(what: &'static str, text: &str) -> Self {
        BadClaim { what, text: text.chars().take(120).collect() }
    }
}

/// A number as the driver writes it: digits alone.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[u32; N]> {
    let parts: Option<Vec<u32>> = text.split(separator).map(number).collect();
    parts?.try_into().ok()
}

/// Nothing for the empty text, or a value that must be of its form.
fn optional<T: FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

/// `MIG_CDI_DEVICE_0_3_0=MIG-…,2g.20gb,GPU-…`: the variable that says which slice a container has. The
/// numbers are in its name, so that two slices in one container never overwrite each other's. What is
/// not known is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// In the name.
    pub id: SliceId,
    /// UUID of the MIG device.
    pub uuid: Option<MigUuid>,
    /// Name of its profile.
    pub profile: Option<Profile>,
    /// UUID of its GPU.
    pub gpu: Option<GpuUuid>,
}

impl Variable {
    const PREFIX: &str = "MIG_CDI_DEVICE_";

    /// Reads `NAME=value`. `None` for a variable that is another.
    ///
    /// # Errors
    /// When it is one of ours and not of this form.
    pub fn parse(text: &str) -> Option<Result<Variable, BadClaim>> {
        let rest = text.strip_prefix(Variable::PREFIX)?;
        let parse = || {
            let (id, value) = rest.split_once('=')?;
            let [gpu, gi, ci] = numbers(id, '_')?;
            let mut values = value.split(',');
            let mut next = || values.next();
            let (uuid, profile, gpu_uuid) = (next()?, next()?, next()?);
            next().is_none().then_some(())?;
            Some(Variable {
                id: SliceId { gpu: GpuMinor(gpu), gi: GiId(gi), ci: CiId(ci) },
                uuid: optional(uuid)?,
                profile: optional(profile)?,
                gpu: optional(gpu_uuid)?,
            })
        };
        let bad = "MIG_CDI_DEVICE_<gpu minor>_<gi>_<ci>=<mig uuid>,<profile>,<gpu uuid>";
        Some(parse().ok_or_else(|| BadClaim::new(bad, text)))
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SliceId { gpu, gi, ci } = self.id;
        write!(f, "{}{gpu}_{gi}_{ci}=", Variable::PREFIX)?;
        let uuid = self.uuid.as_ref().map(ToString::to_string).unwrap_or_default();
        let profile = self.profile.as_ref().map_or("", Profile::as_str);
        let gpu = self.gpu.as_ref().map(ToString::to_string).unwrap_or_default();
        write!(f, "{uuid},{profile},{gpu}")
    }
}

/// What a spec says of a slice: `0:3:0,nodes=195:508:30:31,gpu=GPU-…,mig=MIG-…,profile=2g.20gb,at=0:2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which.
    pub id: SliceId,
    /// Major number of the GPU's node; its minor is in the id.
    pub gpu_major: Major,
    /// Major number of the capability nodes.
    pub caps_major: Major,
    /// Capability minor of the GPU instance.
    pub gi_cap: Minor,
    /// Capability minor of the compute instance.
    pub ci_cap: Minor,
    /// UUID of the GPU, where the driver knew it.
    pub gpu: Option<GpuUuid>,
    /// UUID of the MIG device: known from NVML only, as all that follows.
    pub mig: Option<MigUuid>,
    /// Name of its profile.
    pub profile: Option<Profile>,
    /// Memory slices of its GPU instance.
    pub placement: Option<Placement>,
    /// Compute slices of it within the GPU instance.
    pub ci_placement: Option<Placement>,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SliceId { gpu, gi, ci } = self.id;
        let Claim { gpu_major, caps_major, gi_cap, ci_cap, .. } = self;
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

impl FromStr for Claim {
    type Err = BadClaim;

    fn from_str(text: &str) -> Result<Self, BadClaim> {
        let bad = "a slice such as 0:3:0,nodes=195:508:30:31,gpu=GPU-…";
        Claim::parse(text).ok_or_else(|| BadClaim::new(bad, text))
    }
}

impl Claim {
    /// Each key once, and none that is not known: what was not understood was not verified.
    fn parse(text: &str) -> Option<Claim> {
        let mut fields = text.split(',');
        let [gpu, gi, ci] = numbers(fields.next()?, ':')?;
        let [gpu_major, caps_major, gi_cap, ci_cap] =
            numbers(fields.next()?.strip_prefix("nodes=")?, ':')?;
        let mut claim = Claim {
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
                "gpu" => once(&mut claim.gpu, value.parse().ok()),
                "mig" => once(&mut claim.mig, value.parse().ok()),
                "profile" => once(&mut claim.profile, value.parse().ok()),
                "at" => once(&mut claim.placement, placement(value)),
                "ci-at" => once(&mut claim.ci_placement, placement(value)),
                _ => None,
            }?;
        }
        Some(claim)
    }
}

fn once<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    place.replace(value?).is_none().then_some(())
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
    fn claims_survive_being_written_down() {
        for text in [
            "0:3:0,nodes=195:508:30:31".to_owned(),
            format!("0:3:0,nodes=195:508:30:31,gpu={GPU}"),
            format!(
                "7:13:7,nodes=195:508:9999:1,gpu={GPU},mig={MIG},profile=1c.2g.20gb,at=0:2,ci-at=1:1"
            ),
        ] {
            assert_eq!(text.parse::<Claim>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_understood_is_no_claim() {
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
            assert!(bad.parse::<Claim>().is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_name_the_slice() {
        for value in [format!("{MIG},2g.20gb,{GPU}"), format!(",,{GPU}"), ",,".to_owned()] {
            let text = format!("MIG_CDI_DEVICE_0_3_0={value}");
            assert_eq!(Variable::parse(&text).unwrap().unwrap().to_string(), text);
        }
        assert!(Variable::parse("PATH=/bin").is_none());
        for bad in
            ["0_3=,,", "0_3_0", "0_3_0=", "0_3_0=,", "0_3_0=,,,", "a_3_0=,,", "0_3_0=MIG-1,,"]
        {
            assert!(Variable::parse(&format!("MIG_CDI_DEVICE_{bad}")).unwrap().is_err(), "{bad}");
        }
    }
}
