//! Docker: `daemon.json`. dockerd has no drop-in files, and does not start with a key that it does not know.

use super::{
    config_edit::{Edit, EditValue},
    distributions::{refuse_generated, restart_command},
    draft::{ConfigPlan, EngineDaemon},
    in_effect::FileForm,
    request::ConfigureRequest,
    runtime::expect_real_runtime,
};
use crate::{
    cli::EngineArg,
    engine_files::{EngineSettings, docker_user_dirs, main_file},
};
use mig_cdi_gen::Error;
use serde_json::Value;

pub(super) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    let reads_cdi = request.reads_cdi()?;
    let settings = request.settings()?;
    let path = main_file(EngineArg::Docker, &request.places);
    let mut plan = ConfigPlan::of(&settings);
    let mut edits = Vec::new();
    if reads_cdi {
        // dockerd does not start with a setting that its command line has too.
        edits.extend(feature_edit(request, &settings)?);
        edits.extend(spec_dirs_edit(request, &settings)?);
    }
    if let Some(program) = &request.runtime {
        let text = |keys: &[&str]| settings.value(keys).and_then(Value::as_str);
        let given = request.places.given.default_runtime.as_deref();
        let default = given.or(text(&["default-runtime"])).unwrap_or("runc");
        let by_engine = text(&["runtimes", default, "path"]).unwrap_or(default);
        expect_real_runtime(request, by_engine, &mut plan)?;
        edits.push(Edit::set(&["runtimes", "mig-cdi", "path"], program.clone()));
    }
    let generated = |_: &mut Vec<_>, missing: &[Edit]| refuse_generated(request, &path, missing);
    let forms = [FileForm::default()];
    plan.drafts.extend(request.draft_into_effect(&path, &forms, &edits, generated)?);
    let restart = match request.places.user_config {
        None => restart_command(request, &path).unwrap_or("systemctl restart docker"),
        Some(_) => "systemctl --user restart docker",
    };
    plan.daemon = Some(EngineDaemon { process: "dockerd", restart });
    Ok(plan)
}

/// Edit that adds the spec directories. A first list takes the place of the default one, which has two directories of the user in
/// later releases of rootless Docker: the list names them too, so that an upgrade loses none.
fn spec_dirs_edit(
    request: &ConfigureRequest<'_>,
    settings: &EngineSettings,
) -> Result<Option<Edit>, Error> {
    let keys = ["cdi-spec-dirs"];
    let edit = request.daemon_spec_dirs_edit(&keys, settings, "--cdi-spec-dir")?;
    let is_first =
        settings.files.iter().all(|(_, file)| file.get(keys[0]).is_none_or(Value::is_null));
    Ok(edit.map(|edit| match edit.value {
        EditValue::Contains { items, initial } if is_first => {
            let mut all = docker_user_dirs(&request.places);
            all.retain(|dir| !items.contains(dir));
            all.extend(items);
            Edit::contains(&keys, all, initial)
        }
        _ => edit,
    }))
}

/// Edit that enables CDI. It is the default since 28.2 (moby pull request 49963).
///
/// # Errors
/// When the command line of the running daemon sets features, and not this one: a file may set none then.
fn feature_edit(
    request: &ConfigureRequest<'_>,
    settings: &EngineSettings,
) -> Result<Option<Edit>, Error> {
    let keys = ["features", "cdi"];
    let features = &request.places.given.features;
    if features.is_empty() {
        return Ok(Some(Edit::set(&keys, true)));
    }
    if settings.value(&keys) == Some(&Value::Bool(true)) {
        return Ok(None);
    }
    let given: Vec<_> =
        features.iter().map(|(feature, is_on)| format!("--feature {feature}={is_on}")).collect();
    let cause =
        format!("it was started with {}, and its file may set no feature then", given.join(" "));
    Err(Error::refused("configure", request.engine.label())
        .because(cause)
        .with_cure("start it with --feature cdi=true"))
}
