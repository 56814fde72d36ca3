//! Parses a YAML document into a tree with line numbers.
//!
//! Only what layout files need: texts, lists, and maps with texts as keys. Tags and merge keys are refused.
//! Aliases are expanded; the total expansion is bounded, as is nesting, since `apply` reads these files as root.
//! The events of granit-parser are used and not serde: a serde visitor sees neither whether a text was quoted nor
//! an alias, nor a tag.

use super::{LayoutsError, SourceLocation};
use granit_parser::{Event, Parser, ScalarStyle};
use mig_cdi_model::is_unprintable;
use std::collections::HashMap;

/// Largest weight of a document with its aliases expanded: the length of each text, and [`VALUE_WEIGHT`] for each
/// value. The file that NVIDIA ships weighs a hundredth of it.
const MAX_WEIGHT: usize = 4 << 20;
/// Weight of a value without its text.
const VALUE_WEIGHT: usize = 16;
/// Most lists and maps inside each other. A layout file has five.
const MAX_DEPTH: usize = 16;

/// A value and the line where it begins, from 1.
#[derive(Debug, Clone)]
pub(super) struct YamlNode {
    pub line: usize,
    pub value: YamlValue,
    /// Weight with everything inside.
    weight: usize,
}

#[derive(Debug, Clone)]
pub(super) enum YamlValue {
    /// A scalar. Only a plain one, without quotes, can be a number, a boolean or null.
    Text {
        text: String,
        is_plain: bool,
    },
    List(Vec<YamlNode>),
    /// A map, in the order of the file; no key occurs twice.
    Map(Vec<YamlField>),
}

/// A key with its line and its value.
#[derive(Debug, Clone)]
pub(super) struct YamlField {
    pub key: String,
    pub line: usize,
    pub value: YamlNode,
}

/// Quotes a text for a message, cut at 64 characters.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

impl YamlNode {
    pub fn bad(&self, cause: impl Into<String>) -> LayoutsError {
        bad(self.line, cause)
    }

    /// Describes the value for a message.
    pub fn kind(&self) -> String {
        match &self.value {
            YamlValue::Text { text, .. } => quoted(text),
            YamlValue::List(_) => "a list".to_owned(),
            YamlValue::Map(_) => "a map".to_owned(),
        }
    }
}

pub(super) fn bad(line: usize, cause: impl Into<String>) -> LayoutsError {
    LayoutsError::new(SourceLocation::Line(line), cause)
}

/// Parses the only document of a text; `None` for a text without one.
pub(super) fn read(text: &str) -> Result<Option<YamlNode>, LayoutsError> {
    let last = last_line(text);
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let cause = error.info().replace(is_unprintable, " ");
            bad(error.marker().line().min(last), format!("not YAML: {cause}"))
        })?;
        let event = match event {
            // A value that is not written arrives as a plain `~`, but takes no place in the file
            // (granit-parser `Event::empty_scalar`); mistakes are reported as they are written.
            Event::Scalar(_, style, anchor, tag) if span.start.index() == span.end.index() => {
                Event::Scalar("".into(), style, anchor, tag)
            }
            event => event,
        };
        tree.take(event, span.start.line().min(last))?;
    }
    Ok(tree.root)
}

/// Returns the number of the last line. The parser reports what is missing at the end in the line after it, which
/// does not exist. In YAML a carriage return alone ends a line too (YAML 1.2, 5.4).
fn last_line(text: &str) -> usize {
    let text = text.replace("\r\n", "\n");
    let breaks = ['\n', '\r'];
    text.strip_suffix(breaks).unwrap_or(&text).split(breaks).count()
}

/// A list or a map that is not complete yet.
struct Open {
    node: YamlNode,
    anchor: usize,
    /// Key whose value comes next, with its line.
    key: Option<(String, usize)>,
    /// Lines of all keys so far.
    keys: HashMap<String, usize>,
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, YamlNode>,
    /// Weight of everything that was read, and copied for anchors and aliases.
    weight: usize,
    root: Option<YamlNode>,
}

impl Tree {
    fn take(&mut self, event: Event, line: usize) -> Result<(), LayoutsError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                untagged(line, tag.is_some())?;
                let (weight, is_plain) = (VALUE_WEIGHT + text.len(), style == ScalarStyle::Plain);
                let value = YamlValue::Text { text: text.into_owned(), is_plain };
                self.close(YamlNode { line, value, weight }, anchor, weight)
            }
            Event::SequenceStart(_, anchor, tag) => {
                untagged(line, tag.is_some())?;
                self.begin(line, YamlValue::List(Vec::new()), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                untagged(line, tag.is_some())?;
                self.begin(line, YamlValue::Map(Vec::new()), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.close(open.node, open.anchor, VALUE_WEIGHT),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let (copy, weight) = (node.clone(), node.weight);
                    self.close(copy, 0, weight)
                }
                // An anchor is known once its value is complete, so no document can contain itself.
                None => Err(bad(line, "an alias inside its own anchor").with_cure("write it out")),
            },
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(bad(line, "a second document").with_cure("write one per file"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, line: usize, value: YamlValue, anchor: usize) -> Result<(), LayoutsError> {
        if self.open.len() == MAX_DEPTH {
            let cause = format!("more than {MAX_DEPTH} lists and maps inside each other");
            return Err(bad(line, cause));
        }
        let node = YamlNode { line, value, weight: VALUE_WEIGHT };
        self.open.push(Open { node, anchor, key: None, keys: HashMap::new() });
        Ok(())
    }

    /// Adds a complete value to the list or map that it is in. `new` is the weight that was not counted before:
    /// the content of a list was, the copy for an alias was not.
    fn close(&mut self, node: YamlNode, anchor: usize, new: usize) -> Result<(), LayoutsError> {
        // Ten aliases of ten aliases and so on would fill the memory from a file of a few lines.
        let weight = node.weight;
        self.weight += new + if anchor > 0 { weight } else { 0 };
        if self.weight > MAX_WEIGHT {
            let cause = "too much in one file, with aliases written out";
            return Err(node.bad(cause).with_cure("split it"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.node.weight += weight;
        match &mut open.node.value {
            YamlValue::List(list) => list.push(node),
            YamlValue::Map(map) => match open.key.take() {
                Some((key, line)) => map.push(YamlField { key, line, value: node }),
                None => {
                    let line = node.line;
                    open.key = Some((key(node, &mut open.keys)?, line));
                }
            },
            YamlValue::Text { .. } => {}
        }
        Ok(())
    }
}

/// Refuses a tag, such as `!!str`: it would change the type of a value, and no layout file needs one.
fn untagged(line: usize, tagged: bool) -> Result<(), LayoutsError> {
    if tagged { Err(bad(line, "a tag").with_cure("omit it")) } else { Ok(()) }
}

/// Checks a key and records its line.
fn key(node: YamlNode, keys: &mut HashMap<String, usize>) -> Result<String, LayoutsError> {
    let kind = node.kind();
    let YamlValue::Text { text, is_plain } = node.value else {
        return Err(bad(node.line, format!("{kind} as a key")).with_cure("write a name"));
    };
    if text == "<<" && is_plain {
        return Err(bad(node.line, "a merge key").with_cure("write out its content"));
    }
    // YAML forbids a key twice (1.2, 3.2.1.1), and parsers that accept it differ in the value that wins.
    match keys.insert(text.clone(), node.line) {
        Some(before) => Err(bad(node.line, format!("{kind} again, after line {before}"))),
        None => Ok(text),
    }
}
