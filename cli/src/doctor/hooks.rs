//! Check of the files in hooks.d. A file that does not load stops the engine that reads it: podman then starts no
//! container and CRI-O does not start (`internal/lib/container_server.go`).

use super::{
    facts::NodeFacts,
    text_file::{TextFileError, read_text},
    verdict::{Verdict, counted, error, ok, warning},
};
use crate::engine_files::{ADMIN_HOOKS_DIR, DEFAULT_HOOKS_DIR};
use mig_cdi_sys::Root;
use serde_json::Value;

/// Stages of the schema 1.0.0. Any other one is an error of the whole directory; `precreate` is an extension that
/// only podman accepts (go.podman.io/common/pkg/hooks).
const STAGES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Files in the default directories and in those that an installed engine reads.
pub(super) fn hooks(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let mut dirs: Vec<&str> = vec![DEFAULT_HOOKS_DIR, ADMIN_HOOKS_DIR];
    let configured = facts.engines.iter().flat_map(|engine| engine.config.hooks_dirs.iter());
    dirs.extend(configured.map(String::as_str));
    dirs.sort_unstable();
    dirs.dedup();
    let is_read_by_crio = |dir: &str| {
        let mut engines = facts.engines.iter().filter(|engine| engine.name == "crio");
        engines.any(|engine| engine.config.hooks_dirs.iter().any(|read| read == dir))
    };
    let mut verdicts = Vec::new();
    let mut files = 0;
    for dir in dirs {
        let names = match facts.host.list(dir) {
            Ok(names) => names.unwrap_or_default(),
            Err(e) => {
                verdicts.push(warning(dir, e.to_string(), "replace it by a readable directory"));
                continue;
            }
        };
        // Engines load no other suffix.
        for name in names.iter().filter(|name| name.ends_with(".json")) {
            files += 1;
            verdicts.extend(file(facts.host, &format!("{dir}/{name}"), is_read_by_crio(dir)));
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok(
            "",
            format!("{} in hooks.d, none that breaks an engine", counted(files, "file")),
        ));
    }
    verdicts
}

/// Judges one file; `None` when nothing is wrong with it.
fn file(host: &Root, path: &str, is_read_by_crio: bool) -> Option<Verdict> {
    let broken = |reason: &str| {
        let evidence =
            format!("{reason}; podman starts no container with it, cri-o does not start");
        Some(error(path, evidence, format!("correct or remove {path}")))
    };
    let hook: Value = match read_text(host, path)?.map(|text| serde_json::from_str(&text)) {
        // The path is the subject of the verdict already.
        Err(TextFileError::NotUtf8 { .. }) => return broken("not valid utf-8"),
        Err(reason) => return broken(&reason.to_string()),
        Ok(Err(e)) => return broken(&format!("not valid json: {e}")),
        Ok(Ok(value)) => value,
    };
    let stages = hook.get("stages").or_else(|| hook.get("stage"));
    let stages = stages.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for stage in stages {
        match stage {
            "precreate" if is_read_by_crio => {
                let evidence = "only podman accepts the stage precreate; cri-o reads this directory too \
                                and does not start";
                let cure = format!("move {path} to a directory that only podman's hooks_dir names");
                return Some(error(path, evidence, cure));
            }
            "precreate" => {}
            stage if !STAGES.contains(&stage) => {
                return broken(&format!("unknown stage {stage:?}"));
            }
            _ => {}
        }
    }
    // In the schema 0.1.0, `hook` is the path itself.
    let program =
        hook.get("hook").and_then(|hook| hook.as_str().or_else(|| hook.get("path")?.as_str()));
    let Some(program) = program else { return broken("it has no hook.path") };
    match host.identity(program) {
        Ok(Some(_)) => None,
        // Measured with podman 4.3.1: validation swallows ENOENT and drops the hook.
        _ => Some(warning(
            path,
            format!(
                "its hook {program} does not exist: podman starts containers without it, silently"
            ),
            format!("install {program}, or remove {path}"),
        )),
    }
}
