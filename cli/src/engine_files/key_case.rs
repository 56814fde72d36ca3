//! Letter case of the keys in an engine's files: which of them its parser takes for which setting. Pure.

use super::CONTAINERD_2;
use crate::cli::EngineArg;
use mig_cdi_gen::engines::EngineVersion;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Paths of the settings that are read or written here, as the engines document them. `*` is a name that a person chose: a key of a Go
/// map, which counts letter by letter.
const SETTINGS: [&str; 37] = [
    // podman
    "engine.cdi_spec_dirs",
    "engine.hooks_dir",
    "engine.runtime",
    "engine.runtimes.*",
    // CRI-O
    "crio.runtime.cdi_spec_dirs",
    "crio.runtime.default_runtime",
    "crio.runtime.hooks_dir",
    "crio.runtime.runtimes.*.allowed_annotations",
    "crio.runtime.runtimes.*.inherit_default_runtime",
    "crio.runtime.runtimes.*.monitor_cgroup",
    "crio.runtime.runtimes.*.monitor_env",
    "crio.runtime.runtimes.*.monitor_path",
    "crio.runtime.runtimes.*.platform_runtime_paths.*",
    "crio.runtime.runtimes.*.privileged_without_host_devices",
    "crio.runtime.runtimes.*.runtime_config_path",
    "crio.runtime.runtimes.*.runtime_path",
    "crio.runtime.runtimes.*.runtime_root",
    "crio.runtime.runtimes.*.runtime_type",
    // containerd
    "version",
    "imports",
    "disabled_plugins",
    "required_plugins",
    "plugins.*.enable_cdi",
    "plugins.*.cdi_spec_dirs",
    "plugins.*.containerd.default_runtime.runtime_type",
    "plugins.*.containerd.default_runtime_name",
    "plugins.*.containerd.runtimes.*.base_runtime_spec",
    "plugins.*.containerd.runtimes.*.cni_conf_dir",
    "plugins.*.containerd.runtimes.*.container_annotations",
    "plugins.*.containerd.runtimes.*.pod_annotations",
    "plugins.*.containerd.runtimes.*.privileged_without_host_devices",
    "plugins.*.containerd.runtimes.*.runtime_path",
    "plugins.*.containerd.runtimes.*.runtime_type",
    "plugins.*.containerd.runtimes.*.options.BinaryName",
    "plugins.*.containerd.runtimes.*.options.Root",
    "plugins.*.containerd.runtimes.*.options.ShimCgroup",
    "plugins.*.containerd.runtimes.*.options.SystemdCgroup",
];

/// Settings of one table, as the rest of their paths.
#[derive(Debug, Clone)]
struct Settings(Vec<&'static str>);

impl Settings {
    fn of_file() -> Settings {
        Settings(SETTINGS.to_vec())
    }

    /// Settings of the table below a key.
    fn below(&self, key: &str) -> Settings {
        let rest = |path: &&'static str| match path.split_once('.') {
            Some((first, rest)) if first == key || first == "*" => Some(rest),
            _ => None,
        };
        Settings(self.0.iter().filter_map(rest).collect())
    }

    /// Keys of the table that a person did not choose.
    fn keys(&self) -> BTreeSet<&'static str> {
        let first = |path: &&'static str| path.split('.').next().filter(|key| *key != "*");
        self.0.iter().filter_map(first).collect()
    }
}

/// Rule of a parser for keys that differ from a setting in the case of their letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyCase {
    /// Docker: dockerd does not start with a key that differs (moby `daemon/config/config.go`, `findConfigurationConflicts`).
    Exact,
    /// podman and CRI-O: the case does not matter. Of two keys of one setting in a table either may win, since Go visits the keys of
    /// a map in random order (BurntSushi/toml `decode.go`, `unifyStruct`).
    Ignored,
    /// containerd 2: the case does not matter. It joins its files by the keys as they are, sorts these, and the last one wins
    /// (`cmd/containerd/server/config/config.go`, `mergeConfig` and `Decode`; pelletier/go-toml v2 `unmarshaler.go`,
    /// `structFieldPath`, and `marshaler.go`, `sortEntriesByKey`).
    LastWins,
    /// containerd 1.7: the setting itself or else its lower case, upper case, or lower first letter (pelletier/go-toml 1.9
    /// `marshal.go`, `keysToTry`). Other keys are ignored.
    FewForms,
}

/// Two keys of one table that an engine takes for the same setting, of which it uses a random one or, in containerd, the later one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has both {} and {}, which are one setting to the engine", .0[0], .0[1])]
pub(crate) struct AmbiguousKey(pub [String; 2]);

impl KeyCase {
    /// Rule of the parser of an engine.
    pub(crate) fn of(engine: EngineArg, version: EngineVersion) -> KeyCase {
        match engine {
            EngineArg::Docker => KeyCase::Exact,
            EngineArg::Podman | EngineArg::Crio => KeyCase::Ignored,
            EngineArg::Containerd if version >= CONTAINERD_2 => KeyCase::LastWins,
            EngineArg::Containerd => KeyCase::FewForms,
        }
    }

    /// The keys of a table that the engine takes for a setting, the one that wins last.
    fn keys(self, table: &Map<String, Value>, field: &str) -> Vec<String> {
        let is_there = |key: &String| table.contains_key(key);
        match self {
            KeyCase::Exact => Some(field.to_owned()).filter(is_there).into_iter().collect(),
            KeyCase::Ignored | KeyCase::LastWins => {
                let is_field = |key: &&String| key.eq_ignore_ascii_case(field);
                let mut keys: Vec<_> = table.keys().filter(is_field).cloned().collect();
                keys.sort_unstable();
                keys
            }
            KeyCase::FewForms => {
                let lower_first = match field.split_at_checked(1) {
                    Some((first, rest)) => first.to_ascii_lowercase() + rest,
                    None => field.to_owned(),
                };
                let (lower, upper) = (field.to_ascii_lowercase(), field.to_ascii_uppercase());
                let forms = [field.to_owned(), lower, upper, lower_first];
                forms.into_iter().find(is_there).into_iter().collect()
            }
        }
    }

    /// The path of a setting as a file spells it, as far as the file has it. Of several spellings of a table that one which has most of
    /// the rest.
    pub(crate) fn spelled(self, file: &Value, path: &[String]) -> Vec<String> {
        self.spelled_below(file.as_object(), &Settings::of_file(), path).1
    }

    /// The number of keys that are there, and the spelled path.
    fn spelled_below(
        self,
        table: Option<&Map<String, Value>>,
        settings: &Settings,
        path: &[String],
    ) -> (usize, Vec<String>) {
        let Some((field, rest)) = path.split_first() else { return (0, Vec::new()) };
        let keys = match table {
            Some(table) if settings.keys().contains(&**field) => self.keys(table, field),
            _ => vec![field.clone()],
        };
        let settings = settings.below(field);
        let below = |key: String| {
            let found = table.and_then(|table| table.get(&key));
            let (depth, mut spelled) =
                self.spelled_below(found.and_then(Value::as_object), &settings, rest);
            spelled.insert(0, key);
            (depth + usize::from(found.is_some()), spelled)
        };
        // The last of several wins.
        let best = keys.into_iter().map(below).max_by_key(|(depth, _)| *depth);
        best.unwrap_or_else(|| below(field.clone()))
    }

    /// Gives the settings of a file the names that the engine documents.
    ///
    /// # Errors
    /// For a setting with two values of which the engine takes a random one. Both names are as the file has them; all other settings
    /// have their names, and this one has one of the two values.
    pub(crate) fn normalize(self, file: &mut Value) -> Result<(), AmbiguousKey> {
        let mut clash = None;
        if let Some(table) = file.as_object_mut() {
            self.normalize_below(table, &Settings::of_file(), &mut clash);
        }
        clash.map_or(Ok(()), Err)
    }

    /// The same for the outermost table of a file of containerd alone. There 2 takes the later of two keys, and their order is not known
    /// here.
    pub(crate) fn normalize_outermost(self, file: &mut Value) -> Result<(), AmbiguousKey> {
        let case = if self == KeyCase::LastWins { KeyCase::Ignored } else { self };
        let mut clash = None;
        if let Some(table) = file.as_object_mut() {
            case.rename(table, &Settings::of_file(), &mut clash);
        }
        clash.map_or(Ok(()), Err)
    }

    fn normalize_below(
        self,
        table: &mut Map<String, Value>,
        settings: &Settings,
        clash: &mut Option<AmbiguousKey>,
    ) {
        self.rename(table, settings, clash);
        let tables =
            table.iter_mut().filter_map(|(key, value)| Some((key, value.as_object_mut()?)));
        for (key, table) in tables {
            let settings = settings.below(key);
            if !settings.0.is_empty() {
                self.normalize_below(table, &settings, clash);
            }
        }
    }

    fn rename(
        self,
        table: &mut Map<String, Value>,
        settings: &Settings,
        clash: &mut Option<AmbiguousKey>,
    ) {
        for field in settings.keys() {
            let keys = self.keys(table, field);
            if keys.iter().all(|key| key == field) {
                continue;
            }
            let mut joined: Option<(String, Value)> = None;
            for key in keys {
                let Some(value) = table.remove(&key) else { continue };
                match (&mut joined, value) {
                    (Some((other, Value::Object(into))), Value::Object(from)) => {
                        self.join(into, from, [other, &key], clash);
                    }
                    (Some((other, before)), value)
                        if self == KeyCase::Ignored && *before != value =>
                    {
                        clash.get_or_insert(AmbiguousKey([other.clone(), key]));
                    }
                    (_, value) => joined = Some((key, value)),
                }
            }
            table.extend(joined.map(|(_, value)| (field.to_owned(), value)));
        }
    }

    /// Joins the tables of two keys of one setting, which the engine decodes one after the other.
    fn join(
        self,
        into: &mut Map<String, Value>,
        from: Map<String, Value>,
        [one, other]: [&str; 2],
        clash: &mut Option<AmbiguousKey>,
    ) {
        for (key, value) in from {
            let names = [format!("{one}.{key}"), format!("{other}.{key}")];
            match (into.get_mut(&key), value) {
                (Some(Value::Object(into)), Value::Object(from)) => {
                    self.join(into, from, names.each_ref().map(String::as_str), clash);
                }
                (Some(before), value) if self == KeyCase::Ignored && *before != value => {
                    clash.get_or_insert(AmbiguousKey(names));
                }
                (_, value) => drop(into.insert(key, value)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn normalized(case: KeyCase, mut file: Value) -> Value {
        case.normalize(&mut file).unwrap();
        file
    }

    #[test]
    fn keys_are_those_that_the_parser_takes() {
        let podman =
            json!({ "Engine": { "HOOKS_dir": ["a"], "Runtimes": { "Runc": 1, "runc": 2 } } });
        let expected =
            json!({ "engine": { "hooks_dir": ["a"], "runtimes": { "Runc": 1, "runc": 2 } } });
        assert_eq!(normalized(KeyCase::Ignored, podman.clone()), expected);
        assert_eq!(normalized(KeyCase::Exact, podman.clone()), podman);
        let cri = |key: &str| json!({ "plugins": { "Cri": {}, "cri": { key: false } } });
        for (key, new, old) in [
            ("enable_cdi", true, true),
            ("ENABLE_CDI", true, true),
            ("Enable_CDI", true, false),
            ("enablecdi", false, false),
        ] {
            for (case, is_taken) in [(KeyCase::LastWins, new), (KeyCase::FewForms, old)] {
                let expected = if is_taken { cri("enable_cdi") } else { cri(key) };
                assert_eq!(normalized(case, cri(key)), expected, "{case:?} {key}");
            }
        }
    }

    /// The tables of both names count, and of two values the one that the engine takes.
    #[test]
    fn two_keys_of_one_setting_are_joined_or_refused() {
        let twice = |value: &str| json!({ "engine": { "hooks_dir": "a" }, "Engine": { "runtime": "b" }, "x": value });
        let expected = json!({ "engine": { "hooks_dir": "a", "runtime": "b" }, "x": "c" });
        assert_eq!(normalized(KeyCase::Ignored, twice("c")), expected);
        let mut clash = json!({ "engine": { "runtime": "b", "Runtime": "c" } });
        let error = KeyCase::Ignored.normalize(&mut clash).unwrap_err();
        assert_eq!(error, AmbiguousKey(["Runtime".to_owned(), "runtime".to_owned()]));
        let mut clash = json!({ "engine": { "a": { "b": 1 } }, "Engine": { "a": { "b": 2 } } });
        let error = KeyCase::Ignored.normalize(&mut clash).unwrap_err();
        assert_eq!(error, AmbiguousKey(["Engine.a.b".to_owned(), "engine.a.b".to_owned()]));
        let version = json!({ "Version": 2, "version": 3, "VERSION": 4 });
        // The other settings of the file have their names.
        let mut clash =
            json!({ "engine": { "runtime": "b", "Runtime": "c", "Hooks_Dir": ["/a"] } });
        assert!(KeyCase::Ignored.normalize(&mut clash).is_err());
        assert_eq!(clash["engine"]["hooks_dir"], json!(["/a"]));
        assert_eq!(clash["engine"]["runtime"], "c");
        for case in [KeyCase::LastWins, KeyCase::FewForms] {
            assert_eq!(normalized(case, version.clone())["version"], 3);
        }
        assert_eq!(KeyCase::FewForms.normalize_outermost(&mut version.clone()), Ok(()));
        let error = KeyCase::LastWins.normalize_outermost(&mut version.clone()).unwrap_err();
        assert_eq!(error, AmbiguousKey(["VERSION".to_owned(), "Version".to_owned()]));
    }

    /// Names that persons chose, and tables that are not read here, are left as they are, whatever they are called.
    #[test]
    fn chosen_names_are_no_settings() {
        let file = json!({
            "engine": {
                "volume_plugins": { "Crio": "/a", "crio": "/b", "Runtime": "/c", "runtime": "/d" },
                "runtimes": { "Runtime": ["/a"], "runtime": ["/b"] },
            },
            "crio": { "runtime": { "runtimes": { "Hooks_Dir": {}, "hooks_dir": {
                "default_annotations": { "Version": "1", "version": "2" },
                "platform_runtime_paths": { "Runtime_Path": "/a", "runtime_path": "/b" },
            } } } },
            "plugins": { "Imports": {}, "imports": { "labels": { "Enable_CDI": 1, "enable_cdi": 2 } } },
        });
        for case in [KeyCase::Ignored, KeyCase::LastWins, KeyCase::FewForms] {
            assert_eq!(normalized(case, file.clone()), file, "{case:?}");
        }
    }

    #[test]
    fn a_path_is_spelled_as_in_the_file() {
        let file = json!({ "Plugins": { "cri": { "ENABLE_CDI": true } } });
        let path = ["plugins", "cri", "enable_cdi"].map(str::to_owned);
        assert_eq!(KeyCase::LastWins.spelled(&file, &path), ["Plugins", "cri", "ENABLE_CDI"]);
        assert_eq!(KeyCase::FewForms.spelled(&file, &path), path);
        assert_eq!(KeyCase::LastWins.spelled(&json!({}), &path), path);
        let two = json!({ "Engine": { "cdi_spec_dirs": [] }, "engine": { "runtime": "crun" } });
        let path = ["engine", "cdi_spec_dirs"].map(str::to_owned);
        assert_eq!(KeyCase::Ignored.spelled(&two, &path), ["Engine", "cdi_spec_dirs"]);
        // Keys of other tables may be anything.
        for odd in ["", "é"] {
            assert_eq!(KeyCase::FewForms.spelled(&file, &[odd.to_owned()]), [odd]);
        }
    }
}
