//! `mig-cdi configure containerd` against containerd's own view of its files, `containerd config dump`, in 1.7 and 2: nothing that was
//! in effect is lost, what is wanted comes into effect or the file in the way is named, and the undo restores every byte.

use mig_cdi_tests::{configure_host::ConfigureHost, engine_files::toml_value, project, run};
use proptest::{collection::btree_map, prelude::*, sample::select};
use serde_json::{Value, json};
use std::process::Command;

const CASES: u32 = 80;

const CRI_1: &str = "cri";
const CRI_2: &str = "io.containerd.grpc.v1.cri";
const CRI_3: &str = "io.containerd.cri.v1.runtime";

/// Version of a file, and the table of the CRI plugin in it.
type Form = (Option<u32>, &'static str);

/// A release, by the directory of its package, with the table of its CRI plugin in `config dump`.
struct Release {
    dir: &'static str,
    version: &'static str,
    /// Forms that a file may have; the first one is the usual one.
    forms: &'static [Form],
    plugin: &'static str,
}

const OLD: Release = Release {
    dir: "engines",
    version: "1.7.24",
    forms: &[(Some(2), CRI_2), (None, CRI_2), (None, CRI_1), (Some(1), CRI_1)],
    plugin: CRI_2,
};
const NEW: Release = Release {
    dir: "containerd-2",
    version: "2.1.9",
    forms: &[
        (Some(3), CRI_3),
        (Some(2), CRI_2),
        (None, CRI_3),
        (None, CRI_1),
        (Some(2), CRI_3),
        (Some(3), CRI_2),
    ],
    plugin: CRI_3,
};

/// Pieces of a file. `CRI` stands for the plugin.
fn pieces() -> impl Strategy<Value = String> {
    let keys = select(vec![
        "",
        "enable_cdi = true\n",
        "enable_cdi = false\n",
        "cdi_spec_dirs = ['/etc/cdi']\n",
        "enable_cdi = true\ncdi_spec_dirs = [\"/srv/cdi\", \"/run/cdi\"]\n",
        "max_container_log_line_size = 7\n",
        // 2 takes keys in any case of their letters, 1.7 these two.
        "ENABLE_CDI = true\n",
        "CDI_SPEC_DIRS = ['/srv/cdi']\n",
        "Enable_CDI = false\nCdi_Spec_Dirs = ['/srv/cdi', '/etc/cdi']\n",
    ]);
    let default =
        select(vec!["", "default_runtime_name = 'nvidia'\n", "default_runtime_name = 'runc'\n"]);
    let default = prop_oneof![4 => default, 1 => Just("Default_Runtime_Name = 'nvidia'\n")];
    let runtimes = prop::sample::subsequence(
        vec![
            "[plugins.'CRI'.containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\nprivileged_without_host_devices = true\n\
             [plugins.'CRI'.containerd.runtimes.nvidia.options]\nBinaryName = '/usr/bin/nvidia-container-runtime'\nSystemdCgroup = true\n",
            "[plugins.'CRI'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n",
            "[plugins.'CRI'.containerd.runtimes.runc.options]\nSystemdCgroup = true\nRoot = '/run/r'\n",
            "[plugins.'CRI'.containerd.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'\n",
        ],
        0..=4,
    );
    // containerd does not start with the last four in files of version 2 and later, nor with the last two in any.
    let plugins = select(vec![
        "disabled_plugins = ['io.containerd.internal.v1.opt']\n",
        "required_plugins = ['io.containerd.internal.v1.opt']\n",
        "disabled_plugins = ['cri']\n",
        "required_plugins = ['task']\n",
        "required_plugins = 'io.containerd.grpc.v1.cri'\n",
        "disabled_plugins = [1]\n",
    ]);
    let head = prop_oneof![3 => Just(""), 1 => Just("disabled_plugins = ['io.containerd.internal.v1.opt']\n"), 1 => plugins];
    (keys, default, runtimes, head).prop_map(|(keys, default, runtimes, head)| {
        let table = |name: &str, body: &str| match body {
            "" => String::new(),
            body => format!("[plugins.'CRI'{name}]\n{body}"),
        };
        format!("{head}{}{}{}", table("", keys), table(".containerd", default), runtimes.concat())
    })
}

/// A file in a form of the release, which stands for its number.
#[derive(Debug, Clone)]
struct File {
    body: String,
    form: usize,
}

impl File {
    fn text(&self, release: &Release, head: &str) -> String {
        let (version, plugin) = release.forms[self.form];
        let version = version.map_or_else(String::new, |version| format!("version = {version}\n"));
        format!("{version}{head}{}", self.body.replace("CRI", plugin))
    }
}

/// The main file, and the drop-ins by name: all in the usual form, or each in one of the release.
fn files(release: &Release) -> impl Strategy<Value = (File, Vec<(&'static str, File)>)> {
    let forms = release.forms.len();
    let file = move |is_mixed: bool| {
        let form = if is_mixed { 0..forms } else { 0..1 };
        (pieces(), form).prop_map(|(body, form)| File { body, form })
    };
    let names = || select(vec!["10-a.toml", "49-b.toml", "60-c.toml", "99-d.toml"]);
    any::<bool>()
        .prop_flat_map(move |mixed| (file(mixed), btree_map(names(), file(mixed), 0..=3)))
        .prop_map(|(main, drop_ins)| (main, drop_ins.into_iter().collect()))
}

/// Returns the settings that containerd has in effect, or the reason why it does not start.
fn dump(machine: &ConfigureHost, release: &Release) -> Result<Value, String> {
    let program = project().join("target/test-deps").join(release.dir).join("usr/bin/containerd");
    let config = machine.path("/etc/containerd/config.toml");
    let dumped = run(Command::new(program).arg("-c").arg(config).args(["config", "dump"]));
    match dumped.code {
        0 => Ok(toml_value(&dumped.stdout)),
        _ => Err(dumped.stderr),
    }
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map_or_else(Vec::new, |list| list.iter().filter_map(Value::as_str).collect())
}

fn check(release: &Release, main: &File, drop_ins: &[(&str, File)], runtime: bool) {
    let machine = ConfigureHost::trusted();
    let main_text = main.text(release, "imports = ['conf.d/*.toml']\n");
    machine.put("/etc/containerd/config.toml", &main_text);
    for (name, file) in drop_ins {
        machine.put(&format!("/etc/containerd/conf.d/{name}"), &file.text(release, ""));
    }
    let before = dump(&machine, release);
    let tree = machine.tree();
    let flag = if runtime { " --runtime" } else { "" };
    let args = format!("containerd --engine-version {}{flag}", release.version);
    let done = machine.configure(&args);
    if done.code != 0 {
        assert_eq!(done.code, 5, "{}", done.stderr);
        assert_eq!(machine.tree(), tree, "a refusal changes nothing");
        refused_truly(release, main, drop_ins, before.as_ref().err(), &done.stderr);
        if let (Ok(before), false, CRI_3) = (&before, runtime, release.plugin) {
            no_drop_in_would_do(&machine, release, before);
        }
        return;
    }
    let before = before.unwrap_or_else(|reason| panic!("{reason}: {}", done.stderr));
    let after = dump(&machine, release).unwrap_or_else(|reason| panic!("{reason}"));
    let plugin = |value: &Value| value["plugins"][release.plugin].clone();
    let (mut was, mut now) = (plugin(&before), plugin(&after));
    assert_eq!(before["disabled_plugins"], after["disabled_plugins"]);
    let again = machine.run_ok(&args);
    assert!(again.stderr.contains("nothing to change\n"), "{}", again.stderr);
    machine.run_ok("containerd --undo");
    assert_eq!(machine.tree(), tree, "the undo restores every byte");
    // 1.7 does not dump a plugin that is disabled.
    if was.is_null() && strings(&before["disabled_plugins"]).contains(&"cri") {
        return;
    }
    assert_eq!(now["enable_cdi"], json!(true), "{}", done.stderr);
    let dirs = strings(&now["cdi_spec_dirs"]).join(" ");
    assert!(strings(&was["cdi_spec_dirs"]).iter().all(|dir| dirs.contains(dir)), "{dirs}");
    assert!(dirs.contains("/etc/cdi") && dirs.contains("/run/cdi"), "{dirs}");
    if runtime {
        let runtimes = now["containerd"]["runtimes"].as_object_mut().unwrap();
        let ours = runtimes.remove("mig-cdi").unwrap();
        assert!(ours["options"]["BinaryName"].as_str().unwrap().ends_with("/mig-cdi-runtime"));
        assert_eq!(ours["container_annotations"], json!(["mig-cdi/*"]));
        let default = was["containerd"]["default_runtime_name"].as_str().unwrap();
        let inherited = &was["containerd"]["runtimes"][default];
        if inherited["runtime_type"] == "io.containerd.runc.v2" {
            for key in ["SystemdCgroup", "Root"] {
                let value = |options: &Value| match &options[key] {
                    // A built-in value, which a dump of an entry without options does not have.
                    Value::Null => json!(if key == "Root" { json!("") } else { json!(false) }),
                    value => value.clone(),
                };
                assert_eq!(value(&ours["options"]), value(&inherited["options"]), "{key}: {ours}");
            }
            let key = "privileged_without_host_devices";
            assert_eq!(ours[key], inherited[key], "{ours}");
        }
        // The built-in type is not in the dump of 1.7.
        let kind = |value: &Value| value["containerd"]["runtimes"]["runc"]["runtime_type"].clone();
        let is_built_in = [json!(null), json!("")].contains(&kind(&was));
        assert!(is_built_in || kind(&was) == kind(&now), "{} {}", kind(&was), kind(&now));
    }
    for value in [&mut was, &mut now] {
        let table = value.as_object_mut().unwrap();
        table.remove("enable_cdi");
        table.remove("cdi_spec_dirs");
        for runtime in table["containerd"]["runtimes"].as_object_mut().unwrap().values_mut() {
            // 1.7 prints an empty type for its built-in runtime, and options only where there are any.
            let table = runtime.as_object_mut().unwrap();
            table.retain(|key, _| {
                matches!(key.as_str(), "options" | "privileged_without_host_devices")
            });
            table.entry("options").or_insert_with(|| json!({}));
            let options = table["options"].as_object_mut().unwrap();
            options.retain(|_, value| !matches!(value, Value::Bool(false)) && *value != json!(""));
            options.retain(|_, value| *value != json!(0));
        }
    }
    assert_eq!(was, now);
}

/// Asserts that containerd does not start, or that the file which is named says something else about the plugin and is read after ours,
/// or that files of several versions leave no place for ours.
fn refused_truly(
    release: &Release,
    main: &File,
    drop_ins: &[(&str, File)],
    does_not_start: Option<&String>,
    stderr: &str,
) {
    assert_eq!(stderr.contains("it does not start with "), does_not_start.is_some(), "{stderr}");
    if does_not_start.is_some() {
        return;
    }
    if stderr.contains("its files are of versions 2 and 3") || stderr.contains("its version is 1") {
        let is_mixed = drop_ins.iter().any(|(_, file)| file.form != main.form);
        assert!(release.plugin == CRI_3 && (is_mixed || main.form != 0), "{stderr}");
        return;
    }
    let named = drop_ins.iter().rev().find(|(name, _)| stderr.contains(*name));
    let (name, file) = named.unwrap_or_else(|| panic!("{stderr}"));
    assert!(file.body.contains("[plugins.'CRI'"), "{stderr}");
    assert!(release.plugin == CRI_2 || *name > "50-mig-cdi.toml", "{stderr}");
}

/// Asserts that a drop-in with our settings, in any form, would not come into effect or would take something away.
fn no_drop_in_would_do(machine: &ConfigureHost, release: &Release, before: &Value) {
    let is_default = |dir: &&str| ["/etc/cdi", "/var/run/cdi", "/run/cdi"].contains(dir);
    let dirs = strings(&before["plugins"][release.plugin]["cdi_spec_dirs"]);
    let mut wanted: Vec<&str> = dirs.iter().copied().filter(|dir| !is_default(dir)).collect();
    wanted.extend(["/etc/cdi", "/run/cdi"]);
    // A dump without the settings of ours, and without the list of files.
    let rest = |mut value: Value| {
        let plugin = value["plugins"][release.plugin].as_object_mut().unwrap();
        plugin.remove("enable_cdi");
        plugin.remove("cdi_spec_dirs");
        value.as_object_mut().unwrap().remove("imports");
        value
    };
    for (version, plugin) in release.forms {
        let version = version.map_or_else(String::new, |version| format!("version = {version}\n"));
        let text = format!(
            "{version}[plugins.'{plugin}']\nenable_cdi = true\ncdi_spec_dirs = {wanted:?}\n"
        );
        machine.put("/etc/containerd/conf.d/50-mig-cdi.toml", &text);
        let Ok(after) = dump(machine, release) else { continue };
        let ours = &after["plugins"][release.plugin];
        let is_in_effect = ours["enable_cdi"] == json!(true)
            && wanted.iter().all(|dir| strings(&ours["cdi_spec_dirs"]).contains(dir));
        let is_whole = rest(after.clone()) == rest(before.clone());
        assert!(!is_in_effect || !is_whole, "this would do: {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn containerd_1_7_keeps_what_it_has((main, drop_ins) in files(&OLD), runtime in any::<bool>()) {
        check(&OLD, &main, &drop_ins, runtime);
    }

    #[test]
    fn containerd_2_keeps_what_it_has((main, drop_ins) in files(&NEW), runtime in any::<bool>()) {
        check(&NEW, &main, &drop_ins, runtime);
    }
}

/// `config dump` of 2 goes on without a file that is imported and not there; containerd does not.
#[test]
fn containerd_does_not_start_with_a_missing_import() {
    for release in [OLD, NEW] {
        let machine = ConfigureHost::trusted();
        let dir = machine.path("/run/c");
        std::fs::create_dir_all(&dir).unwrap();
        let paths = format!(
            "root = {:?}\nstate = {:?}\n[grpc]\naddress = {:?}\n",
            dir.join("r"),
            dir.join("s"),
            dir.join("a")
        );
        machine.put(
            "/etc/containerd/config.toml",
            &format!("version = 2\nimports = ['x.toml']\n{paths}"),
        );
        let program =
            project().join("target/test-deps").join(release.dir).join("usr/bin/containerd");
        let ended = run(Command::new("timeout")
            .arg("20")
            .arg(program)
            .arg("-c")
            .arg(machine.path("/etc/containerd/config.toml")));
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("x.toml: no such file or directory"), "{}", ended.stderr);
    }
}

/// containerd reads what `configure` reads: the version of the program is as expected.
#[test]
fn the_engines_have_the_expected_versions() {
    for release in [OLD, NEW] {
        let dir = project().join("target/test-deps").join(release.dir);
        let version = run(Command::new(dir.join("usr/bin/containerd")).arg("--version"));
        let major = &release.version[..2];
        let is_major = |word: &str| word.trim_start_matches('v').starts_with(major);
        assert!(version.stdout.split_whitespace().any(is_major), "{}", version.stdout);
    }
}
