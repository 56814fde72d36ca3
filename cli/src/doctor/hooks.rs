//! Files of hooks.d: one that an engine cannot read stops it. Podman then starts no container, CRI-O
//! does not start itself.

use super::{Facts, Verdict, error, facts::read_text, ok, warning};
use mig_cdi_sys::Root;
use serde_json::Value;

const STAGES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
const DEFAULTS: [&str; 2] = ["/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"];

/// Every file in the directories that an engine here reads, and in the usual ones.
pub(super) fn hooks(facts: &Facts<'_>) -> Vec<Verdict> {
    let mut dirs: Vec<&str> = DEFAULTS.to_vec();
    dirs.extend(
        facts.engines.iter().flat_map(|engine| engine.config.hooks.iter().map(String::as_str)),
    );
    dirs.sort_unstable();
    dirs.dedup();
    let crio = |dir: &str| {
        let mut engines = facts.engines.iter().filter(|engine| engine.name == "crio");
        engines.any(|engine| engine.config.hooks.iter().any(|read| read == dir))
    };
    let mut verdicts = Vec::new();
    let mut files = 0;
    for dir in dirs {
        let names = match facts.host.list(dir) {
            Ok(names) => names.unwrap_or_default(),
            Err(e) => {
                verdicts.push(warning(dir, e.to_string(), "make it a directory that can be read"));
                continue;
            }
        };
        for name in names.iter().filter(|name| name.ends_with(".json")) {
            files += 1;
            verdicts.extend(file(facts.host, &format!("{dir}/{name}"), crio(dir)));
        }
    }
    if verdicts.is_empty() {
        verdicts.push(ok("", format!("{files} files in hooks.d, none that breaks an engine")));
    }
    verdicts
}

/// What is wrong with one.
fn file(host: &Root, path: &str, crio: bool) -> Option<Verdict> {
    const BREAKS: &str = "podman starts no container with it, cri-o does not start";
    let fails =
        |what: String| Some(error(path, format!("{what}; {BREAKS}"), format!("remove {path}")));
    let hook: Value = match read_text(host, path)?.map(|text| serde_json::from_str(&text)) {
        Err(reason) => return fails(reason),
        Ok(Err(e)) => return fails(format!("it is no json: {e}")),
        Ok(Ok(value)) => value,
    };
    let stages = hook.get("stages").or_else(|| hook.get("stage"));
    let stages = stages.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for stage in stages {
        match stage {
            "precreate" if crio => {
                let evidence = "stage precreate is podman's own, and cri-o reads this directory too: it \
                                does not start";
                let cure =
                    format!("move {path} to a directory that podman's hooks_dir alone names");
                return Some(error(path, evidence, cure));
            }
            "precreate" => {}
            stage if !STAGES.contains(&stage) => return fails(format!("unknown stage {stage:?}")),
            _ => {}
        }
    }
    // The form of 0.1.0 has the path itself there.
    let program =
        hook.get("hook").and_then(|hook| hook.as_str().or_else(|| hook.get("path")?.as_str()));
    let Some(program) = program else { return fails("it names no hook.path".to_owned()) };
    match host.identity(program) {
        Ok(Some(_)) => None,
        _ => Some(warning(
            path,
            format!(
                "its hook {program} is not there: podman starts containers without it, silently"
            ),
            format!("install {program}, or remove {path}"),
        )),
    }
}
