//! podman: a drop-in of `containers.conf`. podman has no daemon and reads its files, and the specs, at each start
//! of a container.

use super::{
    config_edit::Edit, draft::ConfigPlan, in_effect::FileForm, request::ConfigureRequest,
    runtime::expect_real_runtime,
};
use crate::{
    cli::EngineArg,
    engine_files::{
        DEFAULT_SPEC_DIRS, EngineSettings, main_file, podman_has_spec_dirs, podman_spec_dirs,
        strings_at,
    },
};
use mig_cdi_config::engines::{PRECREATE, with_program};
use mig_cdi_gen::Error;
use serde_json::Value;

pub(super) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    let reads_cdi = request.reads_cdi()?;
    let settings = request.settings()?;
    let mut plan = ConfigPlan::of(&settings);
    let mut edits = Vec::new();
    if reads_cdi {
        edits.extend(spec_dirs(request, &settings, &mut plan)?);
    }
    if let Some(hook) = &request.hook {
        // Not the default directory: buildah and CRI-O read it too and fail on the stage `precreate`.
        let dir = request.places.user_config.as_deref().unwrap_or("/etc");
        let hooks_dir = format!("{dir}/mig-cdi/hooks.d/podman");
        let keys = ["engine", "hooks_dir"];
        plan.drafts.push(request.hook_file(
            &hooks_dir,
            &settings.strings(&keys),
            "mig-cdi-precreate.json",
            with_program(PRECREATE, hook),
        )?);
        edits.push(Edit::contains(&keys, vec![hooks_dir], Vec::new()));
    }
    if let Some(program) = &request.runtime {
        let default = settings.value(&["engine", "runtime"]).and_then(Value::as_str);
        let default = default.filter(|name| !name.is_empty()).unwrap_or("crun");
        let paths = strings_at(&settings.effective, &["engine", "runtimes", default]);
        let path = paths.unwrap_or_default().into_iter().find(|path| request.exists(path));
        expect_real_runtime(request, path.as_deref().unwrap_or(default), &mut plan)?;
        edits.push(Edit::set(&["engine", "runtimes", "mig-cdi"], vec![program.clone()]));
    }
    let main = main_file(EngineArg::Podman, &request.places);
    let ours = match request.places.containers_conf {
        // podman reads no other file then.
        Some(_) => main,
        None => format!("{main}.d/50-mig-cdi.conf"),
    };
    plan.drafts.extend(request.draft_into_effect(
        &ours,
        &[FileForm::default()],
        &edits,
        |_, _| Ok(()),
    )?);
    Ok(plan)
}

/// Edit that adds the spec directories; `None` when podman reads them already. Before 5.5 the directories are
/// compiled in.
fn spec_dirs(
    request: &ConfigureRequest<'_>,
    settings: &EngineSettings,
    plan: &mut ConfigPlan,
) -> Result<Option<Edit>, Error> {
    let label = request.engine.label();
    let read = podman_spec_dirs(request.version(), settings);
    let Some(edit) = request.spec_dirs_edit(&["engine", "cdi_spec_dirs"], &read) else {
        let how = match podman_has_spec_dirs(request.version()) {
            true => "already",
            false => "without configuration",
        };
        plan.notes.push(format!("{label} reads {} {how}", request.dirs.join(" and ")));
        return Ok(None);
    };
    if podman_has_spec_dirs(request.version()) {
        return Ok(Some(edit));
    }
    Err(Error::refused("configure", label)
        .because(format!(
            "it reads only {}, and spec-dirs in {} is {}",
            DEFAULT_SPEC_DIRS.join(" and "),
            request.settings_file.display(),
            request.dirs.join(", ")
        ))
        .with_cure("set spec-dirs to one of the two"))
}
