//! `mig-cdi configure podman` against podman's own view of its files, the defaults that its help prints, in each release whose rules
//! differ: nothing that was in effect is lost, what is wanted comes into effect or the file in the way is named, and the undo restores
//! every byte.

use mig_cdi_tests::{Run, bare, configure_host::ConfigureHost, debian_release, project, run};
use proptest::{collection::btree_map, prelude::*, sample::select};
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

const CASES: u32 = 30;
/// User id that runs rootless podman; no user of the machine has it.
const USER: u32 = 64500;

/// A release, by the directories of its package and libraries below `target/test-deps`, which hide files of /usr.
struct Release {
    dirs: &'static [&'static str],
    has_append: bool,
}

const DEBIAN_12: Release = Release { dirs: &[], has_append: false };
const DEBIAN_13: Release = Release { dirs: &["podman"], has_append: true };
const SID: Release = Release { dirs: &["podman-next"], has_append: true };
const PODMAN_6: Release = Release { dirs: &["podman-6", "podman-next"], has_append: true };

/// Values that a podman with these files has.
#[derive(Debug, PartialEq, Eq)]
struct View {
    hooks_dirs: Vec<String>,
    /// `None` for a release without the setting.
    spec_dirs: Option<Vec<String>>,
    runtime: String,
}

impl Release {
    /// Runs podman on the files of a host. In /dev/shm podman has its locks, which other releases would share.
    fn podman(&self, machine: &ConfigureHost, rootless: bool, args: &[&str]) -> Run {
        const SCRIPT: &str =
            "[ -z \"$OVER\" ] || mount -t overlay overlay -o \"lowerdir=$OVER:/usr\" /usr
            umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
            mount -t cgroup2 none /sys/fs/cgroup
            mount -t tmpfs tmpfs /run
            mount -t tmpfs tmpfs /dev/shm
            mount --bind \"$ROOT/etc/containers\" /etc/containers
            mount --bind \"$ROOT/usr/share/containers\" /usr/share/containers
            mount --bind \"$ROOT/root\" /root
            mount -t tmpfs -o mode=755 tmpfs /home
            mkdir /home/u
            mount --bind \"$ROOT/home/u\" /home/u
            exec \"$@\"";
        let unpacked = |name: &&str| project().join("target/test-deps").join(name).join("usr");
        let over: Vec<PathBuf> = self.dirs.iter().map(unpacked).collect();
        assert!(over.iter().all(|dir| dir.is_dir()), "{over:?}: run tests/setup.sh engines");
        let over: Vec<String> = over.iter().map(|dir| dir.display().to_string()).collect();
        let mut command = Command::new("unshare");
        bare(&mut command).args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            SCRIPT,
            "sh",
        ]);
        command.env("OVER", over.join(":")).env("ROOT", machine.path("/"));
        command.env("HOME", "/root");
        if rootless {
            command.args(["setpriv", &format!("--reuid={USER}"), &format!("--regid={USER}")]);
            command.args(["--clear-groups", "env", "HOME=/home/u"]);
        }
        run(command.arg("podman").args(args))
    }

    fn version(&self, machine: &ConfigureHost) -> String {
        debian_release::version(&self.podman(machine, false, &["--version"]).stdout)
    }

    fn view(&self, machine: &ConfigureHost, rootless: bool) -> View {
        let help = self.podman(machine, rootless, &["--help"]);
        assert_eq!((help.code, &*help.stderr), (0, ""), "{}", help.stdout);
        let line = |flag: &str| help.stdout.lines().find(|line| line.contains(flag));
        let list = |flag: &str| {
            let list = line(flag)?.split_once("(default [").map_or("", |(_, list)| list);
            let items = list.trim_end_matches("])").split(',');
            Some(items.filter(|item| !item.is_empty()).map(str::to_owned).collect())
        };
        let runtime = line("--runtime ").and_then(|line| line.split_once("(default \""));
        View {
            hooks_dirs: list("--hooks-dir ").expect("podman has the flag"),
            spec_dirs: list("--cdi-spec-dir "),
            runtime: runtime.expect("it has a default").1.trim_end_matches("\")").to_owned(),
        }
    }

    /// Path of an OCI runtime by its name in the files. podman prints it before it looks for the programs of networks.
    fn runtime_path(&self, machine: &ConfigureHost, name: &str) -> Result<String, String> {
        // podman 4 takes at most 50 characters. The directory ends with the namespace.
        let dir = "/run/storage";
        let args = ["--root", dir, "--runroot", dir, "--tmpdir", dir, "--storage-driver", "vfs"];
        let info = ["--log-level", "debug", "--runtime", name, "info"];
        let info = self.podman(machine, false, &[&args[..], &info].concat());
        match info.stderr.split_once("Using OCI runtime \\\"") {
            Some((_, path)) => Ok(path.split('\\').next().unwrap_or_default().to_owned()),
            None => Err(info.stderr),
        }
    }
}

/// The text of a file.
fn text(has_append: bool) -> impl Strategy<Value = String> {
    let list = move |key: &'static str| {
        let append =
            if has_append { ["{append=true}", "'/c', {append=false}"] } else { ["", "'/c'"] };
        let texts = ["'/a'", "'/b'", append[0], append[1]].map(str::to_owned);
        let with_append =
            if has_append { format!("'/d', {}", append[0]) } else { "'/d'".to_owned() };
        let texts = texts.into_iter().chain([with_append]);
        let lines: Vec<String> = texts.map(|items| format!("{key} = [{items}]\n")).collect();
        prop_oneof![2 => Just(String::new()), 3 => select(lines)]
    };
    let runtime = select(vec!["", "", "runtime = 'runc'\n", "runtime = 'vendor'\n"]);
    let tables = select(vec![
        "",
        "",
        "[engine.runtimes]\nvendor = ['/bin/true']\n",
        "[containers]\npids_limit = 7\n",
    ]);
    // podman takes keys in any case of their letters.
    let case = select(vec![
        [""; 2],
        [""; 2],
        ["[engine]", "[Engine]"],
        ["hooks_dir", "Hooks_Dir"],
        ["cdi_spec_dirs", "CDI_SPEC_DIRS"],
        ["runtime =", "Runtime ="],
    ]);
    (list("hooks_dir"), list("cdi_spec_dirs"), runtime, tables, case).prop_map(
        |(hooks, specs, runtime, tables, [plain, other])| {
            let text = format!("[engine]\n{hooks}{specs}{runtime}{tables}");
            if plain.is_empty() { text } else { text.replace(plain, other) }
        },
    )
}

/// Files by path.
fn files(has_append: bool) -> impl Strategy<Value = BTreeMap<String, String>> {
    let dirs = [
        "/usr/share/containers",
        "/etc/containers",
        "/root/.config/containers",
        "/home/u/.config/containers",
    ];
    let mut paths = Vec::new();
    for dir in dirs {
        let conf = format!("{dir}/containers.conf");
        paths.push(conf.clone());
        for kind in [
            "containers.conf.d",
            "containers.rootless.conf.d/64500",
            "containers.rootful.conf.d",
            "containers.rootless.conf.d",
        ] {
            paths.extend(
                ["10-a.conf", "60-b.conf", "README"].map(|name| format!("{dir}/{kind}/{name}")),
            );
        }
    }
    paths.push("/etc/containers/containers.rootless.conf".to_owned());
    paths.push("/etc/containers/containers.conf.d/99-c.conf".to_owned());
    btree_map(select(paths), text(has_append), 0..=6)
}

/// Runs `mig-cdi configure`, as the user for a rootless podman.
fn configure(machine: &ConfigureHost, args: &str, rootless: bool) -> Run {
    if !rootless {
        return machine.configure(args);
    }
    let inner = machine.command(&format!("{args} --rootless"));
    let mut command = Command::new("setpriv");
    bare(&mut command).env("HOME", "/home/u");
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    machine.tidy(run(command.arg(inner.get_program()).args(inner.get_args())))
}

fn check(
    release: &Release,
    files: &BTreeMap<String, String>,
    [hook, runtime, rootless]: [bool; 3],
) {
    let machine = ConfigureHost::trusted();
    for dir in ["etc/containers", "usr/share/containers", "root", "home/u/.config"] {
        fs::create_dir_all(machine.path(dir)).unwrap();
    }
    files.iter().for_each(|(path, text)| machine.put(path, text));
    let script = format!("chmod -R a+rX . && chown -R {USER}:{USER} root/home/u");
    run(Command::new("sh").args(["-euc", &script]).current_dir(machine.dir())).assert_code(0);
    let version = release.version(&machine);
    let before = release.view(&machine, rootless);
    let vendor = (!rootless).then(|| release.runtime_path(&machine, "vendor").ok()).flatten();
    let mut wanted = vec!["/etc/cdi"];
    if before.spec_dirs.is_some() {
        wanted.push("/srv/slices");
        machine.set_spec_dirs(&wanted);
    }
    let files_before = tree(&machine);
    let (hook, runtime) = (hook, runtime && !rootless);
    let flags = [(hook, " --hook"), (runtime, " --runtime")];
    let flags: String = flags.into_iter().filter_map(|(on, flag)| on.then_some(flag)).collect();
    let args = format!("podman --engine-version {version}{flags}");
    let done = configure(&machine, &args, rootless);
    if done.code != 0 {
        assert_eq!(done.code, 5, "{}", done.stderr);
        assert_eq!(tree(&machine), files_before, "a refusal changes nothing");
        let named =
            files.iter().find(|(path, _)| done.stderr.contains(&format!("{path} is read after")));
        let (_, text) = named.unwrap_or_else(|| panic!("{}", done.stderr));
        assert!(text.to_lowercase().contains("_dir"), "{}", done.stderr);
        return;
    }
    let after = release.view(&machine, rootless);
    let ours = match rootless {
        true => "/home/u/.config/mig-cdi/hooks.d/podman",
        false => "/etc/mig-cdi/hooks.d/podman",
    };
    let mut hooks = before.hooks_dirs.clone();
    hooks.extend(hook.then(|| ours.to_owned()));
    same(&hooks, &after.hooks_dirs, &done.stderr);
    if let (Some(mut dirs), Some(now)) = (before.spec_dirs, &after.spec_dirs) {
        dirs.extend(
            wanted
                .iter()
                .filter(|dir| !dirs.iter().any(|one| one == *dir))
                .map(|dir| (*dir).to_owned())
                .collect::<Vec<_>>(),
        );
        same(&dirs, now, &done.stderr);
    }
    assert_eq!(before.runtime, after.runtime);
    if vendor.is_some() {
        assert_eq!(release.runtime_path(&machine, "vendor").ok(), vendor);
    }
    if runtime {
        let path = release.runtime_path(&machine, "mig-cdi").unwrap_or_else(|e| panic!("{e}"));
        assert!(path.ends_with("/mig-cdi-runtime"), "{path}");
    }
    let again = configure(&machine, &args, rootless);
    assert!(again.stderr.contains("nothing to change\n"), "{}", again.stderr);
    assert_eq!(configure(&machine, "podman --undo", rootless).code, 0);
    assert_eq!(tree(&machine), files_before, "the undo restores every byte");
}

/// The files of the host but the state of `configure`, and the database that rpm makes for `podman info`.
fn tree(machine: &ConfigureHost) -> BTreeMap<String, Vec<u8>> {
    let mut tree = machine.tree();
    tree.retain(|path, _| !path.starts_with("home/u/.local") && !path.starts_with("root/.rpmdb"));
    tree
}

/// Asserts that lists have the same items.
fn same(expected: &[String], found: &[String], stderr: &str) {
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    assert_eq!(sorted(expected), sorted(found), "{stderr}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn podman_4_keeps_what_it_has(files in files(DEBIAN_12.has_append), flags in any::<[bool; 3]>()) {
        check(&DEBIAN_12, &files, flags);
    }

    #[test]
    fn podman_5_of_debian_13_keeps_what_it_has(files in files(DEBIAN_13.has_append), flags in any::<[bool; 3]>()) {
        check(&DEBIAN_13, &files, flags);
    }

    #[test]
    fn podman_of_sid_keeps_what_it_has(files in files(SID.has_append), flags in any::<[bool; 3]>()) {
        check(&SID, &files, flags);
    }

    #[test]
    fn podman_6_keeps_what_it_has(files in files(PODMAN_6.has_append), flags in any::<[bool; 3]>()) {
        check(&PODMAN_6, &files, flags);
    }
}
