//! A YAML document as a tree that knows its lines.
//!
//! What the rules of layout files need and no more: texts, lists and maps with texts as keys. Tags
//! and merge keys are refused; aliases are read as what they stand for, and what all of them stand
//! for together is bounded, as is nesting.

use super::{BadLayouts, Origin};
use granit_parser::{Event, Parser, ScalarStyle};
use std::collections::HashMap;

/// The weight of a document with its aliases written out: the length of each text, and something for
/// each value. NVIDIA's own file weighs a hundredth of it.
const WEIGHT: usize = 4 << 20;
/// Of a value without its text.
const VALUE: usize = 16;
/// Lists and maps within each other. A layout file has five.
const DEPTH: usize = 16;

/// A value and the line where it begins, from 1.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub line: usize,
    pub value: Value,
    /// With all within.
    weight: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    /// `plain` without quotes: only then it can be a number, a truth value or nothing.
    Text {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// In the order of the file; no key twice.
    Map(Vec<Field>),
}

/// A key and what it stands for.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

/// A text as errors show it.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

impl Node {
    pub fn bad(&self, message: impl Into<String>) -> BadLayouts {
        bad(self.line, message)
    }

    /// What it is, for errors.
    pub fn kind(&self) -> String {
        match &self.value {
            Value::Text { text, .. } => shown(text),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

pub(super) fn bad(line: usize, message: impl Into<String>) -> BadLayouts {
    BadLayouts { origin: Origin::Line(line), message: message.into() }
}

/// The only document of the text; `None` of a text without any.
pub(super) fn read(text: &str) -> Result<Option<Node>, BadLayouts> {
    let last = last_line(text);
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let what = error.info().replace(char::is_control, " ");
            bad(error.marker().line().min(last), format!("not YAML: {what}"))
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

/// What is missing at the end is found missing behind it, in a line that is not there. To YAML, a
/// carriage return alone ends a line too.
fn last_line(text: &str) -> usize {
    let text = text.replace("\r\n", "\n");
    let breaks = ['\n', '\r'];
    text.strip_suffix(breaks).unwrap_or(&text).split(breaks).count()
}

/// A list or a map of which not all was read.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next, and the lines of all keys.
    key: Option<(String, usize)>,
    keys: HashMap<String, usize>,
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    /// Of all that was read, and copied for anchors and aliases.
    weight: usize,
    root: Option<Node>,
}

impl Tree {
    fn take(&mut self, event: Event, line: usize) -> Result<(), BadLayouts> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                untagged(line, tag.is_some())?;
                let (weight, plain) = (VALUE + text.len(), style == ScalarStyle::Plain);
                let value = Value::Text { text: text.into_owned(), plain };
                self.close(Node { line, value, weight }, anchor, weight)
            }
            Event::SequenceStart(_, anchor, tag) => {
                untagged(line, tag.is_some())?;
                self.begin(line, Value::List(Vec::new()), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                untagged(line, tag.is_some())?;
                self.begin(line, Value::Map(Vec::new()), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.close(open.node, open.anchor, VALUE),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let (copy, weight) = (node.clone(), node.weight);
                    self.close(copy, 0, weight)
                }
                None => Err(bad(line, "an alias within what it stands for; write it out")),
            },
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(bad(line, "a second document; write one per file"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, line: usize, value: Value, anchor: usize) -> Result<(), BadLayouts> {
        if self.open.len() == DEPTH {
            return Err(bad(line, format!("more than {DEPTH} lists and maps within each other")));
        }
        let node = Node { line, value, weight: VALUE };
        self.open.push(Open { node, anchor, key: None, keys: HashMap::new() });
        Ok(())
    }

    /// Puts a whole value where it belongs. `new` is the weight that was not in the tree before: what is
    /// in a list was, what an alias stands for was not.
    fn close(&mut self, node: Node, anchor: usize, new: usize) -> Result<(), BadLayouts> {
        let weight = node.weight;
        self.weight += new + if anchor > 0 { weight } else { 0 };
        if self.weight > WEIGHT {
            return Err(node.bad("too much in one file, with aliases written out; split it"));
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
            Value::List(list) => list.push(node),
            Value::Map(map) => match open.key.take() {
                Some((key, line)) => map.push(Field { key, line, value: node }),
                None => {
                    let line = node.line;
                    open.key = Some((key(node, &mut open.keys)?, line));
                }
            },
            Value::Text { .. } => {}
        }
        Ok(())
    }
}

fn untagged(line: usize, tagged: bool) -> Result<(), BadLayouts> {
    if tagged { Err(bad(line, "a tag; leave it out")) } else { Ok(()) }
}

fn key(node: Node, keys: &mut HashMap<String, usize>) -> Result<String, BadLayouts> {
    let kind = node.kind();
    let Value::Text { text, plain } = node.value else {
        return Err(bad(node.line, format!("{kind} as a key; write a name")));
    };
    if text == "<<" && plain {
        return Err(bad(node.line, "a merge key; write out what it stands for"));
    }
    match keys.insert(text.clone(), node.line) {
        Some(before) => Err(bad(node.line, format!("{kind} again, after line {before}"))),
        None => Ok(text),
    }
}
