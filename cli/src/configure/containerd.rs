//! containerd. From 2.0 on a drop-in is merged key by key (pull request 9982), so that ours holds the settings.
//! 1.7 replaces the whole table of a plugin by that of a drop-in (issue 5837, measured with 1.7.24): there
//! the main file itself is edited.

use super::{
    config_edit::Edit,
    distributions::{refuse_generated, replaced_machine, restart_command},
    draft::{ConfigPlan, Draft, EngineDaemon},
    in_effect::FileForm,
    request::ConfigureRequest,
    runtime::{expect_real_runtime, inherited},
};
use crate::{
    cli::EngineArg,
    engine_files::{
        CONTAINERD_2, CriPlugin, EngineSettings, has_no_keys, import_dir, is_cri_disabled,
        main_file, value_at,
    },
};
use mig_cdi_gen::Error;
use serde_json::{Value, json};

/// Name of our drop-in.
const OURS: &str = "50-mig-cdi.toml";

pub(super) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    let reads_cdi = request.reads_cdi()?;
    let settings = request.settings()?;
    let main = main_file(EngineArg::Containerd, &request.places);
    let mut plan = ConfigPlan::of(&settings);
    let mut edits = Vec::new();
    if reads_cdi {
        edits.extend(cdi_edits(request, &settings));
    }
    if let Some(program) = &request.runtime {
        edits.extend(runtime_edits(request, program, &settings, &mut plan)?);
    }
    let drafts = match request.version() >= CONTAINERD_2 {
        true => drop_in(request, &settings, &main, &edits),
        false => edited_main_file(request, &settings, &main, &edits),
    };
    let drafts =
        drafts.or_else(|error| check_version(request, &settings, &main).and(Err(error)))?;
    if settings.has_unknown_imports && !drafts.is_empty() {
        let path = request.host.display_path(&main);
        return Err(Error::refused("configure", request.engine.label())
            .because(format!("{} imports files by a pattern with [ or \\", path.display()))
            .with_cure("name the files, or use * alone"));
    }
    if !drafts.is_empty() {
        plan.warnings.extend(replaced_machine(request));
    }
    plan.drafts = drafts;
    if is_cri_disabled(&settings.effective, settings.cri.name) {
        plan.warnings.push(format!(
            "disabled_plugins in {main} contains cri, so that kubernetes cannot use this containerd; remove it from the list if \
             kubernetes is to use it"
        ));
    }
    let restart = restart_command(request, &main).unwrap_or("systemctl restart containerd");
    plan.daemon = Some(EngineDaemon { process: "containerd", restart });
    Ok(plan)
}

/// Drafts a drop-in and, where no file imports its directory yet, the import.
fn drop_in(
    request: &ConfigureRequest<'_>,
    settings: &EngineSettings,
    main: &str,
    edits: &[Edit],
) -> Result<Vec<Draft>, Error> {
    let version = settings.cri.version;
    let beside = || main.rsplit_once('/').map_or("", |(dir, _)| dir).to_owned() + "/conf.d";
    let imported = import_dir(settings);
    let dir = imported.clone().unwrap_or_else(beside);
    let ours = format!("{dir}/{OURS}");
    let forms = settings.cri.of_drop_in(request.version()).into_iter().map(|cri| FileForm {
        edits: vec![Edit::set(&["version"], cri.version)],
        plugin: Some(cri.name),
    });
    let forms: Vec<_> = forms.collect();
    request.draft_into_effect(&ours, &forms, edits, |drafts, missing| {
        if imported.is_none() {
            refuse_generated(request, main, missing)?;
            // Files of others that nobody imports yet stay so.
            let others = request.host.list(&dir)?.unwrap_or_default();
            let is_alone = others.iter().all(|name| name == OURS || !name.ends_with(".toml"));
            let pattern = if is_alone { "*.toml" } else { OURS };
            // A file with other settings and no version is one of version 1, which none of ours may say: 2.3 reads no later one then.
            let is_new = settings.files.first().is_none_or(|(_, file)| has_no_keys(file));
            let version = is_new.then(|| Edit::set(&["version"], version));
            let imports = vec![format!("{dir}/{pattern}")];
            let import: Vec<_> = version
                .into_iter()
                .chain([Edit::contains(&["imports"], imports, Vec::new())])
                .collect();
            drafts.push(request.draft(main, request.format(), &import)?);
        }
        Ok(())
    })
}

fn edited_main_file(
    request: &ConfigureRequest<'_>,
    settings: &EngineSettings,
    main: &str,
    edits: &[Edit],
) -> Result<Vec<Draft>, Error> {
    let mut form = FileForm::default();
    if settings.files.iter().all(|(_, file)| has_no_keys(file)) {
        form.edits.push(Edit::set(&["version"], settings.cri.version));
    }
    request.draft_into_effect(main, &[form], edits, |_, missing| {
        refuse_generated(request, main, missing)
    })
}

/// Refuses a main file of containerd 2 that is of version 1, beside which no drop-in comes into effect: a drop-in may not be of a later
/// version than the file that is read first (2.3.0), and the table of the plugin in it is not read with one (2.0 to 2.2).
fn check_version(
    request: &ConfigureRequest<'_>,
    settings: &EngineSettings,
    main: &str,
) -> Result<(), Error> {
    if settings.cri.version > 1 || request.version() < CONTAINERD_2 {
        return Ok(());
    }
    let cause =
        format!("its version is 1, which {} converts at each start", request.engine.label());
    Err(Error::refused("edit", request.host.display_path(main).display())
        .because(cause)
        .with_cure("replace it by the output of containerd config migrate, and configure again"))
}

/// Edits that make the CRI plugin read the specs.
fn cdi_edits(request: &ConfigureRequest<'_>, settings: &EngineSettings) -> Vec<Edit> {
    let plugin = settings.cri.name;
    let keys = ["plugins", plugin, "cdi_spec_dirs"];
    let mut edits = vec![Edit::set(&["plugins", plugin, "enable_cdi"], true)];
    edits.extend(request.spec_dirs_edit(&keys, &settings.strings(&keys)));
    edits
}

/// Edits that register `mig-cdi-runtime` as the runtime `mig-cdi`, which otherwise has what the default runtime has: the kubelet
/// and every runtime on a node have to use the same cgroup driver.
fn runtime_edits(
    request: &ConfigureRequest<'_>,
    program: &str,
    settings: &EngineSettings,
    plan: &mut ConfigPlan,
) -> Result<Vec<Edit>, Error> {
    const RUNC: &str = "io.containerd.runc.v2";
    let containerd = ["plugins", settings.cri.name, "containerd"];
    let runtimes = [&containerd[..], &["runtimes"]].concat();
    let below = |more: &[&'static str]| [&runtimes[..], more].concat();
    let default = settings.value(&[&containerd[..], &["default_runtime_name"]].concat());
    let default = default.and_then(Value::as_str).unwrap_or("runc");
    // The shim of another runtime, such as that of virtual machines, runs none that is named by a path.
    // Those of runc, v1 and v2, have the same options.
    let is_runc = |entry: &&Value| {
        let kind = entry.get("runtime_type").and_then(Value::as_str);
        kind.is_some_and(|kind| kind.starts_with("io.containerd.runc."))
    };
    let named = [default, "runc"].into_iter();
    let mut found =
        named.filter_map(|name| settings.value(&[&runtimes[..], &[name]].concat()).filter(is_runc));
    let built_in = json!({ "runtime_type": RUNC });
    let entry = found.next().unwrap_or(&built_in);
    let by_engine = entry.pointer("/options/BinaryName").and_then(Value::as_str);
    expect_real_runtime(request, by_engine.unwrap_or("runc"), plan)?;
    let mut edits = Vec::new();
    // A first table of runtimes replaces the built-in one in 1.7.
    let has_runtimes = |file: &Value| {
        let name = match request.version() >= CONTAINERD_2 {
            true => CriPlugin::name_in(file),
            false => settings.cri.name,
        };
        value_at(file, &["plugins", name, "containerd", "runtimes"]).is_some()
    };
    if !settings.files.iter().any(|(_, file)| has_runtimes(file)) {
        edits.push(Edit::set_default(&below(&["runc", "runtime_type"]), RUNC));
    }
    let without = ["BinaryName", "container_annotations"];
    let ours = below(&["mig-cdi"]);
    edits.extend(inherited(entry, settings.value(&ours), &ours, &without));
    edits.push(Edit::set(&below(&["mig-cdi", "options", "BinaryName"]), program));
    // The CRI plugin passes only listed annotations to the OCI configuration, where the runtime reads them.
    let mut annotations =
        crate::engine_files::strings_at(entry, &["container_annotations"]).unwrap_or_default();
    annotations.push("mig-cdi/*".to_owned());
    edits.push(Edit::contains(
        &below(&["mig-cdi", "container_annotations"]),
        annotations,
        Vec::new(),
    ));
    Ok(edits)
}
