//! How a GPU is to be divided, as its users write it.
//!
//! ```text
//! wish    = "none" | item *( "," item )
//! item    = [ count "x" ] profile [ "@" start ] [ "(" ( "none" | compute *( "," compute ) ) ")" ]
//! profile = a name, 3g.40gb; or an id as nvidia-smi shows it, 9
//! compute = [ count "x" ] slices "c" [ "@" start ]
//! ```
//!
//! `3x2g.20gb,1g.10gb` is three GPU instances and one. `3g.40gb@4` is one from memory slice 4 on.
//! `3g.40gb(1c,2c)` is one with two compute instances; `1c.3g.40gb` is `3g.40gb(1c)`;
//! `3g.40gb(2c@0)` is one whose compute instance starts at compute slice 0 of it; `3g.40gb(none)` has
//! no compute instance. An item without brackets has one that spans it. Blanks around words do not
//! matter.

use crate::impossible::list;
use mig_cdi_model::Profile;
use std::{cmp::Reverse, fmt, str::FromStr};

/// A text that is not a wish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?}: {cure}")]
pub struct BadWish {
    /// The part that cannot be read, cut at 64 characters.
    pub word: String,
    /// What to write.
    pub cure: &'static str,
}

fn bad(word: &str, cure: &'static str) -> BadWish {
    BadWish { word: word.chars().take(64).collect(), cure }
}

/// A profile as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileWord {
    /// By its name.
    Name(Profile),
    /// By the id that nvidia-smi shows.
    Id(u32),
}

impl fmt::Display for ProfileWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProfileWord::Name(name) => name.fmt(f),
            ProfileWord::Id(id) => id.fmt(f),
        }
    }
}

/// A compute instance that is wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComputeItem {
    /// Compute slices.
    pub slices: u32,
    /// The compute slice of its GPU instance at which it has to start.
    pub start: Option<u32>,
}

impl fmt::Display for ComputeItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}c", self.slices)?;
        self.start.map_or(Ok(()), |start| write!(f, "@{start}"))
    }
}

/// A GPU instance that is wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// As it was written, without its count. It reads back as the same item.
    pub word: String,
    /// What it is to be.
    pub profile: ProfileWord,
    /// The memory slice at which it has to start.
    pub start: Option<u32>,
    /// Its compute instances, largest first and of equally large ones those with a start first;
    /// `None` for one that spans it.
    pub compute: Option<Vec<ComputeItem>>,
}

impl Item {
    /// The item with the word for it.
    #[must_use]
    pub fn new(
        profile: ProfileWord,
        start: Option<u32>,
        compute: Option<Vec<ComputeItem>>,
    ) -> Item {
        let compute = compute.map(sorted);
        let mut word = profile.to_string();
        if let Some(start) = start {
            word += &format!("@{start}");
        }
        if let Some(compute) = &compute {
            word += &if compute.is_empty() {
                "(none)".into()
            } else {
                format!("({})", list(compute, ","))
            };
        }
        Item { word, profile, start, compute }
    }
}

fn sorted(mut compute: Vec<ComputeItem>) -> Vec<ComputeItem> {
    compute.sort_by_key(|c| (Reverse(c.slices), c.start.is_none(), c.start));
    compute
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word)
    }
}

impl FromStr for Item {
    type Err = BadWish;

    /// # Errors
    /// A word that is no item, or one with a count.
    fn from_str(text: &str) -> Result<Item, BadWish> {
        item(text.trim())
    }
}

/// Everything that a GPU is to hold, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// One entry for each GPU instance.
    pub items: Vec<Item>,
}

/// Written so that it reads back as the same wish.
impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.items.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&list(&self.items, ",")),
        }
    }
}

/// More than any GPU holds: what is beyond is a mistake.
const MOST: usize = 64;
const COUNT: &str = "write a count from 1 to 64, such as 3x2g.20gb";
const TOO_MANY: &str = "write at most 64 instances; no GPU holds more";
const ITEM: &str = "write a profile such as 2g.20gb, its id, or none for an empty GPU";
const BRACKET: &str = "write compute instances in one pair of brackets, such as 3g.40gb(1c,2c)";
const COMPUTE: &str =
    "write compute instances as 1c, 2x1c or 1c@2, or none; a whole one needs no brackets";

impl FromStr for Wish {
    type Err = BadWish;

    /// # Errors
    /// A word that the grammar does not know, with what to write.
    fn from_str(text: &str) -> Result<Wish, BadWish> {
        let mut items = Vec::new();
        if text.trim() == "none" {
            return Ok(Wish { items });
        }
        for word in split(text)? {
            let (count, word) = counted(word)?;
            let item = item(word)?;
            if items.len() + count > MOST {
                return Err(bad(word, TOO_MANY));
            }
            items.extend(std::iter::repeat_n(item, count));
        }
        Ok(Wish { items })
    }
}

/// The parts between commas that are not within brackets.
fn split(text: &str) -> Result<Vec<&str>, BadWish> {
    let (mut parts, mut from, mut inside) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match character {
            '(' | ')' if inside == (character == '(') => return Err(bad(text, BRACKET)),
            '(' | ')' => inside = !inside,
            ',' if !inside => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    if inside { Err(bad(text, BRACKET)) } else { Ok(parts) }
}

/// A number in digits only.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `3x…` as 3 and the rest; 1 without a count.
fn counted(word: &str) -> Result<(usize, &str), BadWish> {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = digits.trim_start().strip_prefix('x') else {
        return Ok((1, word));
    };
    match number(&word[..word.len() - digits.len()]) {
        Some(count) if (1..=MOST).contains(&(count as usize)) => Ok((count as usize, rest.trim())),
        _ => Err(bad(word, COUNT)),
    }
}

fn item(word: &str) -> Result<Item, BadWish> {
    let (head, compute) = match word.split_once('(') {
        Some((head, rest)) => {
            let list = rest.strip_suffix(')').ok_or_else(|| bad(word, BRACKET))?;
            (head, Some(compute(list)?))
        }
        None => (word, None),
    };
    let (name, start) = match head.split_once('@') {
        Some((name, start)) => {
            let start = number(start.trim());
            let cure = "write a memory slice after @, such as 3g.40gb@4";
            (name.trim(), Some(start.ok_or_else(|| bad(word, cure))?))
        }
        None => (head.trim(), None),
    };
    let word = word.to_owned();
    if let Some(id) = number(name) {
        return Ok(Item { word, profile: ProfileWord::Id(id), start, compute });
    }
    let name: Profile = name.parse().map_err(|_| bad(&word, ITEM))?;
    let compute = match (name.is_partial(), compute) {
        (false, compute) => compute,
        (true, None) => {
            let slices = name.as_str().split_once("c.").and_then(|(c, _)| number(c));
            slices.map(|slices| vec![ComputeItem { slices, start: None }])
        }
        (true, Some(_)) => return Err(bad(&word, COMPUTE)),
    };
    Ok(Item { word, profile: ProfileWord::Name(name.of_gpu_instance()), start, compute })
}

/// What stands in the brackets: `1c,2x2c@1`.
fn compute(list: &str) -> Result<Vec<ComputeItem>, BadWish> {
    let mut compute = Vec::new();
    if list.trim() == "none" {
        return Ok(compute);
    }
    for word in list.split(',') {
        let (count, rest) = counted(word.trim())?;
        let (slices, start) = match rest.split_once('@') {
            Some((slices, start)) => (slices.trim(), Some(number(start.trim()))),
            None => (rest, None),
        };
        let slices = slices.strip_suffix('c').and_then(number);
        let (Some(slices), None | Some(Some(_))) = (slices, start) else {
            return Err(bad(word, COMPUTE));
        };
        if compute.len() + count > MOST {
            return Err(bad(word, TOO_MANY));
        }
        compute.extend(std::iter::repeat_n(ComputeItem { slices, start: start.flatten() }, count));
    }
    Ok(sorted(compute))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let read = |text: &str| {
            let items = text.parse::<Wish>().unwrap().items;
            let show = |item: Item| {
                let profile = match item.profile {
                    ProfileWord::Name(name) => name.to_string(),
                    ProfileWord::Id(id) => format!("#{id}"),
                };
                let start = item.start.map(|start| format!("@{start}")).unwrap_or_default();
                let compute = item.compute.map(|c| format!("[{}]", list(&c, " ")));
                format!("{profile}{start}{}", compute.unwrap_or_default())
            };
            items.into_iter().map(show).collect::<Vec<_>>().join(" ")
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
            assert_eq!(read(text), means, "{text}");
            let wish: Wish = text.parse().unwrap();
            assert_eq!(wish.to_string().parse(), Ok(wish.clone()), "{text}");
            for Item { profile, start, compute, .. } in wish.items {
                let item = Item::new(profile, start, compute);
                let back: Item = item.word.parse().unwrap();
                assert_eq!(back, item, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_wish_is_named_with_the_cure() {
        for (text, word, cure) in [
            ("", "", ITEM),
            ("1g.10gb,,19", "", ITEM),
            ("1g.10gb,2g", "2g", ITEM),
            ("1g.10gb,none", "none", ITEM),
            ("0x19", "0x19", COUNT),
            ("65x19", "65x19", COUNT),
            ("64x19,20", "20", TOO_MANY),
            ("7g.80gb(64x1c,2x1c)", "2x1c", TOO_MANY),
            ("x19", "x19", COUNT),
            ("-1x19", "-1x19", ITEM),
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
            assert_eq!(text.parse::<Wish>().unwrap_err(), bad(word, cure), "{text}");
        }
        let error = "3g.40gb@-1".parse::<Wish>().unwrap_err().to_string();
        assert_eq!(error, "\"3g.40gb@-1\": write a memory slice after @, such as 3g.40gb@4");
    }
}
