//! `mig-devices`: which instances a GPU is to have.

use super::{
    BadLayouts,
    yaml::{Field, Node, Value, bad, shown},
};
use mig_cdi_layout::{ComputeItem, Item, ProfileWord, Wish};
use mig_cdi_model::Profile;
use std::collections::BTreeMap;

/// The instances that these counts are read as.
pub(super) fn of_counts(counts: &BTreeMap<String, usize>) -> Vec<Item> {
    let (mut items, mut parts) = (Vec::new(), Parts::default());
    for (word, count) in counts {
        match word.parse::<Profile>() {
            Ok(profile) if profile.is_partial() => parts.add(&profile, *count),
            Ok(profile) => {
                let item = Item::new(ProfileWord::Name(profile), None, None);
                items.extend(std::iter::repeat_n(item, *count));
            }
            Err(_) => {}
        }
    }
    items.extend(parts.packed());
    items
}

/// More than any GPU holds: a number behind it is a mistake.
const MOST: usize = 64;

/// The wish that a map of counts or a list of words says.
pub(super) fn wish(node: &Node) -> Result<Wish, BadLayouts> {
    let mut wish = Wish::default();
    match &node.value {
        Value::Map(map) => {
            let mut all = 0;
            let mut parts = Parts::default();
            for field in map {
                let (word, line) = (&field.key, field.line);
                let count = count(field)?;
                all += count;
                enough(all, line)?;
                match word.parse::<Profile>() {
                    Ok(profile) if profile.is_partial() => parts.add(&profile, count),
                    _ => wish.items.extend(std::iter::repeat_n(item(word, line)?, count)),
                }
            }
            if all == 0 && !map.is_empty() {
                return Err(node.bad("all counts are 0; write {} for no instance"));
            }
            wish.items.extend(parts.packed());
        }
        Value::List(list) => {
            for node in list {
                wish.items.extend(words(node)?);
                enough(wish.items.len(), node.line)?;
            }
        }
        Value::Text { .. } => {
            let cure = "write a count for each profile, or a list of words such as [3g.40gb@4]";
            return Err(node.bad(format!("mig-devices is {}; {cure}", node.kind())));
        }
    }
    Ok(wish)
}

fn enough(count: usize, line: usize) -> Result<(), BadLayouts> {
    match count > MOST {
        true => Err(bad(line, format!("more than {MOST} instances; no gpu holds so many"))),
        false => Ok(()),
    }
}

fn count(Field { key, value: node, .. }: &Field) -> Result<usize, BadLayouts> {
    let digits = |text: &str| {
        let plain = text == "0" || !text.starts_with('0');
        let plain = plain && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten().filter(|count| *count <= MOST)
    };
    let count = match &node.value {
        Value::Text { text, plain: true } => digits(text),
        _ => None,
    };
    let message = || format!("{} of {}; write a count from 0 to {MOST}", node.kind(), shown(key));
    count.ok_or_else(|| node.bad(message()))
}

fn item(word: &str, line: usize) -> Result<Item, BadLayouts> {
    let item: Item = word.parse().map_err(|error| bad(line, format!("{error}")))?;
    // How many compute instances there are is the count of 1c.3g.40gb; with a place, it would be how
    // many GPU instances.
    let head = word.split(['@', '(']).next().unwrap_or_default().trim();
    if head.parse::<Profile>().is_ok_and(|profile| profile.is_partial()) {
        let cure = format!("write {}", Item::new(item.profile, item.start, item.compute));
        return Err(bad(line, format!("{} counts what? {cure}", shown(word))));
    }
    Ok(item)
}

fn words(node: &Node) -> Result<Vec<Item>, BadLayouts> {
    let Value::Text { text, .. } = &node.value else {
        return Err(node.bad(format!("{} in a list of words such as 3g.40gb@4", node.kind())));
    };
    let wish = text.parse::<Wish>().map_err(|error| {
        let cut = text.contains('(') != text.contains(')');
        let quotes = if cut { "; a word with a comma needs quotes" } else { "" };
        node.bad(format!("{error}{quotes}"))
    })?;
    Ok(wish.items)
}

/// Compute instances that are counted without saying in which GPU instances they are.
#[derive(Default)]
struct Parts {
    /// By profile of GPU instances, in the order of the file: compute slices of each.
    of: Vec<(Profile, Vec<u32>)>,
}

impl Parts {
    fn add(&mut self, profile: &Profile, count: usize) {
        let gpu = profile.of_gpu_instance();
        let slices = number(profile.as_str());
        let at = self.of.iter().position(|(there, _)| *there == gpu).unwrap_or_else(|| {
            self.of.push((gpu, Vec::new()));
            self.of.len() - 1
        });
        self.of[at].1.extend(std::iter::repeat_n(slices, count));
    }

    /// In as few GPU instances as can be, largest first. mig-parted fills a GPU instance until
    /// nothing more fits and then makes the next, trying other orders when the GPU is full
    /// (`pkg/mig/config/config.go`, `SetMigConfig`): whenever it succeeds, this fits too.
    fn packed(self) -> impl Iterator<Item = Item> {
        self.of.into_iter().flat_map(|(profile, mut sizes)| {
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let room = number(profile.as_str());
            let mut homes: Vec<Vec<u32>> = Vec::new();
            for size in sizes {
                let fits = |home: &&mut Vec<u32>| home.iter().sum::<u32>() + size <= room;
                match homes.iter_mut().find(fits) {
                    Some(home) => home.push(size),
                    None => homes.push(vec![size]),
                }
            }
            homes.into_iter().map(move |home| {
                let part = |slices| ComputeItem { slices, start: None };
                let compute = (home != [room]).then(|| home.into_iter().map(part).collect());
                Item::new(ProfileWord::Name(profile.clone()), None, compute)
            })
        })
    }
}

/// The number that a name begins with: `3` of `3g.40gb`, `1` of `1c.3g.40gb`.
pub(super) fn number(name: &str) -> u32 {
    let end = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
    name[..end].parse().unwrap_or(0)
}
