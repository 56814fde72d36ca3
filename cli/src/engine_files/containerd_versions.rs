//! Versions of containerd's files: the name of the CRI plugin in each, and how a release joins files of several versions. Pure.

use super::{
    CONTAINERD_2,
    merge::{MergeRules, Merged},
    settings::RejectedFile,
    strings_at, value_at,
};
use mig_cdi_gen::engines::EngineVersion;
use serde_json::{Map, Value, json, map::Entry};

// The plugin was renamed with each version of the format. containerd 2 split it in two: this half runs containers, the other handles
// images.
const V1: &str = "cri";
const V2: &str = "io.containerd.grpc.v1.cri";
const V3: &str = "io.containerd.cri.v1.runtime";

/// First release that converts each file to the newest version before it joins them, and the first with version 4
/// (`LoadConfigWithPlugins` in `cmd/containerd/server/config/config.go`).
const CONVERTS_EACH_FILE: EngineVersion = EngineVersion::new(2, 3, 0);

/// The CRI plugin of containerd, as files of a version name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CriPlugin {
    /// Version of the files.
    pub version: i64,
    /// Name of the table.
    pub name: &'static str,
}

/// Files of containerd, joined.
pub(super) struct Joined {
    /// The joined settings, with the `version` by which containerd reads all of them.
    pub value: Value,
    /// Version of the main file, and the name of the plugin in `value`.
    pub cri: CriPlugin,
    pub rejected: Option<RejectedFile>,
}

impl CriPlugin {
    const fn of_version(version: i64) -> CriPlugin {
        let name = match version {
            3.. => V3,
            0 | 1 => V1,
            // Below 0 as well (`Decode` of 1.7).
            _ => V2,
        };
        CriPlugin { version, name }
    }

    /// The name by which a file has the table of the plugin; the newest where it has none.
    pub(crate) fn name_in(file: &Value) -> &'static str {
        let has = |name: &&str| value_at(file, &["plugins", name]).is_some();
        [V3, V2, V1].into_iter().find(has).unwrap_or(V3)
    }

    /// The name by which a file of this version has the table, whether or not it has one yet.
    pub(super) fn name_in_form(self, file: &Value) -> &'static str {
        match value_at(file, &["plugins", CriPlugin::name_in(file)]) {
            Some(_) => CriPlugin::name_in(file),
            None => CriPlugin::of_version(self.version).name,
        }
    }

    /// Forms that a drop-in beside a main file of this version may have. The first one is that of the main file; before 2.3 the version
    /// of the last file counts for all of them, so that another one may be needed.
    pub(crate) fn of_drop_in(self, release: EngineVersion) -> Vec<CriPlugin> {
        let first = CriPlugin::of_version(if self.version < 2 { 3 } else { self.version });
        let mut forms = vec![first];
        if release < CONVERTS_EACH_FILE {
            let others = [3, 2].map(CriPlugin::of_version).into_iter();
            let others = others.chain([CriPlugin { version: 2, name: V3 }]);
            forms.extend(others.filter(|other| *other != first));
        }
        forms
    }
}

/// Joins the files in the order in which containerd reads them.
pub(super) fn join(release: EngineVersion, files: &[(String, Value)]) -> Joined {
    let mut joined = match release < CONTAINERD_2 {
        true => join_as_1(files),
        false => join_as_2(release, files),
    };
    if let Some(undecodable) = files.iter().find_map(|(path, file)| undecodable(path, file)) {
        joined.rejected = Some(undecodable);
    }
    joined
}

/// 1.7 converts nothing: the last version that a file has counts for all (`mergeConfig`), and tables by names of another one are not
/// read.
fn join_as_1(files: &[(String, Value)]) -> Joined {
    const NEWEST: i64 = 2;
    let last = files.iter().rev().find_map(|(path, file)| Some((path, version_of(file)?)));
    // A new file gets the newest version.
    let without = || if files.iter().all(|(_, file)| has_no_keys(file)) { NEWEST } else { 1 };
    let version = last.map_or_else(without, |(_, version)| version);
    let rejected = match last {
        Some((path, version)) if version > NEWEST => Some(too_new(path, version, NEWEST)),
        Some((_, NEWEST)) => files.iter().find_map(|(path, file)| {
            old_name(path, file).or_else(|| misnamed(path, file, is_full_name))
        }),
        _ => None,
    };
    let mut merged = Merged::new(MergeRules::Containerd1, json!({}));
    files.iter().for_each(|(_, file)| merged.add(file));
    let value = with_version(merged.into_value(), version);
    Joined { value, cri: CriPlugin::of_version(version), rejected }
}

/// 2.0 to 2.2 convert the joined files where the last version that a file has is an older one; tables by older names are not read
/// otherwise. A file of version 1 counts as one of the version of the file before it (`LoadConfig`; measured with 2.1.9).
fn join_as_2(release: EngineVersion, files: &[(String, Value)]) -> Joined {
    let converts_each = release >= CONVERTS_EACH_FILE;
    let newest = if converts_each { 4 } else { 3 };
    let mut merged = Merged::new(MergeRules::Containerd2, json!({}));
    let mut version = newest;
    let mut root_version = 0;
    let (mut rejected, mut misnamed_plugin) = (None, None);
    for (path, file) in files {
        let mut file = file.clone();
        let own = version_of(&file).unwrap_or(1);
        if root_version == 0 {
            root_version = version_of(&file).unwrap_or(0);
        }
        if converts_each && own < 0 {
            rejected.get_or_insert_with(|| negative(path, own));
        } else if converts_each && version_of(&file).is_some_and(|version| version > root_version) {
            rejected.get_or_insert_with(|| above_root(path, own, root_version));
        }
        if matches!(own, 0 | 1) {
            rename(&mut file, V1, V2);
        } else {
            misnamed_plugin = misnamed_plugin.or_else(|| misnamed(path, &file, is_dotted));
            if !converts_each {
                version = own;
                rejected = match own {
                    ..0 => Some(negative(path, own)),
                    _ => (own > newest).then(|| too_new(path, own, newest)),
                };
            }
        }
        if converts_each && own < newest {
            convert(&mut file);
        }
        merged.add(&file);
    }
    let mut value = merged.into_value();
    if version < newest {
        convert(&mut value);
    } else if let Some(plugins) = plugins_of(&mut value) {
        plugins.remove(V2);
    }
    let main = files.first().map(|(_, file)| file);
    let without = || if main.is_none_or(has_no_keys) { 3 } else { 1 };
    let main = main.and_then(version_of).unwrap_or_else(without);
    let cri = CriPlugin { version: main, name: V3 };
    let rejected = rejected.or(misnamed_plugin);
    Joined { value: with_version(value, version), cri, rejected }
}

/// Version that a file has. To containerd 0 is an absent value.
fn version_of(file: &Value) -> Option<i64> {
    file.get("version").and_then(Value::as_i64).filter(|version| *version != 0)
}

/// True for a file without keys: empty, or with comments alone.
pub(crate) fn has_no_keys(file: &Value) -> bool {
    file.as_object().is_none_or(Map::is_empty)
}

fn with_version(mut value: Value, version: i64) -> Value {
    if let Some(table) = value.as_object_mut() {
        table.insert("version".to_owned(), version.into());
    }
    value
}

fn plugins_of(file: &mut Value) -> Option<&mut Map<String, Value>> {
    file.get_mut("plugins")?.as_object_mut()
}

fn rename(file: &mut Value, from: &str, to: &str) {
    if let Some(plugins) = plugins_of(file)
        && let Some(table) = plugins.remove(from)
    {
        plugins.insert(to.to_owned(), table);
    }
}

/// Moves what the table of version 2 has to that of version 3, which keeps what it has (`migrateConfig` in
/// `plugins/cri/runtime/plugin.go`, since 2.0.2). Settings of images go elsewhere in containerd; no name of theirs is used here.
fn convert(file: &mut Value) {
    let Some(plugins) = plugins_of(file) else { return };
    let Some(Value::Object(from)) = plugins.remove(V2) else { return };
    let Some(into) = plugins.entry(V3).or_insert_with(|| json!({})).as_object_mut() else { return };
    for (key, value) in from {
        let has_members = matches!(&*key, "cni" | "containerd");
        match into.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(value)),
            Entry::Occupied(entry) if has_members => {
                if let (Value::Object(into), Value::Object(from)) = (entry.into_mut(), value) {
                    for (key, value) in from {
                        into.entry(key).or_insert(value);
                    }
                }
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// A file of a later version than the first one that has a version (`LoadConfigWithPlugins`).
fn above_root(path: &str, version: i64, root_version: i64) -> RejectedFile {
    RejectedFile {
        path: path.to_owned(),
        cause: format!(
            "its version is {version}, and that of the file that is read first is {root_version}"
        ),
        cure: format!(
            "write that file in version {version} with containerd config migrate, or this one in version {root_version}"
        ),
    }
}

fn too_new(path: &str, version: i64, newest: i64) -> RejectedFile {
    RejectedFile {
        path: path.to_owned(),
        cause: format!("its version is {version}, and this release reads versions up to {newest}"),
        cure: format!("set version = {newest} there, and rename its plugin tables to match"),
    }
}

/// A file with whose version 2 panics, the index of a list (`MigrateConfigTo`; measured with 2.1.9). 1.7 starts with it.
fn negative(path: &str, version: i64) -> RejectedFile {
    RejectedFile {
        path: path.to_owned(),
        cause: format!("its version is {version}, and there is none below 1"),
        cure: "set version = 2 there".to_owned(),
    }
}

/// A file that no release can decode: a setting that is read here has another type than in `Config`.
fn undecodable(path: &str, file: &Value) -> Option<RejectedFile> {
    type Form = (fn(&Value) -> bool, &'static str);
    const LIST: Form = (is_string_list, "a list of strings");
    let forms: [(&str, Form); 5] = [
        ("version", (Value::is_i64, "a whole number")),
        ("plugins", (is_table_of_tables, "a table of tables")),
        ("imports", LIST),
        ("disabled_plugins", LIST),
        ("required_plugins", LIST),
    ];
    let is_other =
        |(key, (is_form, _)): &(&str, Form)| file.get(key).is_some_and(|value| !is_form(value));
    let (key, (_, form)) = forms.into_iter().find(is_other)?;
    Some(RejectedFile {
        path: path.to_owned(),
        cause: format!("its {key} is not {form}"),
        cure: "correct it there".to_owned(),
    })
}

fn is_string_list(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(Value::is_string))
}

fn is_table_of_tables(value: &Value) -> bool {
    value.as_object().is_some_and(|table| table.values().all(Value::is_object))
}

/// True for the name of a plugin as 1.7 takes it in files of version 2 (`ValidateV2`).
fn is_full_name(name: &str) -> bool {
    name.starts_with("io.containerd.") && name.splitn(4, '.').count() == 4
}

/// True for the name of a plugin as 2 takes it (`ValidateVersion`).
fn is_dotted(name: &str) -> bool {
    name.contains('.')
}

/// A plugin that is disabled or required by a name with which containerd does not start.
fn misnamed(path: &str, file: &Value, is_name: fn(&str) -> bool) -> Option<RejectedFile> {
    let misnamed = |list: &'static str| {
        let mut names = strings_at(file, &[list])?.into_iter();
        Some((list, names.find(|name| !is_name(name))?))
    };
    let (list, name) = ["disabled_plugins", "required_plugins"].into_iter().find_map(misnamed)?;
    let cure = match &*name {
        V1 => format!("write {V2:?} in its place"),
        _ => format!("write its whole name, as {V2:?}"),
    };
    Some(RejectedFile {
        path: path.to_owned(),
        cause: format!("its {list} has {name:?}, a name of version 1"),
        cure,
    })
}

/// A table of a plugin by its name of version 1, with which 1.7 does not start where the files are of version 2 (`ValidateV2`).
fn old_name(path: &str, file: &Value) -> Option<RejectedFile> {
    let name = file.get("plugins")?.as_object()?.keys().find(|name| !is_full_name(name))?;
    let cure = match &**name {
        V1 => format!("rename the table to plugins.{V2:?}"),
        _ => "give the table the name that it has in version 2".to_owned(),
    };
    Some(RejectedFile {
        path: path.to_owned(),
        cause: format!(
            "the files are of version 2, and its table plugins.{name} has a name of version 1"
        ),
        cure,
    })
}
