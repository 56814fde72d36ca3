//! CRI-O: a drop-in of `crio.conf`.

use super::{
    config_edit::Edit,
    config_format::ConfigFormat,
    draft::{ConfigPlan, EngineDaemon},
    request::ConfigureRequest,
};
use crate::engine_files::{CRIO_DROP_INS, DEFAULT_HOOKS_DIR, effective_list};
use mig_cdi_config::engines::{CREATE_RUNTIME, with_program};
use mig_cdi_gen::Error;

/// A directory of our own. CRI-O does not start when any file of a hooks directory has the stage `precreate`
/// (`internal/lib/container_server.go`), which podman's files in the default directory may have.
const HOOKS_DIR: &str = "/etc/mig-cdi/hooks.d/crio";

pub(super) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    request.require_cdi()?;
    let values = request.values("/etc/crio/crio.conf", CRIO_DROP_INS)?;
    let keys = ["crio", "runtime", "cdi_spec_dirs"];
    let mut edits = vec![request.spec_dirs_edit(&keys, effective_list(&values, &keys, &[]))];
    let mut drafts = Vec::new();
    if let Some(hook) = &request.hook {
        let keys = ["crio", "runtime", "hooks_dir"];
        // Once the list is set, the default directory is read only when the list names it too.
        let initial = effective_list(&values, &keys, &[DEFAULT_HOOKS_DIR]);
        drafts.push(request.hook_file(
            HOOKS_DIR,
            &initial,
            "mig-cdi-create-runtime.json",
            with_program(CREATE_RUNTIME, hook),
        )?);
        edits.push(Edit::contains(&keys, vec![HOOKS_DIR.to_owned()], initial));
    }
    if let Some(runtime) = &request.runtime {
        let keys = ["crio", "runtime", "runtimes", "mig-cdi", "runtime_path"];
        edits.push(Edit::set(&keys, runtime.clone()));
    }
    drafts.push(request.draft(
        "/etc/crio/crio.conf.d/50-mig-cdi.conf",
        ConfigFormat::Toml,
        &edits,
    )?);
    // A reload would do for cdi_spec_dirs alone (pkg/config/reload.go); a restart covers all that may be changed here.
    let daemon = Some(EngineDaemon { process: "crio", restart: "systemctl restart crio" });
    Ok(ConfigPlan { drafts, daemon, ..ConfigPlan::default() })
}
