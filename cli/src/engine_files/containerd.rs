//! containerd's files: which are imported, and how they are joined.

use super::{
    CONTAINERD_2, DEFAULT_SPEC_DIRS,
    containerd_versions::{Joined, join},
    key_case::{AmbiguousKey, KeyCase},
    merge::{MergeRules, Merged},
    settings::{ConfigPlaces, ConfigReader, EngineSettings, RejectedFile, main_file},
    strings_at, value_at,
};
use crate::cli::EngineArg;
use mig_cdi_gen::engines::EngineVersion;
use serde_json::{Value, json};
use std::collections::{BTreeSet, VecDeque};

/// Reads the files of containerd and joins them.
///
/// # Errors
/// Those of the reader.
pub(super) fn load<R: ConfigReader>(
    version: EngineVersion,
    places: &ConfigPlaces,
    reader: &R,
) -> Result<EngineSettings, R::Error> {
    let case = KeyCase::of(EngineArg::Containerd, version);
    let Imported { mut files, has_unknown_imports, missing, ambiguous } =
        follow_imports(main_file(EngineArg::Containerd, places), case, reader)?;
    let Joined { mut value, cri, rejected } = join(version, &files);
    // containerd decodes the joined tables of its plugins, in which the last key wins.
    let values = files.iter_mut().map(|(_, value)| value).chain([&mut value]);
    values.for_each(|value| drop(case.normalize(value)));
    // The plugin decodes its joined table into its built-in values.
    let mut runtimes = json!({ "runc": { "runtime_type": "io.containerd.runc.v2" } });
    // In 1.7 a table of runtimes replaces the built-in one, which has runc (measured with 1.7.24); 2 keeps it (2.1.9).
    let merges = version >= CONTAINERD_2;
    let keys = ["plugins", cri.name, "containerd", "runtimes"];
    if !merges && value_at(&value, &keys).is_some() {
        runtimes = json!({});
    }
    let built_in = json!({ "plugins": { cri.name: {
        "enable_cdi": merges,
        "cdi_spec_dirs": DEFAULT_SPEC_DIRS,
        "containerd": { "default_runtime_name": "runc", "runtimes": runtimes },
    }}});
    let mut effective = Merged::new(MergeRules::Containerd2, built_in);
    effective.add(&value);
    let mut effective = effective.into_value();
    if !merges {
        name_default_runtime(&mut effective, cri.name);
    }
    Ok(EngineSettings {
        files,
        effective,
        cri,
        has_unknown_imports,
        ambiguous,
        rejected: missing.or(rejected),
    })
}

/// Gives the table `default_runtime`, which 2 no longer has, the name that 1.7 gives it (`ValidatePluginConfig` in
/// `pkg/cri/config/config.go`).
fn name_default_runtime(effective: &mut Value, plugin: &str) {
    let table = effective.pointer_mut(&format!("/plugins/{plugin}/containerd"));
    let Some(table) = table.and_then(Value::as_object_mut) else { return };
    let Some(runtime) = table.get("default_runtime").cloned() else { return };
    if runtime.get("runtime_type").and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    table.insert("default_runtime_name".to_owned(), "default".into());
    if let Some(runtimes) = table.get_mut("runtimes").and_then(Value::as_object_mut) {
        runtimes.insert("default".to_owned(), runtime);
    }
}

/// Files that containerd reads.
struct Imported {
    /// In the order in which it reads them.
    files: Vec<(String, Value)>,
    has_unknown_imports: bool,
    /// The file that imports one which is not there.
    missing: Option<RejectedFile>,
    ambiguous: Option<(String, AmbiguousKey)>,
}

/// Reads the main file and those that it imports: from file to file, in the order in which they are found (`LoadConfig`).
fn follow_imports<R: ConfigReader>(
    main: String,
    case: KeyCase,
    reader: &R,
) -> Result<Imported, R::Error> {
    let mut files: Vec<(String, Value)> = Vec::new();
    let mut seen = BTreeSet::new();
    let (mut has_unknown_imports, mut missing, mut ambiguous) = (false, None, None);
    let mut pending = VecDeque::from([(main, None)]);
    while let Some((path, importer)) = pending.pop_front() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let Some(mut value) = reader.value(&path)? else {
            // `config dump` of 2 shows what was read so far (measured with 2.1.9), but containerd itself ends. A main file need not be there.
            missing = importer.map(|importer| RejectedFile {
                path: importer,
                cause: format!("it imports {path}, which is not there"),
                cure: "create that, or remove it from imports".to_owned(),
            });
            break;
        };
        if let Err(keys) = case.normalize_outermost(&mut value) {
            ambiguous.get_or_insert_with(|| (path.clone(), keys));
        }
        for pattern in import_patterns(&path, &value) {
            match matching_paths(reader, &pattern)? {
                Some(paths) => {
                    pending.extend(paths.into_iter().map(|found| (found, Some(path.clone()))));
                }
                None => has_unknown_imports = true,
            }
        }
        files.push((path, value));
    }
    Ok(Imported { files, has_unknown_imports, missing, ambiguous })
}

/// Patterns of the files that a file of containerd imports. A relative one is resolved against the directory of the file
/// (`resolveImports`).
fn import_patterns(path: &str, file: &Value) -> Vec<String> {
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let absolute = |pattern: String| match pattern.starts_with('/') {
        true => clean(&pattern),
        false => clean(&format!("{dir}/{pattern}")),
    };
    strings_at(file, &["imports"]).unwrap_or_default().into_iter().map(absolute).collect()
}

/// An absolute path without `.` and `..`, and without following links, as Go's `filepath.Clean` writes it.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
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
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for path in paths {
            if part.contains(['*', '?']) {
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
    fn paths_are_as_containerd_writes_them() {
        for (path, expected) in
            [("/a/../b/*.toml", "/b/*.toml"), ("/a//./b/", "/a/b"), ("/../a", "/a"), ("/a/..", "/")]
        {
            assert_eq!(clean(path), expected);
        }
    }

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
