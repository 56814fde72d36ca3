//! Parsing and editing a configuration file in either of the two formats that engines use. An edit leaves
//! everything else in the file as it is: order, comments, spacing, line ends, unknown keys.

use super::{
    config_edit::{Edit, EditError},
    json, toml,
};
use crate::{cli::EngineArg, engine_files::CONTAINERD_2};
use mig_cdi_gen::engines::EngineVersion;
use serde_json::{Map, Value};

/// Format of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigFormat {
    Toml,
    /// TOML of containerd 2, which does not start with a byte order mark.
    TomlWithoutMark,
    Json,
}

impl ConfigFormat {
    /// Format of an engine's files, whatever their names are. Without the version of containerd a mark counts as read.
    pub(crate) fn of(engine: EngineArg, version: Option<EngineVersion>) -> ConfigFormat {
        match engine {
            EngineArg::Docker => ConfigFormat::Json,
            EngineArg::Containerd if version.is_some_and(|version| version >= CONTAINERD_2) => {
                ConfigFormat::TomlWithoutMark
            }
            EngineArg::Podman | EngineArg::Containerd | EngineArg::Crio => ConfigFormat::Toml,
        }
    }
}

/// Byte order mark with which a file may begin. Docker, podman, CRI-O and containerd 1.7 pass over it (moby `daemon/config/config.go`,
/// BurntSushi/toml `parse.go`, pelletier/go-toml 1.9 `toml.go`); containerd 2 does not start with one (measured with 2.1.9).
const BOM: char = '\u{feff}';

/// Parses a file. An empty JSON file counts as an empty object.
pub(crate) fn parse(text: &str, format: ConfigFormat) -> Result<Value, EditError> {
    let text = match text.strip_prefix(BOM) {
        Some(_) if format == ConfigFormat::TomlWithoutMark => {
            let cause = "it begins with a byte order mark, with which containerd 2 does not start";
            return Err(EditError::Syntax { line: 1, cause: cause.to_owned() });
        }
        Some(rest) => rest,
        None => text,
    };
    match format {
        // dockerd starts with an empty daemon.json, which is no JSON (moby daemon/config/config.go).
        ConfigFormat::Json if text.trim().is_empty() => Ok(Value::Object(Map::new())),
        ConfigFormat::Json => {
            let value: Value = serde_json::from_str(text)
                .map_err(|e| EditError::Syntax { line: e.line(), cause: e.to_string() })?;
            let not_an_object =
                || EditError::Syntax { line: 1, cause: "not a json object".to_owned() };
            value.is_object().then_some(value).ok_or_else(not_an_object)
        }
        ConfigFormat::Toml | ConfigFormat::TomlWithoutMark => ::toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            EditError::Syntax { line, cause: e.message().replace('\n', " ") }
        }),
    }
}

/// Returns the text with the edits made, and nothing else changed.
pub(super) fn edit(text: &str, format: ConfigFormat, edits: &[Edit]) -> Result<String, EditError> {
    let before = parse(text, format)?;
    let mut expected = before.clone();
    for edit in edits {
        edit.apply(&mut expected)?;
    }
    // No edit is needed: the bytes stay as they are, whatever their form.
    if expected == before {
        return Ok(text.to_owned());
    }
    let (mark, text) = text.split_at(if text.starts_with(BOM) { BOM.len_utf8() } else { 0 });
    let edited = match format {
        ConfigFormat::Toml | ConfigFormat::TomlWithoutMark => toml::edit(text, edits)?,
        ConfigFormat::Json => json::edit(text, edits)?,
    };
    let edited = format!("{mark}{edited}");
    // The editors work on text and may misjudge an unusual file. The result counts only when it parses to
    // exactly what was there and what was requested.
    match parse(&edited, format) {
        Ok(value) if value == expected => Ok(edited),
        _ => Err(EditError::Unsafe),
    }
}

/// The edits in words, in one line: `enable_cdi = true below [plugins.cri]`, or a JSON object.
pub(super) fn by_hand(format: ConfigFormat, edits: &[Edit]) -> String {
    let text = edit("", format, edits).unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    if format == ConfigFormat::Json {
        return lines.collect::<Vec<_>>().join(" ");
    }
    let mut tables: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in lines {
        match (line.starts_with('['), tables.last_mut()) {
            (false, Some((_, keys))) => keys.push(line),
            (false, None) => tables.push(("", vec![line])),
            (true, _) => tables.push((line, Vec::new())),
        }
    }
    let tables = tables.into_iter().filter(|(_, keys)| !keys.is_empty());
    let tables = tables.map(|(table, keys)| match table {
        "" => keys.join(" and "),
        table => format!("{} below {table}", keys.join(" and ")),
    });
    tables.collect::<Vec<_>>().join(", ")
}
