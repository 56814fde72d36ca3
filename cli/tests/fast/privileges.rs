//! Callers to whom NVML reports no placements: each command says once what it cannot know, and does the rest.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, Run, bare, copy_program, program, run};
use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

/// A host whose settings name its own spec directory.
fn host() -> FakeHost {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    let config = format!("capabilities = \"none\"\nspec-dirs = [{:?}]\n", host.out());
    fs::write(host.config(), config).unwrap();
    host
}

/// Runs a command to which NVML answers as to a user without privileges.
fn unprivileged(host: &FakeHost, args: &[&str]) -> Run {
    run(host.command(args).env("FAKE_NVML_UNPRIVILEGED", "1"))
}

/// Cure that this process is given: root lacks a capability, others are not root.
fn cure() -> &'static str {
    match nix::unistd::geteuid().is_root() {
        true => "run it with CAP_SYS_ADMIN, outside of containers and user namespaces",
        false => "run it as root",
    }
}

#[test]
fn commands_that_need_layouts_ask_for_root_once() {
    let host = host();
    let file = host.out().join("checkpoint");
    for args in [
        &["plan", "0=2x3g.40gb"][..],
        &["profiles"],
        &["export"],
        &["checkpoint", file.to_str().unwrap()],
        &["assert", "0=2x3g.40gb"],
    ] {
        let run = unprivileged(&host, args);
        let cause = "nvml reports them only to a caller with privileges";
        let message = format!("error: read the layouts of the gpus: {cause}; {}\n", cure());
        assert_eq!((run.code, run.stdout, run.stderr), (1, String::new(), message), "{args:?}");
    }
    assert!(!file.exists());
}

#[test]
fn a_slot_that_is_not_known_is_not_called_gone() {
    let host = host();
    let words = "nvml tells where slices are only to a caller with privileges";
    for command in ["doctor", "show"] {
        let run = unprivileged(&host, &[command, "0:2g.20gb:0"]);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(run.code == 1 && said.contains(words) && !said.contains("is gone"), "{said}");
    }
}

#[test]
fn names_by_slot_come_from_the_spec() {
    let host = host();
    let without = unprivileged(&host, &["list"]);
    assert_eq!((without.code, without.stderr.matches('\n').count()), (0, 1), "{}", without.stderr);
    assert!(without.stderr.contains("slices have no names by slot"), "{}", without.stderr);
    assert_eq!(host.generate(&[]).code, 0);
    let slots = ["0:2g.20gb:0", "0:2g.20gb:2", "0:2g.20gb:4", "0:1g.10gb:6"];
    for (args, code) in [(&["list"][..], 0), (&["list", "--tree"], 0), (&["map"], 3)] {
        let run = unprivileged(&host, args);
        assert_eq!(run.code, code, "{args:?}: {}", run.stderr);
        for slot in slots {
            assert!(run.stdout.contains(slot), "{args:?} {slot}: {}", run.stdout);
        }
        // Processes of other users, which map cannot examine, are another matter.
        let said = run.stderr.matches("only to a caller with privileges").count();
        assert_eq!(said, 1, "once: {}", run.stderr);
    }
    let show = unprivileged(&host, &["show", "0:2g.20gb:2"]);
    assert_eq!(show.code, 0, "{}", show.stderr);
    assert!(show.stdout.contains("MIG-7e3b1aad-b6b6-508b-bb58-981e2752708b"), "{}", show.stdout);
    // A spec of another layout gives no names.
    host.replace_node(
        "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"3g.40gb\", start = 4 }]\n",
    );
    let stale = unprivileged(&host, &["list"]);
    assert!(!stale.stdout.contains("2g.20gb:"), "{}", stale.stdout);
}

/// As root says it, from the names in the spec: which names there are now, and which GPU has none.
#[test]
fn a_name_that_is_gone_is_answered_from_the_spec() {
    let host = host();
    let layout = "instances = [{ profile = \"3g.40gb\", start = 0, id = 1 }, { profile = \"3g.40gb\", start = 4 }]\n";
    let two = format!("[[gpu]]\nmodel = \"a100-80gb\"\n{layout}[[gpu]]\nmodel = \"a100-80gb\"\n");
    host.replace_node(&two);
    assert_eq!(host.generate(&[]).code, 0);
    let spec = host.spec().display().to_string();
    let answer = |name: &str| {
        let [show, doctor] =
            ["show", "doctor"].map(|command| unprivileged(&host, &[command, name]));
        assert_eq!((show.code, doctor.code), (1, 1), "{}{}", show.stderr, doctor.stdout);
        (show.stderr, doctor.stdout)
    };
    let now =
        format!("0:2g.20gb:0 is gone; GPU 0 now has 0:3g.40gb:0, 0:3g.40gb:4, by the spec {spec}");
    let (show, doctor) = answer("0:2g.20gb:0");
    assert!(show.contains(&now), "{show}");
    assert!(doctor.contains(&now) && doctor.contains("cure: use one of these names"), "{doctor}");
    // Nothing has to be known about slices of another GPU.
    for has_spec in [true, false] {
        if !has_spec {
            fs::remove_file(&spec).unwrap();
        }
        let (show, doctor) = answer("1:2g.20gb:0");
        let gone = "1:2g.20gb:0 is gone; GPU 1 now has no slice";
        assert!(show.contains(gone) && doctor.contains(gone), "{show}{doctor}");
        let (show, doctor) = answer("7:2g.20gb:0");
        assert!(show.contains("this node has no GPU 7"), "{show}");
        assert!(doctor.contains("this node has no GPU 7"), "{doctor}");
    }
    // The spec is older than one of the slices.
    assert_eq!(host.generate(&[]).code, 0);
    host.replace_node(&two.replacen("3g.40gb\", start = 0, id = 1", "4g.40gb\", start = 0", 1));
    let (show, doctor) = answer("0:2g.20gb:0");
    let unknown = "nvml tells where slices are only to a caller with privileges";
    assert!(show.contains(unknown) && doctor.contains(unknown), "{show}{doctor}");
}

/// The title has the name by slot first, as for root, and the warning names the spec that it is from.
#[test]
fn a_slice_is_shown_by_its_name_in_the_spec() {
    let host = host();
    assert_eq!(host.generate(&[]).code, 0);
    let uuid = "MIG-7e3b1aad-b6b6-508b-bb58-981e2752708b";
    let warning = format!(
        "warning: nvml reports placements only to a caller with privileges: names by slot are those in {}\n",
        host.spec().display()
    );
    for name in ["0:2g.20gb:2", uuid] {
        let show = unprivileged(&host, &["show", name]);
        assert_eq!((show.code, &show.stderr), (0, &warning), "{name}");
        let lines: Vec<_> = show.stdout.lines().take(2).collect();
        let names = ["nvidia.com/mig=0:2g.20gb:2", &format!("nvidia.com/mig={uuid}")];
        assert_eq!(lines, names);
    }
    fs::remove_file(host.spec()).unwrap();
    let show = unprivileged(&host, &["show", uuid]);
    assert!(show.stderr.contains("4 devices have no slot name"), "{}", show.stderr);
    assert!(show.stdout.starts_with(&format!("nvidia.com/mig={uuid}\n")), "{}", show.stdout);
}

#[test]
fn drift_is_checked_as_far_as_it_is_known() {
    let host = host();
    let output = format!("--output={}", host.spec().display());
    assert_eq!(host.generate(&[]).code, 0);
    let check = unprivileged(&host, &["check", &output]);
    assert_eq!((check.code, check.stdout.as_str()), (3, ""), "{}", check.stderr);
    let fact = "drift is checked by uuid alone, since names by slot follow from placements; run it as root\n";
    assert_eq!(check.stderr, fact);
    let root = format!("--host-root={}", host.root().display());
    let doctor = unprivileged(&host, &["doctor", &root]);
    let drift: Vec<_> = doctor.stdout.lines().filter(|line| line.contains(" drift ")).collect();
    assert!(drift.len() == 1 && drift[0].starts_with("note "), "{}", doctor.stdout);
    assert!(drift[0].contains("names by slot are not compared"), "{}", drift[0]);
    // A slice that is gone is noticed by its UUID.
    let three =
        preset("a100-80gb").unwrap().replace("    { profile = \"1g.10gb\", start = 6 },\n", "");
    host.replace_node(&three);
    let check = unprivileged(&host, &["check", &output]);
    assert!(
        check.code == 6 && check.stdout.contains("is gone; the node now has"),
        "{}",
        check.stdout
    );
}

/// A home that does not exist, as nobody's: `configure --rootless` names the path, and never asks for root.
#[test]
fn rootless_configuration_never_asks_for_root() {
    let dir = tempfile::tempdir().unwrap();
    let readonly = dir.path().join("home");
    fs::create_dir(&readonly).unwrap();
    fs::set_permissions(&readonly, Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    // A directory that no engine reads by default.
    let config = dir.path().join("config.toml");
    fs::write(&config, "spec-dirs = ['/etc/cdi', '/opt/cdi']").unwrap();
    let config = config.to_str().unwrap();
    for (engine, version) in [("podman", "5.6.0"), ("docker", "26.1.5")] {
        let args =
            ["configure", engine, "--rootless", "--engine-version", version, "--config", config];
        let without = run(&mut as_user(&dir, &args));
        assert_eq!(without.code, 2, "{}", without.stderr);
        assert!(without.stderr.contains("nor HOME names a directory"), "{}", without.stderr);
        let denied = run(as_user(&dir, &args).env("HOME", &readonly));
        let message = format!("{}", readonly.display());
        assert_eq!(denied.code, 1, "{}", denied.stderr);
        assert!(denied.stderr.contains(&message), "{}", denied.stderr);
        assert!(denied.stderr.contains("permission denied; name directories that you can write"));
    }
}

/// Input that is missing is wrong input, and input that may not be read a failed operation: the same in each command.
#[test]
fn inputs_have_the_same_exit_codes_in_every_command() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o000)).unwrap();
    let commands: [fn(&str) -> Vec<&str>; 7] = [
        |file| vec!["list", "--node=a30", "--config", file],
        |file| vec!["list", "--node", file],
        |file| vec!["plan", "--node=a30", "--layout=x", "-f", file],
        |file| vec!["apply", "--node=a30", "--layout=x", "-f", file],
        |file| vec!["assert", "--node=a30", "--layout=x", "-f", file],
        |file| vec!["restore", "--node=a30", file],
        |file| vec!["compare", "--node=a30", file],
    ];
    for (file, code) in [("/no/such/file", 2), ("/", 2), (secret.to_str().unwrap(), 1)] {
        for command in commands {
            let args = command(file);
            let run = run(&mut as_user(&dir, &args));
            assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{args:?}: {}", run.stderr);
            assert_eq!(
                run.stderr.contains("run it as root"),
                code == 1,
                "{args:?}: {}",
                run.stderr
            );
        }
    }
}

/// A command of a user without root. As root that is another user, who runs a copy of the program.
fn as_user(dir: &tempfile::TempDir, args: &[&str]) -> Command {
    let copy = dir.path().join("mig-cdi");
    if !copy.exists() {
        copy_program(&program("mig-cdi"), &copy);
    }
    let mut command = Command::new(copy);
    bare(&mut command).args(args);
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    command
}
