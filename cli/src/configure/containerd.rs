//! containerd. Of 2.0 and later a drop-in is merged key by key (pull request 9982). 1.7 puts the table of a
//! plugin in a drop-in in the place of the whole table of before, measured with 1.7.24: there, config.toml
//! itself is added to.

use super::{
    Failure, Plan, Request,
    wish::{Language, What, Wish},
};
use mig_cdi_gen::{
    Exit,
    engines::{CONTAINERD, at, cri_plugin, imported, imports, is_import, list},
};
use serde_json::Value;

const DROP_INS: &str = "/etc/containerd/conf.d/*.toml";
const DROP_IN: &str = "/etc/containerd/conf.d/50-mig-cdi.toml";

pub(super) fn plan(request: &Request<'_>) -> Result<Plan, Failure> {
    request.needs_cdi()?;
    let root = request.value(CONTAINERD, Language::Toml)?;
    let root = root.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let new = root.as_object().is_some_and(serde_json::Map::is_empty);
    let merges = request.release() >= (2, 0, 0);
    // A file without a version is of the first.
    let version = match root.get("version").and_then(Value::as_i64) {
        Some(version) => version,
        None if new && merges => 3,
        None if new => 2,
        None => 1,
    };
    check_version(request, version, merges)?;
    let plugin = cri_plugin(version);
    let cri = cri(request, &root, plugin);
    let mut plan = Plan::default();
    if merges {
        let mut drop_in = vec![Wish::is(&["version"], version)];
        drop_in.extend(cri);
        plan.drafts.push(request.draft(DROP_IN, Language::Toml, &drop_in)?);
        let mut main = vec![Wish::new(&["version"], What::There(version.into()))];
        if !imports(&root).iter().any(|pattern| is_import(pattern, DROP_IN)) {
            let items = vec![DROP_INS.to_owned()];
            main.push(Wish::new(&["imports"], What::Holds { items, begin: Vec::new() }));
        }
        plan.drafts.push(request.draft(CONTAINERD, Language::Toml, &main)?);
    } else {
        refuse_overridden(request, &root, plugin)?;
        let mut main = Vec::new();
        if new {
            main.push(Wish::is(&["version"], version));
        }
        main.extend(cri);
        plan.drafts.push(request.draft(CONTAINERD, Language::Toml, &main)?);
    }
    let disabled = list(&root, &["disabled_plugins"]).unwrap_or_default();
    if disabled.iter().any(|name| name == "cri" || name == "io.containerd.grpc.v1.cri") {
        plan.warnings.push(format!(
            "disabled_plugins of {CONTAINERD} has cri: kubernetes cannot use this containerd; take it out if \
             it should"
        ));
    }
    plan.daemon = Some("containerd");
    plan.restart = Some("systemctl restart containerd");
    Ok(plan)
}

/// A drop-in may not be of a later version than the file that imports it; each version names the plugin in
/// its own way.
fn check_version(request: &Request<'_>, version: i64, merges: bool) -> Result<(), Failure> {
    let label = request.engine.label();
    let fail = |why: String| {
        Err(Failure::new(
            Exit::Refused,
            format!("edit {}: {why}", request.host.show(CONTAINERD).display()),
        ))
    };
    match version {
        1 if merges => fail(format!(
            "it is of version 1, which {label} converts each time it starts; write what containerd config \
             migrate prints there, and configure again"
        )),
        3.. if !merges => fail(format!(
            "it is of version {version}, and {label} reads 1 and 2; write version = 2"
        )),
        _ => Ok(()),
    }
}

/// What the plugin for Kubernetes is told.
fn cri(request: &Request<'_>, root: &Value, plugin: &str) -> Vec<Wish> {
    let keys = ["plugins", plugin, "cdi_spec_dirs"];
    let begin = list(root, &keys).unwrap_or_default();
    let mut wishes =
        vec![Wish::is(&["plugins", plugin, "enable_cdi"], true), request.dirs(&keys, begin)];
    let Some(program) = &request.runtime else { return wishes };
    let runtimes = ["plugins", plugin, "containerd", "runtimes"];
    let below = |more: &[&'static str]| [&runtimes[..], more].concat();
    // A map of runtimes takes the place of the built-in one, which has runc (measured with 1.7.24).
    if at(root, &below(&["runc"])).is_none() {
        let value = "io.containerd.runc.v2".into();
        wishes.push(Wish::new(&below(&["runc", "runtime_type"]), What::There(value)));
    }
    wishes.push(Wish::is(&below(&["mig-cdi", "runtime_type"]), "io.containerd.runc.v2"));
    let annotations = vec!["mig-cdi/*".to_owned()];
    let wish = What::Holds { items: annotations, begin: Vec::new() };
    wishes.push(Wish::new(&below(&["mig-cdi", "container_annotations"]), wish));
    wishes.push(Wish::is(&below(&["mig-cdi", "options", "BinaryName"]), program.clone()));
    // Its containers are in the cgroups where those of runc would be.
    if let Some(systemd) = at(root, &below(&["runc", "options", "SystemdCgroup"])) {
        let keys = below(&["mig-cdi", "options", "SystemdCgroup"]);
        wishes.push(Wish::is(&keys, systemd.clone()));
    }
    wishes
}

/// In 1.7 an imported file that has the table of the plugin takes all of it, ours too.
fn refuse_overridden(request: &Request<'_>, root: &Value, plugin: &str) -> Result<(), Failure> {
    for path in imported(request.host, root).files {
        let value = request.value(&path, Language::Toml)?;
        if value.is_some_and(|value| at(&value, &["plugins", plugin]).is_some()) {
            let message = format!(
                "edit {}: it imports {path}, whose table of the cri plugin takes the place of all of it in {}; \
                 move the table into config.toml, or set enable_cdi = true there",
                request.host.show(CONTAINERD).display(),
                request.engine.label()
            );
            return Err(Failure::new(Exit::Refused, message));
        }
    }
    Ok(())
}
