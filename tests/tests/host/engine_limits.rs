//! CDI versions that the engines of a machine read, and their effect on `generate`.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost,
    watch::{Watch, until},
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

const NEEDS_0_6_0: &str = "--annotations";

/// Makes a host with engines that count how often they are run. Only programs in a directory of root's are run.
fn host(engines: &[(&str, &str)]) -> (FakeHost, String) {
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    for (name, output) in engines {
        install(&host, name, output);
    }
    let root = format!("--engines-root={}", engines_root(&host));
    (host, root)
}

fn engines_root(host: &FakeHost) -> String {
    let root = host.out().with_file_name("engines");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    root.display().to_string()
}

fn install(host: &FakeHost, name: &str, output: &str) {
    let root = engines_root(host);
    let new = format!("{root}/new");
    fs::write(&new, format!("#!/bin/sh\necho run >> {root}/runs\necho {output}\n")).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, format!("{root}/usr/bin/{name}")).unwrap();
}

fn runs(host: &FakeHost) -> usize {
    fs::read_to_string(format!("{}/runs", engines_root(host)))
        .map_or(0, |text| text.lines().count())
}

#[test]
fn an_engine_that_cannot_read_the_spec_is_named() {
    let (host, root) =
        host(&[("podman", "podman version 4.3.1"), ("dockerd", "Docker version 26.1.5, b")]);
    let plain = host.generate(&[&root]);
    assert_eq!((plain.code, plain.stderr.contains("accepts cdi")), (0, false), "{}", plain.stderr);
    assert_eq!(runs(&host), 0, "no engine is run for a version that all accept");
    let new = host.generate(&[&root, NEEDS_0_6_0, "--max-cdi-version=0.6.0"]);
    assert_eq!(new.code, 0, "{}", new.stderr);
    let warning = "warning: podman 4.3.1 accepts cdi up to 0.5.0 and this spec needs 0.6.0: it will resolve none of these \
                   devices; update it, or set max-cdi-version to 0.5.0\n";
    assert!(new.stderr.contains(warning), "{}", new.stderr);
    assert!(!new.stderr.contains("docker"), "{}", new.stderr);
    assert_eq!(runs(&host), 2);
    let chosen = [
        "--engines=podman=4.7.0,docker=24.0.1,runc=1.1.5,crio=1.30.1",
        NEEDS_0_6_0,
        "--max-cdi-version=0.6.0",
    ];
    let chosen = host.generate(&chosen);
    assert_eq!(
        (chosen.code, chosen.stderr.contains("accepts cdi")),
        (0, false),
        "{}",
        chosen.stderr
    );
    let none = host.generate(&["--engines=none", NEEDS_0_6_0, "--max-cdi-version=0.6.0"]);
    assert_eq!((none.code, none.stderr.contains("accepts cdi")), (0, false), "{}", none.stderr);
    let bad = host.generate(&["--engines=podman=new"]);
    assert_eq!(bad.code, 2);
    assert!(bad.stderr.contains("is not ENGINE=VERSION"), "{}", bad.stderr);
}

#[test]
fn auto_is_the_highest_version_that_all_engines_read() {
    let (host, root) =
        host(&[("podman", "podman version 5.4.2"), ("dockerd", "Docker version 25.0.3, b")]);
    let auto = host.generate(&[&root, NEEDS_0_6_0, "--max-cdi-version=auto"]);
    assert_eq!((auto.code, auto.stderr.contains("accepts cdi")), (0, false), "{}", auto.stderr);
    assert!(host.read_spec().unwrap().contains("0.6.0"));
    let before = host.read_spec();
    install(&host, "podman", "podman version 4.3.1");
    let refused = host.generate(&[&root, NEEDS_0_6_0, "--max-cdi-version=auto"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    let expected = "needs cdi 0.6.0, and podman 4.3.1 accepts 0.5.0 at most; update it, omit what needs more, or set \
                max-cdi-version to 0.6.0\n";
    assert!(refused.stderr.ends_with(expected), "{}", refused.stderr);
    assert_eq!(host.read_spec(), before, "nothing is written");
    // Without a known version the spec gets the lowest one: for an engine that does not print its version, and for
    // none at all.
    for engines in ["crio", "podman", "none"] {
        let run = host.generate(&[
            &format!("--engines={engines}"),
            NEEDS_0_6_0,
            "--max-cdi-version=auto",
        ]);
        assert_eq!(run.code, 5, "{engines}: {}", run.stderr);
        let run = host.generate(&[&format!("--engines={engines}"), "--max-cdi-version=auto"]);
        assert_eq!(run.code, 0, "{engines}: {}", run.stderr);
    }
    // An engine that does not read the directory of the spec has no effect.
    let run = host.generate(&[
        "--engines=docker=24.0.1,podman=5.8.6",
        NEEDS_0_6_0,
        "--max-cdi-version=auto",
    ]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // The same by the setting.
    fs::write(host.config(), "capabilities = \"none\"\nmax-cdi-version = \"auto\"\n").unwrap();
    assert_eq!(host.generate(&[&root, NEEDS_0_6_0]).code, 5);
    assert_eq!(host.generate(&["--engines=podman=5.8.6", NEEDS_0_6_0]).code, 0);
    let bad = host.generate(&["--max-cdi-version=new"]);
    assert!(bad.code == 2 && bad.stderr.contains("auto or a CDI version"), "{}", bad.stderr);
}

/// Watch runs an engine again when its program has been replaced, and not at each refresh.
#[test]
fn watch_asks_engines_for_their_version_once() {
    let (host, root) = host(&[("podman", "podman version 5.4.2")]);
    let watch = Watch::start(&host, &[&root, NEEDS_0_6_0, "--max-cdi-version=auto"]);
    let has = |what: &str| host.read_spec().is_some_and(|spec| spec.contains(what));
    until("the spec is there", || has("0:2g.20gb:0"));
    let first = runs(&host);
    let node = |starts: &[u32]| {
        let slices = starts.iter().map(|start| {
            format!("{{ profile = \"2g.20gb\", start = {start}, id = {} }}", 3 + start / 2)
        });
        let slices = slices.collect::<Vec<_>>().join(", ");
        format!("[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:07:00.0\"\ninstances = [{slices}]\n")
    };
    for starts in [&[0][..], &[0, 2], &[2], &[4]] {
        host.change_to(&node(starts));
        let all = |start: &u32| has(&format!("\"0:2g.20gb:{start}\"")) == starts.contains(start);
        until("the spec is current", || [0, 2, 4].iter().all(all));
    }
    assert_eq!(runs(&host), first, "refreshes run no engine");
    install(&host, "podman", "podman version 5.4.3");
    host.change_to(&node(&[0]));
    until("the replaced engine is run", || runs(&host) > first);
    assert_eq!(watch.stop(), Some(0));
}
