//! Usage texts that people wrote: headings, and entries of two columns below them.

/// A heading, and what stands below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Without its colon. None for text that has no heading.
    pub(super) heading: Option<String>,
    pub(super) entries: Vec<Entry>,
}

/// What is explained, and how. Of text without a heading `term` is a paragraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) term: String,
    pub(super) meaning: String,
}

/// Takes a usage text apart.
pub(super) fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::<Block>::new();
    let mut is_new = true;
    for line in text.lines() {
        let (words, indent) = (line.trim(), line.len() - line.trim_start().len());
        match (words, indent, blocks.last_mut()) {
            ("", ..) => is_new = true,
            (_, 0, _) if words.ends_with(':') => {
                let heading = words.strip_suffix(':').map(str::to_owned);
                blocks.push(Block { heading, entries: Vec::new() });
                is_new = false;
            }
            (_, 0, Some(block)) if !is_new && block.heading.is_none() => {
                let paragraph = &mut block.entries[0].term;
                *paragraph = format!("{paragraph} {words}");
            }
            (_, 0, _) => {
                let entry = Entry { term: words.to_owned(), meaning: String::new() };
                blocks.push(Block { heading: None, entries: vec![entry] });
                is_new = false;
            }
            (_, 2, Some(block)) => {
                let (term, meaning) = words.split_once("  ").unwrap_or((words, ""));
                let meaning = meaning.trim().to_owned();
                block.entries.push(Entry { term: term.to_owned(), meaning });
            }
            (_, _, Some(block)) => {
                let entry = block.entries.last_mut().expect("a line goes on with an entry");
                entry.meaning = format!("{} {words}", entry.meaning).trim().to_owned();
            }
            (.., None) => panic!("{line:?} stands below no heading"),
        }
    }
    blocks
}

/// The block of this heading.
///
/// # Panics
/// When there is none.
pub(super) fn block<'a>(blocks: &'a [Block], heading: &str) -> &'a Block {
    let found = blocks.iter().find(|block| block.heading.as_deref() == Some(heading));
    found.unwrap_or_else(|| panic!("the usage text has no {heading:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_paragraphs() {
        let text = "One\ntwo\n\nWords:\n  a B    what\n           it is\n  c d\n\nThree\n";
        let entry =
            |term: &str, meaning: &str| Entry { term: term.into(), meaning: meaning.into() };
        let blocks = parse(text);
        assert_eq!(blocks[0], Block { heading: None, entries: vec![entry("One two", "")] });
        let words = vec![entry("a B", "what it is"), entry("c d", "")];
        assert_eq!(block(&blocks, "Words").entries, words);
        assert_eq!(blocks[2].entries, [entry("Three", "")]);
    }
}
