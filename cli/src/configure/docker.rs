//! Docker: `daemon.json`. dockerd has no drop-in files, and does not start with a key that it does not know.

use super::{
    config_edit::Edit,
    config_format::ConfigFormat,
    draft::{ConfigPlan, EngineDaemon},
    request::ConfigureRequest,
};
use mig_cdi_gen::Error;

pub(super) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    request.require_cdi()?;
    // Rootless dockerd reads daemon.json in the configuration directory of its user and runs as a user service.
    let (path, restart) = match &request.user {
        None => ("/etc/docker/daemon.json".to_owned(), "systemctl restart docker"),
        Some(user) => {
            (format!("{}/docker/daemon.json", user.config), "systemctl --user restart docker")
        }
    };
    // The default since 28.2 (moby pull request 49963). Set in any case: a file of an older release may have
    // disabled it.
    let mut edits = vec![
        Edit::set(&["features", "cdi"], true),
        request.spec_dirs_edit(&["cdi-spec-dirs"], Vec::new()),
    ];
    if let Some(runtime) = &request.runtime {
        edits.push(Edit::set(&["runtimes", "mig-cdi", "path"], runtime.clone()));
    }
    let drafts = vec![request.draft(&path, ConfigFormat::Json, &edits)?];
    let daemon = Some(EngineDaemon { process: "dockerd", restart });
    Ok(ConfigPlan { drafts, daemon, ..ConfigPlan::default() })
}
