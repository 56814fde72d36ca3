//! Letter case of the keys in an engine's files: which of them its parser takes for which setting. Pure.

use super::CONTAINERD_2;
use crate::cli::EngineArg;
use mig_cdi_gen::engines::EngineVersion;
use serde_json::{Map, Value};

/// Settings that are read or written here, as the engines document them.
const FIELDS: [&str; 21] = [
    "BinaryName",
    "cdi_spec_dirs",
    "container_annotations",
    "containerd",
    "crio",
    "default_runtime",
    "default_runtime_name",
    "disabled_plugins",
    "enable_cdi",
    "engine",
    "hooks_dir",
    "imports",
    "inherit_default_runtime",
    "options",
    "platform_runtime_paths",
    "plugins",
    "runtime",
    "runtime_path",
    "runtime_type",
    "runtimes",
    "version",
];

/// Tables of which the keys are names that a person chose: a Go map, whose keys count letter by letter.
const MAPS: [&str; 5] =
    ["default_annotations", "platform_runtime_paths", "plugins", "runtimes", "workloads"];

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

/// Two keys of one table that an engine takes for the same setting, of which it uses a random one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has both {} and {}, and the engine takes a random one of the two", .0[0], .0[1])]
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
        self.spelled_below(file.as_object(), "", path).1
    }

    /// The number of keys that are there, and the spelled path.
    fn spelled_below(
        self,
        table: Option<&Map<String, Value>>,
        name: &str,
        path: &[String],
    ) -> (usize, Vec<String>) {
        let Some((field, rest)) = path.split_first() else { return (0, Vec::new()) };
        let keys = match table {
            Some(table) if !MAPS.contains(&name) => self.keys(table, field),
            Some(table) => {
                table.get_key_value(field).map(|(key, _)| key.clone()).into_iter().collect()
            }
            None => Vec::new(),
        };
        let below = |key: String| {
            let found = table.and_then(|table| table.get(&key));
            let (depth, mut spelled) =
                self.spelled_below(found.and_then(Value::as_object), field, rest);
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
            self.normalize_below(table, "", &mut clash);
        }
        clash.map_or(Ok(()), Err)
    }

    /// The same for the outermost table alone.
    pub(crate) fn normalize_top(self, file: &mut Value) {
        if let Some(table) = file.as_object_mut() {
            // In the outermost table of containerd none is ambiguous.
            self.rename(table, &mut None);
        }
    }

    fn normalize_below(
        self,
        table: &mut Map<String, Value>,
        name: &str,
        clash: &mut Option<AmbiguousKey>,
    ) {
        if !MAPS.contains(&name) {
            self.rename(table, clash);
        }
        let tables =
            table.iter_mut().filter_map(|(key, value)| Some((key, value.as_object_mut()?)));
        for (key, table) in tables {
            self.normalize_below(table, key, clash);
        }
    }

    fn rename(self, table: &mut Map<String, Value>, clash: &mut Option<AmbiguousKey>) {
        for field in FIELDS {
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
