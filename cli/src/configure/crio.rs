//! CRI-O: a drop-in of crio.conf.

use super::{
    Failure, Plan, Request,
    wish::{Language, What, Wish},
};
use mig_cdi_config::engines::{CREATE_RUNTIME, with_program};
use mig_cdi_gen::engines::{HOOKS, last};

pub(super) fn plan(request: &Request<'_>) -> Result<Plan, Failure> {
    const HOOKS_DIR: &str = "/etc/mig-cdi/hooks.d/crio";
    request.needs_cdi()?;
    // CRI-O reads every file of the directory, whatever its name.
    let values = request.values("/etc/crio/crio.conf", "")?;
    let keys = ["crio", "runtime", "cdi_spec_dirs"];
    let mut wishes = vec![request.dirs(&keys, last(&values, &keys, &[]))];
    let mut drafts = Vec::new();
    if let Some(hook) = &request.hook {
        let path = format!("{HOOKS_DIR}/mig-cdi-create-runtime.json");
        drafts.push(request.whole(&path, with_program(CREATE_RUNTIME, hook))?);
        let keys = ["crio", "runtime", "hooks_dir"];
        let begin = last(&values, &keys, &[HOOKS]);
        wishes.push(Wish::new(&keys, What::Holds { items: vec![HOOKS_DIR.to_owned()], begin }));
    }
    if let Some(runtime) = &request.runtime {
        let keys = ["crio", "runtime", "runtimes", "mig-cdi", "runtime_path"];
        wishes.push(Wish::is(&keys, runtime.clone()));
    }
    drafts.push(request.draft("/etc/crio/crio.conf.d/50-mig-cdi.conf", Language::Toml, &wishes)?);
    let restart = Some("systemctl restart crio");
    Ok(Plan { drafts, daemon: Some("crio"), restart, ..Plan::default() })
}
