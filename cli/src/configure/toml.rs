//! Adding to TOML.

use super::wish::{Lack, Wish};
use serde_json::Value;
use similar::{Algorithm, DiffOp, capture_diff_slices};
use toml_edit::{
    Array, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value as Toml,
};

/// Puts what is lacking where it belongs.
pub(super) fn edit(text: &str, wishes: &[Wish]) -> Result<String, String> {
    let mut document: DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    // Comments at the end of the file are nobody's; they would end up behind what is new.
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    document.set_trailing("");
    let unedited = document.to_string();
    for wish in wishes {
        put(document.as_table_mut(), wish)?;
    }
    let body = text.strip_suffix(&trailing).or_else(|| {
        // The library gives line ends as it writes them.
        let lines = trailing.matches('\n').count();
        let mut ends = text.match_indices('\n').map(|(at, _)| at + 1).rev();
        if lines == 0 { None } else { text.get(..ends.nth(lines)?) }
    });
    let body = body.ok_or("its end is not clear")?;
    let lines = restore(body, &text[body.len()..], &unedited, &document.to_string());
    lines.ok_or_else(|| "its lines are not clear".to_owned())
}

fn put(root: &mut Table, wish: &Wish) -> Result<(), String> {
    let (last, path) = wish.keys.split_last().ok_or("no key")?;
    let mut at: &mut dyn TableLike = root;
    for (depth, key) in path.iter().enumerate() {
        let inline = at.get(key).is_none() && is_inline(at);
        // The innermost table has keys of its own, and so a header.
        let implicit = depth + 1 < path.len();
        let item = at.entry(key).or_insert_with(|| match inline {
            true => Item::Value(Toml::InlineTable(InlineTable::new())),
            false => {
                let mut table = Table::new();
                table.set_implicit(implicit);
                Item::Table(table)
            }
        });
        let name = || format!("{key} is no table");
        if let (false, Some(table)) = (implicit, item.as_table_mut()) {
            // A table that only its subtables have named so far. One of dotted keys gets one more.
            table.set_implicit(false);
        }
        at = item.as_table_like_mut().ok_or_else(name)?;
    }
    let now = at.get(last).map(plain).transpose()?;
    match wish.lacks(now.as_ref())? {
        None => {}
        Some(Lack::Value(value)) => set(at, last, &value),
        Some(Lack::Items(items)) => {
            let list = at.get_mut(last).and_then(Item::as_array_mut).ok_or("it is no list")?;
            items.into_iter().for_each(|item| push(list, item));
        }
    }
    Ok(())
}

/// Tables with headers cannot stand in one of these.
fn is_inline(table: &mut dyn TableLike) -> bool {
    // An inline table makes values of all that it is given.
    const PROBE: &str = "mig-cdi probe";
    table.insert(PROBE, Item::Table(Table::new()));
    let inline = table.get(PROBE).is_some_and(Item::is_value);
    table.remove(PROBE);
    inline
}

/// A value keeps what stands around it, and a new key is as far in as the one before.
fn set(table: &mut dyn TableLike, key: &str, value: &Value) {
    let mut new = toml(value);
    if let Some(Item::Value(old)) = table.get_mut(key) {
        *new.decor_mut() = old.decor().clone();
        *old = new;
        return;
    }
    let values = table.iter().filter(|(_, item)| item.is_value());
    let indent = values.last().and_then(|(name, _)| {
        let prefix = table.key(name)?.leaf_decor().prefix()?.as_str()?;
        let line = prefix.rsplit('\n').next()?;
        line.chars().all(char::is_whitespace).then(|| line.to_owned())
    });
    table.insert(key, Item::Value(new));
    if let (Some(indent), Some(mut key)) = (indent, table.key_mut(key)) {
        key.leaf_decor_mut().set_prefix(indent);
    }
}

/// Behind the last, on a line of its own where that has one. A comment stays behind what it was behind.
fn push(list: &mut Array, item: String) {
    let text =
        |raw: Option<&RawString>| raw.and_then(RawString::as_str).unwrap_or_default().to_owned();
    let comma = list.trailing_comma();
    let decor = list.iter().last().map(|last| last.decor().clone()).unwrap_or_default();
    let suffix = if comma { String::new() } else { text(decor.suffix()) };
    let gap = suffix + &text(Some(list.trailing()));
    let prefix = text(decor.prefix());
    let mut item = Toml::from(item);
    let Some(end) = gap.rfind('\n').filter(|_| !list.is_empty()) else {
        list.push(item);
        return;
    };
    let indent = prefix.rsplit_once('\n').map_or("", |(_, indent)| indent);
    let closing = format!("\n{}", &gap[end + 1..]);
    item.decor_mut().set_prefix(format!("{}{indent}", &gap[..=end]));
    let last = list.len() - 1;
    if let Some(last) = list.get_mut(last) {
        last.decor_mut().set_suffix("");
    }
    list.set_trailing(closing);
    list.push_formatted(item);
}

fn toml(value: &Value) -> Toml {
    match value {
        Value::Bool(is) => Toml::from(*is),
        Value::Number(number) => Toml::from(number.as_i64().unwrap_or_default()),
        Value::Array(list) => Toml::Array(list.iter().map(toml).collect()),
        Value::Object(table) => {
            Toml::InlineTable(table.iter().map(|(key, value)| (key.clone(), toml(value))).collect())
        }
        Value::String(text) => Toml::from(text.as_str()),
        Value::Null => Toml::from(""),
    }
}

/// What a value says, as far as a wish looks.
fn plain(item: &Item) -> Result<Value, String> {
    let value = match item {
        Item::Value(Toml::Boolean(is)) => Value::from(*is.value()),
        Item::Value(Toml::Integer(number)) => Value::from(*number.value()),
        Item::Value(Toml::String(text)) => Value::from(text.value().as_str()),
        Item::Value(Toml::Array(list)) => {
            let items = list.iter().map(|item| item.as_str().map_or(Value::Null, Value::from));
            Value::Array(items.collect())
        }
        Item::Value(_) => Value::Null,
        _ => return Err("it is a table, and should be a value".to_owned()),
    };
    Ok(value)
}

/// The library writes all line ends alike, and the names of a table as they were first written. So what it
/// writes of the file as it was, line for line, tells which of its lines stand for which of the file's: these
/// are taken as they are.
fn restore(body: &str, trailing: &str, unedited: &str, edited: &str) -> Option<String> {
    let old: Vec<&str> = body.split_inclusive('\n').collect();
    let new: Vec<&str> = edited.split_inclusive('\n').collect();
    let bare = |line: &&str| line.replace('\r', "").trim_end_matches('\n').to_owned();
    let bare_old: Vec<_> =
        unedited.split_inclusive('\n').collect::<Vec<_>>().iter().map(bare).collect();
    let bare_new: Vec<_> = new.iter().map(bare).collect();
    (bare_old.len() == old.len()).then_some(())?;
    let windows = body.find('\n').or(trailing.find('\n')).is_some_and(|at| {
        let text = if body.contains('\n') { body } else { trailing };
        text[..at].ends_with('\r')
    });
    let end = if windows { "\r\n" } else { "\n" };
    let mut text = String::new();
    let mut trailing = Some(trailing);
    for op in capture_diff_slices(Algorithm::Myers, &bare_old, &bare_new) {
        if let DiffOp::Equal { old_index, len, .. } = op {
            whole_line(&mut text, end);
            text += &old[old_index..old_index + len].concat();
            continue;
        }
        let lines = &bare_new[op.new_range()];
        let is_tail = op.old_range().end == old.len() && op.new_range().end == new.len();
        let table = lines.iter().find(|line| !line.trim().is_empty());
        let table = table.is_some_and(|line| line.trim_start().starts_with('['));
        if is_tail && op.old_range().is_empty() && (table || old.is_empty()) {
            whole_line(&mut text, end);
            text += trailing.take().unwrap_or_default();
        }
        for line in lines {
            whole_line(&mut text, end);
            text += line;
            text += end;
        }
    }
    if let Some(trailing) = trailing.filter(|trailing| !trailing.is_empty()) {
        text += trailing;
    }
    Some(text)
}

fn whole_line(text: &mut String, end: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(end);
    }
}
