//! What a runtime of ours needs of the one that the engine runs by default: the rest of its entry, and the program.

use super::{config_edit::Edit, draft::ConfigPlan, request::ConfigureRequest};
use mig_cdi_gen::Error;
use serde_json::Value;
use std::path::Path;

/// Directories in which engines find a runtime that their configuration names without a path, unless the daemon that runs has others: that
/// of k3s has its own programs.
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
    let by_engine = installed_runtime(request, by_engine);
    // The same choice as that of `real_runtime` in the hook.
    let weakness = |path: &str| request.host.untrusted_program(Path::new(path));
    let mut listed = request.real_runtimes.iter().filter(|path| request.exists(path));
    let Some(found) = listed.find(|path| weakness(path).is_none()) else {
        return no_real_runtime(request, by_engine, plan);
    };
    let identity = |path: &str| request.host.identity(path).ok().flatten();
    if let Some(other) = by_engine.filter(|path| identity(path) != identity(found)) {
        let why = match weakness(&other) {
            Some(reason) => format!("another user could exchange that: {reason}"),
            None => format!("to run the same, {}", setting(&other)),
        };
        plan.warnings.push(format!(
            "mig-cdi-runtime runs {found}, and {} runs {other}; {why}",
            request.engine.name
        ));
    }
    Ok(())
}

fn setting(path: &str) -> String {
    format!("set runtimes = [{path:?}] below [hook] in {}", mig_cdi_config::PATH)
}

/// Path of a runtime that an engine names by its path, or by a name that it looks up.
fn installed_runtime(request: &ConfigureRequest<'_>, by_engine: &str) -> Option<String> {
    let name = Path::new(by_engine).file_name().and_then(|name| name.to_str());
    name.filter(|name| RUNTIMES.contains(name))?;
    match by_engine.contains('/') {
        true => request.exists(by_engine).then(|| by_engine.to_owned()),
        false => {
            let of_daemon = request.program_dirs.iter().map(String::as_str);
            let mut paths = of_daemon.chain(PROGRAM_PATH).map(|dir| format!("{dir}/{by_engine}"));
            paths.find(|path| request.exists(path))
        }
    }
}

/// Error for a machine on which `mig-cdi-runtime` would run none; a warning for an image, which may get one later.
fn no_real_runtime(
    request: &ConfigureRequest<'_>,
    by_engine: Option<String>,
    plan: &mut ConfigPlan,
) -> Result<(), Error> {
    let listed = &request.real_runtimes;
    let refused = Error::refused("configure", request.engine.label());
    if let Some(path) = listed.iter().find(|path| request.exists(path)) {
        let reason = request.host.untrusted_program(Path::new(path)).unwrap_or_default();
        return Err(refused
            .because(format!("mig-cdi-runtime would not run {path}: {reason}"))
            .with_cure("run chown root and chmod go-w on it"));
    }
    let cause =
        format!("mig-cdi-runtime would find no runtime: none of {} exists", listed.join(", "));
    let other = || RUNTIMES.into_iter().find_map(|name| installed_runtime(request, name));
    let cure = match by_engine.or_else(other) {
        Some(path) => setting(&path),
        // The root of an image that is being built.
        None if request.is_image => {
            plan.warnings.push(format!("{cause}; install runc or crun"));
            return Ok(());
        }
        None => "install runc or crun".to_owned(),
    };
    Err(refused.because(cause).with_cure(cure))
}
