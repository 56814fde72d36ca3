//! `mig-cdi configure` with programs, which have to be root's: for every engine, the settings that it writes, those that
//! it keeps, and the undo. `hook_engines` and `watch_engines` show that real engines accept what it writes.

use mig_cdi_tests::{Run, configure_host::ConfigureHost, project, run};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    process::Command,
};

/// Directory of the shipped files, and the command that writes the same on an empty machine.
const SHIPPED: [(&str, &str); 8] = [
    ("podman-5.5", "podman --engine-version 5.5.2"),
    ("podman-hook", "podman --engine-version 4.3.1 --hook"),
    ("containerd-1.7", "containerd --engine-version 1.7.24"),
    ("containerd-1.7-runtime", "containerd --engine-version 1.7.24 --runtime"),
    ("containerd-2-runtime", "containerd --engine-version 2.2.0 --runtime"),
    ("crio-hook-runtime", "crio --engine-version 1.30.1 --hook --runtime"),
    ("docker", "docker --engine-version 26.1"),
    ("docker-runtime", "docker --engine-version 26.1 --runtime"),
];

/// `cargo xtask golden configure` writes the shipped files.
#[test]
fn the_shipped_files_are_what_configure_writes() {
    for (name, args) in SHIPPED {
        let machine = ConfigureHost::trusted();
        machine.run_ok(args);
        let bin = machine.dir().join("bin").display().to_string();
        let mut written = machine.tree();
        written.retain(|path, _| machine.path(path).is_file() && !path.starts_with("var/"));
        let dir = project().join("config/engines").join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let _ = fs::remove_dir_all(&dir);
            for (path, text) in &written {
                let parent = dir.join(path);
                fs::create_dir_all(parent.parent().unwrap()).unwrap();
                let text = String::from_utf8(text.clone()).unwrap().replace(&bin, "/usr/bin");
                fs::write(dir.join(path), text).unwrap();
            }
        }
        assert!(!written.is_empty(), "{name}");
        for (path, text) in written {
            let text = String::from_utf8(text).unwrap().replace(&bin, "/usr/bin");
            let shipped = fs::read_to_string(dir.join(&path));
            let shipped = shipped.unwrap_or_else(|e| panic!("{name}/{path}: {e}"));
            similar_asserts::assert_eq!(text, shipped, "{name}/{path}");
        }
        let count = run(Command::new("find").arg(&dir).args(["-type", "f"])).stdout.lines().count();
        assert_eq!(
            count,
            machine
                .tree()
                .keys()
                .filter(|p| machine.path(p).is_file() && !p.starts_with("var/"))
                .count(),
            "{name}"
        );
    }
}

/// For every engine: a second run changes nothing, a dry run writes nothing, and the undo restores the previous
/// files.
#[test]
fn configure_is_idempotent_has_a_dry_run_and_can_be_undone() {
    for (name, args) in SHIPPED {
        let machine = ConfigureHost::trusted();
        let engine = args.split(' ').next().unwrap();
        let empty = machine.tree();
        let dry = machine.run_ok(&format!("{args} --dry-run"));
        assert!(dry.stdout.contains("--- /dev/null\n+++ /etc/"), "{name}: {}", dry.stdout);
        assert_eq!(machine.tree(), empty, "{name}: a dry run changes nothing");
        let first = machine.run_ok(args);
        assert!(first.stderr.contains("wrote /etc/"), "{name}: {}", first.stderr);
        let accepted = "accepted from containers that may open every device (--privileged): hook.requests in \
                        /etc/mig-cdi/config.toml\n";
        let uses_hook = args.contains("--hook") || args.contains("--runtime");
        assert_eq!(first.stderr.contains(accepted), uses_hook, "{name}: {}", first.stderr);
        let tree = machine.tree();
        let again = machine.run_ok(args);
        assert!(again.stderr.contains("nothing to change\n"), "{name}: {}", again.stderr);
        assert_eq!(machine.tree(), tree, "{name}: nothing is done twice");
        assert_eq!(machine.run_ok(&format!("{args} --dry-run")).stdout, "", "{name}");
        let show = machine.run_ok(&format!("{engine} --undo --dry-run")).stdout;
        assert!(show.contains("+++ /dev/null\n"), "{name}: {show}");
        assert_eq!(machine.tree(), tree, "{name}");
        machine.run_ok(&format!("{engine} --undo"));
        assert_eq!(machine.tree(), empty, "{name}: back");
        let nothing = machine.run_ok(&format!("{engine} --undo")).stderr;
        assert!(nothing.starts_with("nothing to undo"), "{name}: {nothing}");
    }
}

const DEBIAN: &str = "\
# See containerd-config.toml(5)
version = 2

[plugins]
  [plugins.\"io.containerd.grpc.v1.cri\"]
    sandbox_image = \"registry.k8s.io/pause:3.8\"   # pinned
    [plugins.\"io.containerd.grpc.v1.cri\".cni]
      bin_dir = \"/usr/lib/cni\"
    [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
      runtime_type = \"io.containerd.runc.v2\"
      [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]
        SystemdCgroup = true
  [plugins.\"io.containerd.internal.v1.opt\"]
    path = \"/var/lib/containerd\"
# the end
";

/// Each change of an existing file, byte for byte.
#[test]
fn existing_settings_are_kept_and_extended() {
    let machine = ConfigureHost::trusted();
    machine.put("/etc/containerd/config.toml", DEBIAN);
    let dry = machine.run_ok("containerd --engine-version 1.7.24 --runtime --dry-run").stdout;
    let expected = "\
--- /etc/containerd/config.toml
+++ /etc/containerd/config.toml
@@ -4,12 +4,21 @@
 [plugins]
   [plugins.\"io.containerd.grpc.v1.cri\"]
     sandbox_image = \"registry.k8s.io/pause:3.8\"   # pinned
+    enable_cdi = true
     [plugins.\"io.containerd.grpc.v1.cri\".cni]
       bin_dir = \"/usr/lib/cni\"
     [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
       runtime_type = \"io.containerd.runc.v2\"
       [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]
         SystemdCgroup = true
+
+[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.mig-cdi]
+runtime_type = \"io.containerd.runc.v2\"
+container_annotations = [\"mig-cdi/*\"]
+
+[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.mig-cdi.options]
+SystemdCgroup = true
+BinaryName = \"TMP/bin/mig-cdi-runtime\"
   [plugins.\"io.containerd.internal.v1.opt\"]
     path = \"/var/lib/containerd\"
 # the end
";
    similar_asserts::assert_eq!(dry, expected);
    // containerd 2 merges drop-ins, which may not have a later version than the file that imports them.
    machine.set_spec_dirs(&["/srv/slices"]);
    machine.run_ok("containerd --engine-version 2.1.9");
    let drop_in = machine.read("/etc/containerd/conf.d/50-mig-cdi.toml");
    assert!(
        drop_in.contains("\nversion = 2\n\n[plugins.\"io.containerd.grpc.v1.cri\"]\n"),
        "{drop_in}"
    );
    let main = machine.read("/etc/containerd/config.toml");
    let imports = "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    assert_eq!(main, DEBIAN.replace("version = 2\n", imports));
    assert_eq!(machine.read("/etc/containerd/config.toml.mig-cdi-backup"), DEBIAN);

    machine.put("/etc/docker/daemon.json", "{\r\n\t\"features\": {\"buildkit\": true, \"cdi\": false},\r\n\t\"cdi-spec-dirs\": [\"/srv/cdi\"],\r\n\t\"x\": 1e2\r\n}");
    machine.run_ok("docker --engine-version 26.1 --runtime");
    assert_eq!(
        machine
            .read("/etc/docker/daemon.json")
            .replace(&machine.dir().display().to_string(), "TMP"),
        "{\r\n\t\"features\": {\"buildkit\": true, \"cdi\": true},\r\n\t\"cdi-spec-dirs\": [\"/srv/cdi\", \"/srv/slices\"],\r\n\t\"x\": 1e2,\r\n\t\"runtimes\": {\r\n\t\t\"mig-cdi\": {\r\n\t\t\t\"path\": \"TMP/bin/mig-cdi-runtime\"\r\n\t\t}\r\n\t}\r\n}"
    );
}

/// The runtime and the hook need no CDI of the engine: nothing of CDI is written, which an old dockerd would not start with.
#[test]
fn an_engine_without_cdi_gets_the_runtime_and_the_hook() {
    let docker = "{\"runtimes\": {\"mig-cdi\": {\"path\": \"TMP/bin/mig-cdi-runtime\"}}}";
    for (args, path, has, has_not) in [
        // Debian 12's.
        (
            "docker --engine-version 20.10.24 --runtime",
            "/etc/docker/daemon.json",
            docker,
            "features",
        ),
        (
            "containerd --engine-version 1.6.20 --runtime",
            "/etc/containerd/config.toml",
            "BinaryName = \"TMP/bin/mig-cdi-runtime\"",
            "cdi_",
        ),
        (
            "podman --engine-version 4.0.3 --hook --runtime",
            "/etc/containers/containers.conf.d/50-mig-cdi.conf",
            "hooks_dir = [\"/usr/share/containers/oci/hooks.d\", \"/etc/mig-cdi/hooks.d/podman\"]",
            "cdi_",
        ),
        (
            "crio --engine-version 1.22.0 --hook --runtime",
            "/etc/crio/crio.conf.d/50-mig-cdi.conf",
            "runtime_path = \"TMP/bin/mig-cdi-runtime\"",
            "cdi_",
        ),
    ] {
        let machine = ConfigureHost::trusted();
        let run = machine.run_ok(args);
        let note = "has no cdi support: containers get slices from mig-cdi-runtime or mig-cdi-hook, not by --device";
        assert!(run.stderr.contains(note), "{args}: {}", run.stderr);
        let text = machine.read(path).replace(&machine.dir().display().to_string(), "TMP");
        let plain: String = text.split_whitespace().collect();
        let expected: String = has.split_whitespace().collect();
        assert!(plain.contains(&expected), "{args}: {text}");
        assert!(!text.contains(has_not) && !text.contains("enable_cdi"), "{args}: {text}");
        assert!(machine.run_ok(args).stderr.contains("nothing to change\n"), "{args}");
    }
}

/// The hook reads the settings of the machine or image that it runs on, whatever `--config` names.
#[test]
fn the_hook_of_an_image_has_the_settings_of_the_image() {
    let machine = ConfigureHost::trusted();
    let own = machine.dir().join("settings.toml");
    fs::write(&own, "[hook]\nrequests = \"none\"\nruntimes = [\"/opt/other\"]\n").unwrap();
    machine.program("root/usr/bin/runc", "#!/bin/sh\n");
    let accepted = |containers: &str| {
        let run = machine.run_ok("podman --engine-version 4.3.1 --hook --runtime --dry-run");
        let line = format!("accepted from {containers}: hook.requests in /etc/mig-cdi/config.toml");
        assert!(run.stderr.contains(&line), "{}", run.stderr);
        run.stderr
    };
    let stderr = accepted("containers that may open every device (--privileged)");
    assert!(!stderr.contains("would find no runtime"), "{stderr}");
    let settings = "[hook]\nrequests = \"all\"\nruntimes = [\"/opt/crun\"]\n";
    machine.put("/etc/mig-cdi/config.toml", settings);
    let run = machine.configure("podman --engine-version 4.3.1 --runtime");
    assert!(run.code == 5 && run.stderr.contains("none of /opt/crun exists"), "{}", run.stderr);
    machine.program("root/opt/crun", "#!/bin/sh\n");
    accepted("every container, so any image gets the slices that it names");
    machine.put("/etc/mig-cdi/config.toml", "[hook]\nrequests = \"nobody\"\n");
    let run = machine.configure("podman --engine-version 4.3.1 --hook");
    assert!(run.code == 2 && run.stderr.contains("/etc/mig-cdi/config.toml"), "{}", run.stderr);
}

/// A list in a drop-in replaces the list of the main file, so the drop-in repeats its entries.
#[test]
fn lists_of_other_files_are_kept_in_a_drop_in() {
    let machine = ConfigureHost::trusted();
    machine.put(
        "/etc/containers/containers.conf",
        "[engine]\ncdi_spec_dirs = [\"/opt/cdi\"]\nhooks_dir = [\"/opt/hooks\"]\n",
    );
    machine.run_ok("podman --engine-version 5.8.6 --hook");
    let text = machine.read("/etc/containers/containers.conf.d/50-mig-cdi.conf");
    assert!(
        text.contains("cdi_spec_dirs = [\"/opt/cdi\", \"/etc/cdi\", \"/var/run/cdi\"]\n"),
        "{text}"
    );
    assert!(
        text.contains("hooks_dir = [\"/opt/hooks\", \"/etc/mig-cdi/hooks.d/podman\"]\n"),
        "{text}"
    );
    // CRI-O reads files of any name; the last one in the order of names wins.
    machine.put(
        "/etc/crio/crio.conf.d/10-x",
        "[crio.runtime]\ncdi_spec_dirs = [\"/a\"]\nhooks_dir = [\"/b\"]\n",
    );
    machine.run_ok("crio --engine-version 1.36.0 --hook");
    let text = machine.read("/etc/crio/crio.conf.d/50-mig-cdi.conf");
    assert!(text.contains("cdi_spec_dirs = [\"/a\", \"/etc/cdi\", \"/var/run/cdi\"]\n"), "{text}");
    assert!(text.contains("hooks_dir = [\"/b\", \"/etc/mig-cdi/hooks.d/crio\"]\n"), "{text}");
    // podman's default directories are listed only if they exist: podman fails on one that is missing.
    let machine = ConfigureHost::trusted();
    fs::create_dir_all(machine.path("/usr/share/containers/oci/hooks.d")).unwrap();
    machine.run_ok("podman --engine-version 4.9.3 --hook");
    let text = machine.read("/etc/containers/containers.conf.d/50-mig-cdi.conf");
    let dirs = "[\"/usr/share/containers/oci/hooks.d\", \"/etc/mig-cdi/hooks.d/podman\"]";
    assert!(text.contains(&format!("hooks_dir = {dirs}\n")), "{text}");
}

/// podman reads only the first of its two directories by default. A list that named the other would run what is there.
#[test]
fn no_hooks_directory_is_switched_on() {
    let drop_in = "/etc/containers/containers.conf.d/50-mig-cdi.conf";
    for (flags, own) in [
        ("podman --engine-version 4.3.1 --hook", "/etc/mig-cdi/hooks.d/podman"),
        ("podman --engine-version 5.8.6 --hook", "/etc/mig-cdi/hooks.d/podman"),
        ("crio --engine-version 1.36.0 --hook", "/etc/mig-cdi/hooks.d/crio"),
    ] {
        let machine = ConfigureHost::trusted();
        machine.put("/etc/containers/oci/hooks.d/other.json", "{}");
        // The built-in directory stays, also where it does not exist yet.
        machine.run_ok(flags);
        let podman = flags.starts_with("podman");
        let conf = if podman { drop_in } else { "/etc/crio/crio.conf.d/50-mig-cdi.conf" };
        let dirs = format!("hooks_dir = [\"/usr/share/containers/oci/hooks.d\", \"{own}\"]\n");
        assert!(machine.read(conf).contains(&dirs), "{}", machine.read(conf));
        // Hooks of others in the directory of ours.
        let machine = ConfigureHost::trusted();
        machine.put(&format!("{own}/other.json"), "{}");
        let before = machine.tree();
        let run = machine.configure(flags);
        assert_eq!((run.code, machine.tree() == before), (5, true), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("{own}/other.json is not a hook of mig-cdi")));
        // Once the engine reads them, they are not ours to judge.
        let section = if podman { "engine" } else { "crio.runtime" };
        let base = if podman { "/etc/containers/containers.conf" } else { "/etc/crio/crio.conf" };
        machine.put(base, &format!("[{section}]\nhooks_dir = [\"{own}\"]\n"));
        machine.run_ok(flags);
    }
    // A rootless podman reads the same directory.
    let machine = ConfigureHost::trusted();
    machine.put("/etc/containers/oci/hooks.d/other.json", "{}");
    machine.put("/usr/share/containers/oci/hooks.d/usual.json", "{}");
    machine.run_ok("podman --rootless --hook --engine-version 5.5.0");
    let text = machine.read("/home/u/.config/containers/containers.conf.d/50-mig-cdi.conf");
    let dirs =
        "[\"/usr/share/containers/oci/hooks.d\", \"/home/u/.config/mig-cdi/hooks.d/podman\"]";
    assert!(text.contains(&format!("hooks_dir = {dirs}\n")), "{text}");
}

#[test]
fn rootless_podman_is_configured_for_the_user() {
    let machine = ConfigureHost::trusted();
    machine.run_ok("podman --rootless --hook --engine-version 5.5.0");
    let text = machine.read("/home/u/.config/containers/containers.conf.d/50-mig-cdi.conf");
    assert!(text.contains("\"/home/u/.config/mig-cdi/hooks.d/podman\"]\n"), "{text}");
    let hook = machine.read("/home/u/.config/mig-cdi/hooks.d/podman/mig-cdi-precreate.json");
    assert!(hook.contains("\"stages\": [\"precreate\"]"), "{hook}");
    let run = machine.run_ok("docker --rootless --engine-version 28.0.1");
    assert!(machine.read("/home/u/.config/docker/daemon.json").contains("\"cdi\": true"));
    assert!(run.stderr.contains("dockerd is not running"), "{}", run.stderr);
    assert!(machine.path("/home/u/.local/state/mig-cdi/configure/docker.json").exists());
    machine.run_ok("docker --rootless --undo");
    assert!(!machine.path("/home/u/.config/docker").exists());
    for (args, why) in [
        ("containerd --rootless", "only podman and docker can be run by a user"),
        ("podman --rootless --runtime", "works only as root"),
        ("docker --hook", "reads no hooks.d"),
        ("crio --quadlet", "only podman has it"),
    ] {
        let run = machine.configure(args);
        assert_eq!(run.code, 2, "{args}: {}", run.stderr);
        assert!(run.stderr.contains(why), "{args}: {}", run.stderr);
    }
    let nowhere = machine.tidy(run_without_home(&machine));
    assert_eq!(nowhere.code, 2, "{}", nowhere.stderr);
    let sudo = mig_cdi_tests::run(machine.command("podman --rootless").env("SUDO_USER", "u"));
    assert!(sudo.code == 2 && sudo.stderr.contains("run it without"), "{}", sudo.stderr);
    let quadlet = machine.run_ok("podman --quadlet").stdout;
    let shipped = project().join("config/engines/mig-cdi-example.container");
    assert_eq!(quadlet, fs::read_to_string(shipped).unwrap());
}

/// Docker's script for rootless installations puts the programs into ~/bin.
#[test]
fn a_rootless_docker_is_found_where_it_runs() {
    let machine = ConfigureHost::trusted();
    machine.program("root/home/u/bin/dockerd", "#!/bin/sh\necho Docker version 26.1.5,\n");
    let status = "Name:\tx\nUid:\t65534\t65534\t65534\t65534\n";
    for (file, text) in [
        ("100/comm", "dockerd\n"),
        ("100/cmdline", "dockerd"),
        ("100/status", status),
        ("self/status", status),
    ] {
        machine.put(&format!("/proc/{file}"), text);
    }
    symlink("/home/u/bin/dockerd", machine.path("/proc/100/exe")).unwrap();
    let script = "chmod -R a+rX . && chown -R 65534:65534 root/home/u";
    run(Command::new("sh").args(["-euc", script]).current_dir(machine.dir())).assert_code(0);
    let as_user = |inner: &Command| {
        let mut command = Command::new("setpriv");
        command.env_clear().args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(inner.get_program()).args(inner.get_args()).env("HOME", "/home/u");
        machine.tidy(run(&mut command))
    };
    let done = as_user(&machine.command("docker --rootless"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(!done.stderr.contains("the version of docker is not known"), "{}", done.stderr);
    assert!(machine.read("/home/u/.config/docker/daemon.json").contains("\"cdi\": true"));
    // This release does not see the directories anyway: the doctor does not send the user back here.
    let hidden = "does not look into /etc/cdi and /var/run/cdi: rootlesskit puts links there; ";
    assert!(done.stderr.contains(&format!("warning: docker 26.1.5 {hidden}")), "{}", done.stderr);
    let mut doctor = Command::new(machine.dir().join("bin/mig-cdi"));
    doctor.args(["doctor", "--node=a100-80gb", "--config=/dev/null"]);
    doctor.arg(format!("--host-root={}", machine.path("/").display()));
    let found = as_user(&doctor).stdout;
    let program = "docker 26.1.5 at /home/u/bin/dockerd, accepts cdi up to 0.7.0\n";
    assert!(found.contains(program), "{found}");
    let cure = "update docker to 29.2, or set spec-dirs in /dev/null to a directory elsewhere";
    let verdict = format!(
        "docker: it does not look into /var/run/cdi: rootlesskit puts links there\n         cure: {cure}"
    );
    assert!(found.contains(&verdict), "{found}");
}

fn run_without_home(machine: &ConfigureHost) -> Run {
    run(machine.command("podman --rootless --engine-version 5.5.0").env_remove("HOME"))
}

/// A write that fails in the middle leaves no file half written.
#[test]
fn an_unwritable_etc_is_reported_and_nothing_is_half_written() {
    for conf_d_is_writable in [false, true] {
        let machine = ConfigureHost::trusted();
        machine.put("/etc/containerd/config.toml", DEBIAN);
        fs::create_dir_all(machine.path("/etc/containerd/conf.d")).unwrap();
        let before = machine.tree();
        let mut script = "mount --bind $E $E; mount -o remount,ro,bind $E; ".to_owned();
        if conf_d_is_writable {
            // The drop-in can be written, and config.toml after it cannot.
            script += "mount -t tmpfs -o mode=755 tmpfs $E/containerd/conf.d; ";
        }
        script += "\"$@\"; code=$?; ls $E/containerd/conf.d; exit $code";
        machine.set_spec_dirs(&["/srv/slices"]);
        let inner = machine.command("containerd --engine-version 2.1.9");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation=private", "sh", "-c", &script, "sh"]);
        unshare.arg(inner.get_program()).args(inner.get_args());
        let run = machine.tidy(run(unshare.env("E", machine.path("/etc"))));
        assert_eq!(run.code, 1, "{}", run.stderr);
        let line = run.stderr.lines().last().unwrap_or_default();
        assert!(
            line.starts_with("error: create /etc/containerd/")
                && line.contains("read-only file system"),
            "{}",
            run.stderr
        );
        assert_eq!(run.stdout, "", "nothing is left in conf.d");
        assert_eq!(machine.tree(), before);
    }
}

#[test]
fn links_modes_and_owners_are_kept() {
    let machine = ConfigureHost::trusted();
    machine.put("/srv/dotfiles/daemon.json", "{\"debug\": true}\n");
    fs::create_dir_all(machine.path("/etc/docker")).unwrap();
    symlink("../../srv/dotfiles/daemon.json", machine.path("/etc/docker/daemon.json")).unwrap();
    let target = machine.path("/srv/dotfiles/daemon.json");
    fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
    chown(&target, Some(65534), Some(65533)).unwrap();
    let before = machine.tree();
    let run = machine.run_ok("docker --engine-version 26.1");
    assert!(run.stderr.contains("changed /srv/dotfiles/daemon.json"), "{}", run.stderr);
    assert!(machine.path("/etc/docker/daemon.json").is_symlink(), "the link stays");
    for name in ["daemon.json", "daemon.json.mig-cdi-backup"] {
        let metadata = fs::metadata(machine.path("/srv/dotfiles").join(name)).unwrap();
        assert_eq!(
            (metadata.mode() & 0o7777, metadata.uid(), metadata.gid()),
            (0o640, 65534, 65533),
            "{name}"
        );
    }
    let record = fs::metadata(machine.path("/var/lib/mig-cdi/configure/docker.json")).unwrap();
    assert_eq!(record.mode() & 0o7777, 0o600, "configuration may hold passwords");
    machine.run_ok("docker --undo");
    assert_eq!(machine.tree(), before);
    let metadata = fs::metadata(&target).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o640, 65534));
    fs::remove_file(&target).unwrap();
    let run = machine.configure("docker --engine-version 26.1");
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("it is a link to ../../srv/dotfiles/daemon.json, which is not there"),
        "{}",
        run.stderr
    );
    // As for specs: a directory that other users can write is refused.
    let machine = ConfigureHost::trusted();
    fs::create_dir_all(machine.path("/etc/docker")).unwrap();
    fs::set_permissions(machine.path("/etc/docker"), Permissions::from_mode(0o777)).unwrap();
    let run = machine.configure("docker --engine-version 26.1");
    assert!(run.code == 5 && run.stderr.contains("run chmod go-w"), "{}", run.stderr);
}

/// An undo keeps what somebody else wrote in the meantime.
#[test]
fn undo_keeps_later_changes_of_others() {
    let path = "/etc/docker/daemon.json";
    let machine = ConfigureHost::trusted();
    machine.put(path, "{\n  \"debug\": true\n}\n");
    machine.run_ok("docker --engine-version 26.1");
    machine.put(
        path,
        &machine
            .read(path)
            .replace("true\n}", "false\n}")
            .replace("\"debug\": true", "\"debug\": false"),
    );
    let before = machine.tree();
    let run = machine.configure("docker --undo");
    assert_eq!(run.code, 5, "{}", run.stderr);
    assert!(run.stderr.contains("someone else has changed a file since"), "{}", run.stderr);
    assert!(run.stdout.contains("-  \"debug\": true,\n+  \"debug\": false,\n"), "{}", run.stdout);
    assert_eq!(machine.tree(), before);
    // So does an undo after a second change of ours on top of theirs.
    machine.run_ok("docker --engine-version 26.1 --runtime");
    let before = machine.tree();
    assert_eq!(machine.configure("docker --undo").code, 5);
    assert_eq!(machine.tree(), before);
    // A file that is as it was before the first change needs no undo.
    machine.put(path, "{\n  \"debug\": true\n}\n");
    machine.run_ok("docker --undo");
    assert_eq!(machine.read(path), "{\n  \"debug\": true\n}\n");
    // One undo reverts two changes of ours together.
    let machine = ConfigureHost::trusted();
    machine.put(path, "{}");
    machine.run_ok("docker --engine-version 26.1");
    machine.run_ok("docker --engine-version 26.1 --runtime");
    machine.run_ok("docker --undo");
    assert_eq!(machine.read(path), "{}");
    assert!(!machine.path("/etc/docker/daemon.json.mig-cdi-backup").exists());
}

/// A program that another user can change must not be run as root by an engine.
#[test]
fn a_runtime_that_another_user_can_change_is_refused() {
    let machine = ConfigureHost::trusted();
    let hook = machine.dir().join("bin/mig-cdi-runtime");
    fs::set_permissions(&hook, Permissions::from_mode(0o777)).unwrap();
    let run = machine.configure("docker --engine-version 26.1 --runtime");
    assert!(run.code == 5 && run.stderr.contains("has mode 0777"), "{}", run.stderr);
    fs::remove_file(&hook).unwrap();
    let run = machine.configure("docker --engine-version 26.1 --runtime");
    assert!(run.code == 5 && run.stderr.contains("no such program"), "{}", run.stderr);
    assert_eq!(machine.tree().len(), 2);
}

/// The version of an installed engine comes from `--version`; one that prints none is reported.
#[test]
fn an_installed_engine_reports_its_version() {
    let machine = ConfigureHost::trusted();
    machine.program("root/usr/bin/dockerd", "#!/bin/sh\necho Docker version 24.0.1, build x\n");
    assert_eq!(machine.configure("docker").code, 5);
    machine.program("root/usr/bin/dockerd", "#!/bin/sh\necho nothing\n");
    let unknown = machine.run_ok("docker --dry-run");
    assert!(unknown.stderr.contains("the version of docker is not known"), "{}", unknown.stderr);
}
