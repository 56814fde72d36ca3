//! The message about a device name that is gone.

use std::fmt;

/// Most names that a message lists: those of a GPU in seven slices, and one more.
const LISTED: usize = 8;

/// A device name that had the form of a slice's, and what there is in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneName {
    /// `0:2g.20gb:0 is gone`.
    pub cause: String,
    /// `GPU 0 now has 0:3g.40gb:0, 0:3g.40gb:4`.
    pub now: String,
    /// GPU in the name.
    pub gpu: Option<u32>,
    /// True for a name by slot.
    pub is_slot: bool,
    /// True when that GPU, or the node for a UUID, has no slice.
    pub is_empty: bool,
}

impl fmt::Display for GoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause, self.now)
    }
}

/// Style of a name, by its form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form<'n> {
    Uuid,
    /// By slot or by index, with the GPU.
    OfGpu {
        gpu: &'n str,
        is_slot: bool,
    },
}

fn form(name: &str) -> Option<Form<'_>> {
    if name.starts_with("MIG-") {
        return Some(Form::Uuid);
    }
    let (gpu, rest) = name.split_once(':').filter(|(gpu, _)| is_number(gpu))?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (first, starts) = parts.split_first()?;
    let is_slot = is_profile(first) && (1..=2).contains(&starts.len());
    // `0:1` is by index. `0:3:0`, of a spec of /proc alone, counts as one too.
    let is_index = is_number(first) && starts.len() <= 1;
    let has_form = (is_slot || is_index) && starts.iter().all(|start| is_number(start));
    has_form.then_some(Form::OfGpu { gpu, is_slot })
}

/// True for a text in the place of the profile in a name by slot, whether or not any GPU has the profile.
fn is_profile(text: &str) -> bool {
    let (_, of_gpu) = split_compute(text);
    of_gpu.split_once("g.").is_some_and(|(slices, _)| is_number(slices))
}

/// Splits the profile in a name by slot: the compute slices of a compute instance that does not span its GPU instance, and the profile of
/// that.
#[must_use]
pub fn split_compute(profile: &str) -> (Option<u32>, &str) {
    let parts = profile.split_once("c.").filter(|(compute, _)| is_number(compute));
    let parts = parts.and_then(|(compute, rest)| Some((compute.parse().ok()?, rest)));
    parts.map_or((None, profile), |(compute, rest)| (Some(compute), rest))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl GoneName {
    /// Describes a name that is not among the `current` names of a node. `None` for a name that has not the form of a slice's.
    /// A UUID does not tell its GPU, so that all slices are listed for it.
    pub fn new<'n>(name: &str, current: impl Iterator<Item = &'n str> + Clone) -> Option<GoneName> {
        let gone = form(name)?;
        let with = |is_wanted: &dyn Fn(Form<'_>) -> bool| -> Vec<&str> {
            current.clone().filter(|name| form(name).is_some_and(is_wanted)).collect()
        };
        let (place, names) = match gone {
            Form::OfGpu { gpu, .. } => {
                let of_gpu =
                    |found: Form<'_>| matches!(found, Form::OfGpu { gpu: own, .. } if own == gpu);
                let same = with(&|found| found == gone);
                let names = if same.is_empty() { with(&of_gpu) } else { same };
                // Where the spec has UUIDs alone, it is not known whose they are.
                let uuids = with(&|found| found == Form::Uuid);
                let has_others = !with(&|found| found != Form::Uuid).is_empty();
                match names.is_empty() && !has_others && !uuids.is_empty() {
                    true => ("the node".to_owned(), uuids),
                    false => (format!("GPU {gpu}"), names),
                }
            }
            Form::Uuid => {
                let slots = with(&|found| matches!(found, Form::OfGpu { is_slot: true, .. }));
                let names =
                    if slots.is_empty() { with(&|found| found == Form::Uuid) } else { slots };
                ("the node".to_owned(), names)
            }
        };
        let more = names.len().saturating_sub(LISTED);
        let listed = match names.is_empty() {
            true => "no slice".to_owned(),
            false => names[..names.len() - more].join(", "),
        };
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        Some(GoneName {
            cause: format!("{name} is gone"),
            now: format!("{place} now has {listed}{more}"),
            gpu: match gone {
                Form::OfGpu { gpu, .. } => gpu.parse().ok(),
                Form::Uuid => None,
            },
            is_slot: matches!(gone, Form::OfGpu { is_slot: true, .. }),
            is_empty: names.is_empty(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gone_name_is_answered_with_those_of_its_gpu() {
        let now =
            ["0:3g.40gb:0", "MIG-a", "0:3g.40gb:4", "MIG-b", "1:7g.80gb:0", "MIG-c", "all", "0:0"];
        for (name, message) in [
            ("0:2g.20gb:0", "0:2g.20gb:0 is gone; GPU 0 now has 0:3g.40gb:0, 0:3g.40gb:4"),
            (
                "0:1c.3g.40gb:4:1",
                "0:1c.3g.40gb:4:1 is gone; GPU 0 now has 0:3g.40gb:0, 0:3g.40gb:4",
            ),
            ("0:1", "0:1 is gone; GPU 0 now has 0:0"),
            ("1:5", "1:5 is gone; GPU 1 now has 1:7g.80gb:0"),
            ("2:1g.10gb:0", "2:1g.10gb:0 is gone; GPU 2 now has no slice"),
            ("MIG-d", "MIG-d is gone; the node now has 0:3g.40gb:0, 0:3g.40gb:4, 1:7g.80gb:0"),
        ] {
            let gone = GoneName::new(name, now.into_iter()).map(|gone| gone.to_string());
            assert_eq!(gone.as_deref(), Some(message));
        }
        for name in [
            "all",
            "",
            ":",
            "a:1",
            "config",
            "GPU-1",
            "0:x:1",
            "0:1g.10gb",
            "0:1g.10gb:",
            "0:1g.10gb:x",
            "0:1:2:3",
            "0:1g.10gb:1:2:3",
            "0:",
            "0:xg.10gb:1",
        ] {
            assert_eq!(GoneName::new(name, now.into_iter()), None, "{name}");
        }
        let uuids = GoneName::new("0:2g.20gb:0", ["MIG-a", "MIG-b"].into_iter()).unwrap();
        assert_eq!(uuids.now, "the node now has MIG-a, MIG-b");
        let many: Vec<_> = (0..12).map(|start| format!("0:1g.10gb:{start}")).collect();
        let gone = GoneName::new("0:2g.20gb:0", many.iter().map(String::as_str)).unwrap();
        assert!(gone.now.ends_with("0:1g.10gb:7 and 4 more"), "{gone}");
    }
}
