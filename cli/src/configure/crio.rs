//! CRI-O: a drop-in of `crio.conf`.

use super::{
    config_edit::Edit,
    draft::{ConfigPlan, EngineDaemon},
    in_effect::FileForm,
    request::{ConfigureRequest, ListedBy},
    runtime::{expect_real_runtime, inherited},
};
use crate::engine_files::{EngineSettings, crio_default_runtime, crio_drop_in_dir};
use mig_cdi_config::engines::{CREATE_RUNTIME, with_program};
use mig_cdi_gen::Error;
use serde_json::Value;

/// A directory of our own. CRI-O does not start when any file of a hooks directory has the stage `precreate`
/// (`internal/lib/container_server.go`), which podman's files in the default directory may have.
const HOOKS_DIR: &str = "/etc/mig-cdi/hooks.d/crio";

pub(super) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    let reads_cdi = request.reads_cdi()?;
    let settings = request.settings()?;
    let mut plan = ConfigPlan::of(&settings);
    let mut edits = Vec::new();
    if reads_cdi {
        let keys = ["crio", "runtime", "cdi_spec_dirs"];
        edits.extend(request.daemon_spec_dirs_edit(&keys, &settings, "--cdi-spec-dirs")?);
    }
    if let Some(hook) = &request.hook {
        let keys = ["crio", "runtime", "hooks_dir"];
        let given = &request.places.given.hooks_dirs;
        let read = if given.is_empty() { &settings.strings(&keys) } else { given };
        plan.drafts.push(request.hook_file(
            HOOKS_DIR,
            read,
            "mig-cdi-create-runtime.json",
            with_program(CREATE_RUNTIME, hook),
        )?);
        let wanted = [HOOKS_DIR.to_owned()];
        match request.given_list("--hooks-dir", given, &wanted)? {
            ListedBy::File => edits.push(Edit::contains(&keys, wanted.to_vec(), Vec::new())),
            ListedBy::CommandLine => {}
        }
    }
    if let Some(program) = &request.runtime {
        edits.extend(runtime_edits(request, program, &settings, &mut plan)?);
    }
    let path = format!("{}/50-mig-cdi.conf", crio_drop_in_dir(&request.places));
    plan.drafts.extend(request.draft_into_effect(
        &path,
        &[FileForm::default()],
        &edits,
        |_, _| Ok(()),
    )?);
    // A reload would do for cdi_spec_dirs alone (pkg/config/reload.go); a restart covers all that may be changed here.
    plan.daemon = Some(EngineDaemon { process: "crio", restart: "systemctl restart crio" });
    Ok(plan)
}

/// Edits that register `mig-cdi-runtime`. It gets what the default runtime has, such as the path of the monitor: without that CRI-O
/// looks for `conmon` in PATH, and does not start when it is not there (`ValidateConmonPath`).
fn runtime_edits(
    request: &ConfigureRequest<'_>,
    program: &str,
    settings: &EngineSettings,
    plan: &mut ConfigPlan,
) -> Result<Vec<Edit>, Error> {
    let runtimes = ["crio", "runtime", "runtimes"];
    let built_in = crio_default_runtime(request.version());
    let default = settings.value(&["crio", "runtime", "default_runtime"]).and_then(Value::as_str);
    let default = request.places.given.default_runtime.as_deref().or(default);
    let default = default.filter(|name| !name.is_empty()).unwrap_or(built_in);
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    // A virtual machine or a pod's monitor runs no other runtime.
    let is_oci = |entry: &&Value| {
        text(entry, "runtime_type").is_none_or(|kind| matches!(kind.as_str(), "" | "oci"))
    };
    let named = [default, "crun", "runc"].into_iter();
    let mut found = named.filter_map(|name| {
        let entry = settings.value(&[&runtimes[..], &[name]].concat()).filter(is_oci)?;
        Some((name, entry))
    });
    let keys = [&runtimes[..], &["mig-cdi"]].concat();
    let mut edits = Vec::new();
    let mut by_engine = default.to_owned();
    if let Some((name, entry)) = found.next() {
        // The paths by platform would win over the path of ours.
        let without = ["runtime_path", "platform_runtime_paths", "inherit_default_runtime"];
        edits.extend(inherited(entry, settings.value(&keys), &keys, &without));
        let path = text(entry, "runtime_path").filter(|path| !path.is_empty());
        by_engine = path.unwrap_or_else(|| name.to_owned());
    }
    expect_real_runtime(request, &by_engine, plan)?;
    edits.push(Edit::set(&[&keys[..], &["runtime_path"]].concat(), program));
    Ok(edits)
}
