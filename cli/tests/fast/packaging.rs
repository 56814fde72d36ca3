//! The shipped configuration, and the metadata of the crates. `make install` is a test of the host.

use mig_cdi_tests::{SHIPPED_CRATES, project};
use std::{collections::BTreeSet, fs};
use toml::Value;

/// The shipped file shows every key with its default, and an unknown key is refused.
#[test]
fn the_shipped_config_has_every_key_and_its_default() {
    let shipped = fs::read_to_string(project().join("config/config.toml")).unwrap();
    let is_key =
        |line: &&str| line.starts_with("#[") || line.contains(" = ") && !line.contains("# ");
    let keys = shipped.lines().filter(|line| line.starts_with('#')).filter(is_key);
    let text: String = keys.map(|line| format!("{}\n", &line[1..])).collect();
    let read = mig_cdi_config::Settings::parse(&text).unwrap();
    assert_eq!(read, mig_cdi_config::Settings::parse("").unwrap());
    assert_eq!(text.lines().count(), 19, "{text}");
    mig_cdi_config::Settings::parse("unknown = 1\n").unwrap_err();
}

/// Reads a manifest below the root of the project.
fn manifest(dir: &str) -> Value {
    let path = project().join(dir).join("Cargo.toml");
    toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}

/// Returns the value of a key, or what it inherits from the workspace (`KEY.workspace = true`).
fn resolved<'a>(own: &'a Value, key: &str, inherited: &'a Value) -> Option<&'a Value> {
    let value = own.get(key)?;
    match value.get("workspace").and_then(Value::as_bool) {
        Some(true) => inherited.get(key),
        _ => Some(value),
    }
}

/// The shipped crates could be published: each has the required metadata and names the versions of the others. The
/// project's address is not known here (repository), and `publish` prevents a release by mistake.
#[test]
fn every_crate_has_the_metadata_of_a_registry() {
    let root = manifest("");
    let workspace = &root["workspace"];
    let mut shipped = BTreeSet::new();
    for dir in workspace["members"].as_array().unwrap() {
        let dir = dir.as_str().unwrap();
        let crate_manifest = manifest(dir);
        let package = |key| resolved(&crate_manifest["package"], key, &workspace["package"]);
        assert_eq!(package("publish"), Some(&Value::Boolean(false)), "{dir}");
        if ["tests", "tests/fake-nvml", "xtask"].contains(&dir) {
            continue;
        }
        shipped.insert(dir);
        for key in ["description", "license", "readme", "rust-version"] {
            let value = package(key).and_then(Value::as_str);
            assert!(value.is_some_and(|value| !value.is_empty()), "{dir}: {key}");
        }
        for key in ["keywords", "categories"] {
            let words = package(key).and_then(Value::as_array);
            assert!(words.is_some_and(|words| (1..=5).contains(&words.len())), "{dir}: {key}");
        }
        for kind in ["dependencies", "build-dependencies"] {
            let dependencies = crate_manifest.get(kind).and_then(Value::as_table);
            for name in dependencies.into_iter().flat_map(|table| table.keys()) {
                let found = resolved(&crate_manifest[kind], name, &workspace["dependencies"]);
                let found = found.unwrap_or_else(|| panic!("{dir}: {name}"));
                let version = found.as_str().or_else(|| found.get("version")?.as_str());
                assert!(version.is_some_and(|version| version != "*"), "{dir}: {name}");
            }
        }
    }
    assert_eq!(shipped, SHIPPED_CRATES.into());
}
