//! Edits of TOML text, with `toml_edit`, which keeps comments and spacing. What the library does not keep (line
//! ends, the spelling of table headers) is restored from the original text line by line.

use super::config_edit::{Edit, EditError, MissingValue};
use serde_json::Value;
use similar::{Algorithm, DiffOp, capture_diff_slices};
use toml_edit::{
    Array, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value as Toml,
};

/// Makes each edit in turn.
pub(super) fn edit(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| {
        let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        EditError::Syntax { line, cause: e.message().replace('\n', " ") }
    })?;
    // toml_edit keeps comments at the end of the file after everything else, so that they would follow a new
    // table and seem to belong to it. They are put back at their place below.
    let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
    document.set_trailing("");
    let unedited = document.to_string();
    for edit in edits {
        apply(document.as_table_mut(), edit)?;
    }
    let body = text.strip_suffix(&trailing).or_else(|| {
        // toml_edit turns "\r\n" into "\n", so that the trailing text is not a suffix of a file with the former.
        // Its lines are counted instead.
        let lines = trailing.matches('\n').count();
        let mut ends = text.match_indices('\n').map(|(end, _)| end + 1).rev();
        if lines == 0 { None } else { text.get(..ends.nth(lines)?) }
    });
    let body = body.ok_or(EditError::Unsafe)?;
    restore(body, &text[body.len()..], &unedited, &document.to_string()).ok_or(EditError::Unsafe)
}

fn apply(root: &mut Table, edit: &Edit) -> Result<(), EditError> {
    let (last, path) = edit.keys.split_last().ok_or(EditError::Unsafe)?;
    let mut table: &mut dyn TableLike = root;
    for (depth, key) in path.iter().enumerate() {
        let is_inline = table.get(key).is_none() && is_inline(table);
        // A table that holds nothing but tables needs no header of its own; the innermost one has keys.
        let implicit = depth + 1 < path.len();
        let item = table.entry(key).or_insert_with(|| match is_inline {
            true => Item::Value(Toml::InlineTable(InlineTable::new())),
            false => {
                let mut table = Table::new();
                table.set_implicit(implicit);
                Item::Table(table)
            }
        });
        if let (false, Some(table)) = (implicit, item.as_table_mut()) {
            // So far only the headers of its subtables may have named it: now it needs one itself.
            table.set_implicit(false);
        }
        table =
            item.as_table_like_mut().ok_or_else(|| EditError::NotATable { key: key.clone() })?;
    }
    let now = table.get(last).map(|item| plain(item, edit)).transpose()?;
    match edit.missing(now.as_ref())? {
        None => {}
        Some(MissingValue::Whole(value)) => set(table, last, &value),
        Some(MissingValue::Items(items)) => {
            let list = table.get_mut(last).and_then(Item::as_array_mut);
            let list = list.ok_or_else(|| EditError::NotAList { key: edit.key() })?;
            items.into_iter().for_each(|item| push(list, item));
        }
    }
    Ok(())
}

/// True for an inline table, which can hold no table with a header (TOML 1.0.0, "Inline Table").
fn is_inline(table: &mut dyn TableLike) -> bool {
    // `TableLike` does not distinguish the two kinds, but an inline table turns a table that is inserted into a
    // value.
    const PROBE: &str = "mig-cdi probe";
    table.insert(PROBE, Item::Table(Table::new()));
    let inline = table.get(PROBE).is_some_and(Item::is_value);
    table.remove(PROBE);
    inline
}

/// Sets a value. A present value keeps its spacing and comments, a new key gets the indentation of the key before
/// it.
fn set(table: &mut dyn TableLike, key: &str, value: &Value) {
    let mut new = to_toml(value);
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

/// Appends an item, on a line of its own where the last item has one. A comment stays after the item that it
/// follows.
fn push(list: &mut Array, item: String) {
    let text =
        |raw: Option<&RawString>| raw.and_then(RawString::as_str).unwrap_or_default().to_owned();
    // toml_edit attributes the text before the bracket to the list when a comma ends the last item, else to the
    // item.
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

fn to_toml(value: &Value) -> Toml {
    match value {
        Value::Bool(value) => Toml::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Toml::from(integer),
            None => Toml::from(number.as_f64().unwrap_or_default()),
        },
        Value::Array(list) => Toml::Array(list.iter().map(to_toml).collect()),
        Value::Object(table) => {
            let members = table.iter().map(|(key, value)| (key.clone(), to_toml(value)));
            Toml::InlineTable(members.collect())
        }
        Value::String(text) => Toml::from(text.as_str()),
        Value::Null => Toml::from(""),
    }
}

/// Converts a value to the type that edits compare. Values that no edit requests become null.
fn plain(item: &Item, edit: &Edit) -> Result<Value, EditError> {
    let value = match item {
        Item::Value(Toml::Boolean(value)) => Value::from(*value.value()),
        Item::Value(Toml::Integer(number)) => Value::from(*number.value()),
        Item::Value(Toml::Float(number)) => Value::from(*number.value()),
        Item::Value(Toml::String(text)) => Value::from(text.value().as_str()),
        Item::Value(Toml::Array(list)) => {
            let items = list.iter().map(|item| item.as_str().map_or(Value::Null, Value::from));
            Value::Array(items.collect())
        }
        Item::Value(_) => Value::Null,
        _ => return Err(EditError::NotAValue { key: edit.key() }),
    };
    Ok(value)
}

/// Returns the edited text with the unchanged lines of the original file. `toml_edit` writes one kind of line end,
/// and the name of a table as it was first spelled. The text that it writes for the unedited file has a line for
/// each line of the original: where a line of the edited text equals one of the unedited text, the original line
/// is taken. `None` when the two do not have the same number of lines.
fn restore(body: &str, trailing: &str, unedited: &str, edited: &str) -> Option<String> {
    let old: Vec<&str> = body.split_inclusive('\n').collect();
    let new: Vec<&str> = edited.split_inclusive('\n').collect();
    let bare = |line: &&str| line.replace('\r', "").trim_end_matches('\n').to_owned();
    let bare_old: Vec<_> =
        unedited.split_inclusive('\n').collect::<Vec<_>>().iter().map(bare).collect();
    let bare_new: Vec<_> = new.iter().map(bare).collect();
    (bare_old.len() == old.len()).then_some(())?;
    // New lines get the line end of the first line.
    let is_crlf = body.find('\n').or(trailing.find('\n')).is_some_and(|at| {
        let text = if body.contains('\n') { body } else { trailing };
        text[..at].ends_with('\r')
    });
    let line_end = if is_crlf { "\r\n" } else { "\n" };
    let mut text = String::new();
    let mut trailing = Some(trailing);
    for op in capture_diff_slices(Algorithm::Myers, &bare_old, &bare_new) {
        if let DiffOp::Equal { old_index, len, .. } = op {
            end_line(&mut text, line_end);
            text += &old[old_index..old_index + len].concat();
            continue;
        }
        let lines = &bare_new[op.new_range()];
        let is_tail = op.old_range().end == old.len() && op.new_range().end == new.len();
        let first = lines.iter().find(|line| !line.trim().is_empty());
        let is_table = first.is_some_and(|line| line.trim_start().starts_with('['));
        // A new table goes after the trailing comments, a new key of the last table in front of them.
        if is_tail && op.old_range().is_empty() && (is_table || old.is_empty()) {
            end_line(&mut text, line_end);
            text += trailing.take().unwrap_or_default();
        }
        for line in lines {
            end_line(&mut text, line_end);
            text += line;
            text += line_end;
        }
    }
    if let Some(trailing) = trailing.filter(|trailing| !trailing.is_empty()) {
        text += trailing;
    }
    Some(text)
}

/// Ends the last line of the text if it has no line end: another one follows it now.
fn end_line(text: &mut String, line_end: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(line_end);
    }
}
