//! Adding to JSON: text is put in between, and none is taken away but a value that is to be another. What is
//! edited has been parsed before, so that only its shape is looked at here.

use super::wish::{Lack, Wish};
use serde_json::Value;
use std::ops::Range;

/// Puts what is lacking where it belongs.
pub(super) fn edit(text: &str, wishes: &[Wish]) -> Result<String, String> {
    let new = text.trim().is_empty();
    let mut text = if new { "{\n}\n".to_owned() } else { text.to_owned() };
    for wish in wishes {
        put(&mut text, wish).ok_or_else(|| format!("{} cannot be found", wish.key()))??;
    }
    Ok(text)
}

/// `None` for what is no JSON.
fn put(text: &mut String, wish: &Wish) -> Option<Result<(), String>> {
    let root = Object::read(text, 0)?;
    let indent = root.between(text).unwrap_or_default();
    let unit = indent.rsplit_once('\n').map_or("  ", |(_, unit)| unit).to_owned();
    let (last, path) = wish.keys.split_last()?;
    let mut object = root;
    for (depth, key) in path.iter().enumerate() {
        match object.get(key) {
            Some(range) if text[range.clone()].starts_with('{') => {
                object = Object::read(text, range.start)?;
            }
            Some(_) => return Some(Err(format!("{key} is no object"))),
            None => {
                // The rest of the way is new.
                let value = match wish.lacks(None) {
                    Ok(Some(Lack::Value(value))) => value,
                    _ => return Some(Ok(())),
                };
                let rest = path[depth + 1..].iter().chain([last]).rev();
                let value = rest.fold(value, |value, key| {
                    Value::Object(std::iter::once((key.clone(), value)).collect())
                });
                object.insert(text, key, &value, &unit);
                return Some(Ok(()));
            }
        }
    }
    let there = object.get(last);
    let now = there.clone().and_then(|range| serde_json::from_str(&text[range]).ok());
    match (wish.lacks(now.as_ref()), there) {
        (Err(reason), _) => return Some(Err(reason)),
        (Ok(Some(Lack::Value(value))), Some(range)) => {
            text.replace_range(range, &value.to_string());
        }
        (Ok(Some(Lack::Value(value))), None) => object.insert(text, last, &value, &unit),
        (Ok(Some(Lack::Items(items))), Some(range)) => append(text, range, &items)?,
        (Ok(_), _) => {}
    }
    Some(Ok(()))
}

/// Where the members of an object are.
struct Object {
    /// Behind its brace.
    start: usize,
    members: Vec<Member>,
}

struct Member {
    /// From behind the brace or comma before it on.
    before: usize,
    name: String,
    key: usize,
    value: Range<usize>,
}

impl Object {
    /// The object that begins at or behind a place.
    fn read(text: &str, at: usize) -> Option<Object> {
        let bytes = text.as_bytes();
        let start = space(bytes, at) + 1;
        (bytes.get(start - 1) == Some(&b'{')).then_some(())?;
        let mut members = Vec::new();
        let mut before = start;
        loop {
            let key = space(bytes, before);
            if bytes.get(key)? == &b'}' {
                return Some(Object { start, members });
            }
            let end = skip(bytes, key)?;
            let name = serde_json::from_str(&text[key..end]).ok()?;
            let colon = space(bytes, end);
            let value = space(bytes, colon + 1);
            let value = value..skip(bytes, value)?;
            let next = space(bytes, value.end);
            members.push(Member { before, name, key, value });
            match bytes.get(next)? {
                b',' => before = next + 1,
                _ => return Some(Object { start, members }),
            }
        }
    }

    /// Of two of one name the last counts.
    fn get(&self, name: &str) -> Option<Range<usize>> {
        let member = self.members.iter().rev().find(|member| member.name == name)?;
        Some(member.value.clone())
    }

    /// What stands before its last member: a new one gets the same.
    fn between<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.members.last().map(|last| &text[last.before..last.key])
    }

    fn insert(&self, text: &mut String, name: &str, value: &Value, unit: &str) {
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let name = Value::from(name);
        let Some(last) = self.members.last() else {
            // An object that is empty so far; that of the whole file has its members on lines.
            let new = match text[..self.start].trim() == "{" {
                true if text[self.start..].starts_with(['\r', '\n']) => {
                    format!("{end}{unit}{name}: {}", write(value, Some((end, unit)), unit))
                }
                true => {
                    format!("{end}{unit}{name}: {}{end}", write(value, Some((end, unit)), unit))
                }
                false => format!("{name}: {}", write(value, None, "")),
            };
            text.insert_str(self.start, &new);
            return;
        };
        let between = text[last.before..last.key].to_owned();
        let lines = between.rsplit_once('\n').map(|(_, indent)| indent);
        let value = write(value, lines.map(|_| (end, unit)), lines.unwrap_or_default());
        text.insert_str(last.value.end, &format!(",{between}{name}: {value}"));
    }
}

/// A value, its objects on lines when they are to be.
fn write(value: &Value, lines: Option<(&str, &str)>, indent: &str) -> String {
    match (value, lines) {
        (Value::Object(object), Some((end, unit))) => {
            let inner = format!("{indent}{unit}");
            let members = object.iter().map(|(key, value)| {
                format!("{inner}{}: {}", Value::from(key.as_str()), write(value, lines, &inner))
            });
            let members: Vec<_> = members.collect();
            format!("{{{end}{}{end}{indent}}}", members.join(&format!(",{end}")))
        }
        (Value::Object(object), None) => {
            let members = object.iter().map(|(key, value)| {
                format!("{}: {}", Value::from(key.as_str()), write(value, None, ""))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        (Value::Array(list), _) => {
            let items: Vec<_> = list.iter().map(Value::to_string).collect();
            format!("[{}]", items.join(", "))
        }
        _ => value.to_string(),
    }
}

/// Texts at the end of a list, each as far from the one before as the last is.
fn append(text: &mut String, list: Range<usize>, items: &[String]) -> Option<()> {
    let bytes = text.as_bytes();
    let mut before = list.start + 1;
    let mut last = None;
    loop {
        let item = space(bytes, before);
        if bytes.get(item)? == &b']' {
            break;
        }
        let end = skip(bytes, item)?;
        let first = last.is_none();
        last = Some((end, text[before..item].to_owned(), first));
        let next = space(bytes, end);
        match bytes.get(next)? {
            b',' => before = next + 1,
            _ => break,
        }
    }
    let texts = items.iter().map(|item| Value::from(item.as_str()).to_string());
    match last {
        Some((end, between, first)) => {
            // Before the first there may be less than between two.
            let between = if first && between.is_empty() { " " } else { &between };
            let new: String = texts.map(|item| format!(",{between}{item}")).collect();
            text.insert_str(end, &new);
        }
        None => text.insert_str(list.start + 1, &texts.collect::<Vec<_>>().join(", ")),
    }
    Some(())
}

/// Behind white space.
fn space(bytes: &[u8], at: usize) -> usize {
    let is = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    at + bytes.get(at..).unwrap_or_default().iter().take_while(|byte| is(byte)).count()
}

/// Behind a value. It is nested no deeper than the parser that saw it before allows.
fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at += 1;
                while bytes.get(at)? != &b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            byte if depth == 0 && !byte.is_ascii_whitespace() => {
                let is_end = |b: &u8| matches!(b, b',' | b'}' | b']') || b.is_ascii_whitespace();
                return Some(at + bytes[at..].iter().take_while(|b| !is_end(b)).count());
            }
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}
