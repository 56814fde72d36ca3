//! A container whose directories another process exchanges for links while the hook works in it:
//! S6 and S7 of `docs/attacks.md`, CVE-2025-23359 and CVE-2026-24260. Whatever a run sees, nothing comes
//! to be outside of the container's root, and a run that fails leaves nothing within.
//!
//! A run takes some milliseconds and an exchange some microseconds, so that every step of a run meets
//! both sides of it. The exchanges follow no seed: a failure says how many there had been.

use mig_cdi_tests::{
    hook::feed,
    victim::{ENGINE, Victim, host, names},
};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// Of each of the four cases.
const RUNS: u64 = 2_500;

/// Stops the exchanges, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Exchanges two paths until it is told to stop.
fn exchange(one: &Path, other: &Path, stop: &AtomicBool, count: &AtomicU64) {
    while !stop.load(Relaxed) {
        renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).expect("exchange");
        count.fetch_add(1, Relaxed);
    }
}

/// Takes away what a run that succeeded has made, so that the next one makes it again.
fn clear(victim: &Victim, before: &BTreeSet<PathBuf>) {
    victim.unmount();
    let made: Vec<_> = paths(victim).difference(before).cloned().collect();
    for path in made.iter().rev() {
        let is_dir = fs::symlink_metadata(path).expect("it is there").is_dir();
        let removed = if is_dir { fs::remove_dir(path) } else { fs::remove_file(path) };
        removed.expect("it can be removed");
    }
}

fn paths(victim: &Victim) -> BTreeSet<PathBuf> {
    names(&victim.inside()).into_iter().collect()
}

/// Runs the hook again and again while `at` is exchanged for a link to a canary. `from` is where the
/// attacker has the same files.
fn race(victim: &Victim, at: &Path, canary: &Path, from: &Path) {
    let (host, count) = (host(), AtomicU64::new(0));
    let link = from.join("link");
    symlink(canary, &link).expect("make the link");
    let before = paths(victim);
    let state = victim.state();
    let (mut given, mut refused) = (0_u64, 0_u64);
    for number in 0..RUNS {
        let stop = AtomicBool::new(false);
        let run = std::thread::scope(|scope| {
            scope.spawn(|| exchange(at, &link, &stop, &count));
            let _stop = Stop(&stop);
            feed(&mut host.create_runtime(), state.as_bytes())
        });
        let what = format!("run {number}, {} exchanges: {}", count.load(Relaxed), run.stderr);
        victim.assert_nothing_outside_changed(&what);
        match run.code {
            0 => given += 1,
            1 => {
                refused += 1;
                assert_eq!(victim.new_mounts(), [""; 0], "{what}");
                assert_eq!(paths(victim), before, "{what}");
            }
            code => panic!("{code}: {what}"),
        }
        clear(victim, &before);
    }
    let count = count.load(Relaxed);
    println!("{RUNS} runs, {given} given, {refused} refused, {count} exchanges");
    assert!(given > 0 && refused > 0 && count > RUNS, "it was no race");
}

#[test]
fn a_library_directory_that_becomes_a_link() {
    let victim = Victim::new().start(ENGINE);
    let at = victim.rootfs().join("usr/lib/x86_64-linux-gnu");
    race(&victim, &at, &victim.canary().join("dir"), &victim.rootfs().join("etc"));
}

#[test]
fn a_parent_of_a_new_directory_that_becomes_a_link() {
    let victim = Victim::new().start(ENGINE);
    race(&victim, &victim.rootfs().join("run"), &victim.canary(), &victim.rootfs().join("etc"));
}

/// The mount points themselves: a file, while the directory is there.
#[test]
fn a_mount_point_that_becomes_a_link() {
    let victim = Victim::new();
    let at = victim.rootfs().join("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
    fs::write(&at, "").expect("make a file");
    let victim = victim.start(ENGINE);
    race(&victim, &at, &victim.canary().join("file"), &victim.rootfs().join("etc"));
}

/// A volume that two containers have: one of them attacks the other's start.
#[test]
fn a_volume_of_two_containers_in_which_a_directory_becomes_a_link() {
    let victim = Victim::new();
    let (volume, other) = (victim.bundle().join("volume"), victim.bundle().join("other"));
    for dir in [volume.join("bin"), volume.join("lib/x86_64-linux-gnu"), other.clone()] {
        fs::create_dir_all(dir).expect("make a directory");
    }
    let both = "mount --bind ../volume ../other; mount --bind ../volume usr";
    let victim = victim.start(&format!("{ENGINE}; {both}"));
    let other = PathBuf::from(format!("/proc/{}/root{}", victim.pid(), other.display()));
    let at = other.join("lib/x86_64-linux-gnu");
    race(&victim, &at, &victim.canary().join("dir"), &other);
}
