//! Configuration files of container engines: their paths, the files that they import, and the lookup of a value in
//! them. Shared by `configure`, which edits the files, and `doctor`, which reads them. Changes nothing.

use mig_cdi_sys::Root;
use serde_json::Value;

/// Directories from which engines read CDI specs unless their configuration names others. Both the Go library
/// of CDI (`pkg/cdi/spec-dirs.go`) and we list them in ascending priority: the later one wins.
pub(crate) const DEFAULT_SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Directory from which podman and CRI-O read hooks unless their configuration names others.
pub(crate) const DEFAULT_HOOKS_DIR: &str = "/usr/share/containers/oci/hooks.d";
/// Second directory from which podman reads hooks unless its configuration names others.
pub(crate) const ADMIN_HOOKS_DIR: &str = "/etc/containers/oci/hooks.d";
/// Path of containerd's configuration.
pub(crate) const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

/// Returns the name of the table of containerd's CRI plugin, which depends on the `version` of the file: the
/// plugin was renamed with each version of the format.
pub(crate) fn cri_plugin(version: i64) -> &'static str {
    match version {
        // containerd 2 split the plugin in two: this half runs containers, the other handles images.
        3.. => "io.containerd.cri.v1.runtime",
        2 => "io.containerd.grpc.v1.cri",
        _ => "cri",
    }
}

/// Returns the patterns of files that containerd's `config.toml` imports.
pub(crate) fn import_patterns(config: &Value) -> Vec<String> {
    let patterns = strings_at(config, &["imports"]).unwrap_or_default().into_iter();
    // containerd resolves a relative path against the directory of the file that imports it.
    let absolute = |pattern: String| match pattern.starts_with('/') {
        true => pattern,
        false => format!("/etc/containerd/{pattern}"),
    };
    patterns.map(absolute).collect()
}

/// True when the pattern names the path. At most one `*` in the last part of the pattern is supported; any other
/// pattern matches nothing, and [`ImportedFiles::has_unknown`] is then true.
pub(crate) fn matches_import(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((start, end)) => path
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end))
            .is_some_and(|between| !between.contains('/')),
    }
}

/// Files that containerd's `config.toml` imports.
#[derive(Debug, Default)]
pub(crate) struct ImportedFiles {
    /// Paths in the order of import; a later file overrides an earlier one.
    pub paths: Vec<String>,
    /// True when a pattern is of a form that [`matches_import`] does not support.
    pub has_unknown: bool,
}

/// Lists the files that containerd's `config.toml` imports.
pub(crate) fn imported_files(host: &Root, config: &Value) -> ImportedFiles {
    let mut imported = ImportedFiles::default();
    for pattern in import_patterns(config) {
        let dir = pattern.rsplit_once('/').map_or("/", |(dir, _)| dir);
        let names = host.list(dir).ok().flatten().unwrap_or_default().into_iter();
        let before = imported.paths.len();
        let paths = names.map(|name| format!("{dir}/{name}"));
        imported.paths.extend(paths.filter(|path| matches_import(&pattern, path)));
        let is_simple = pattern.matches('*').count() == 1 && !dir.contains('*');
        imported.has_unknown |= imported.paths.len() == before && !is_simple;
    }
    imported
}

/// Returns the value at a path of keys.
pub(crate) fn value_at<'v>(value: &'v Value, keys: &[&str]) -> Option<&'v Value> {
    keys.iter().try_fold(value, |value, key| value.get(key))
}

/// Returns the list of strings at a path of keys. Items that are not strings are skipped.
pub(crate) fn strings_at(value: &Value, keys: &[&str]) -> Option<Vec<String>> {
    let list = value_at(value, keys)?.as_array()?.iter();
    Some(list.filter_map(|item| item.as_str().map(str::to_owned)).collect())
}

/// Returns the list that is in effect: the one in the last file that has it, or the default. A list in a later
/// file replaces that of an earlier one; the two are not joined.
pub(crate) fn effective_list(files: &[Value], keys: &[&str], default: &[&str]) -> Vec<String> {
    let set = files.iter().rev().find_map(|value| strings_at(value, keys));
    set.unwrap_or_else(|| default.iter().map(|item| (*item).to_owned()).collect())
}
