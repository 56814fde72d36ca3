//! podman: a drop-in of containers.conf.

use super::{
    Failure, Plan, Request,
    wish::{Language, What, Wish},
};
use mig_cdi_config::engines::{PRECREATE, with_program};
use mig_cdi_gen::{
    Exit,
    engines::{BOTH, HOOKS, last},
};

/// The directories are a setting from this release on (podman issue 26569).
const SETTING: (u32, u32, u32) = (5, 5, 0);

pub(super) fn plan(request: &Request<'_>) -> Result<Plan, Failure> {
    request.needs_cdi()?;
    let (dir, hooks_dir) = match &request.home {
        None => ("/etc/containers".to_owned(), "/etc/mig-cdi/hooks.d/podman".to_owned()),
        Some(home) => (
            format!("{}/containers", home.config),
            format!("{}/mig-cdi/hooks.d/podman", home.config),
        ),
    };
    let mut values = Vec::new();
    for base in ["/usr/share/containers", "/etc/containers"] {
        values.extend(request.values(&format!("{base}/containers.conf"), ".conf")?);
    }
    if request.home.is_some() {
        values.extend(request.values(&format!("{dir}/containers.conf"), ".conf")?);
    }
    let mut plan = Plan::default();
    let mut wishes = Vec::new();
    wishes.extend(spec_dirs(request, &values, &mut plan)?);
    if let Some(hook) = &request.hook {
        let path = format!("{hooks_dir}/mig-cdi-precreate.json");
        plan.drafts.push(request.whole(&path, with_program(PRECREATE, hook))?);
        // One that is named and not there lets no container start. Without a list podman reads those of
        // its defaults that are there, and for users none (libpod, setupOCIHooks).
        let defaults = [HOOKS, "/etc/containers/oci/hooks.d"];
        let there = |dir: &&str| matches!(request.host.list(dir), Ok(Some(_)));
        let defaults: Vec<&str> = match request.home {
            None => defaults.into_iter().filter(there).collect(),
            Some(_) => Vec::new(),
        };
        let keys = ["engine", "hooks_dir"];
        let begin = last(&values, &keys, &defaults);
        wishes.push(Wish::new(&keys, What::Holds { items: vec![hooks_dir], begin }));
    }
    if let Some(runtime) = &request.runtime {
        wishes.push(Wish::is(&["engine", "runtimes", "mig-cdi"], vec![runtime.clone()]));
    }
    if !wishes.is_empty() {
        let path = format!("{dir}/containers.conf.d/50-mig-cdi.conf");
        plan.drafts.push(request.draft(&path, Language::Toml, &wishes)?);
    }
    Ok(plan)
}

/// 5.5 forgot `/var/run/cdi`; before, the directories are fixed; after, both are read.
fn spec_dirs(
    request: &Request<'_>,
    values: &[serde_json::Value],
    plan: &mut Plan,
) -> Result<Option<Wish>, Failure> {
    let keys = ["engine", "cdi_spec_dirs"];
    let label = request.engine.label();
    let missing = |read: &[String]| request.dirs.iter().any(|dir| !read.contains(dir));
    if request.release() < SETTING {
        if missing(&BOTH.map(str::to_owned)) {
            let message = format!(
                "configure {label}: it reads {} and cannot be told otherwise, and spec-dirs of \
                 /etc/mig-cdi/config.toml names {}; name one of these there",
                BOTH.join(" and "),
                request.dirs.join(", ")
            );
            return Err(Failure::new(Exit::Refused, message));
        }
        plan.notes.push(format!("{label} reads {} without being told", BOTH.join(" and ")));
        return Ok(None);
    }
    let default = if request.release() < (5, 6, 0) { &BOTH[..1] } else { &BOTH[..] };
    if !missing(&last(values, &keys, default)) {
        plan.notes.push(format!("{label} reads {} already", request.dirs.join(" and ")));
        return Ok(None);
    }
    Ok(Some(request.dirs(&keys, last(values, &keys, &[]))))
}
