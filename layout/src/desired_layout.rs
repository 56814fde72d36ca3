//! Desired layouts as users write them: one line for one GPU.
//!
//! ```text
//! layout   = "none" | instance *( "," instance )
//! instance = [ count "x" ] profile [ "@" start ] [ "(" ( "none" | compute *( "," compute ) ) ")" ]
//! profile  = a name, 3g.40gb; or an id as nvidia-smi mig -lgip prints it, 9
//! compute  = [ count "x" ] slices "c" [ "@" start ]
//! ```
//!
//! `3x2g.20gb,1g.10gb` is four GPU instances. `3g.40gb@4` is one that starts at memory slice 4.
//! `3g.40gb(1c,2c)` is one with two compute instances; `1c.3g.40gb` is `3g.40gb(1c)`; `3g.40gb(2c@0)` is
//! one whose compute instance starts at compute slice 0 of it; `3g.40gb(none)` has no compute instance.
//! An instance without brackets has one compute instance that spans it. Blanks do not matter.

use crate::impossible::list;
use mig_cdi_model::Profile;
use std::{cmp::Reverse, fmt, str::FromStr};

/// A text that is not a desired layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {cause}; {cure}")]
pub struct DesiredLayoutError {
    /// The part that cannot be read, cut at 64 characters.
    pub text: String,
    /// The mistake in it.
    pub cause: &'static str,
    /// Cure: the text to write.
    pub cure: &'static str,
}

/// A kind of mistake: cause and cure.
type Mistake = (&'static str, &'static str);

fn bad(text: &str, (cause, cure): Mistake) -> DesiredLayoutError {
    DesiredLayoutError { text: text.chars().take(64).collect(), cause, cure }
}

/// A profile as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileSelector {
    /// A profile name, such as `3g.40gb`.
    Name(Profile),
    /// A profile id, as `nvidia-smi mig -lgip` prints it.
    Id(u32),
}

impl fmt::Display for ProfileSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProfileSelector::Name(name) => name.fmt(f),
            ProfileSelector::Id(id) => id.fmt(f),
        }
    }
}

/// A desired compute instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DesiredComputeInstance {
    /// Compute slices.
    pub slices: u32,
    /// Compute slice of its GPU instance at which it has to start; `None` for any.
    pub start: Option<u32>,
}

impl fmt::Display for DesiredComputeInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}c", self.slices)?;
        self.start.map_or(Ok(()), |start| write!(f, "@{start}"))
    }
}

/// A desired GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredInstance {
    /// The user's text, without its count. It parses to the same instance.
    pub text: String,
    /// Profile.
    pub profile: ProfileSelector,
    /// Memory slice at which it has to start; `None` for any.
    pub start: Option<u32>,
    /// Compute instances, largest first, and of equal ones those with a start first. `None` for one
    /// that spans the GPU instance.
    pub compute: Option<Vec<DesiredComputeInstance>>,
}

impl DesiredInstance {
    /// Creates an instance with the text that parses to it.
    #[must_use]
    pub fn new(
        profile: ProfileSelector,
        start: Option<u32>,
        compute: Option<Vec<DesiredComputeInstance>>,
    ) -> DesiredInstance {
        let compute = compute.map(sorted);
        let mut text = profile.to_string();
        if let Some(start) = start {
            text += &format!("@{start}");
        }
        if let Some(compute) = &compute {
            text += &if compute.is_empty() {
                "(none)".into()
            } else {
                format!("({})", list(compute, ","))
            };
        }
        DesiredInstance { text, profile, start, compute }
    }
}

fn sorted(mut compute: Vec<DesiredComputeInstance>) -> Vec<DesiredComputeInstance> {
    // NVML creates each at its own start, so their order has no meaning: texts of one meaning become equal here.
    compute.sort_by_key(|c| (Reverse(c.slices), c.start.is_none(), c.start));
    compute
}

impl fmt::Display for DesiredInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for DesiredInstance {
    type Err = DesiredLayoutError;

    /// # Errors
    /// A text that is not one instance without a count.
    fn from_str(text: &str) -> Result<DesiredInstance, DesiredLayoutError> {
        parse_instance(text.trim())
    }
}

/// All GPU instances that a GPU is to have, and no others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredLayout {
    /// GPU instances, in the user's order. Equal ones stand here one by one.
    pub instances: Vec<DesiredInstance>,
}

/// Formats the layout so that it parses to the same layout.
impl fmt::Display for DesiredLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instances.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&list(&self.instances, ",")),
        }
    }
}

/// Most instances of a layout. The driver numbers capabilities for 15 GPU instances of 8 compute
/// instances (`nv-caps.c:57-148`), and no product has more than 7; a larger count is a mistake.
const MAX_INSTANCES: usize = 64;
const COUNT: Mistake =
    ("has no count of 1 or more", "write one, such as 3x2g.20gb, or none for an empty GPU");
const TOO_MANY: Mistake =
    ("requests more than 64 instances, and no GPU holds so many", "request fewer");
const INSTANCE: Mistake =
    ("is not a GPU instance", "write a profile such as 2g.20gb, its id, or none for an empty GPU");
const BRACKET: Mistake = (
    "has unmatched brackets",
    "write compute instances in one pair of brackets, such as 3g.40gb(1c,2c)",
);
const COMPUTE: Mistake = (
    "is not a compute instance",
    "write compute instances as 1c, 2x1c or 1c@2, or none; a whole one needs no brackets",
);
const START: Mistake = ("has no valid start", "write a memory slice after @, such as 3g.40gb@4");

impl FromStr for DesiredLayout {
    type Err = DesiredLayoutError;

    /// # Errors
    /// The first part that the grammar does not allow, with what to write instead.
    fn from_str(text: &str) -> Result<DesiredLayout, DesiredLayoutError> {
        let mut instances = Vec::new();
        if text.trim() == "none" {
            return Ok(DesiredLayout { instances });
        }
        for part in split_at_commas(text)? {
            let (count, rest) = split_count(part)?;
            let instance = parse_instance(rest)?;
            if instances.len() + count > MAX_INSTANCES {
                return Err(bad(text, TOO_MANY));
            }
            instances.extend(std::iter::repeat_n(instance, count));
        }
        Ok(DesiredLayout { instances })
    }
}

/// Splits at commas that are not within brackets: `3g.40gb(1c,2c)` is one part.
fn split_at_commas(text: &str) -> Result<Vec<&str>, DesiredLayoutError> {
    let (mut parts, mut start, mut is_inside) = (Vec::new(), 0, false);
    for (position, character) in text.char_indices() {
        match character {
            '(' | ')' if is_inside == (character == '(') => return Err(bad(text, BRACKET)),
            '(' | ')' => is_inside = !is_inside,
            ',' if !is_inside => {
                parts.push(text[start..position].trim());
                start = position + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    if is_inside { Err(bad(text, BRACKET)) } else { Ok(parts) }
}

/// Parses a number that has nothing but digits.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Splits `3x…` into 3 and the rest; without a count it is 1.
fn split_count(text: &str) -> Result<(usize, &str), DesiredLayoutError> {
    let after_digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = after_digits.trim_start().strip_prefix('x') else {
        return Ok((1, text));
    };
    // No profile name begins with digits and an x, so `3x…` is always a count.
    match number(&text[..text.len() - after_digits.len()]) {
        Some(count) if (1..=MAX_INSTANCES).contains(&(count as usize)) => {
            Ok((count as usize, rest.trim()))
        }
        Some(0) => Err(bad(text, COUNT)),
        None if after_digits.len() == text.len() => Err(bad(text, COUNT)),
        _ => Err(bad(text, TOO_MANY)),
    }
}

fn parse_instance(text: &str) -> Result<DesiredInstance, DesiredLayoutError> {
    let (head, compute) = match text.split_once('(') {
        Some((head, rest)) => {
            let list = rest.strip_suffix(')').ok_or_else(|| bad(text, BRACKET))?;
            (head, Some(parse_compute(list)?))
        }
        None => (text, None),
    };
    let (name, start) = match head.split_once('@') {
        Some((name, start)) => {
            let start = number(start.trim());
            (name.trim(), Some(start.ok_or_else(|| bad(text, START))?))
        }
        None => (head.trim(), None),
    };
    let text = text.to_owned();
    // Ids are not checked here: those that exist differ between GPUs, and only a capacity lists them.
    if let Some(id) = number(name) {
        return Ok(DesiredInstance { text, profile: ProfileSelector::Id(id), start, compute });
    }
    let name: Profile = name.parse().map_err(|_| bad(&text, INSTANCE))?;
    let compute = match (name.is_partial(), compute) {
        (false, compute) => compute,
        // nvidia-smi names a compute instance that does not span its GPU instance 1c.3g.40gb.
        (true, None) => {
            let slices = name.as_str().split_once("c.").and_then(|(c, _)| number(c));
            slices.map(|slices| vec![DesiredComputeInstance { slices, start: None }])
        }
        (true, Some(_)) => return Err(bad(&text, COMPUTE)),
    };
    let profile = ProfileSelector::Name(name.gpu_instance_profile());
    Ok(DesiredInstance { text, profile, start, compute })
}

/// Parses the text within brackets: `1c,2x2c@1`.
fn parse_compute(list: &str) -> Result<Vec<DesiredComputeInstance>, DesiredLayoutError> {
    let mut compute = Vec::new();
    if list.trim() == "none" {
        return Ok(compute);
    }
    for part in list.split(',') {
        let (count, rest) = split_count(part.trim())?;
        let (slices, start) = match rest.split_once('@') {
            Some((slices, start)) => (slices.trim(), Some(number(start.trim()))),
            None => (rest, None),
        };
        let slices = slices.strip_suffix('c').and_then(number);
        let (Some(slices), None | Some(Some(_))) = (slices, start) else {
            return Err(bad(part, COMPUTE));
        };
        if compute.len() + count > MAX_INSTANCES {
            return Err(bad(part, TOO_MANY));
        }
        let instance = DesiredComputeInstance { slices, start: start.flatten() };
        compute.extend(std::iter::repeat_n(instance, count));
    }
    Ok(sorted(compute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_parsed() {
        let parsed = |text: &str| {
            let instances = text.parse::<DesiredLayout>().unwrap().instances;
            let show = |instance: DesiredInstance| {
                let profile = match instance.profile {
                    ProfileSelector::Name(name) => name.to_string(),
                    ProfileSelector::Id(id) => format!("#{id}"),
                };
                let start = instance.start.map(|start| format!("@{start}")).unwrap_or_default();
                let compute = instance.compute.map(|c| format!("[{}]", list(&c, " ")));
                format!("{profile}{start}{}", compute.unwrap_or_default())
            };
            instances.into_iter().map(show).collect::<Vec<_>>().join(" ")
        };
        for (text, means) in [
            ("none", ""),
            ("2x2g.20gb, 1g.10gb", "2g.20gb 2g.20gb 1g.10gb"),
            ("9,9,19", "#9 #9 #19"),
            ("2x19@3", "#19@3 #19@3"),
            ("1g.10gb+me", "1g.10gb+me"),
            ("1c.3g.40gb@4", "3g.40gb@4[1c]"),
            ("3g.40gb@0(1c,2c)", "3g.40gb@0[2c 1c]"),
            ("7g.80gb( 2x1c , 3c )", "7g.80gb[3c 1c 1c]"),
            ("2x1g.24gb+gfx", "1g.24gb+gfx 1g.24gb+gfx"),
            ("3g.40gb@4(1c@2,1c@0)", "3g.40gb@4[1c@0 1c@2]"),
            ("7g.80gb(2x1c, 1c @ 0,3c@4)", "7g.80gb[3c@4 1c@0 1c 1c]"),
            ("2x3g.40gb( none )", "3g.40gb[] 3g.40gb[]"),
        ] {
            assert_eq!(parsed(text), means, "{text}");
            let layout: DesiredLayout = text.parse().unwrap();
            assert_eq!(layout.to_string().parse(), Ok(layout.clone()), "{text}");
            for DesiredInstance { profile, start, compute, .. } in layout.instances {
                let instance = DesiredInstance::new(profile, start, compute);
                let back: DesiredInstance = instance.text.parse().unwrap();
                assert_eq!(back, instance, "{text}");
            }
        }
    }

    #[test]
    fn bad_texts_are_reported_with_the_part_and_the_cure() {
        for (text, part, mistake) in [
            ("", "", INSTANCE),
            ("1g.10gb,,19", "", INSTANCE),
            ("1g.10gb,2g", "2g", INSTANCE),
            ("1g.10gb,none", "none", INSTANCE),
            ("0x19", "0x19", COUNT),
            ("65x19", "65x19", TOO_MANY),
            ("64x19,20", "64x19,20", TOO_MANY),
            ("7g.80gb(64x1c,2x1c)", "2x1c", TOO_MANY),
            ("x19", "x19", COUNT),
            ("-1x19", "-1x19", INSTANCE),
            ("3g.40gb(1c", "3g.40gb(1c", BRACKET),
            ("3g.40gb)1c(", "3g.40gb)1c(", BRACKET),
            ("3g.40gb((1c))", "3g.40gb((1c))", BRACKET),
            ("3g.40gb(1c)@4", "3g.40gb(1c)@4", BRACKET),
            ("3g.40gb()", "", COMPUTE),
            ("3g.40gb(3g)", "3g", COMPUTE),
            ("1c.3g.40gb(2c)", "1c.3g.40gb(2c)", COMPUTE),
            ("1c.3g.40gb(none)", "1c.3g.40gb(none)", COMPUTE),
            ("3g.40gb(none,1c)", "none", COMPUTE),
            ("3g.40gb(1c@)", "1c@", COMPUTE),
            ("3g.40gb(1c@1@2)", "1c@1@2", COMPUTE),
        ] {
            assert_eq!(text.parse::<DesiredLayout>().unwrap_err(), bad(part, mistake), "{text}");
        }
        let error = "3g.40gb@-1".parse::<DesiredLayout>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"3g.40gb@-1\" has no valid start; write a memory slice after @, such as 3g.40gb@4"
        );
    }
}
