//! `mig-cdi configure crio` against CRI-O's own view of its files, `crio config`: nothing that was in effect is lost, what is wanted comes
//! into effect or the file in the way is named, and the undo restores every byte.

use mig_cdi_tests::{configure_host::ConfigureHost, debian_release, run};
use proptest::{
    collection::btree_map,
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, TestRunner},
};
use std::{collections::BTreeMap, path::Path, process::Command};

const CASES: u32 = 60;
const OURS: &str = "/etc/mig-cdi/hooks.d/crio";

/// Values that a CRI-O with these files has.
#[derive(Debug)]
struct View {
    spec_dirs: Vec<String>,
    hooks_dirs: Vec<String>,
    default_runtime: String,
    /// Lines of each runtime's table that are no comments.
    runtimes: BTreeMap<String, Vec<String>>,
}

/// Runs the property test with a CRI-O.
pub(crate) fn keeps_what_it_has(crio: &Path) {
    let mut runner =
        TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let strategy = (files(), any::<[bool; 2]>());
    let result = runner.run(&strategy, |(files, flags)| {
        check(crio, &files, flags);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

fn text() -> impl Strategy<Value = String> {
    let list = |key: &'static str| {
        let lists = ["", "['/a']", "['/a', '/b']", "[]"];
        select(lists.to_vec()).prop_map(move |list| match list {
            "" => String::new(),
            list => format!("{key} = {list}\n"),
        })
    };
    let keys = select(vec!["", "default_runtime = 'crun'\n", "log_size_max = 9000\n"]);
    let tables = subsequence(
        vec![
            "[crio.runtime.runtimes.crun]\nruntime_path = '/opt/crio/crun'\nmonitor_path = '/opt/crio/conmon'\nruntime_root = '/run/crun'\n",
            "[crio.runtime.runtimes.crun]\nruntime_path = '/usr/bin/crun'\nallowed_annotations = ['io.kubernetes.cri-o.Devices']\n",
            "[crio.runtime.runtimes.vm]\nruntime_path = '/opt/kata'\nruntime_type = 'vm'\nprivileged_without_host_devices = true\n",
            "[crio.image]\npause_image = 'registry.invalid/pause:1'\n",
        ],
        0..=2,
    )
    .prop_filter("a table is written once", |tables| {
        tables.iter().filter(|table| table.contains("runtimes.crun")).count() < 2
    });
    (list("cdi_spec_dirs"), list("hooks_dir"), keys, tables).prop_map(
        |(specs, hooks, keys, tables)| {
            format!("[crio.runtime]\n{specs}{hooks}{keys}{}", tables.concat())
        },
    )
}

fn files() -> impl Strategy<Value = BTreeMap<&'static str, String>> {
    let paths = vec![
        "/etc/crio/crio.conf",
        "/etc/crio/crio.conf.d/10-crio.conf",
        "/etc/crio/crio.conf.d/49-a",
        "/etc/crio/crio.conf.d/50-mig/a.conf",
        "/etc/crio/crio.conf.d/60-b.conf",
        "/etc/crio/crio.conf.d/99-c.conf",
    ];
    btree_map(select(paths), text(), 0..=4)
}

fn view(crio: &Path, machine: &ConfigureHost) -> View {
    let mut config = Command::new(crio);
    config.arg("--config").arg(machine.path("/etc/crio/crio.conf"));
    config.arg("--config-dir").arg(machine.path("/etc/crio/crio.conf.d")).arg("config");
    let shown = run(&mut config);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    // A value that is the default is shown as a comment.
    let lines = || shown.stdout.lines().map(|line| line.trim_start_matches("# "));
    let list = |key: &str| {
        let start = format!("{key} = [");
        let items = lines().skip_while(|line| **line != start).skip(1);
        let items = items.take_while(|line| *line != "]");
        items.map(|item| item.trim_matches(['\t', ',', '"']).to_owned()).collect()
    };
    let runtime = lines().find_map(|line| line.strip_prefix("default_runtime = "));
    let mut runtimes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = None;
    for line in lines() {
        if let Some(name) = line.strip_prefix("[crio.runtime.runtimes.") {
            // That of the description.
            table = Some(name.trim_end_matches(']').to_owned())
                .filter(|name| name != "runtime-handler");
        } else if line.is_empty() {
            table = None;
        } else if let Some(name) = &table {
            runtimes.entry(name.clone()).or_default().push(line.to_owned());
        }
    }
    View {
        spec_dirs: list("cdi_spec_dirs"),
        hooks_dirs: list("hooks_dir"),
        default_runtime: runtime.expect("it has one").trim_matches('"').to_owned(),
        runtimes,
    }
}

fn check(crio: &Path, files: &BTreeMap<&str, String>, [hook, runtime]: [bool; 2]) {
    let machine = ConfigureHost::trusted();
    machine.set_spec_dirs(&["/etc/cdi", "/srv/slices"]);
    // The main file has to exist where it is named.
    machine.put("/etc/crio/crio.conf", "");
    files.iter().for_each(|(path, text)| machine.put(path, text));
    for program in ["opt/crio/crun", "usr/bin/crun", "usr/bin/runc"] {
        machine.program(&format!("root/{program}"), "#!/bin/sh\n");
    }
    let version = run(Command::new(crio).arg("--version"));
    let version = debian_release::version(&version.stdout);
    let before = view(crio, &machine);
    let tree = machine.tree();
    let flags = [(hook, " --hook"), (runtime, " --runtime")];
    let flags: String = flags.into_iter().filter_map(|(on, flag)| on.then_some(flag)).collect();
    let args = format!("crio --engine-version {version}{flags}");
    let done = machine.configure(&args);
    if done.code != 0 {
        assert_eq!(done.code, 5, "{}", done.stderr);
        assert_eq!(machine.tree(), tree, "a refusal changes nothing");
        let is_named = |path: &&str| done.stderr.contains(&format!("{path} is read after "));
        assert!(files.keys().any(is_named), "{}", done.stderr);
        return;
    }
    let mut after = view(crio, &machine);
    let with = |list: &[String], more: &[&str]| {
        let mut list = list.to_vec();
        for one in more {
            if !list.iter().any(|item| item == one) {
                list.push((*one).to_owned());
            }
        }
        list.sort();
        list
    };
    after.spec_dirs.sort();
    assert_eq!(
        with(&before.spec_dirs, &["/etc/cdi", "/srv/slices"]),
        after.spec_dirs,
        "{}",
        done.stderr
    );
    after.hooks_dirs.sort();
    assert_eq!(
        with(&before.hooks_dirs, if hook { &[OURS] } else { &[] }),
        after.hooks_dirs,
        "{}",
        done.stderr
    );
    assert_eq!(before.default_runtime, after.default_runtime);
    if runtime {
        let ours = after.runtimes.remove("mig-cdi").expect("it is registered");
        assert!(ours.iter().any(|line| line.contains("/mig-cdi-runtime\"")), "{ours:?}");
        let without_path = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| !line.starts_with("runtime_path")).cloned().collect()
        };
        let inherited = without_path(&before.runtimes[&before.default_runtime]);
        // A key that is left out has the value of the built-in entry, but is not shown with it.
        match files.values().any(|text| text.contains("runtimes.crun]")) {
            true => assert_eq!(without_path(&ours), inherited, "{}", done.stderr),
            false => assert!(ours.iter().any(|line| line.starts_with("\t\"PATH=")), "{ours:?}"),
        }
    }
    assert_eq!(before.runtimes, after.runtimes);
    let again = machine.run_ok(&args);
    assert!(again.stderr.contains("nothing to change\n"), "{}", again.stderr);
    machine.run_ok("crio --undo");
    assert_eq!(machine.tree(), tree, "the undo restores every byte");
}
