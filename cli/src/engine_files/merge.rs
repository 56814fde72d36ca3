//! How engines join the files of their configuration: which values of a later file replace those of an earlier one. Pure.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Rules of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeRules {
    /// podman decodes all files into one structure, so that a list replaces a list, unless it has the attribute
    /// `{append=true}` (containers/common `internal/attributedstring/slice.go`).
    Podman,
    /// CRI-O does the same; the table of a runtime or workload is an element of a map, which is replaced as a whole
    /// (cri-o `pkg/config/config.go`, `UpdateFromDropInFile`).
    Crio,
    /// containerd 1.7 replaces the table of a plugin (measured with 1.7.24; containerd issue 5837). Lists outside of tables are
    /// joined (`cmd/containerd/server/config/config.go`, `mergeConfig`).
    Containerd1,
    /// containerd 2 merges the tables of plugins by key (containerd pull request 9982; measured with 2.1.9).
    Containerd2,
    /// Docker has one file.
    Docker,
}

/// Files joined so far.
#[derive(Debug)]
pub(crate) struct Merged {
    rules: MergeRules,
    value: Value,
    /// Lists of podman to which every later file appends: the attribute stays until a file sets it to false.
    appending: BTreeSet<Vec<String>>,
}

impl Merged {
    /// Begins with the built-in values.
    pub(crate) fn new(rules: MergeRules, built_in: Value) -> Merged {
        Merged { rules, value: built_in, appending: BTreeSet::new() }
    }

    /// Adds the file that is read next.
    pub(crate) fn add(&mut self, file: &Value) {
        if let (Some(into), Some(from)) = (self.value.as_object_mut(), file.as_object()) {
            merge(into, from, &mut Vec::new(), self.rules, &mut self.appending);
        }
    }

    /// The values that are in effect.
    pub(crate) fn into_value(self) -> Value {
        self.value
    }
}

fn merge(
    into: &mut Map<String, Value>,
    from: &Map<String, Value>,
    path: &mut Vec<String>,
    rules: MergeRules,
    appending: &mut BTreeSet<Vec<String>>,
) {
    // To Docker a null is an absent value, and TOML has none.
    for (key, value) in from.iter().filter(|(_, value)| !value.is_null()) {
        path.push(key.clone());
        match (into.get_mut(key), value) {
            (Some(Value::Object(into)), Value::Object(from)) if !replaces_table(rules, path) => {
                merge(into, from, path, rules, appending);
            }
            (now, Value::Array(list)) => {
                let before = now.and_then(|now| now.as_array().cloned()).unwrap_or_default();
                into.insert(key.clone(), joined(before, list, path, rules, appending));
            }
            (_, value) => drop(into.insert(key.clone(), value.clone())),
        }
        path.pop();
    }
}

/// Whether a table of a later file replaces one of an earlier file as a whole.
fn replaces_table(rules: MergeRules, path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let is_containerd = matches!(rules, MergeRules::Containerd1 | MergeRules::Containerd2);
    match path[..] {
        ["crio", "runtime", "runtimes" | "workloads", _] => rules == MergeRules::Crio,
        ["plugins", _] => rules == MergeRules::Containerd1,
        ["proxy_plugins" | "stream_processors", _] => is_containerd,
        _ => false,
    }
}

fn joined(
    mut before: Vec<Value>,
    list: &[Value],
    path: &[String],
    rules: MergeRules,
    appending: &mut BTreeSet<Vec<String>>,
) -> Value {
    match rules {
        MergeRules::Podman => {
            for append in list.iter().filter_map(|item| item.get("append")?.as_bool()) {
                match append {
                    true => appending.insert(path.to_owned()),
                    false => appending.remove(path),
                };
            }
            let strings = list.iter().filter(|item| !item.is_object()).cloned();
            match appending.contains(path) {
                true => before.extend(strings),
                false => before = strings.collect(),
            }
            before.into()
        }
        MergeRules::Containerd1 | MergeRules::Containerd2 if path.len() == 1 => {
            for item in list.iter().filter(|item| !item.is_null()) {
                if !before.contains(item) {
                    before.push(item.clone());
                }
            }
            before.into()
        }
        _ => list.to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(rules: MergeRules, files: &[Value]) -> Value {
        let mut merged = Merged::new(rules, json!({}));
        files.iter().for_each(|file| merged.add(file));
        merged.into_value()
    }

    /// The values of `attributedstring`'s documentation: the attribute stays for later files.
    #[test]
    fn podman_appends_where_a_file_asks_for_it() {
        let list = |items: Value| json!({ "engine": { "hooks_dir": items } });
        let append = json!({ "append": true });
        let keep = json!({ "append": false });
        for (files, expected) in [
            (vec![json!(["a"]), json!(["b"])], json!(["b"])),
            (vec![json!(["a"]), json!(["b", append])], json!(["a", "b"])),
            (vec![json!(["a"]), json!(["b", append]), json!(["c"])], json!(["a", "b", "c"])),
            (vec![json!(["a", append]), json!(["c", keep])], json!(["c"])),
            (vec![json!(["a"]), json!([append])], json!(["a"])),
        ] {
            let files: Vec<_> = files.into_iter().map(list).collect();
            assert_eq!(merged(MergeRules::Podman, &files), list(expected), "{files:?}");
        }
    }

    #[test]
    fn crio_replaces_the_table_of_a_runtime() {
        let file =
            |table: Value| json!({ "crio": { "runtime": { "runtimes": { "crun": table } } } });
        let files = [file(json!({ "monitor_path": "/a" })), file(json!({ "runtime_path": "/b" }))];
        assert_eq!(merged(MergeRules::Crio, &files), files[1]);
    }

    #[test]
    fn containerd_replaces_or_merges_the_table_of_a_plugin() {
        let file = |table: Value| json!({ "plugins": { "cri": table } });
        let files = [file(json!({ "a": 1, "l": [1] })), file(json!({ "b": 2, "l": [2] }))];
        assert_eq!(merged(MergeRules::Containerd1, &files), files[1]);
        let both = file(json!({ "a": 1, "b": 2, "l": [2] }));
        assert_eq!(merged(MergeRules::Containerd2, &files), both);
        let lists = [json!({ "imports": ["x", "y"] }), json!({ "imports": ["y", "z"] })];
        let joined = json!({ "imports": ["x", "y", "z"] });
        assert_eq!(merged(MergeRules::Containerd1, &lists), joined);
        assert_eq!(merged(MergeRules::Containerd2, &lists), joined);
    }
}
