//! podman's files: which ones it reads, in which order, and its built-in values.

use super::{
    DEFAULT_HOOKS_DIR, DEFAULT_SPEC_DIRS,
    settings::{ConfigPlaces, ConfigReader, EngineSettings, RejectedFile, read_all},
};
use mig_cdi_gen::engines::EngineVersion;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// First release in which `cdi_spec_dirs` is a setting. Earlier ones have the directories compiled in.
const HAS_SPEC_DIRS: EngineVersion = EngineVersion::new(5, 5, 0);
/// First release that reads `/var/run/cdi` by default again: 5.5 read only `/etc/cdi` (podman issue 26569).
const READS_RUN_CDI: EngineVersion = EngineVersion::new(5, 6, 0);
/// First release in which root, too, reads the files below its home (containers/common commit 6f29325c).
const ROOT_HAS_OWN_FILES: EngineVersion = EngineVersion::new(5, 0, 0);
/// First release with files for rootless users (containers/common pull request 2499).
const HAS_ROOTLESS_FILES: EngineVersion = EngineVersion::new(5, 7, 0);
/// First release that reads a single main file, and the drop-ins of all directories in the order of their names (container-libs
/// `storage/pkg/configfile/parse.go`).
const JOINS_DIRS: EngineVersion = EngineVersion::new(6, 0, 0);

const VENDOR: &str = "/usr/share/containers";
const ADMIN: &str = "/etc/containers";
/// Configuration directory of root, unless its `HOME` or `XDG_CONFIG_HOME` is unusual.
const HOME_OF_ROOT: &str = "/root/.config";

/// Reads the files of podman in its order (containers.conf(5); since podman 6 containers-config(5)).
///
/// # Errors
/// Those of the reader.
pub(super) fn files<R: ConfigReader>(
    version: EngineVersion,
    places: &ConfigPlaces,
    reader: &R,
) -> Result<Vec<(String, Value)>, R::Error> {
    let mut files = match &places.containers_conf {
        Some(path) => read_all(reader, [path.clone()])?,
        None if version < JOINS_DIRS => dir_by_dir(version, places, reader)?,
        None => joined_dirs(places, reader)?,
    };
    files.extend(read_all(reader, places.containers_conf_override.clone())?);
    Ok(files)
}

/// A file that a variable names and that is not there: no command of podman works then (containers/common `pkg/config/new.go`; measured
/// with 4.3.1).
pub(super) fn missing_file(
    places: &ConfigPlaces,
    files: &[(String, Value)],
) -> Option<RejectedFile> {
    let named = [
        ("CONTAINERS_CONF", &places.containers_conf),
        ("CONTAINERS_CONF_OVERRIDE", &places.containers_conf_override),
    ];
    let mut named =
        named.into_iter().filter_map(|(variable, path)| Some((variable, path.as_ref()?)));
    let is_missing = |path: &String| files.iter().all(|(file, _)| file != path);
    let (variable, path) = named.find(|(_, path)| is_missing(path))?;
    Some(RejectedFile {
        path: path.clone(),
        cause: format!("{variable} names it, and it is not there"),
        cure: format!("create it, or unset {variable}"),
    })
}

/// Before podman 6: each main file, followed by its drop-ins.
fn dir_by_dir<R: ConfigReader>(
    version: EngineVersion,
    places: &ConfigPlaces,
    reader: &R,
) -> Result<Vec<(String, Value)>, R::Error> {
    let mut paths = vec![format!("{VENDOR}/containers.conf")];
    let mut add = |main: String, more: Option<String>| {
        let dirs = [Some(format!("{main}.d")), more];
        paths.push(main);
        for dir in dirs.into_iter().flatten() {
            paths.extend(drop_ins(reader, &dir)?.into_values());
        }
        Ok(())
    };
    add(format!("{ADMIN}/containers.conf"), None)?;
    if places.user_config.is_some() && version >= HAS_ROOTLESS_FILES {
        let main = format!("{ADMIN}/containers.rootless.conf");
        let of_user = format!("{main}.d/{}", places.uid);
        add(main, Some(of_user))?;
    }
    if places.user_config.is_some() || version >= ROOT_HAS_OWN_FILES {
        add(format!("{}/containers.conf", own_dir(places)), None)?;
    }
    read_all(reader, paths)
}

/// Since podman 6: the main file with the highest precedence, and the drop-ins of all directories in the order of their names. Of those
/// with the same name, only the one with the highest precedence is read.
fn joined_dirs<R: ConfigReader>(
    places: &ConfigPlaces,
    reader: &R,
) -> Result<Vec<(String, Value)>, R::Error> {
    let mut dirs = Vec::new();
    for dir in [VENDOR, ADMIN] {
        dirs.push(format!("{dir}/containers.conf.d"));
        match places.user_config {
            None => dirs.push(format!("{dir}/containers.rootful.conf.d")),
            Some(_) => {
                let rootless = format!("{dir}/containers.rootless.conf.d");
                dirs.extend([rootless.clone(), format!("{rootless}/{}", places.uid)]);
            }
        }
    }
    let own = own_dir(places);
    dirs.push(format!("{own}/containers.conf.d"));

    let mut files = Vec::new();
    for dir in [&*own, ADMIN, VENDOR] {
        files = read_all(reader, [format!("{dir}/containers.conf")])?;
        if !files.is_empty() {
            break;
        }
    }
    let mut by_name = BTreeMap::new();
    for dir in dirs {
        by_name.extend(drop_ins(reader, &dir)?);
    }
    files.extend(read_all(reader, by_name.into_values())?);
    Ok(files)
}

/// Directory below the home of the user who runs podman.
fn own_dir(places: &ConfigPlaces) -> String {
    format!("{}/containers", places.user_config.as_deref().unwrap_or(HOME_OF_ROOT))
}

/// Paths of the files of a drop-in directory, by name.
fn drop_ins<R: ConfigReader>(reader: &R, dir: &str) -> Result<BTreeMap<String, String>, R::Error> {
    let names = reader.list(dir)?.unwrap_or_default();
    let names = names.into_iter().filter(|name| name.ends_with(".conf"));
    Ok(names.map(|name| (name.clone(), format!("{dir}/{name}"))).collect())
}

/// Values that podman has without files. It passes over a directory of hooks that does not exist (`hooks.New`, since 2.0).
pub(super) fn built_in(version: EngineVersion) -> Value {
    // A release without the setting ignores the key; `podman_has_spec_dirs` tells.
    let spec_dirs = match (HAS_SPEC_DIRS..READS_RUN_CDI).contains(&version) {
        true => &DEFAULT_SPEC_DIRS[..1],
        false => &DEFAULT_SPEC_DIRS,
    };
    json!({ "engine": { "cdi_spec_dirs": spec_dirs, "hooks_dir": [DEFAULT_HOOKS_DIR] } })
}

/// True when `cdi_spec_dirs` is a setting of this release of podman.
pub(crate) fn podman_has_spec_dirs(version: EngineVersion) -> bool {
    version >= HAS_SPEC_DIRS
}

/// Spec directories that podman reads.
pub(crate) fn podman_spec_dirs(version: EngineVersion, settings: &EngineSettings) -> Vec<String> {
    match podman_has_spec_dirs(version) {
        true => settings.strings(&["engine", "cdi_spec_dirs"]),
        false => DEFAULT_SPEC_DIRS.map(str::to_owned).to_vec(),
    }
}
