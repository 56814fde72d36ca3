//! `mig-cdi configure` judges what is in effect, whichever file says it. Situations from public bug reports; the engines tests hold
//! the rules against containerd's own view.

use mig_cdi_tests::configure_host::ConfigureHost;
use std::os::unix::fs::symlink;

fn machine(files: &[(&str, &str)]) -> ConfigureHost {
    let machine = ConfigureHost::trusted();
    files.iter().for_each(|(path, text)| machine.put(path, text));
    machine
}

/// Without the path of the monitor CRI-O looks for conmon in PATH, and does not start (nvidia-container-toolkit issue 681).
#[test]
fn a_runtime_of_crio_inherits_from_the_default_one() {
    let machine = machine(&[(
        "/etc/crio/crio.conf.d/10-crio.conf",
        "[crio.runtime]\ndefault_runtime = \"crun\"\n\n[crio.runtime.runtimes.crun]\n\
         runtime_path = \"/usr/libexec/crio/crun\"\nruntime_root = \"/run/crun\"\n\
         monitor_path = \"/usr/libexec/crio/conmon\"\nmonitor_cgroup = \"system.slice\"\nmonitor_env = [\"A=b\"]\n\
         allowed_annotations = [\"io.x\"]\nratio = 1.5\nplatform_runtime_paths = { \"linux/arm64\" = \"/x\" }\n",
    )]);
    machine.run_ok("crio --engine-version 1.31.0 --runtime");
    let text = machine.read("/etc/crio/crio.conf.d/50-mig-cdi.conf");
    for line in [
        "runtime_root = \"/run/crun\"\n",
        "monitor_path = \"/usr/libexec/crio/conmon\"\n",
        "monitor_cgroup = \"system.slice\"\n",
        "monitor_env = [\"A=b\"]\n",
        "allowed_annotations = [\"io.x\"]\n",
        "ratio = 1.5\n",
        "bin/mig-cdi-runtime\"\n",
    ] {
        assert!(text.contains(line), "{line} {text}");
    }
    assert!(!text.contains("platform_runtime_paths") && !text.contains("cdi_spec_dirs"), "{text}");
    // Where no file has the entry, it is the one that CRI-O has built in.
    let bare = ConfigureHost::trusted();
    bare.run_ok("crio --engine-version 1.36.0 --runtime");
    let text = bare.read("/etc/crio/crio.conf.d/50-mig-cdi.conf");
    assert!(text.contains("monitor_env = [\"PATH=/usr/local/sbin:"), "{text}");
    assert!(!text.contains("allowed_annotations"), "{text}");
}

/// A directory that an engine reads by default is still read (podman issue 18292, moby issue 51601).
#[test]
fn built_in_directories_stay() {
    for (args, nothing) in [
        ("docker --engine-version 28.5.2", true),
        ("crio --engine-version 1.31.0", true),
        ("containerd --engine-version 2.1.5", true),
        ("podman --engine-version 5.6.0", true),
        ("docker --engine-version 26.1", false),
        ("docker --rootless --engine-version 26.1", false),
        ("containerd --engine-version 1.7.24", false),
    ] {
        let machine = ConfigureHost::trusted();
        machine.set_spec_dirs(&["/etc/cdi"]);
        let run = machine.run_ok(&format!("{args} --dry-run"));
        assert_eq!(run.stdout.is_empty(), nothing, "{args}: {}", run.stdout);
        assert!(!run.stdout.contains("spec"), "{args}: {}", run.stdout);
    }
    // Where a list has to be written, it begins with them.
    for (args, list) in [
        ("docker --engine-version 28.5.2", "[\"/etc/cdi\", \"/var/run/cdi\", \"/srv/slices\"]"),
        ("crio --engine-version 1.31.0", "[\"/etc/cdi\", \"/var/run/cdi\", \"/srv/slices\"]"),
        ("containerd --engine-version 2.1.5", "[\"/etc/cdi\", \"/var/run/cdi\", \"/srv/slices\"]"),
        ("podman --engine-version 5.5.0", "[\"/etc/cdi\", \"/srv/slices\"]"),
        (
            "docker --rootless --engine-version 28.5.2",
            "[\"/etc/cdi\", \"/var/run/cdi\", \"/home/u/.config/cdi\", \"/srv/slices\"]",
        ),
    ] {
        let machine = ConfigureHost::trusted();
        machine.set_spec_dirs(&["/srv/slices"]);
        let run = machine.run_ok(&format!("{args} --dry-run"));
        assert!(run.stdout.contains(list), "{args}: {}", run.stdout);
    }
    // Rootless dockerd reads the directories of its user by default only since 29.2.
    for (version, is_changed) in [("28.5.2", true), ("29.1.5", true), ("29.2.0", false)] {
        let machine = ConfigureHost::trusted();
        machine.set_spec_dirs(&["/home/u/.config/cdi"]);
        let args = format!("docker --rootless --engine-version {version} --dry-run");
        let run = machine.run_ok(&args);
        let list = "\"/etc/cdi\", \"/var/run/cdi\", \"/home/u/.config/cdi\"";
        assert_eq!(run.stdout.contains(list), is_changed, "{args}: {}", run.stdout);
        assert_eq!(run.stdout.is_empty(), !is_changed, "{args}: {}", run.stdout);
    }
    // What it has in its namespace in the place of a directory.
    for (version, dir, is_hidden) in [
        ("25.0.7", "/etc/cdi", true),
        ("25.0.8", "/etc/cdi", false),
        ("26.1.5", "/var/run/cdi", true),
        ("27.3.1", "/run/cdi", true),
        ("27.4.0", "/run/cdi", false),
        ("28.5.2", "/etc/slices", true),
        ("28.5.2", "/etc/slices/cdi", false),
        ("28.5.2", "/srv/slices", false),
        ("29.2.0", "/etc/slices", false),
    ] {
        let machine = ConfigureHost::trusted();
        machine.set_spec_dirs(&[dir]);
        let args = format!("docker --engine-version {version} --dry-run");
        let run = machine.run_ok(&format!("{args} --rootless"));
        let warning = format!(
            "warning: docker {version} does not look into {dir}: rootlesskit puts links there; update docker to 29.2, or "
        );
        assert_eq!(run.stderr.contains(&warning), is_hidden, "{version} {dir}: {}", run.stderr);
        let late = format!(
            "create {dir} and restart rootless dockerd, which sees only directories that were there at its start\n"
        );
        let is_late = !is_hidden && !["/srv/slices", "/etc/slices/cdi"].contains(&dir);
        assert_eq!(run.stderr.contains(&late), is_late, "{version} {dir}: {}", run.stderr);
        assert!(!machine.run_ok(&args).stderr.contains("rootless"), "{version} {dir}");
    }
    // A link of the host is followed by no engine but that.
    for (args, is_hidden) in [
        ("podman --engine-version 5.6.0", true),
        ("docker --engine-version 29.1.5", true),
        ("docker --engine-version 29.2.0", false),
    ] {
        let machine = ConfigureHost::trusted();
        machine.set_spec_dirs(&["/etc/cdi/"]);
        symlink("/srv/cdi", machine.path("/etc/cdi")).unwrap();
        let run = machine.run_ok(args);
        let warning = "does not look into /etc/cdi/: a link is there; put a directory there\n";
        assert_eq!(run.stderr.contains(warning), is_hidden, "{args}: {}", run.stderr);
    }
    // The same directory by another path.
    let machine = ConfigureHost::trusted();
    machine.set_spec_dirs(&["/etc/cdi/", "/run/cdi"]);
    assert_eq!(machine.run_ok("crio --engine-version 1.31.0 --dry-run").stdout, "");
}

const CRI: &str = "plugins.\"io.containerd.cri.v1.runtime\"";

/// The kubelet and every runtime have to use the same cgroup driver (nvidia-docker issue 1788).
#[test]
fn a_runtime_of_containerd_inherits_from_the_default_one() {
    let nvidia = format!(
        "version = 3\n[{CRI}.containerd]\ndefault_runtime_name = \"nvidia\"\n[{CRI}.containerd.runtimes.nvidia]\n\
         runtime_type = \"io.containerd.runc.v2\"\nprivileged_without_host_devices = true\ncontainer_annotations = [\"a/*\"]\n\
         [{CRI}.containerd.runtimes.nvidia.options]\n\
         BinaryName = \"/usr/bin/nvidia-container-runtime\"\nSystemdCgroup = true\nRoot = \"/run/r\"\n"
    );
    let runc = format!(
        "version = 3\n[{CRI}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [{CRI}.containerd.runtimes.runc.options]\nSystemdCgroup = true\n"
    );
    let main = "/etc/containerd/config.toml";
    let import = "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    for (files, more) in [
        (vec![(main, &*nvidia)], true),
        (vec![(main, import), ("/etc/containerd/conf.d/10-runc.toml", &*runc)], false),
        (vec![(main, import), ("/etc/containerd/conf.d/99-runc.toml", &*runc)], false),
    ] {
        let machine = machine(&files);
        machine.run_ok("containerd --engine-version 2.1.5 --runtime");
        let text = machine.read("/etc/containerd/conf.d/50-mig-cdi.toml");
        let ours = text.split("runtimes.mig-cdi.options]").nth(1).unwrap();
        assert!(ours.contains("SystemdCgroup = true\n"), "{text}");
        assert!(ours.contains("bin/mig-cdi-runtime\"\n"), "{text}");
        let has = |line: &str| text.contains(line);
        assert_eq!(has("privileged_without_host_devices = true\n"), more, "{text}");
        assert_eq!(has("Root = \"/run/r\"\n"), more, "{text}");
        assert_eq!(has("container_annotations = [\"a/*\", \"mig-cdi/*\"]\n"), more, "{text}");
        assert!(!has("runtimes.runc]"), "containerd 2 keeps its built-in runtime: {text}");
    }
    // What the default runtime has no longer, ours has no longer.
    let changed = machine(&[(main, &*runc)]);
    let args = "containerd --engine-version 2.1.5 --runtime";
    changed.run_ok(args);
    changed.put(main, &changed.read(main).replace("SystemdCgroup = true", "Root = \"/r\""));
    changed.run_ok(args);
    let text = changed.read("/etc/containerd/conf.d/50-mig-cdi.toml");
    assert!(text.contains("SystemdCgroup = false\n") && text.contains("Root = \"/r\"\n"), "{text}");
    assert!(changed.run_ok(args).stderr.contains("nothing to change\n"), "{text}");
    // 1.7 loses its built-in runtime with the first table of runtimes.
    let machine = machine(&[]);
    machine.run_ok("containerd --engine-version 1.7.24 --runtime");
    assert!(machine.read(main).contains("containerd.runtimes.runc]"), "{}", machine.read(main));
}

/// 1.7 takes the deprecated table for the default runtime.
#[test]
fn a_runtime_of_containerd_inherits_from_the_deprecated_table() {
    let cri = "plugins.'io.containerd.grpc.v1.cri'";
    let text = format!(
        "version = 2\n[{cri}.containerd.default_runtime]\nruntime_type = 'io.containerd.runc.v2'\nprivileged_without_host_devices = true\n\
         [{cri}.containerd.default_runtime.options]\nSystemdCgroup = true\n"
    );
    let main = "/etc/containerd/config.toml";
    let machine = machine(&[(main, &*text)]);
    let args = "containerd --engine-version 1.7.24 --runtime";
    machine.run_ok(args);
    let text = machine.read(main);
    let ours = text.split("runtimes.mig-cdi]").nth(1).unwrap();
    for line in ["privileged_without_host_devices = true\n", "SystemdCgroup = true\n"] {
        assert!(ours.contains(line), "{text}");
    }
    assert!(machine.run_ok(args).stderr.contains("nothing to change\n"), "{text}");
}

/// The switch is in a table of version 3 and the runtimes in one of version 2: ours would need both. 2.3 converts each file.
#[test]
fn files_of_several_versions_that_leave_no_place_are_refused() {
    let main = format!("version = 3\nimports = ['conf.d/*.toml']\n[{CRI}]\nenable_cdi = false\n");
    let runc = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
                [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]\nSystemdCgroup = true\n";
    let machine = machine(&[
        ("/etc/containerd/config.toml", &main),
        ("/etc/containerd/conf.d/10-runc.toml", runc),
    ]);
    let before = machine.tree();
    let refused = machine.configure("containerd --engine-version 2.1.9 --runtime");
    assert_eq!((refused.code, machine.tree() == before), (5, true), "{}", refused.stderr);
    for words in ["its files are of versions 2 and 3, and ", "write all of them in version 3"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    machine.run_ok("containerd --engine-version 2.3.0 --runtime");
    let text = machine.read("/etc/containerd/conf.d/50-mig-cdi.toml");
    assert!(text.contains("SystemdCgroup = true\n"), "{text}");
}

/// A file that is read after ours and sets the same key (containers/common issue 2391).
#[test]
fn a_file_that_overrides_ours_is_named() {
    let main = "version = 3\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    for (args, path, text, key) in [
        (
            "podman --engine-version 5.6.0",
            "/etc/containers/containers.conf.d/99-site.conf",
            "[engine]\ncdi_spec_dirs = [\"/etc/cdi\"]\n".to_owned(),
            "engine.cdi_spec_dirs",
        ),
        (
            "crio --engine-version 1.31.0",
            "/etc/crio/crio.conf.d/99-site.conf",
            "[crio.runtime]\ncdi_spec_dirs = [\"/etc/cdi\"]\n".to_owned(),
            "crio.runtime.cdi_spec_dirs",
        ),
        (
            "containerd --engine-version 2.1.5",
            "/etc/containerd/conf.d/99-site.toml",
            format!("version = 3\n[{CRI}]\nenable_cdi = false\n"),
            "plugins.io.containerd.cri.v1.runtime.enable_cdi",
        ),
    ] {
        let machine = machine(&[(path, &text)]);
        if args.starts_with("containerd") {
            machine.put("/etc/containerd/config.toml", main);
        }
        let before = machine.tree();
        for _ in 0..2 {
            let run = machine.configure(args);
            assert_eq!(run.code, 5, "{args}: {}", run.stderr);
            let cause = format!("{path} is read after ");
            assert!(run.stderr.contains(&cause), "{args}: {}", run.stderr);
            assert!(
                run.stderr.contains(&format!("its {key} would override ours")),
                "{}",
                run.stderr
            );
            let cure = "or set there: ";
            let lists = !key.ends_with("cdi_spec_dirs")
                || run.stderr.contains("cdi_spec_dirs = [\"/etc/cdi\", \"/var/run/cdi\"]");
            assert!(run.stderr.contains(cure) && lists, "{}", run.stderr);
            assert_eq!(machine.tree(), before, "{args}");
        }
        // The same file before ours is no obstacle, and neither is one that says what we want.
        let early = path.replace("99-site", "10-site");
        std::fs::rename(machine.path(path), machine.path(&early)).unwrap();
        machine.run_ok(args);
        let again = machine.run_ok(args);
        assert!(again.stderr.contains("nothing to change\n"), "{args}: {}", again.stderr);
    }
}

/// A list with `{append=true}` stays one (podman issue 7134).
#[test]
fn podmans_lists_are_appended_to() {
    let main =
        ("/etc/containers/containers.conf", "[engine]\nhooks_dir = [\"/usr/local/hooks.d\"]\n");
    let vendor = "[engine]\nhooks_dir = [\"/opt/vendor/hooks.d\", {append=true}]\n";
    let ours = "/etc/mig-cdi/hooks.d/podman";
    for (name, list) in [
        ("20-vendor.conf", format!("[\"{ours}\"]")),
        ("80-vendor.conf", format!("[\"/usr/local/hooks.d\", \"{ours}\"]")),
    ] {
        let path = format!("/etc/containers/containers.conf.d/{name}");
        let machine = machine(&[main, (&path, vendor)]);
        machine.run_ok("podman --engine-version 5.6.0 --hook");
        let text = machine.read("/etc/containers/containers.conf.d/50-mig-cdi.conf");
        assert!(text.contains(&format!("hooks_dir = {list}\n")), "{name}: {text}");
        let again = machine.run_ok("podman --engine-version 5.6.0 --hook");
        assert!(again.stderr.contains("nothing to change\n"), "{name}: {}", again.stderr);
    }
}

/// k3s's containerd reads a file that k3s writes at each start (k3s issues 11631 and 11088).
#[test]
fn the_configuration_of_the_running_engine_counts() {
    let own = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml";
    let k3s =
        |cdi: bool, imports: &str| format!("version = 3\n{imports}[{CRI}]\n  enable_cdi = {cdi}\n");
    let run_as = |line: &str, text: &str| {
        let machine = machine(&[
            (own, text),
            ("/proc/stat", "btime 1700000000\n"),
            ("/proc/4242/comm", "containerd\n"),
            ("/proc/4242/status", "Name:\tcontainerd\nUid:\t0\t0\t0\t0\n"),
            (
                "/proc/4242/stat",
                "4242 (containerd) S 1 1 1 0 -1 0 1 0 0 0 1 1 0 0 20 0 1 0 1000 1 1\n",
            ),
        ]);
        machine.put("/proc/4242/cmdline", &line.replace(' ', "\0"));
        machine
    };
    let line = format!("containerd -c {own} -a /run/k3s/containerd/containerd.sock");
    let machine = run_as(&line, &k3s(true, ""));
    let done = machine.run_ok("containerd --engine-version 2.1.5");
    assert!(
        done.stderr.contains(&format!("the running containerd reads {own}")),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("nothing to change\n"), "{}", done.stderr);
    assert!(!machine.path("/etc/containerd").exists());
    let machine = run_as(&line, &k3s(false, ""));
    let before = machine.tree();
    let refused = machine.configure("containerd --engine-version 2.1.5");
    assert_eq!((refused.code, machine.tree() == before), (5, true), "{}", refused.stderr);
    assert!(refused.stderr.contains("k3s writes this file at each start"), "{}", refused.stderr);
    assert!(refused.stderr.contains("config-v3.toml.tmpl (config.toml.tmpl before containerd 2) beside it, and set there enable_cdi = true below [plugins.\"io.containerd.cri.v1.runtime\"]\n"), "{}", refused.stderr);
    // Newer releases import a directory for others.
    let dir = "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.d";
    let imports = format!("imports = [\"{dir}/*.toml\"]\n");
    let machine = run_as(&line, &k3s(false, &imports));
    machine.run_ok("containerd --engine-version 2.1.5");
    assert!(machine.read(&format!("{dir}/50-mig-cdi.toml")).contains("enable_cdi = true\n"));
    assert_eq!(machine.read(own), k3s(false, &imports));
    // A containerd without the option reads the usual file.
    let machine = run_as("containerd", &k3s(false, ""));
    machine.put("/etc/containerd/config.toml", &k3s(false, ""));
    machine.run_ok("containerd --engine-version 2.1.5");
    assert!(machine.path("/etc/containerd/conf.d/50-mig-cdi.toml").exists());
}

/// k3s brings its containerd, and is one program with many names. It is run only where others cannot replace it.
#[test]
fn the_version_of_a_running_engine_is_found_where_it_is() {
    let config = "/srv/containerd.toml";
    let machine = machine(&[
        (config, &format!("version = 3\n[{CRI}]\nenable_cdi = true\n")),
        ("/proc/100/comm", "containerd\n"),
        ("/proc/100/cmdline", &format!("containerd\0-c\0{config}\0")),
        ("/proc/100/status", "Name:\tcontainerd\nUid:\t0\t0\t0\t0\n"),
    ]);
    let run = machine.configure("containerd");
    assert!(run.stderr.contains("it is in none of /usr/bin"), "{}", run.stderr);
    let dir = "/var/lib/rancher/k3s/data/current/bin";
    let script = "#!/bin/sh\ncase $0 in */containerd) echo containerd github.com/k3s-io/containerd v2.3.1 x ;;\n\
                  *) echo k3s version v1.33.4 ;; esac\n";
    machine.program(&format!("root{dir}/k3s"), script);
    symlink("k3s", machine.path(&format!("{dir}/containerd"))).unwrap();
    symlink(format!("{dir}/k3s"), machine.path("/proc/100/exe")).unwrap();
    let done = machine.run_ok("containerd");
    assert!(!done.stderr.contains("is not known"), "{}", done.stderr);
    machine.put(config, "version = 1\n[plugins.cri]\nenable_cdi = false\n");
    let refused = machine.configure("containerd");
    let cause = "its version is 1, which containerd 2.3.1 converts";
    assert!(refused.stderr.contains(cause), "{}", refused.stderr);
}

/// CRI-O's command line counts alone: a file that names the directory of our hook would not be in effect.
#[test]
fn a_hook_is_not_put_where_crio_does_not_look() {
    let crio = |line: &str| {
        machine(&[
            ("/proc/100/comm", "crio\n"),
            ("/proc/100/cmdline", &line.replace(' ', "\0")),
            ("/proc/100/status", "Name:\tcrio\nUid:\t0\t0\t0\t0\n"),
        ])
    };
    let args = "crio --engine-version 1.31.0 --hook";
    let machine = crio("crio --hooks-dir /etc/site/hooks.d");
    let before = machine.tree();
    let refused = machine.configure(args);
    assert_eq!((refused.code, machine.tree() == before), (5, true), "{}", refused.stderr);
    for words in [
        "it was started with --hooks-dir /etc/site/hooks.d, which counts alone",
        "start it with --hooks-dir /etc/mig-cdi/hooks.d/crio too",
    ] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    let machine = crio("crio --hooks-dir /etc/site/hooks.d,/etc/mig-cdi/hooks.d/crio");
    machine.run_ok(args);
    let hooks = std::fs::read_dir(machine.path("/etc/mig-cdi/hooks.d/crio")).unwrap();
    assert_eq!(hooks.count(), 1);
    assert!(!machine.path("/etc/crio").exists());
    // The runtime that it runs by default.
    let machine = crio("crio --default-runtime crun");
    machine
        .put("/etc/crio/crio.conf", "[crio.runtime.runtimes.crun]\nruntime_root = \"/run/crun\"\n");
    machine.program("root/usr/bin/crun", "#!/bin/sh\n");
    machine.program("root/usr/bin/runc", "#!/bin/sh\n");
    let done = machine.run_ok("crio --engine-version 1.30.0 --runtime");
    assert!(done.stderr.contains("crio runs /usr/bin/crun"), "{}", done.stderr);
}

/// A handler without a runtime starts no pod (k8s-device-plugin issue 475).
#[test]
fn the_real_runtime_has_to_be_there() {
    let crun = "[crio.runtime.runtimes.crun]\nruntime_path = \"/opt/crio/crun\"\n";
    let binary = format!(
        "version = 3\n[{CRI}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
         [{CRI}.containerd.runtimes.runc.options]\nBinaryName = \"/opt/bin/runc\"\n"
    );
    for (args, config, program, code, message) in [
        ("containerd --engine-version 2.1.5", None, "usr/local/sbin/runc", 0, ""),
        ("crio --engine-version 1.31.0", None, "usr/libexec/crio/crun", 0, ""),
        (
            "crio --engine-version 1.31.0",
            Some(("/etc/crio/crio.conf", crun)),
            "opt/crio/crun",
            5,
            "set runtimes = [\"/opt/crio/crun\"] below [hook] in /etc/mig-cdi/config.toml",
        ),
        (
            "containerd --engine-version 2.1.5",
            Some(("/etc/containerd/config.toml", &*binary)),
            "opt/bin/runc",
            5,
            "set runtimes = [\"/opt/bin/runc\"] below [hook]",
        ),
        // An image that is being built.
        ("docker --engine-version 26.1", None, "opt/other", 0, "install runc or crun"),
    ] {
        let machine = machine(&[]);
        machine.program(&format!("root/{program}"), "#!/bin/sh\n");
        if let Some((path, text)) = config {
            machine.put(path, text);
        }
        let run = machine.configure(&format!("{args} --runtime"));
        assert_eq!(run.code, code, "{args} {program}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{args} {program}: {}", run.stderr);
        assert_eq!(
            run.stderr.contains("would find no runtime"),
            !message.is_empty(),
            "{}",
            run.stderr
        );
    }
    // That of k3s is in its own directory, in which its containerd looks first.
    let config = "/srv/containerd.toml";
    let k3s = machine(&[
        (config, "version = 3\n"),
        ("/proc/100/comm", "containerd\n"),
        ("/proc/100/cmdline", &format!("containerd\0-c\0{config}\0")),
        (
            "/proc/100/environ",
            "HOME=/\0PATH=:data/bin:/var/lib/rancher/k3s/data/current/bin:/usr/bin\0",
        ),
        ("/proc/100/status", "Name:\tcontainerd\nUid:\t0\t0\t0\t0\n"),
    ]);
    k3s.program("root/var/lib/rancher/k3s/data/current/bin/runc", "#!/bin/sh\n");
    let refused = k3s.configure("containerd --engine-version 2.1.5 --runtime");
    let cure = "set runtimes = [\"/var/lib/rancher/k3s/data/current/bin/runc\"] below [hook]";
    assert!(refused.code == 5 && refused.stderr.contains(cure), "{}", refused.stderr);
    // Another runtime than the engine's.
    let machine = machine(&[("/etc/crio/crio.conf", crun)]);
    machine.program("root/opt/crio/crun", "#!/bin/sh\n");
    machine.program("root/usr/bin/runc", "#!/bin/sh\n");
    let run = machine.run_ok("crio --engine-version 1.31.0 --runtime");
    let warning = "mig-cdi-runtime runs /usr/bin/runc, and crio runs /opt/crio/crun; to run the same, set runtimes";
    assert!(run.stderr.contains(warning), "{}", run.stderr);
}

/// CRI-O reads every file of its directory, so that a backup in it would count as one.
#[test]
fn a_drop_in_has_no_backup_beside_it() {
    let path = "/etc/crio/crio.conf.d/50-mig-cdi.conf";
    let text = "# by hand\n[crio.runtime]\ncdi_spec_dirs = [\"/etc/cdi\"]\n";
    let machine = machine(&[(path, text)]);
    let before = machine.tree();
    machine.run_ok("crio --engine-version 1.31.0");
    let files = std::fs::read_dir(machine.path("/etc/crio/crio.conf.d")).unwrap();
    assert_eq!(files.filter(|file| file.as_ref().unwrap().path().is_file()).count(), 1);
    assert!(machine.read(path).contains("[\"/etc/cdi\", \"/var/run/cdi\"]"));
    machine.run_ok("crio --undo");
    assert_eq!(machine.tree(), before);
}
