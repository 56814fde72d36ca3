//! A container whose directories another process swaps for links while the hook works in it: S6 and S7 of
//! `docs/attacks.md`, CVE-2025-23359 and CVE-2026-24260. In no run does anything appear outside of the container's
//! root, and a failed run leaves nothing inside it.
//!
//! A run takes some milliseconds and a swap some microseconds, so that every step of a run meets both states. The
//! swaps have no seed; a failure prints their number.

use mig_cdi_tests::{
    deadline::StopOnDrop,
    hook::feed,
    prepared_container::{ENGINE_MOUNTS, PreparedContainer, host, names},
};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// Runs of each of the four cases.
const RUNS: u64 = 2_500;

/// Swaps two paths until it is stopped.
fn exchange(one: &Path, other: &Path, stop: &AtomicBool, count: &AtomicU64) {
    while !stop.load(Relaxed) {
        renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).expect("exchange");
        count.fetch_add(1, Relaxed);
    }
}

/// Removes the files of a successful run, so that the next one makes them again.
fn clear(container: &PreparedContainer, before: &BTreeSet<PathBuf>) {
    container.unmount();
    let made: Vec<_> = paths(container).difference(before).cloned().collect();
    for path in made.iter().rev() {
        let is_dir = fs::symlink_metadata(path).expect("it is there").is_dir();
        let removed = if is_dir { fs::remove_dir(path) } else { fs::remove_file(path) };
        removed.expect("it can be removed");
    }
}

fn paths(container: &PreparedContainer) -> BTreeSet<PathBuf> {
    names(&container.inside()).into_iter().collect()
}

/// Runs the hook repeatedly while `at` is swapped for a link to a canary. `from` is the attacker's directory with the
/// same files.
fn race(container: &PreparedContainer, at: &Path, canary: &Path, from: &Path) {
    let (host, count) = (host(), AtomicU64::new(0));
    let link = from.join("link");
    symlink(canary, &link).expect("make the link");
    let before = paths(container);
    let state = container.state();
    let (mut given, mut refused) = (0_u64, 0_u64);
    for number in 0..RUNS {
        let stop = AtomicBool::new(false);
        let run = std::thread::scope(|scope| {
            scope.spawn(|| exchange(at, &link, &stop, &count));
            let _stop = StopOnDrop(&stop);
            feed(&mut host.create_runtime(), state.as_bytes())
        });
        let what = format!("run {number}, {} exchanges: {}", count.load(Relaxed), run.stderr);
        container.assert_nothing_outside_changed(&what);
        match run.code {
            0 => given += 1,
            1 => {
                refused += 1;
                assert_eq!(container.new_mounts(), [""; 0], "{what}");
                assert_eq!(paths(container), before, "{what}");
            }
            code => panic!("{code}: {what}"),
        }
        clear(container, &before);
    }
    let count = count.load(Relaxed);
    println!("{RUNS} runs, {given} given, {refused} refused, {count} exchanges");
    assert!(given > 0 && refused > 0 && count > RUNS, "it was no race");
}

#[test]
fn a_library_directory_swapped_for_a_link_is_not_followed() {
    let container = PreparedContainer::new().start(ENGINE_MOUNTS);
    let at = container.rootfs().join("usr/lib/x86_64-linux-gnu");
    race(&container, &at, &container.canary().join("dir"), &container.rootfs().join("etc"));
}

#[test]
fn a_parent_directory_swapped_for_a_link_is_not_followed() {
    let container = PreparedContainer::new().start(ENGINE_MOUNTS);
    race(
        &container,
        &container.rootfs().join("run"),
        &container.canary(),
        &container.rootfs().join("etc"),
    );
}

/// The mount points themselves are swapped: a file, while the directory stays.
#[test]
fn a_mount_point_swapped_for_a_link_is_not_followed() {
    let container = PreparedContainer::new();
    let at = container.rootfs().join("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1");
    fs::write(&at, "").expect("make a file");
    let container = container.start(ENGINE_MOUNTS);
    race(&container, &at, &container.canary().join("file"), &container.rootfs().join("etc"));
}

/// A volume of two containers: one of them attacks the start of the other.
#[test]
fn a_directory_swapped_in_a_shared_volume_is_not_followed() {
    let container = PreparedContainer::new();
    let (volume, other) = (container.bundle().join("volume"), container.bundle().join("other"));
    for dir in [volume.join("bin"), volume.join("lib/x86_64-linux-gnu"), other.clone()] {
        fs::create_dir_all(dir).expect("make a directory");
    }
    let both = "mount --bind ../volume ../other; mount --bind ../volume usr";
    let container = container.start(&format!("{ENGINE_MOUNTS}; {both}"));
    let other = PathBuf::from(format!("/proc/{}/root{}", container.pid(), other.display()));
    let at = other.join("lib/x86_64-linux-gnu");
    race(&container, &at, &container.canary().join("dir"), &other);
}
