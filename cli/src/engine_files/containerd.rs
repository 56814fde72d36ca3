//! containerd's files: which are imported, and how they are joined.

use super::{
    CONTAINERD_2, DEFAULT_SPEC_DIRS,
    merge::{MergeRules, Merged},
    settings::{ConfigPlaces, ConfigReader, EngineSettings, main_file},
    strings_at, value_at,
};
use crate::cli::EngineArg;
use mig_cdi_gen::engines::EngineVersion;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};

/// The CRI plugin of containerd as its main file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CriPlugin {
    /// Version of the file.
    pub version: i64,
    /// Name of the table.
    pub name: &'static str,
}

/// Reads the files of containerd and joins them.
///
/// # Errors
/// Those of the reader.
pub(super) fn load<R: ConfigReader>(
    version: EngineVersion,
    places: &ConfigPlaces,
    reader: &R,
) -> Result<EngineSettings, R::Error> {
    let merges = version >= CONTAINERD_2;
    let rules = if merges { MergeRules::Containerd2 } else { MergeRules::Containerd1 };
    let main = main_file(EngineArg::Containerd, places);
    let mut files: Vec<(String, Value)> = Vec::new();
    let mut cri = None;
    let (mut seen, mut has_unknown_imports, mut missing_import) = (BTreeSet::new(), false, None);
    // Imports are followed from file to file, in the order in which they are found (`LoadConfig`).
    let mut pending = VecDeque::from([main]);
    while let Some(path) = pending.pop_front() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let Some(mut value) = reader.value(&path)? else {
            // containerd goes on with what it has read so far (measured with 2.1.9). A main file that is not there imports nothing.
            missing_import = cri.is_some().then_some(path);
            break;
        };
        let own = CriPlugin::of(&value, merges);
        let cri = cri.get_or_insert(own);
        rename_plugin(&mut value, own, *cri);
        for pattern in import_patterns(&path, &value) {
            match matching_paths(reader, &pattern)? {
                Some(paths) => pending.extend(paths),
                None => has_unknown_imports = true,
            }
        }
        files.push((path, value));
    }
    let empty = json!({});
    let cri = cri.unwrap_or_else(|| CriPlugin::of(&empty, merges));
    let mut merged = Merged::new(rules, json!({}));
    files.iter().for_each(|(_, value)| merged.add(value));
    // The plugin decodes its joined table into its built-in values.
    let mut runtimes = json!({ "runc": { "runtime_type": "io.containerd.runc.v2" } });
    // In 1.7 a table of runtimes replaces the built-in one, which has runc (measured with 1.7.24); 2 keeps it (2.1.9).
    let keys = ["plugins", cri.name, "containerd", "runtimes"];
    let merged = merged.into_value();
    if !merges && value_at(&merged, &keys).is_some() {
        runtimes = json!({});
    }
    let built_in = json!({ "plugins": { cri.name: {
        "enable_cdi": merges,
        "cdi_spec_dirs": DEFAULT_SPEC_DIRS,
        "containerd": { "default_runtime_name": "runc", "runtimes": runtimes },
    }}});
    let mut effective = Merged::new(MergeRules::Containerd2, built_in);
    effective.add(&merged);
    let effective = effective.into_value();
    Ok(EngineSettings { files, effective, cri, has_unknown_imports, missing_import })
}

impl CriPlugin {
    /// The plugin as a file names it. A file without a version is of version 1; a new file gets the newest version that the release
    /// reads.
    fn of(file: &Value, is_containerd_2: bool) -> CriPlugin {
        let is_empty = file.as_object().is_none_or(serde_json::Map::is_empty);
        let version = match file.get("version").and_then(Value::as_i64) {
            Some(version) => version,
            None if is_empty && is_containerd_2 => 3,
            None if is_empty => 2,
            None => 1,
        };
        // The plugin was renamed with each version of the format. containerd 2 split it in two: this half runs containers, the other
        // handles images.
        let name = match version {
            3.. => "io.containerd.cri.v1.runtime",
            2 => "io.containerd.grpc.v1.cri",
            _ => "cri",
        };
        CriPlugin { version, name }
    }
}

/// Gives the table of the CRI plugin the name that it has in the main file: containerd 2 converts each file to one version before it
/// joins them.
fn rename_plugin(file: &mut Value, own: CriPlugin, main: CriPlugin) {
    let plugins = file.get_mut("plugins").and_then(Value::as_object_mut);
    if let Some(plugins) = plugins.filter(|_| own.name != main.name)
        && let Some(table) = plugins.remove(own.name)
    {
        plugins.insert(main.name.to_owned(), table);
    }
}

/// Patterns of the files that a file of containerd imports. A relative one is resolved against the directory of the file.
fn import_patterns(path: &str, file: &Value) -> Vec<String> {
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let absolute = |pattern: String| match pattern.starts_with('/') {
        true => pattern,
        false => format!("{dir}/{pattern}"),
    };
    strings_at(file, &["imports"]).unwrap_or_default().into_iter().map(absolute).collect()
}

/// Paths that a pattern of `imports` names, sorted; `None` for a pattern with a character class, which is not understood here. Only a
/// pattern with `*` is one: in others `?` is an ordinary character (`resolveImports`).
fn matching_paths<R: ConfigReader>(
    reader: &R,
    pattern: &str,
) -> Result<Option<Vec<String>>, R::Error> {
    if !pattern.contains('*') {
        return Ok(Some(vec![pattern.to_owned()]));
    }
    if pattern.contains(['[', '\\']) {
        return Ok(None);
    }
    let mut paths = vec![String::new()];
    for part in pattern.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let mut next = Vec::new();
        for path in paths {
            if part == ".." {
                next.push(path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned());
            } else if part.contains(['*', '?']) {
                let dir = if path.is_empty() { "/" } else { &path };
                let names = reader.list(dir)?.unwrap_or_default().into_iter();
                let names = names.filter(|name| matches(part.as_bytes(), name.as_bytes()));
                next.extend(names.map(|name| format!("{path}/{name}")));
            } else {
                next.push(format!("{path}/{part}"));
            }
        }
        paths = next;
    }
    Ok(Some(paths))
}

/// Matches a name against a pattern of `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut done) = (0, 0);
    // Position behind the last `*`, and of the name where its match ends so far.
    let mut star = None;
    while done < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, done));
            }
            Some(byte) if *byte == b'?' || *byte == name[done] => (at, done) = (at + 1, done + 1),
            _ => {
                let Some((behind, end)) = star else { return false };
                (at, done) = (behind, end + 1);
                star = Some((behind, done));
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// First directory of drop-ins that the files of containerd import, as `/etc/containerd/conf.d` of `/etc/containerd/conf.d/*.toml`.
pub(crate) fn import_dir(settings: &EngineSettings) -> Option<String> {
    let patterns = settings.files.iter().flat_map(|(path, value)| import_patterns(path, value));
    patterns.into_iter().find_map(|pattern| {
        let dir = pattern.strip_suffix("/*.toml")?;
        (!dir.contains(['*', '[', '?']) && !dir.is_empty()).then(|| dir.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_containerd() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.conf", false),
            ("a*b*c", "axxbxc", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
