//! Docker: daemon.json. It has no drop-ins, and stops at a key that it does not know.

use super::{
    Failure, Plan, Request,
    wish::{Language, Wish},
};

pub(super) fn plan(request: &Request<'_>) -> Result<Plan, Failure> {
    request.needs_cdi()?;
    let (path, restart) = match &request.home {
        None => ("/etc/docker/daemon.json".to_owned(), "systemctl restart docker"),
        Some(home) => {
            (format!("{}/docker/daemon.json", home.config), "systemctl --user restart docker")
        }
    };
    // On by itself since 28.2 (moby pull request 49963), unless an older file says otherwise.
    let mut wishes =
        vec![Wish::is(&["features", "cdi"], true), request.dirs(&["cdi-spec-dirs"], Vec::new())];
    if let Some(runtime) = &request.runtime {
        wishes.push(Wish::is(&["runtimes", "mig-cdi", "path"], runtime.clone()));
    }
    let drafts = vec![request.draft(&path, Language::Json, &wishes)?];
    Ok(Plan { drafts, daemon: Some("dockerd"), restart: Some(restart), ..Plan::default() })
}
