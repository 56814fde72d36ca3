//! What a runtime of ours needs of the one that the engine runs by default: the rest of its entry, and the program.

use super::{config_edit::Edit, draft::ConfigPlan, request::ConfigureRequest};
use mig_cdi_gen::Error;
use serde_json::Value;
use std::path::Path;

/// Directories in which engines find a runtime that their configuration names without a path.
const PROGRAM_PATH: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
/// Names of runtimes that `mig-cdi-runtime` can run. Any other program is a wrapper of one, as NVIDIA's.
const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// Edits that give the entry `now` what another one has, but for the values of some keys. What it has from an earlier run and the other one
/// lost since becomes the empty value, which engines take for an absent one.
pub(super) fn inherited(
    entry: &Value,
    now: Option<&Value>,
    keys: &[&str],
    without: &[&str],
) -> Vec<Edit> {
    let mut edits = Vec::new();
    let lost = now.and_then(Value::as_object).into_iter().flatten();
    let lost = lost.filter(|(key, _)| entry.get(key).is_none());
    let lost: Vec<_> = lost.map(|(key, value)| (key, empty(value))).collect();
    let kept = entry.as_object().into_iter().flatten();
    for (key, value) in kept.chain(lost.iter().map(|(key, value)| (*key, value))) {
        if without.contains(&key.as_str()) {
            continue;
        }
        let keys = [keys, &[key]].concat();
        let now = now.and_then(|now| now.get(key));
        match value.is_object() {
            true => edits.extend(inherited(value, now, &keys, without)),
            false => edits.push(Edit::set(&keys, value.clone())),
        }
    }
    edits
}

/// The empty value of the same type.
fn empty(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => false.into(),
        Value::Number(_) => 0.into(),
        Value::String(_) => "".into(),
        Value::Array(_) => Vec::<Value>::new().into(),
        Value::Object(table) => {
            table.iter().map(|(key, value)| (key.clone(), empty(value))).collect()
        }
    }
}

/// Checks that `mig-cdi-runtime` will find a runtime. `by_engine` is the path or name of the one that the engine runs by default.
///
/// # Errors
/// When it finds none, although one is installed: no container of our runtime would start.
pub(super) fn expect_real_runtime(
    request: &ConfigureRequest<'_>,
    by_engine: &str,
    plan: &mut ConfigPlan,
) -> Result<(), Error> {
    let exists = |path: &str| request.host.identity(path).is_ok_and(|found| found.is_some());
    let is_runtime = |path: &&str| {
        let name = Path::new(path).file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| RUNTIMES.contains(&name))
    };
    let in_path = |name: &str| {
        let paths = PROGRAM_PATH.map(|dir| format!("{dir}/{name}"));
        paths.into_iter().find(|path| exists(path))
    };
    let by_engine = Some(by_engine).filter(is_runtime).and_then(|path| match path.contains('/') {
        true => exists(path).then(|| path.to_owned()),
        false => in_path(path),
    });
    let listed = &request.real_runtimes;
    let setting =
        |path: &str| format!("set runtimes = [{path:?}] below [hook] in {}", mig_cdi_config::PATH);
    let Some(found) = listed.iter().find(|path| exists(path)) else {
        let installed = by_engine.or_else(|| RUNTIMES.into_iter().find_map(in_path));
        let cause =
            format!("mig-cdi-runtime would find no runtime: none of {} exists", listed.join(", "));
        return match installed {
            Some(path) => Err(Error::refused("configure", request.engine.label())
                .because(cause)
                .with_cure(setting(&path))),
            // The root of an image that is being built.
            None if request.is_image => {
                plan.warnings.push(format!("{cause}; install runc or crun"));
                Ok(())
            }
            None => Err(Error::refused("configure", request.engine.label())
                .because(cause)
                .with_cure("install runc or crun")),
        };
    };
    let identity = |path: &str| request.host.identity(path).ok().flatten();
    if let Some(other) = by_engine.filter(|path| identity(path) != identity(found)) {
        plan.warnings.push(format!(
            "mig-cdi-runtime runs {found}, and {} runs {other}; to run the same, {}",
            request.engine.name,
            setting(&other)
        ));
    }
    Ok(())
}
