//! Configuration files of container engines: their paths, the order in which an engine reads them, and the settings that are in effect.
//! Shared by `configure`, which edits the files, and `doctor`, which reads them. Changes nothing.

mod containerd;
mod containerd_versions;
mod hidden_dir;
mod key_case;
mod merge;
mod podman;
mod settings;

pub(crate) use containerd::import_dir;
pub(crate) use containerd_versions::{CriPlugin, has_no_keys};
pub(crate) use hidden_dir::{HidingLink, is_below_copied};
pub(crate) use key_case::{AmbiguousKey, KeyCase};
pub(crate) use podman::{podman_has_spec_dirs, podman_spec_dirs};
pub(crate) use settings::{
    ConfigPlaces, ConfigReader, EngineSettings, GivenConfig, RejectedFile, crio_default_runtime,
    crio_drop_in_dir, docker_user_dirs, main_file,
};

use mig_cdi_gen::engines::EngineVersion;
use mig_cdi_sys::Root;
use serde_json::Value;
use std::path::Path;

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

/// First release of containerd that merges the table of a plugin from several files. In earlier ones the table of an
/// imported file replaces the whole table of the files before (measured with 1.7.24; containerd issue 5837). It is also
/// the first with `enable_cdi = true` by default (`docs/cri/config.md`).
pub(crate) const CONTAINERD_2: EngineVersion = EngineVersion::new(2, 0, 0);
/// First release of Docker with `features.cdi` on by default (moby pull request 49963).
pub(crate) const DOCKER_ENABLES_CDI: EngineVersion = EngineVersion::new(28, 2, 0);

/// True when containerd's configuration disables the CRI plugin, of which `plugin` is the name in it. Docker's packages of
/// containerd ship `disabled_plugins = ["cri"]`.
pub(crate) fn is_cri_disabled(config: &Value, plugin: &str) -> bool {
    // The plugin that serves CRI has kept the name of version 2.
    let names = ["cri", "io.containerd.grpc.v1.cri", plugin];
    let disabled = strings_at(config, &["disabled_plugins"]).unwrap_or_default();
    disabled.iter().any(|name| names.contains(&name.as_str()))
}

/// A directory of the user who runs this (XDG Base Directory Specification): the one that a variable names, or one below `HOME`. Relative
/// paths are ignored.
pub(crate) fn user_dir(variable: &str, below_home: &str) -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|dir| dir.starts_with('/'));
    let home = || set("HOME").map(|home| format!("{}/{below_home}", home.trim_end_matches('/')));
    set(variable).or_else(home)
}

/// True for two paths of one directory: `/var/run` is a link to `/run` on current distributions.
pub(crate) fn is_same_dir(root: &Root, a: &str, b: &str) -> bool {
    let without_var = |path: &str| match Path::new(path).strip_prefix("/var/run") {
        Ok(below) => Path::new("/run").join(below),
        Err(_) => Path::new(path).components().collect(),
    };
    let identity = |path: &str| root.identity(path).ok().flatten();
    without_var(a) == without_var(b) || identity(a).is_some_and(|a| identity(b) == Some(a))
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
