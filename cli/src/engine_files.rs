//! Configuration files of container engines: their paths, the files that they import, and the lookup of a value in
//! them. Shared by `configure`, which edits the files, and `doctor`, which reads them. Changes nothing.

use mig_cdi_gen::engines::EngineVersion;
use mig_cdi_sys::{Result, Root};
use serde_json::Value;

/// Directories from which engines read CDI specs unless their configuration names others. Both the Go library
/// of CDI (`pkg/cdi/spec-dirs.go`) and we list them in ascending priority: the later one wins.
pub(crate) const DEFAULT_SPEC_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Directory from which podman and CRI-O read hooks unless their configuration names others.
pub(crate) const DEFAULT_HOOKS_DIR: &str = "/usr/share/containers/oci/hooks.d";
/// Directory for an administrator's hooks (oci-hooks(5)). podman reads it only where its configuration names it, or with
/// `--hooks-dir`.
pub(crate) const ADMIN_HOOKS_DIR: &str = "/etc/containers/oci/hooks.d";
/// Path of containerd's configuration.
pub(crate) const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

/// First release of podman in which `cdi_spec_dirs` is a setting. Earlier ones have the directories compiled in.
const PODMAN_HAS_SPEC_DIRS: EngineVersion = EngineVersion::new(5, 5, 0);
/// First release of podman that reads `/var/run/cdi` by default again: 5.5 read only `/etc/cdi` (podman issue 26569).
const PODMAN_READS_RUN_CDI: EngineVersion = EngineVersion::new(5, 6, 0);
/// First release of containerd that merges the table of a plugin from several files. In earlier ones the table of an
/// imported file replaces the whole table of the files before (measured with 1.7.24; containerd issue 5837). It is also
/// the first with `enable_cdi = true` by default (`docs/cri/config.md`).
pub(crate) const CONTAINERD_2: EngineVersion = EngineVersion::new(2, 0, 0);
/// First release of Docker with `features.cdi` on by default (moby pull request 49963).
pub(crate) const DOCKER_ENABLES_CDI: EngineVersion = EngineVersion::new(28, 2, 0);

/// True when `cdi_spec_dirs` is a setting of this release of podman.
pub(crate) fn podman_has_spec_dirs(version: EngineVersion) -> bool {
    version >= PODMAN_HAS_SPEC_DIRS
}

/// Directories from which podman reads specs when no file sets them.
pub(crate) fn podman_default_spec_dirs(version: EngineVersion) -> &'static [&'static str] {
    match (PODMAN_HAS_SPEC_DIRS..PODMAN_READS_RUN_CDI).contains(&version) {
        true => &DEFAULT_SPEC_DIRS[..1],
        false => &DEFAULT_SPEC_DIRS,
    }
}

/// Lists a file and those of its drop-in directory, in the order in which a later one overrides an earlier one: podman and
/// CRI-O sort drop-ins by name.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn file_and_drop_ins(host: &Root, path: &str, suffix: &str) -> Result<Vec<String>> {
    let dir = format!("{path}.d");
    let names = host.list(&dir)?.unwrap_or_default();
    let drop_ins = names.into_iter().filter(|name| name.ends_with(suffix));
    let drop_ins = drop_ins.map(|name| format!("{dir}/{name}"));
    Ok(std::iter::once(path.to_owned()).chain(drop_ins).collect())
}

/// True when containerd's configuration disables the CRI plugin, of which `plugin` is the name in it. Docker's packages of
/// containerd ship `disabled_plugins = ["cri"]`.
pub(crate) fn is_cri_disabled(config: &Value, plugin: &str) -> bool {
    // The plugin that serves CRI has kept the name of version 2.
    let names = ["cri", "io.containerd.grpc.v1.cri", plugin];
    let disabled = strings_at(config, &["disabled_plugins"]).unwrap_or_default();
    disabled.iter().any(|name| names.contains(&name.as_str()))
}

/// Suffix of podman's drop-ins: it reads no other files of the directory (containers.conf(5)).
pub(crate) const PODMAN_DROP_INS: &str = ".conf";
/// Suffix of CRI-O's drop-ins: it reads every file of the directory (`pkg/config/config.go`, `UpdateFromPath`).
pub(crate) const CRIO_DROP_INS: &str = "";

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
