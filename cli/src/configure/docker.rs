//! Docker: `daemon.json`. dockerd has no drop-in files, and does not start with a key that it does not know.

use super::{
    config_edit::Edit,
    draft::{ConfigPlan, EngineDaemon},
    request::ConfigureRequest,
    runtime::expect_real_runtime,
};
use crate::{cli::EngineArg, engine_files::main_file};
use mig_cdi_gen::Error;
use serde_json::Value;

pub(super) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    request.require_cdi()?;
    let settings = request.settings()?;
    let path = main_file(EngineArg::Docker, &request.places);
    let mut plan = ConfigPlan::of(&settings);
    // The default since 28.2 (moby pull request 49963).
    let mut edits = vec![Edit::set(&["features", "cdi"], true)];
    // dockerd does not start with a setting that its command line has too.
    edits.extend(request.daemon_spec_dirs_edit(&["cdi-spec-dirs"], &settings, "--cdi-spec-dir")?);
    if let Some(program) = &request.runtime {
        let text = |keys: &[&str]| settings.value(keys).and_then(Value::as_str);
        let default = text(&["default-runtime"]).unwrap_or("runc");
        let by_engine = text(&["runtimes", default, "path"]).unwrap_or(default);
        expect_real_runtime(request, by_engine, &mut plan)?;
        edits.push(Edit::set(&["runtimes", "mig-cdi", "path"], program.clone()));
    }
    plan.drafts.extend(request.draft_into_effect(&path, &[], &edits, |_| Ok(()))?);
    let restart = match request.places.user_config {
        None => "systemctl restart docker",
        Some(_) => "systemctl --user restart docker",
    };
    plan.daemon = Some(EngineDaemon { process: "dockerd", restart });
    Ok(plan)
}
