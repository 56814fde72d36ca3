//! The driver's files where each distribution has them, behind links of any length, and apart from each other; and what is
//! said of a file that is nowhere.

use crate::driver_files::{VERSION, expected, mounts};
use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    driver::{
        DATA, DistributionLayout, DriverLayout, LAYOUTS, LIBRARIES, NAMED_LIBRARIES, PROGRAMS,
        cache, library_dir, soname,
    },
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{chown, symlink},
    path::Path,
};

const TRIPLET: &str = "/usr/lib/x86_64-linux-gnu";

fn host(layout: DistributionLayout) -> FakeHost {
    FakeHost::with_driver(preset("rtx-pro-6000").unwrap(), layout)
}

fn generate(host: &FakeHost, args: &[&str]) -> Run {
    host.run(&[&["generate", "--output=-", "--names=slot"], args].concat())
}

/// Returns the mounts of a container with a slice that renders.
fn graphics_mounts(run: &Run) -> BTreeMap<String, String> {
    run.assert_code(0);
    let spec: Value = serde_json::from_str(&run.stdout).unwrap();
    let mut all = mounts(&spec["containerEdits"]);
    let devices = spec["devices"].as_array().unwrap();
    let device = devices.iter().find(|d| d["name"] == "0:2g.48gb.gfx:0").expect("the slice");
    all.extend(mounts(&device["containerEdits"]));
    all
}

/// A slice that renders gets every file, from the place where the distribution has it, and nothing is said.
#[test]
fn each_distribution_has_all_files_from_its_own_places() {
    for places in &LAYOUTS {
        let DriverLayout { layout, root, libraries, programs, vdpau, .. } = *places;
        let host = host(layout);
        let run = generate(&host, &["--capabilities=all"]);
        assert_eq!(run.stderr, "", "{layout:?}: {}", places.source);
        let found = graphics_mounts(&run);
        let classes = ["compute", "utility", "video", "graphics", "ngx"];
        let names: BTreeSet<_> = found.keys().cloned().collect();
        similar_asserts::assert_eq!(names, expected(places, &classes), "{layout:?}");

        let mut from = BTreeMap::new();
        for (_, stem, suffix) in LIBRARIES.iter().filter(|(class, ..)| !class.is_empty()) {
            let (dir, name) = match *stem {
                "libvdpau_nvidia.so" => (vdpau, "vdpau/libvdpau_nvidia.so.1".to_owned()),
                stem => (libraries, soname(stem, suffix, VERSION)),
            };
            from.insert(format!("/usr/lib64/{name}"), format!("{dir}/{stem}.{VERSION}"));
        }
        let allocator = format!("{libraries}/libnvidia-allocator.so.{VERSION}");
        from.insert("/usr/lib64/gbm/nvidia-drm_gbm.so".to_owned(), allocator);
        for (_, file, name) in NAMED_LIBRARIES {
            from.insert(format!("/usr/lib64/{name}"), format!("{libraries}/{file}"));
        }
        for (_, name) in PROGRAMS.iter().filter(|(class, _)| !class.is_empty()) {
            from.insert(format!("/usr/bin/{name}"), format!("{programs}/{name}"));
        }
        for (_, path) in DATA.iter().filter(|(class, _)| !class.is_empty()) {
            let (host, inside) = places.data(path, VERSION);
            from.insert(inside, host);
        }
        for (inside, path) in from {
            // A link in the table of layouts is resolved: its target is what is mounted.
            let real = host.path(&format!("{root}{path}")).canonicalize().unwrap();
            let real = real.strip_prefix(host.root()).unwrap();
            let real = format!("TMP/root/{}", real.display());
            assert_eq!(found.get(&inside), Some(&real), "{layout:?}: {inside}");
        }
    }
}

/// Rule 5: the directory behind a link is a directory of the driver, however long the chain is, whatever its name, and
/// whether the loader's cache or a usual directory has the link.
#[test]
fn libraries_are_found_behind_chains_of_links() {
    let names = ["tesla-570", "legacy-390xx", "current", "vendor's own"];
    for (hops, name) in (1..=4).flat_map(|hops| names.map(|name| (hops, name))) {
        for place in [TRIPLET, "/usr/lib64", "/srv/links"] {
            let host =
                FakeHost::with_driver(preset("a100-80gb").unwrap(), DistributionLayout::Cache);
            let dir = format!("{TRIPLET}/nvidia/{name}");
            fs::create_dir_all(host.path(&dir).parent().unwrap()).unwrap();
            fs::rename(host.path("/opt/vendor/lib"), host.path(&dir)).unwrap();
            fs::create_dir_all(host.path(place)).unwrap();
            for library in ["libcuda.so.1", "libnvidia-ml.so.1"] {
                chain(&host, &format!("{place}/{library}"), &format!("{dir}/{library}"), hops);
            }
            let path = format!("{place}/libcuda.so.1");
            let entries =
                if place == "/srv/links" { vec![(0x0303, "libcuda.so.1", path)] } else { vec![] };
            fs::write(host.path("/etc/ld.so.cache"), cache(&entries)).unwrap();
            let run = host.run(&["generate", "--output=-"]);
            assert_eq!(run.code, 0, "{hops} {name} {place}: {}", run.stderr);
            let spec: Value = serde_json::from_str(&run.stdout).unwrap();
            let found = mounts(&spec["containerEdits"]);
            for library in ["libcuda.so.1", "libnvidia-ml.so.1"] {
                let stem = library.trim_end_matches(".1");
                let real = format!("TMP/root{dir}/{stem}.{VERSION}");
                assert_eq!(found[&format!("/usr/lib64/{library}")], real, "{hops} {name} {place}");
            }
            // A file that nothing links to is found too: the whole directory is the driver's.
            assert!(found.contains_key("/usr/lib64/libnvidia-ptxjitcompiler.so.1"));
        }
    }
}

/// Makes a chain of links: absolute and relative ones in turn.
fn chain(host: &FakeHost, from: &str, to: &str, hops: usize) {
    let alternatives = host.path("/etc/alternatives");
    fs::create_dir_all(&alternatives).unwrap();
    let name = from.replace('/', "-");
    let mut from = host.path(from);
    let _ = fs::remove_file(&from);
    for step in 1..hops {
        let next = format!("step{step}{name}");
        let is_relative = from.parent() == Some(&alternatives);
        let target = if is_relative { next.clone() } else { format!("/etc/alternatives/{next}") };
        symlink(target, &from).unwrap();
        from = alternatives.join(next);
    }
    symlink(to, from).unwrap();
}

/// Links that lead nowhere add nothing; one that leads to another user's directory gives nothing of it away.
#[test]
fn links_that_lead_astray_are_harmless() {
    let host = FakeHost::with_driver(preset("a100-80gb").unwrap(), DistributionLayout::Fedora);
    let lib64 = host.path("/usr/lib64");
    for (name, to) in [
        ("libnvidia-a.so", "libnvidia-a.so"),
        ("libnvidia-b.so", "/nowhere/libnvidia-b.so"),
        ("libnvidia-c.so", "../../../../../../../../../../etc/passwd"),
        ("libnvidia-d.so", "/"),
    ] {
        symlink(to, lib64.join(name)).unwrap();
    }
    let run = host.run(&["generate", "--output=-"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let home = host.path("/home/mallory");
    fs::create_dir_all(&home).unwrap();
    fs::rename(
        lib64.join(format!("libcuda.so.{VERSION}")),
        home.join(format!("libcuda.so.{VERSION}")),
    )
    .unwrap();
    fs::remove_file(lib64.join("libcuda.so.1")).unwrap();
    symlink(format!("/home/mallory/libcuda.so.{VERSION}"), lib64.join("libcuda.so.1")).unwrap();
    chown(&home, Some(1000), None).unwrap();
    let run = host.run(&["generate", "--output=-"]);
    assert_eq!((run.code, run.stdout.as_str()), (5, ""));
    assert!(run.stderr.contains("TMP/root/home/mallory belongs to user 1000"), "{}", run.stderr);
}

/// Case 12: libraries and programs apart. The warning names the searched directories and the flag that cures it.
#[test]
fn a_program_that_is_nowhere_is_reported_with_its_cure() {
    let apart = |programs: &str| {
        let host = FakeHost::with_driver(preset("a100-80gb").unwrap(), DistributionLayout::Fedora);
        fs::create_dir_all(host.path("/opt/nvidia")).unwrap();
        fs::rename(host.path("/usr/lib64"), host.path("/opt/nvidia/lib64")).unwrap();
        let programs = host.path(programs);
        fs::create_dir_all(programs.parent().unwrap()).unwrap();
        fs::rename(host.path("/usr/bin"), programs).unwrap();
        host
    };
    let flag = "--library-search-path=/opt/nvidia/lib64";
    let smi = |run: &Run| {
        run.assert_code(0);
        let spec: Value = serde_json::from_str(&run.stdout).unwrap();
        mounts(&spec["containerEdits"]).get("/usr/bin/nvidia-smi").cloned()
    };
    // Beside the libraries.
    let host = apart("/opt/nvidia/bin");
    let run = host.run(&["generate", "--output=-", flag]);
    assert_eq!(
        (run.stderr.as_str(), smi(&run).as_deref()),
        ("", Some("TMP/root/opt/nvidia/bin/nvidia-smi"))
    );

    // Elsewhere.
    let host = apart("/srv/tools");
    let run = host.run(&["generate", "--output=-", flag]);
    assert_eq!(smi(&run), None);
    let warning = "find nvidia-smi for utility: not in /opt/nvidia/bin, /opt/nvidia/sbin, ";
    let cure = " below TMP/root; install it, or name its directory with --program-search-path\n";
    assert!(run.stderr.contains(warning) && run.stderr.contains("/usr/bin, "), "{}", run.stderr);
    assert!(run.stderr.ends_with(cure) && run.stderr.lines().count() == 1, "{}", run.stderr);
    let doctor = host.run(&["doctor", flag]);
    assert!(doctor.stdout.contains("find nvidia-smi for utility: not in"), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("with --program-search-path"), "{}", doctor.stdout);

    let named = host.run(&["generate", "--output=-", flag, "--program-search-path=/srv/tools"]);
    let found = Some("TMP/root/srv/tools/nvidia-smi");
    assert_eq!((named.stderr.as_str(), smi(&named).as_deref()), ("", found));
    let settings =
        "library-search-path = [\"/opt/nvidia/lib64\"]\nprogram-search-path = [\"/srv/tools\"]\n";
    fs::write(host.config(), settings).unwrap();
    let configured = host.run(&["generate", "--output=-"]);
    assert_eq!((configured.stderr.as_str(), smi(&configured).as_deref()), ("", found));
    assert!(!host.run(&["doctor"]).stdout.contains("nvidia-smi for"));

    // No capability needs it.
    fs::write(host.config(), "").unwrap();
    let compute = host.run(&["generate", "--output=-", flag, "--capabilities=compute"]);
    assert_eq!((compute.code, compute.stderr.as_str()), (0, ""));
}

/// Each file that a capability cannot do without, and that is nowhere, is reported once, when a device needs it.
#[test]
fn files_that_a_capability_needs_are_reported_when_they_are_nowhere() {
    let library = |stem: &str| format!("/usr/lib64/{stem}.{VERSION}");
    let cases = [
        ("compute", library("libnvidia-ptxjitcompiler.so"), "--library-search-path"),
        ("utility", "/usr/bin/nvidia-smi".to_owned(), "--program-search-path"),
        ("ngx", library("libnvidia-ngx.so"), "--library-search-path"),
        (
            "compute,compat32",
            format!("/usr/lib/libcuda.so.{VERSION}"),
            "for compat32: not in /usr/lib below TMP/root; install it, or name its directory with \
             --library-search-path",
        ),
        (
            "utility,compat32",
            format!("/usr/lib/libnvidia-ml.so.{VERSION}"),
            "for compat32: not in ",
        ),
        ("video", library("libnvcuvid.so"), "--library-search-path"),
        ("video", library("libnvidia-encode.so"), "--library-search-path"),
        ("graphics", library("libEGL_nvidia.so"), "--library-search-path"),
        ("graphics", library("libnvidia-glcore.so"), "--library-search-path"),
        ("graphics", library("libnvidia-eglcore.so"), "--library-search-path"),
        ("graphics", library("libnvidia-tls.so"), "--library-search-path"),
        ("graphics", library("libGLX_nvidia.so"), "--library-search-path"),
        (
            "graphics",
            "/usr/share/glvnd/egl_vendor.d/10_nvidia.json".to_owned(),
            "--library-search-path",
        ),
        (
            "graphics",
            "/usr/share/vulkan/icd.d/nvidia_icd.x86_64.json".to_owned(),
            "--library-search-path",
        ),
    ];
    for (capability, path, flag) in cases {
        for preset_name in ["rtx-pro-6000", "a100-80gb"] {
            let host =
                FakeHost::with_driver(preset(preset_name).unwrap(), DistributionLayout::Fedora);
            let capabilities = format!("--capabilities={capability}");
            let whole = host.run(&["generate", "--output=-", &capabilities]);
            assert_eq!((whole.code, whole.stderr.as_str()), (0, ""), "{path}");
            fs::remove_file(host.path(&path)).unwrap();
            let run = host.run(&["generate", "--output=-", &capabilities]);
            run.assert_code(0);
            let name = path.rsplit('/').next().unwrap();
            let is_needed = capability != "graphics" || preset_name == "rtx-pro-6000";
            let lines =
                run.stderr.lines().filter(|line| line.contains(name) && line.contains(flag));
            assert_eq!(
                lines.count(),
                usize::from(is_needed),
                "{path} {preset_name}: {}",
                run.stderr
            );
        }
    }
}

/// `all` asks for what the driver has; only a capability that is named has to be there.
#[test]
fn all_does_not_ask_for_what_few_drivers_have() {
    let host = host(DistributionLayout::Fedora);
    fs::remove_file(host.path(&format!("/usr/lib64/libnvidia-ngx.so.{VERSION}"))).unwrap();
    fs::remove_file(host.path(&format!("/usr/lib/libcuda.so.{VERSION}"))).unwrap();
    let run = host.run(&["generate", "--output=-", "--capabilities=all"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    // Nothing of 32 bits, in no directory that exists.
    for dir in ["/usr/lib", "/usr/lib32"] {
        let _ = fs::remove_dir_all(host.path(dir));
    }
    let run = host.run(&["generate", "--output=-", "--capabilities=utility,compat32"]);
    let line = format!("find libnvidia-ml.so.{VERSION} for compat32: not in ");
    assert!(run.code == 0 && run.stderr.contains(&line), "{}", run.stderr);
}

/// Docker makes a directory for the source of a bind mount that does not exist.
#[test]
fn a_directory_in_the_place_of_a_file_is_passed_over() {
    let host = host(DistributionLayout::Fedora);
    for (path, inside) in [
        ("/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi"),
        ("/usr/share/nvidia/nvoptix.bin", "/usr/share/nvidia/nvoptix.bin"),
    ] {
        let (real, aside) = (host.path(path), host.path(&format!("{path}.aside")));
        fs::rename(&real, &aside).unwrap();
        fs::create_dir(&real).unwrap();
        let run = generate(&host, &["--capabilities=all"]);
        assert_eq!(graphics_mounts(&run).get(inside), None, "{path}");
        let warning = format!("TMP/root{path} is omitted: it is no regular file");
        assert!(run.stderr.contains(&warning), "{}", run.stderr);
        fs::remove_dir(&real).unwrap();
        fs::rename(&aside, &real).unwrap();
    }
    let smi = host.path("/usr/bin/nvidia-smi");
    fs::create_dir_all(host.path("/opt/bin")).unwrap();
    fs::rename(&smi, host.path("/opt/bin/nvidia-smi")).unwrap();
    fs::create_dir(&smi).unwrap();
    let run = generate(&host, &[]);
    let found = graphics_mounts(&run).remove("/usr/bin/nvidia-smi");
    assert_eq!(found.as_deref(), Some("TMP/root/opt/bin/nvidia-smi"));
}

/// The searched directories and a wrong one are named, and the cure is not the flag that was given.
#[test]
fn libraries_that_are_nowhere_are_reported_with_the_searched_directories() {
    let host = host(DistributionLayout::Fedora);
    fs::rename(host.path("/usr/lib64"), host.path("/srv")).unwrap();
    for (flags, line) in [
        (
            &[][..],
            "not in /usr/lib/x86_64-linux-gnu, /usr/lib, /lib below TMP/root; install the driver's libraries, name their directory with \
             --library-search-path, or set capabilities to none\n",
        ),
        (
            &["--library-search-path=/nonexistent"],
            "not in /usr/lib/x86_64-linux-gnu, /usr/lib, /lib below TMP/root; /nonexistent of --library-search-path does not exist there; name the directory that \
             has the driver's libraries, as a path below the driver root\n",
        ),
    ] {
        let run = host.run(&[&["generate", "--output=-", "--source=proc"], flags].concat());
        assert_eq!(run.code, 4, "{}", run.stderr);
        assert!(run.stderr.ends_with(line), "{line}{}", run.stderr);
    }
    let run = host.run(&["generate", "--output=-", "--library-search-path=/srv"]);
    run.assert_code(0);
}

/// Case 14: whatever nvidia-ctk 1.20 mounts for a slice that renders is in our spec, from the same file. Its rules
/// (`pkg/nvcdi/driver-nvml.go`, `internal/discover/graphics.go`): all `*.so.VERSION` beside libcuda and in `vdpau` there,
/// these libraries, programs and data.
#[test]
fn a_slice_that_renders_gets_what_nvidia_ctk_gives() {
    for layout in
        [DistributionLayout::Ubuntu, DistributionLayout::Fedora, DistributionLayout::DebianTesla]
    {
        let host = host(layout);
        let dir = host.path(library_dir(layout));
        let files = |dir: &Path| -> Vec<_> {
            let entries = fs::read_dir(dir).into_iter().flatten();
            entries.map(|entry| entry.unwrap().path().canonicalize().unwrap()).collect()
        };
        let has_version = |path: &Path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.ends_with(&format!(".so.{VERSION}")) || name.starts_with("libnvidia-egl-")
        };
        let mut theirs: BTreeSet<_> =
            files(&dir).into_iter().chain(files(&dir.join("vdpau"))).collect();
        theirs.retain(|path| has_version(path));
        for (_, path) in DATA.iter().filter(|(class, _)| !class.is_empty()) {
            theirs.insert(host.path(&layout.places().data(path, VERSION).0));
        }
        assert!(theirs.len() > 50, "{} files", theirs.len());
        let ours: BTreeSet<_> =
            graphics_mounts(&generate(&host, &["--capabilities=all"])).into_values().collect();
        let missing = theirs.iter().filter_map(|path| {
            let below = path.strip_prefix(host.root()).unwrap().to_str().unwrap();
            (!ours.contains(&format!("TMP/root/{below}")))
                .then(|| below.rsplit('/').next().unwrap())
        });
        // What nvidia-ctk mounts for its pattern alone: parts of nvidia-settings, and what no driver has.
        let rest =
            ["libnvidia-gtk3", "libnvidia-wayland-client", "libnvidia-api", "libnvidia-unheard-of"];
        let wrong: Vec<_> =
            missing.filter(|name| !rest.iter().any(|rest| name.starts_with(rest))).collect();
        assert_eq!(wrong, [""; 0], "{layout:?}");
    }
}

/// Programs look for the DRI nodes of a PCI address by udev's links, which a container has not.
#[test]
fn a_slice_that_renders_has_its_dri_nodes_by_path() {
    let host = host(DistributionLayout::Fedora);
    let run = generate(&host, &["--capabilities=all"]);
    run.assert_code(0);
    let spec: Value = serde_json::from_str(&run.stdout).unwrap();
    for device in spec["devices"].as_array().unwrap() {
        let nodes = device["containerEdits"]["deviceNodes"].as_array().unwrap();
        let of = |path: &str| nodes.iter().find(|node| node["path"] == path);
        let name = device["name"].as_str().unwrap();
        let renders = name == "all" || name.contains(".gfx:");
        for (path, link) in [
            ("/dev/dri/card1", "/dev/dri/by-path/pci-0000:c1:00.0-card"),
            ("/dev/dri/renderD128", "/dev/dri/by-path/pci-0000:c1:00.0-render"),
        ] {
            let (Some(node), Some(link)) = (of(path), of(link)) else {
                assert!(!renders, "{device}");
                continue;
            };
            assert!(renders);
            for key in ["type", "major", "minor", "fileMode", "permissions", "uid", "gid"] {
                assert_eq!(node.get(key), link.get(key), "{path}");
            }
        }
    }
    let show = host.run(&["show", "0:2g.48gb.gfx:0"]);
    let line =
        show.stdout.lines().find(|line| line.contains("by-path/pci-0000:c1:00.0-card ")).unwrap();
    assert!(
        line.contains(" same ")
            && line.ends_with("/sys/bus/pci/devices/0000:c1:00.0/drm/card1/dev"),
        "{line}"
    );
}
