//! The driver's files in a spec: those of the requested capability classes and of the loaded version only, under the
//! names that loaders look for, from paths that only root can change.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    driver::{
        DATA, DistributionLayout, DriverLayout, LAYOUTS, LIBRARIES, NAMED_LIBRARIES, PROGRAMS,
        XORG_MODULES, library_dir, soname, stub,
    },
    without_capabilities,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};

pub(crate) const VERSION: &str = "580.105.08";
const DIRS: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"];

fn host(layout: DistributionLayout) -> FakeHost {
    FakeHost::with_driver(preset("a100-80gb").unwrap(), layout)
}

fn spec(run: &Run) -> Value {
    run.assert_code(0);
    serde_json::from_str(&run.stdout).unwrap()
}

fn generate(host: &FakeHost, args: &[&str]) -> Run {
    host.run(&[&["generate", "--output=-"], args].concat())
}

/// Returns the host path of each container path.
pub(crate) fn mounts(edits: &Value) -> BTreeMap<String, String> {
    let text = |mount: &Value, key: &str| mount[key].as_str().unwrap().to_owned();
    let mounts = edits["mounts"].as_array().into_iter().flatten();
    mounts.map(|m| (text(m, "containerPath"), text(m, "hostPath"))).collect()
}

/// Returns the container paths of the files of some classes.
pub(crate) fn expected(places: &DriverLayout, classes: &[&str]) -> BTreeSet<String> {
    let selected = |of: &str| of.split(' ').any(|class| classes.contains(&class));
    let mut names = Vec::new();
    for (_, stem, suffix) in LIBRARIES.iter().filter(|(of, ..)| selected(of)) {
        match *stem {
            "libvdpau_nvidia.so" => {
                names.extend(["vdpau/libvdpau_nvidia.so.1", "vdpau/libvdpau_nvidia.so"]);
                names.push(stem);
                continue;
            }
            "libcuda.so" | "libnvidia-opticalflow.so" => names.push(stem),
            "libGLX_nvidia.so" => names.push("libGLX_indirect.so.0"),
            _ => {}
        }
        names.push(soname(stem, suffix, VERSION).leak());
    }
    let named = NAMED_LIBRARIES.iter().filter(|(of, ..)| selected(of));
    names.extend(named.map(|(.., soname)| soname));
    let mut paths = BTreeSet::new();
    if selected("graphics") {
        names.push("gbm/nvidia-drm_gbm.so");
        let modules = XORG_MODULES.iter().zip(places.xorg).filter(|(_, dir)| !dir.is_empty());
        for ((kind, name), dir) in modules {
            let usual = ["lib", "lib64"].map(|lib| format!("/usr/{lib}/xorg/modules/{kind}"));
            let dirs = usual.into_iter().chain([dir.to_owned()]);
            paths.extend(dirs.map(|dir| format!("{dir}/{name}")));
        }
    }
    paths.extend(names.iter().flat_map(|name| DIRS.map(|dir| format!("{dir}/{name}"))));
    let programs = PROGRAMS.iter().filter(|(of, _)| selected(of));
    paths.extend(programs.map(|(_, name)| format!("/usr/bin/{name}")));
    let data = DATA.iter().filter(|(of, _)| selected(of));
    paths.extend(data.map(|(_, path)| places.data(path, VERSION).1));
    paths
}

#[test]
fn each_capability_class_adds_only_its_files_in_every_distribution() {
    let of_tree = LIBRARIES.len() * 2 + PROGRAMS.len() + DATA.len();
    assert!(of_tree >= 60, "{of_tree} files");
    for places in &LAYOUTS {
        let layout = places.layout;
        let host = host(layout);
        for classes in [
            &["compute", "utility"][..],
            &["utility"],
            &["compute"],
            &["video"],
            &["ngx"],
            &["utility", "video"],
        ] {
            let list = format!("--capabilities={}", classes.join(","));
            let found = mounts(&spec(&generate(&host, &[&list]))["containerEdits"]);
            let found: BTreeSet<_> = found.into_keys().collect();
            similar_asserts::assert_eq!(found, expected(places, classes), "{layout:?} {classes:?}");
        }
        let none = spec(&generate(&host, &["--capabilities=none"]));
        assert!(!none.to_string().contains("mounts"));
    }
}

#[test]
fn mounts_are_read_only_and_name_the_real_file() {
    for DriverLayout { layout, root, .. } in LAYOUTS {
        let host = host(layout);
        let spec = spec(&generate(&host, &[]));
        let options = serde_json::json!(["ro", "nosuid", "nodev", "rbind", "rprivate"]);
        let edits = &spec["containerEdits"];
        assert!(
            edits["mounts"].as_array().unwrap().iter().all(|mount| mount["options"] == options)
        );
        let mounts = mounts(edits);
        let dir = library_dir(layout);
        let cuda = format!("TMP/root{root}{dir}/libcuda.so.{VERSION}");
        for dir in DIRS {
            for name in ["libcuda.so.1", "libcuda.so"] {
                assert_eq!(mounts[&format!("{dir}/{name}")], cuda, "one file under both names");
            }
        }
        for path in mounts.values() {
            let real = host.root().join(path.strip_prefix("TMP/root/").unwrap());
            assert_eq!(real.canonicalize().unwrap(), real, "no link is left in {path}");
        }
        assert!(spec["containerEdits"].get("hooks").is_none());
    }
}

#[test]
fn graphics_files_are_for_slices_with_graphics() {
    let host = FakeHost::with_driver(preset("rtx-pro-6000").unwrap(), DistributionLayout::Fedora);
    let spec = spec(&generate(&host, &["--capabilities=all", "--names=slot"]));
    let common: BTreeSet<_> = mounts(&spec["containerEdits"]).into_keys().collect();
    let places = DistributionLayout::Fedora.places();
    let graphics = expected(places, &["graphics"]);
    let shared = expected(places, &["compute", "utility", "video", "ngx"]);
    similar_asserts::assert_eq!(
        common,
        shared,
        "what compute shares with graphics is there, the rest is not"
    );
    for device in spec["devices"].as_array().unwrap() {
        let own: BTreeSet<_> = mounts(&device["containerEdits"]).into_keys().collect();
        match device["name"].as_str().unwrap() {
            "0:1g.24gb-me:3" => assert_eq!(own, BTreeSet::new()),
            name => similar_asserts::assert_eq!(own, &graphics - &shared, "{name}"),
        }
    }
    let by_default = generate(&host, &[]);
    assert!(!by_default.stdout.contains("libEGL_nvidia"), "graphics only when asked for");
}

#[test]
fn compat32_libraries_are_added_on_request() {
    for DriverLayout { layout, .. } in LAYOUTS {
        let host = host(layout);
        let plain = mounts(&spec(&generate(&host, &["--capabilities=all"]))["containerEdits"]);
        assert!(!plain.contains_key("/usr/lib/i386-linux-gnu/libcuda.so.1"));
        let both =
            mounts(&spec(&generate(&host, &["--capabilities=compute,compat32"]))["containerEdits"]);
        let narrow = both["/usr/lib/i386-linux-gnu/libcuda.so.1"].clone();
        assert_eq!(both["/usr/lib/libcuda.so.1"], narrow);
        assert_ne!(both["/usr/lib/x86_64-linux-gnu/libcuda.so.1"], narrow, "{layout:?}");
    }
}

#[test]
fn library_dirs_sets_the_container_directories() {
    let host = host(DistributionLayout::Fedora);
    let run = generate(&host, &["--library-dirs=/opt/a,/opt/b", "--capabilities=utility"]);
    let mounts = mounts(&spec(&run)["containerEdits"]);
    assert!(
        mounts.contains_key("/opt/a/libnvidia-ml.so.1")
            && mounts.contains_key("/opt/b/libnvidia-ml.so.1")
    );
    assert!(!mounts.keys().any(|path| path.starts_with("/usr/lib")));
    for bad in ["lib", "/a/../b", "/", ""] {
        let run = generate(&host, &[&format!("--library-dirs={bad}")]);
        assert_eq!(run.code, 2, "{bad:?}: {}", run.stderr);
    }
}

#[test]
fn library_search_path_comes_first() {
    let host = host(DistributionLayout::Fedora);
    let dir = host.path("/mine");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(format!("libcuda.so.{VERSION}")), stub(64, "libcuda.so.1")).unwrap();
    let spec = spec(&generate(&host, &["--library-search-path=/mine"]));
    let mounts = mounts(&spec["containerEdits"]);
    assert_eq!(mounts["/usr/lib64/libcuda.so.1"], format!("TMP/root/mine/libcuda.so.{VERSION}"));
    assert_eq!(
        mounts["/usr/lib64/libnvidia-ml.so.1"],
        format!("TMP/root/usr/lib64/libnvidia-ml.so.{VERSION}")
    );
}

/// Files that another driver has left behind are not used; if there are no others, the error names them.
#[test]
fn files_of_another_driver_version_are_never_used() {
    for DriverLayout { layout, root, libraries, .. } in LAYOUTS {
        let host = host(layout);
        let dir = host.path(&format!("{root}{libraries}"));
        for (_, stem, suffix) in LIBRARIES {
            let old = soname(stem, suffix, "535.54.03");
            fs::write(dir.join(format!("{stem}.535.54.03")), stub(64, &old)).unwrap();
        }
        let run = generate(&host, &["--capabilities=all"]);
        assert!(!spec(&run).to_string().contains("535.54.03"));
        fs::remove_file(dir.join(format!("libcuda.so.{VERSION}"))).unwrap();
        let half = generate(&host, &[]);
        assert_eq!((half.code, half.stdout.as_str()), (4, ""));
        let message = format!(
            "find libcuda.so.{VERSION}: driver {VERSION} is loaded and TMP/root{root}{}",
            match layout {
                DistributionLayout::Arch => "/usr/lib64",
                DistributionLayout::Nixos => "/run/opengl-driver/lib",
                DistributionLayout::Flatcar => "/opt/nvidia/current/usr/lib64",
                _ => libraries,
            }
        );
        assert!(half.stderr.contains(&message), "{layout:?}: {}", half.stderr);
        assert!(
            half.stderr.contains("has the files of 535.54.03; finish the driver update"),
            "{}",
            half.stderr
        );
    }
}

#[test]
fn a_missing_required_file_is_an_error_and_an_optional_one_is_not() {
    let host = host(DistributionLayout::Fedora);
    let lib = |name: &str| host.path(&format!("/usr/lib64/{name}.{VERSION}"));
    fs::remove_file(lib("libcudadebugger.so")).unwrap();
    fs::remove_file(host.path("/usr/bin/nvidia-smi")).unwrap();
    // The file is optional.
    generate(&host, &[]).assert_code(0);
    fs::remove_file(lib("libcuda.so")).unwrap();
    let run = generate(&host, &[]);
    run.assert_code(4);
    assert!(
        run.stderr.contains(&format!("find libcuda.so.{VERSION}: not in /usr/lib")),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("or set capabilities to none"), "{}", run.stderr);
    // CUDA is not requested.
    generate(&host, &["--capabilities=utility"]).assert_code(0);
}

#[test]
fn files_that_another_user_can_replace_are_refused() {
    let version = |name: &str| format!("{name}.{VERSION}");
    let refused = |host: &FakeHost, path: &str, reason: &str| {
        let run = host.generate(&[]);
        assert_eq!((run.code, host.read_spec()), (5, None), "{}", run.stderr);
        assert!(run.stderr.contains(path) && run.stderr.contains(reason), "{}", run.stderr);
    };
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let lib = |host: &FakeHost| host.path(&format!("/usr/lib64/{}", version("libcuda.so")));

    let open_file = host(DistributionLayout::Fedora);
    mode(&lib(&open_file), 0o666);
    refused(&open_file, &version("TMP/root/usr/lib64/libcuda.so"), "has mode 0666");

    let open_dir = host(DistributionLayout::Fedora);
    mode(&open_dir.path("/usr"), 0o1777);
    refused(&open_dir, "TMP/root/usr has mode 1777", "chmod go-w");

    let by_group = host(DistributionLayout::Fedora);
    chown(by_group.path("/usr/lib64"), None, Some(1000)).unwrap();
    mode(&by_group.path("/usr/lib64"), 0o775);
    refused(&by_group, "TMP/root/usr/lib64 has mode 0775", "chmod go-w");

    let foreign = host(DistributionLayout::Fedora);
    chown(lib(&foreign), Some(1000), None).unwrap();
    refused(&foreign, "libcuda.so", "belongs to user 1000");

    // The target of a link counts, not the link.
    let linked = host(DistributionLayout::Fedora);
    let home = linked.path("/home/mallory");
    fs::create_dir_all(&home).unwrap();
    fs::rename(lib(&linked), home.join("lib")).unwrap();
    chown(&home, Some(1000), None).unwrap();
    symlink("/home/mallory/lib", lib(&linked)).unwrap();
    refused(
        &linked,
        "TMP/root/home/mallory belongs to user 1000",
        "mount TMP/root/home/mallory/lib",
    );

    // Any user could have made a socket in /tmp: it is omitted, and the rest is written. Nothing is wrong, so nothing warns.
    let socket = host(DistributionLayout::Fedora);
    fs::create_dir_all(socket.path("/tmp/nvidia-mps")).unwrap();
    mode(&socket.path("/tmp"), 0o1777);
    let run = socket.generate(&["--verbose"]);
    run.assert_code(0);
    let detail = "/tmp/nvidia-mps is omitted: TMP/root/tmp has mode 1777";
    assert!(run.stderr.contains(detail), "{}", run.stderr);
    let run = socket.generate(&[]);
    assert!(run.code == 0 && !run.stderr.contains("nvidia-mps"), "{}", run.stderr);
}

#[test]
fn sockets_of_daemons_keep_their_paths() {
    let host = host(DistributionLayout::Fedora);
    let dir = host.path("/run/nvidia-persistenced");
    fs::create_dir_all(&dir).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    let mounted =
        |run: &Run| mounts(&spec(run)["containerEdits"]).remove("/run/nvidia-persistenced/socket");
    let own = mounted(&generate(&host, &[]));
    assert_eq!(own.as_deref(), Some("TMP/root/run/nvidia-persistenced/socket"));
    // The daemon of Debian and openSUSE runs as a user of its own, to whom its directory belongs.
    chown(&dir, Some(1000), None).unwrap();
    let omitted = generate(&host, &["--verbose"]);
    let reason = "run/nvidia-persistenced/socket is omitted: TMP/root/run/nvidia-persistenced belongs to user 1000, so a user other than \
                  root could put another file there; programs on a slice work without it";
    assert!(omitted.code == 0 && omitted.stderr.contains(reason), "{}", omitted.stderr);
    assert_eq!(mounted(&omitted), None);
    // Nothing is wrong and nothing cures it, so no warning repeats it at every refresh: the doctor has a note.
    let quiet = generate(&host, &[]);
    assert!(quiet.code == 0 && !quiet.stderr.contains("socket"), "{}", quiet.stderr);
    let doctor = host.run(&["doctor"]).stdout;
    let note = doctor.lines().find(|line| line.contains("nvidia-persistenced")).unwrap();
    assert!(note.starts_with("note     driver"), "{doctor}");
}

/// The kernel looks for each file of firmware in all directories.
#[test]
fn firmware_is_found_in_several_directories() {
    let host = host(DistributionLayout::Fedora);
    let [updates, usual] = ["updates/nvidia", "nvidia"]
        .map(|dir| host.path(&format!("/lib/firmware/{dir}/{VERSION}")));
    for (dir, name) in
        [(&updates, "gsp_tu10x.bin"), (&usual, "gsp_tu10x.bin"), (&usual, "gsp_ga10x.bin")]
    {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(name), "").unwrap();
    }
    let mounts = mounts(&spec(&generate(&host, &[]))["containerEdits"]);
    for (name, dir) in [("gsp_tu10x.bin", "updates/nvidia"), ("gsp_ga10x.bin", "nvidia")] {
        let inside = format!("/lib/firmware/nvidia/{VERSION}/{name}");
        assert!(
            mounts[&inside].ends_with(&format!("/lib/firmware/{dir}/{VERSION}/{name}")),
            "{mounts:?}"
        );
    }
}

#[test]
fn broken_files_are_omitted_with_a_message_or_are_an_error() {
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("no soname", stub(64, ""), "it has no soname"),
        ("text", b"hello\n".to_vec(), "not a shared library: no ELF header"),
        ("empty", Vec::new(), "not a shared library: no ELF header"),
        (
            "cut short",
            stub(64, "libcudadebugger.so.1")[..100].to_vec(),
            "not a shared library: cut short",
        ),
        ("a path as soname", stub(64, "../../etc/passwd"), "the soname is no file name"),
        ("a control character", stub(64, "lib\x1b[2J.so"), "the soname is no file name"),
    ];
    for (case, bytes, reason) in cases {
        let host = host(DistributionLayout::Debian);
        let file = |stem: &str| {
            host.path(&format!("{}/{stem}.{VERSION}", library_dir(DistributionLayout::Debian)))
        };
        fs::write(file("libcudadebugger.so"), &bytes).unwrap();
        let optional = generate(&host, &[]);
        assert_eq!(optional.code, 0, "{case}: {}", optional.stderr);
        assert!(
            optional.stderr.contains("libcudadebugger.so.580.105.08 is omitted: "),
            "{case}: {}",
            optional.stderr
        );
        assert!(optional.stderr.contains(reason), "{case}: {}", optional.stderr);
        fs::write(file("libcuda.so"), &bytes).unwrap();
        let required = generate(&host, &[]);
        assert_eq!(
            (required.code, required.stdout.as_str()),
            (4, ""),
            "{case}: {}",
            required.stderr
        );
        let named = format!("libcuda.so.{VERSION}: TMP/root");
        assert!(required.stderr.contains(&named), "{case}: {}", required.stderr);
        assert_eq!(required.stderr.matches(reason).count(), 1, "{case}: {}", required.stderr);
    }
    // A library for another architecture is skipped without a message: directories can hold several.
    let host = host(DistributionLayout::Fedora);
    fs::write(
        host.path(&format!("/usr/lib64/libcudadebugger.so.{VERSION}")),
        stub(32, "libcudadebugger.so.1"),
    )
    .unwrap();
    let run = generate(&host, &[]);
    run.assert_code(0);
    assert!(!run.stdout.contains("libcudadebugger"));
    // Loops and dangling links are ignored.
    let dir = host.path("/usr/lib64");
    for (name, to) in [
        ("libnvidia-nvvm.so", format!("libnvidia-nvvm.so.{VERSION}")),
        ("libnvidia-cfg.so", "/nowhere".into()),
    ] {
        let at = dir.join(format!("{name}.{VERSION}"));
        fs::remove_file(&at).unwrap();
        symlink(to, at).unwrap();
    }
    let run = generate(&host, &[]);
    run.assert_code(0);
    assert!(run.stderr.contains("libnvidia-nvvm.so.580.105.08: too many"), "{}", run.stderr);
    assert!(!run.stdout.contains("libnvidia-nvvm.so") && !run.stdout.contains("libnvidia-cfg.so"));
}

#[test]
fn an_invalid_loader_cache_is_reported_and_ignored() {
    let whole =
        mig_cdi_tests::driver::cache(&[(0x0303, "libcuda.so.1", "/usr/lib64/libcuda.so.1".into())]);
    // Bytes 52 to 55 are the offset of the first entry's name (glibc, dl-cache.h).
    let mut far = whole.clone();
    far[52..56].copy_from_slice(&u32::MAX.to_le_bytes());
    let random: Vec<u8> =
        (0..5000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (case, bytes) in [
        ("random", random),
        ("offset past its end", far),
        ("cut", whole[..60].to_vec()),
        ("empty", Vec::new()),
    ] {
        let host = host(DistributionLayout::Fedora);
        fs::write(host.path("/etc/ld.so.cache"), bytes).unwrap();
        let run = generate(&host, &[]);
        assert_eq!(run.code, 0, "{case}: {}", run.stderr);
        assert!(run.stderr.contains("parse TMP/root/etc/ld.so.cache: "), "{case}: {}", run.stderr);
    }
    let host = host(DistributionLayout::Fedora);
    let file = fs::File::create(host.path("/etc/ld.so.cache")).unwrap();
    file.set_len(1 << 30).unwrap();
    let run = generate(&host, &[]);
    assert_eq!(run.code, 0, "a gigabyte: {}", run.stderr);
    assert!(run.stderr.contains("ld.so.cache: larger than 16777216 bytes"), "{}", run.stderr);
}

/// After a driver upgrade the next spec has nothing of the old version.
#[test]
fn after_an_upgrade_no_file_of_the_old_driver_is_listed() {
    let host = host(DistributionLayout::Debian);
    host.generate(&[]).assert_code(0);
    let description = preset("a100-80gb").unwrap().replace(VERSION, "590.44.01");
    let new = FakeHost::with_driver(&description, DistributionLayout::Debian);
    for dir in ["usr", "lib", "proc"] {
        fs::remove_dir_all(host.root().join(dir)).unwrap();
        fs::rename(new.root().join(dir), host.root().join(dir)).unwrap();
    }
    fs::write(host.env().1, &description).unwrap();
    host.generate(&[]).assert_code(0);
    let spec = host.read_spec().unwrap();
    assert!(spec.contains("590.44.01") && !spec.contains(VERSION));
}

/// The real files of Debian's packages in Debian's layout, under their SONAMEs.
#[test]
fn real_libraries_are_mounted_under_their_real_names() {
    let host = FakeHost::with_real_driver(preset("a100-80gb").unwrap());
    let run = generate(&host, &["--source=proc", "--capabilities=all"]);
    let mounts = mounts(&spec(&run)["containerEdits"]);
    let current = "TMP/root/usr/lib/x86_64-linux-gnu/nvidia/current";
    for (name, path) in [
        ("libcuda.so.1", format!("{current}/libcuda.so.550.163.01")),
        ("libcudadebugger.so.1", format!("{current}/libcudadebugger.so.550.163.01")),
        ("libnvidia-ml.so.1", format!("{current}/libnvidia-ml.so.550.163.01")),
        ("libnvidia-cfg.so.1", format!("{current}/libnvidia-cfg.so.550.163.01")),
        ("libnvidia-nvvm.so.4", format!("{current}/libnvidia-nvvm.so.550.163.01")),
        (
            "libnvidia-ptxjitcompiler.so.1",
            format!("{current}/libnvidia-ptxjitcompiler.so.550.163.01"),
        ),
        (
            "libnvidia-pkcs11-openssl3.so.550.163.01",
            "TMP/root/usr/lib/x86_64-linux-gnu/libnvidia-pkcs11-openssl3.so.550.163.01".to_owned(),
        ),
    ] {
        for dir in DIRS {
            assert_eq!(mounts.get(&format!("{dir}/{name}")), Some(&path), "{dir}/{name}");
        }
    }
    assert_eq!(mounts["/usr/bin/nvidia-smi"], "TMP/root/usr/lib/nvidia/current/nvidia-smi");
}

/// The copy of the driver's parameters that forbids its libraries to make nodes, and the mount that shows it.
#[test]
fn driver_parameters_are_masked_on_request() {
    let host = host(DistributionLayout::Fedora);
    host.generate(&[]).assert_code(0);
    assert!(!host.read_spec().unwrap().contains("/proc/driver/nvidia/params"));
    let run = host.generate(&["--mask-params"]);
    run.assert_code(0);
    let spec: Value = serde_json::from_str(&host.read_spec().unwrap()).unwrap();
    let copy = host.out().join("nvidia.com-mig.json.params");
    assert_eq!(
        mounts(&spec["containerEdits"])["/proc/driver/nvidia/params"],
        copy.to_str().unwrap()
    );
    let original = fs::read_to_string(host.path("/proc/driver/nvidia/params")).unwrap();
    assert!(original.contains("ModifyDeviceFiles: 1\n"));
    let expected = original.replace("ModifyDeviceFiles: 1\n", "ModifyDeviceFiles: 0\n");
    assert_eq!(fs::read_to_string(&copy).unwrap(), expected);
    let output = format!("--output={}", host.spec().display());
    host.run(&["check", &output, "--mask-params"]).assert_code(0);
    host.run(&["check", &output]).assert_code(6);
    // There is no place for the copy.
    generate(&host, &["--mask-params"]).assert_code(2);
    // Containers see the copy, so it must be root's like every other file.
    let open = tempfile::tempdir().unwrap();
    let spec = open.path().join("spec.json");
    let run = host.run(&["generate", "--mask-params", "-o", spec.to_str().unwrap()]);
    run.assert_code(5);
    assert!(run.stderr.contains("/tmp has mode 1777"), "{}", run.stderr);
    // The copy is removed with the spec.
    fs::remove_dir_all(host.path("/proc/driver/nvidia/capabilities/gpu0/mig")).unwrap();
    fs::write(host.env().1, "[[gpu]]\nmodel = \"a100-80gb\"\n").unwrap();
    host.generate(&[]).assert_code(0);
    assert!(host.read_spec().is_none() && !copy.exists());
    let host = self::host(DistributionLayout::Fedora);
    fs::write(
        host.path("/proc/driver/nvidia/params"),
        "DeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n",
    )
    .unwrap();
    host.generate(&["--mask-params"]).assert_code(1);
    host.generate(&[]).assert_code(0);
}

/// A service sees /home as a directory that nobody may enter (`ProtectHome=` in systemd.exec(5)). Container-Optimized OS has its driver
/// below it, and other machines have theirs elsewhere.
#[test]
fn a_home_that_a_service_may_not_see_has_no_driver() {
    let host = host(DistributionLayout::Debian);
    fs::create_dir_all(host.path("/home/kubernetes/bin/nvidia/lib64")).unwrap();
    fs::set_permissions(host.path("/home"), fs::Permissions::from_mode(0o000)).unwrap();
    let generate = host.command(&["generate", "--output=-"]);
    let mut generate = without_capabilities(&generate, "-dac_override,-dac_read_search");
    let spec = spec(&mig_cdi_tests::run(&mut generate));
    assert!(!mounts(&spec["containerEdits"]).is_empty());
}
