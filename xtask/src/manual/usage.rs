//! Parser of hand-written usage texts: headings, with two columns below each.

use crate::{Error, OrMissing, Result};

/// Section of a usage text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UsageSection {
    /// Heading without its colon; none for a paragraph.
    pub(super) heading: Option<String>,
    pub(super) entries: Vec<UsageEntry>,
}

/// Line of two columns. A paragraph is a term without a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UsageEntry {
    pub(super) term: String,
    pub(super) meaning: String,
}

impl UsageEntry {
    /// Returns the meaning as a sentence, with a capital and a full stop.
    pub(super) fn sentence(&self) -> String {
        let mut letters = self.meaning.chars();
        let first = letters.next().map_or(String::new(), |first| first.to_uppercase().collect());
        let stop = if self.meaning.ends_with(['?', '.']) { "" } else { "." };
        format!("{first}{}{stop}", letters.as_str())
    }
}

/// Parses the usage text of a program.
///
/// # Errors
/// When an indented line has no heading or entry above it.
pub(super) fn parse(program: &'static str, text: &str) -> Result<Vec<UsageSection>> {
    let mut sections = Vec::<UsageSection>::new();
    let mut is_new = true;
    for line in text.lines() {
        let (words, indent) = (line.trim(), line.len() - line.trim_start().len());
        match (words, indent, sections.last_mut()) {
            ("", ..) => is_new = true,
            (_, 0, _) if words.ends_with(':') => {
                let heading = words.strip_suffix(':').map(str::to_owned);
                sections.push(UsageSection { heading, entries: Vec::new() });
                is_new = false;
            }
            (_, 0, Some(section)) if !is_new && section.heading.is_none() => {
                let paragraph = &mut section.entries[0].term;
                *paragraph = format!("{paragraph} {words}");
            }
            (_, 0, _) => {
                let entry = UsageEntry { term: words.to_owned(), meaning: String::new() };
                sections.push(UsageSection { heading: None, entries: vec![entry] });
                is_new = false;
            }
            // Entries are indented by two blanks and meanings further, in the texts of clap and in those of the hook.
            (_, 2, Some(section)) => {
                let (term, meaning) = words.split_once("  ").unwrap_or((words, ""));
                let meaning = meaning.trim().to_owned();
                section.entries.push(UsageEntry { term: term.to_owned(), meaning });
            }
            (_, _, Some(section)) => {
                let entry = section.entries.last_mut().or_missing(program, "entry above a line")?;
                entry.meaning = format!("{} {words}", entry.meaning).trim().to_owned();
            }
            (.., None) => {
                return Err(Error {
                    source: program,
                    part: format!("{line:?} is below no heading"),
                });
            }
        }
    }
    Ok(sections)
}

/// Returns the section with this heading.
///
/// # Errors
/// When there is none.
pub(super) fn section<'a>(
    program: &'static str,
    sections: &'a [UsageSection],
    heading: &str,
) -> Result<&'a UsageSection> {
    let section = sections.iter().find(|section| section.heading.as_deref() == Some(heading));
    section.or_missing(program, &format!("section {heading:?} in its usage text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_columns_and_paragraphs() {
        let text = "One\ntwo\n\nWords:\n  a B    what\n           it is\n  c d\n\nThree\n";
        let entry =
            |term: &str, meaning: &str| UsageEntry { term: term.into(), meaning: meaning.into() };
        let sections = parse("test", text).expect("every line has a heading");
        assert_eq!(
            sections[0],
            UsageSection { heading: None, entries: vec![entry("One two", "")] }
        );
        let words = vec![entry("a B", "what it is"), entry("c d", "")];
        assert_eq!(section("test", &sections, "Words").expect("it is there").entries, words);
        assert_eq!(sections[2].entries, [entry("Three", "")]);
    }
}
