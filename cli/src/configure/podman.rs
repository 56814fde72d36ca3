//! podman: a drop-in of `containers.conf`. podman has no daemon and reads its files, and the specs, at each start
//! of a container.

use super::{
    config_edit::Edit, config_format::ConfigFormat, draft::ConfigPlan, request::ConfigureRequest,
};
use crate::engine_files::{
    DEFAULT_HOOKS_DIR, DEFAULT_SPEC_DIRS, PODMAN_DROP_INS, effective_list,
    podman_default_spec_dirs, podman_has_spec_dirs,
};
use mig_cdi_config::engines::{PRECREATE, with_program};
use mig_cdi_gen::Error;
use serde_json::Value;

pub(super) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    request.require_cdi()?;
    let (dir, hooks_dir) = match &request.user {
        None => ("/etc/containers".to_owned(), "/etc/mig-cdi/hooks.d/podman".to_owned()),
        Some(user) => (
            format!("{}/containers", user.config),
            format!("{}/mig-cdi/hooks.d/podman", user.config),
        ),
    };
    // In this order a later file overrides an earlier one (containers.conf(5)).
    let mut values = Vec::new();
    for base in ["/usr/share/containers", "/etc/containers"] {
        values.extend(request.values(&format!("{base}/containers.conf"), PODMAN_DROP_INS)?);
    }
    if request.user.is_some() {
        values.extend(request.values(&format!("{dir}/containers.conf"), PODMAN_DROP_INS)?);
    }
    let mut plan = ConfigPlan::default();
    let mut edits = Vec::new();
    edits.extend(spec_dirs(request, &values, &mut plan)?);
    if let Some(hook) = &request.hook {
        // Not the default directory: buildah and CRI-O read it too and fail on the stage `precreate`.
        let keys = ["engine", "hooks_dir"];
        let initial = initial_hooks_dirs(request, &values, &keys);
        plan.drafts.push(request.hook_file(
            &hooks_dir,
            &initial,
            "mig-cdi-precreate.json",
            with_program(PRECREATE, hook),
        )?);
        edits.push(Edit::contains(&keys, vec![hooks_dir], initial));
    }
    if let Some(runtime) = &request.runtime {
        edits.push(Edit::set(&["engine", "runtimes", "mig-cdi"], vec![runtime.clone()]));
    }
    if !edits.is_empty() {
        let path = format!("{dir}/containers.conf.d/50-mig-cdi.conf");
        plan.drafts.push(request.draft(&path, ConfigFormat::Toml, &edits)?);
    }
    Ok(plan)
}

/// Hooks directories that podman reads so far, which a list of our own has to repeat, and no others: the hooks in them
/// would start to run. Without a list podman reads `/usr/share/containers/oci/hooks.d`, for rootless containers too
/// (measured with 4.3.1, whose `--log-level=debug` names each; containers/common `pkg/config/default.go`,
/// `DefaultHooksDirs`), and not `/etc/containers/oci/hooks.d`, which oci-hooks(5) describes as a second one. A directory
/// that does not exist is left out: releases differ in whether they start containers then.
fn initial_hooks_dirs(
    request: &ConfigureRequest<'_>,
    values: &[Value],
    keys: &[&str],
) -> Vec<String> {
    let exists = |dir: &&str| matches!(request.host.list(dir), Ok(Some(_)));
    let defaults: Vec<&str> = [DEFAULT_HOOKS_DIR].into_iter().filter(exists).collect();
    effective_list(values, keys, &defaults)
}

/// Edit that adds the spec directories; `None` when podman reads them already. Before 5.5 the directories are
/// compiled in.
fn spec_dirs(
    request: &ConfigureRequest<'_>,
    values: &[Value],
    plan: &mut ConfigPlan,
) -> Result<Option<Edit>, Error> {
    let keys = ["engine", "cdi_spec_dirs"];
    let label = request.engine.label();
    let is_missing = |read: &[String]| request.dirs.iter().any(|dir| !read.contains(dir));
    if !podman_has_spec_dirs(request.version()) {
        let fixed = DEFAULT_SPEC_DIRS.join(" and ");
        if is_missing(&DEFAULT_SPEC_DIRS.map(str::to_owned)) {
            let dirs = request.dirs.join(", ");
            return Err(Error::refused("configure", label)
                .because(format!(
                    "it reads only {fixed}, and spec-dirs in /etc/mig-cdi/config.toml is {dirs}"
                ))
                .with_cure("set spec-dirs to one of the two"));
        }
        plan.notes.push(format!("{label} reads {fixed} without configuration"));
        return Ok(None);
    }
    let default = podman_default_spec_dirs(request.version());
    if !is_missing(&effective_list(values, &keys, default)) {
        plan.notes.push(format!("{label} reads {} already", request.dirs.join(" and ")));
        return Ok(None);
    }
    Ok(Some(request.spec_dirs_edit(&keys, effective_list(values, &keys, &[]))))
}
