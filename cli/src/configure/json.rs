//! Edits of JSON text. Inserts text and replaces single values; removes nothing else. The text was parsed
//! before, so that only the positions of its parts are determined here. `serde_json` cannot be used to write the
//! file: it loses the spacing and the form of numbers (`1e2` becomes `100.0`).

use super::config_edit::{Edit, EditError, MissingValue};
use serde_json::Value;
use std::ops::Range;

/// Makes each edit in turn.
pub(super) fn edit(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let is_empty = text.trim().is_empty();
    let mut text = if is_empty { "{\n}\n".to_owned() } else { text.to_owned() };
    for edit in edits {
        apply(&mut text, edit)?;
    }
    Ok(text)
}

fn apply(text: &mut String, edit: &Edit) -> Result<(), EditError> {
    let root = Object::find(text, 0).ok_or(EditError::Unsafe)?;
    let indent = root.separator(text).unwrap_or_default();
    let unit = indent.rsplit_once('\n').map_or("  ", |(_, unit)| unit).to_owned();
    let (last, path) = edit.keys.split_last().ok_or(EditError::Unsafe)?;
    let mut object = root;
    for (depth, key) in path.iter().enumerate() {
        match object.get(key) {
            Some(range) if text[range.clone()].starts_with('{') => {
                object = Object::find(text, range.start).ok_or(EditError::Unsafe)?;
            }
            Some(range) if text[range.clone()] != *"null" => {
                return Err(EditError::NotATable { key: key.clone() });
            }
            absent => {
                let Some(MissingValue::Whole(value)) = edit.missing(None)? else { return Ok(()) };
                let rest = path[depth + 1..].iter().chain([last]);
                let value = nested(rest.rev(), value);
                match absent {
                    Some(null) => text.replace_range(null, &value.to_string()),
                    None => object.insert(text, key, &value, &unit),
                }
                return Ok(());
            }
        }
    }
    set(text, &object, last, edit, &unit)
}

/// Wraps a value in an object for each key, the innermost key first.
fn nested<'k>(keys: impl Iterator<Item = &'k String>, value: Value) -> Value {
    keys.fold(value, |value, key| Value::Object(std::iter::once((key.clone(), value)).collect()))
}

/// Adds to a member of an object what it lacks.
fn set(
    text: &mut String,
    object: &Object,
    name: &str,
    edit: &Edit,
    unit: &str,
) -> Result<(), EditError> {
    let range = object.get(name);
    let now = range.clone().and_then(|range| serde_json::from_str(&text[range]).ok());
    match (edit.missing(now.as_ref())?, range) {
        (Some(MissingValue::Whole(value)), Some(range)) => {
            text.replace_range(range, &value.to_string());
        }
        (Some(MissingValue::Whole(value)), None) => object.insert(text, name, &value, unit),
        (Some(MissingValue::Items(items)), Some(range)) => {
            append(text, range, &items).ok_or(EditError::Unsafe)?;
        }
        (_, _) => {}
    }
    Ok(())
}

/// Byte positions of the members of an object.
struct Object {
    /// Position after the opening brace.
    start: usize,
    members: Vec<Member>,
}

/// Byte positions of one member.
struct Member {
    /// Position after the brace or comma that precedes the member.
    before: usize,
    name: String,
    /// Position of the name.
    key: usize,
    value: Range<usize>,
}

impl Object {
    /// Finds the members of the object that begins at or after a position, white space aside.
    fn find(text: &str, position: usize) -> Option<Object> {
        let bytes = text.as_bytes();
        let start = skip_space(bytes, position) + 1;
        (bytes.get(start - 1) == Some(&b'{')).then_some(())?;
        let mut members = Vec::new();
        let mut before = start;
        loop {
            let key = skip_space(bytes, before);
            if bytes.get(key)? == &b'}' {
                return Some(Object { start, members });
            }
            let end = skip_value(bytes, key)?;
            let name = serde_json::from_str(&text[key..end]).ok()?;
            let colon = skip_space(bytes, end);
            let value = skip_space(bytes, colon + 1);
            let value = value..skip_value(bytes, value)?;
            let next = skip_space(bytes, value.end);
            members.push(Member { before, name, key, value });
            match bytes.get(next)? {
                b',' => before = next + 1,
                _ => return Some(Object { start, members }),
            }
        }
    }

    /// Position of the value of a member. Of two members of one name the last counts, as in `serde_json`.
    fn get(&self, name: &str) -> Option<Range<usize>> {
        let member = self.members.iter().rev().find(|member| member.name == name)?;
        Some(member.value.clone())
    }

    /// Text in front of the last member, which a new member repeats: line end and indentation.
    fn separator<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.members.last().map(|last| &text[last.before..last.key])
    }

    fn insert(&self, text: &mut String, name: &str, value: &Value, unit: &str) {
        let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let name = Value::from(name);
        let Some(last) = self.members.last() else {
            // An empty object. That of the whole file gets a line for each member, an inner one stays on its line.
            let member = format!("{name}: {}", write(value, Some((line_end, unit)), unit));
            let new = match text[..self.start].trim() == "{" {
                true if text[self.start..].starts_with(['\r', '\n']) => {
                    format!("{line_end}{unit}{member}")
                }
                true => format!("{line_end}{unit}{member}{line_end}"),
                false => format!("{name}: {}", write(value, None, "")),
            };
            text.insert_str(self.start, &new);
            return;
        };
        let separator = text[last.before..last.key].to_owned();
        let indent = separator.rsplit_once('\n').map(|(_, indent)| indent);
        let value = write(value, indent.map(|_| (line_end, unit)), indent.unwrap_or_default());
        text.insert_str(last.value.end, &format!(",{separator}{name}: {value}"));
    }
}

/// Formats a value. With a line end and a unit of indentation, each member of an object gets its own line.
fn write(value: &Value, lines: Option<(&str, &str)>, indent: &str) -> String {
    match (value, lines) {
        (Value::Object(object), Some((line_end, unit))) => {
            let inner = format!("{indent}{unit}");
            let members = object.iter().map(|(key, value)| {
                format!("{inner}{}: {}", Value::from(key.as_str()), write(value, lines, &inner))
            });
            let members: Vec<_> = members.collect();
            format!("{{{line_end}{}{line_end}{indent}}}", members.join(&format!(",{line_end}")))
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

/// Appends strings to a list, each with the spacing of the item that is last so far.
fn append(text: &mut String, list: Range<usize>, items: &[String]) -> Option<()> {
    let bytes = text.as_bytes();
    let mut before = list.start + 1;
    let mut last = None;
    loop {
        let item = skip_space(bytes, before);
        if bytes.get(item)? == &b']' {
            break;
        }
        let end = skip_value(bytes, item)?;
        let is_first = last.is_none();
        last = Some((end, text[before..item].to_owned(), is_first));
        let next = skip_space(bytes, end);
        match bytes.get(next)? {
            b',' => before = next + 1,
            _ => break,
        }
    }
    let strings = items.iter().map(|item| Value::from(item.as_str()).to_string());
    match last {
        Some((end, separator, is_first)) => {
            // `["a"]` has no space in front of its only item; the next one gets one all the same.
            let separator = if is_first && separator.is_empty() { " " } else { &separator };
            let new: String = strings.map(|item| format!(",{separator}{item}")).collect();
            text.insert_str(end, &new);
        }
        None => text.insert_str(list.start + 1, &strings.collect::<Vec<_>>().join(", ")),
    }
    Some(())
}

/// Returns the position after white space.
fn skip_space(bytes: &[u8], position: usize) -> usize {
    // RFC 8259, section 2: these four and no others.
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let rest = bytes.get(position..).unwrap_or_default();
    position + rest.iter().take_while(|byte| is_space(byte)).count()
}

/// Returns the position after a value. `serde_json` has parsed it before and refuses more than 128 levels, so that
/// the depth needs no limit here.
fn skip_value(bytes: &[u8], start: usize) -> Option<usize> {
    let mut position = start;
    let mut depth = 0_usize;
    loop {
        match bytes.get(position)? {
            b'"' => {
                position += 1;
                while bytes.get(position)? != &b'"' {
                    // A backslash escapes the byte that follows, which may be a quotation mark (RFC 8259, section 7).
                    position += if bytes[position] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            byte if depth == 0 && !byte.is_ascii_whitespace() => {
                let is_end = |b: &u8| matches!(b, b',' | b'}' | b']') || b.is_ascii_whitespace();
                return Some(
                    position + bytes[position..].iter().take_while(|b| !is_end(b)).count(),
                );
            }
            _ => {}
        }
        position += 1;
        if depth == 0 {
            return Some(position);
        }
    }
}
