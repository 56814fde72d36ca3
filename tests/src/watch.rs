//! Running `mig-cdi watch`, and a fake host that changes as a driver changes it.

use crate::{FakeHost, deadline};
use mig_cdi_sim::{ProcTree, SimulatedNode};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Running watch; dropping it kills it.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    state: PathBuf,
}

impl Watch {
    /// Starts watch on a host; it writes [`FakeHost::spec`].
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(host: &FakeHost, args: &[&str]) -> Watch {
        Watch::start_with(host, args, |_| ())
    }

    /// Starts watch after a change to its command.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_with(host: &FakeHost, args: &[&str], prepare: impl Fn(&mut Command)) -> Watch {
        Watch::start_through(host, args, |mut command| {
            prepare(&mut command);
            command
        })
    }

    /// Starts watch through a program that executes the command that it is given.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_through(
        host: &FakeHost,
        args: &[&str],
        wrap: impl Fn(Command) -> Command,
    ) -> Watch {
        let state = host.out().with_file_name("state");
        let own = [
            format!("--output={}", host.spec().display()),
            format!("--state-dir={}", state.display()),
        ];
        let words: Vec<&str> =
            ["watch"].into_iter().chain(own.iter().map(String::as_str)).collect();
        Watch::start_command(&mut wrap(host.command(&[&words, args].concat())), state)
    }

    /// Starts watch without `--output`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_without_output(host: &FakeHost) -> Watch {
        let state = host.out().with_file_name("state");
        let word = format!("--state-dir={}", state.display());
        Watch::start_command(&mut host.command(&["watch", &word]), state)
    }

    /// Starts a command that writes its status into a directory.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_command(command: &mut Command, state: PathBuf) -> Watch {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Watch { child: command.spawn().expect("watch starts"), state }
    }

    /// Returns the path of its log.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Returns the path of its status file.
    #[must_use]
    pub fn status(&self) -> String {
        fs::read_to_string(self.state.join("status.json")).unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("it runs");
    }

    /// Stops it and returns its exit code.
    ///
    /// # Panics
    /// When it has ended, or does not end within [`deadline::PROGRAM`].
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        deadline::wait(&mut self.child).code()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        deadline::kill_and_wait(&mut self.child);
    }
}

/// Waits until a condition holds, and returns the time that it took.
///
/// # Panics
/// When it does not hold within [`deadline::PROGRAM`].
pub fn until(what: &str, holds: impl FnMut() -> bool) -> Duration {
    until_within(deadline::PROGRAM, what, holds)
}

/// Waits until a condition holds, and returns the time that it took.
///
/// # Panics
/// When it does not hold within the time limit.
pub fn until_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    begin.elapsed()
}

impl FakeHost {
    /// Changes the node in the order of a driver: NVML first, then removals from `/proc`, then additions. Nodes in
    /// `/dev` stay as they are, as the driver makes none.
    ///
    /// # Panics
    /// When the description is impossible.
    pub fn change_to(&self, description: &str) {
        let node =
            SimulatedNode::parse(description).unwrap_or_else(|e| panic!("node description: {e}"));
        let tree = ProcTree::of(&node);
        self.put_whole(&self.out().with_file_name("node.toml"), description.as_bytes());
        let proc = self.path("/proc");
        let dirs = tree.dirs.iter().map(|dir| self.path(dir));
        let parents = tree.files.keys().flat_map(|path| {
            self.path(path).ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>()
        });
        let dirs: BTreeSet<_> = dirs.chain(parents).collect();
        let files = tree.files.keys().map(|path| self.path(path));
        let wanted: BTreeSet<_> = dirs.iter().cloned().chain(files).collect();
        let trash = self.out().with_file_name("trash");
        for path in below(&proc) {
            if !wanted.contains(&path) && path.exists() {
                // A directory vanishes from procfs at once. A recursive removal would show parts of it.
                fs::rename(&path, &trash).expect("take it away");
                match trash.is_dir() {
                    true => fs::remove_dir_all(&trash).expect("remove it"),
                    false => fs::remove_file(&trash).expect("remove it"),
                }
            }
        }
        dirs.iter().for_each(|dir| self.put_whole_dir(dir, &tree));
        for (path, content) in &tree.files {
            let path = self.path(path);
            if fs::read(&path).ok().as_deref() != Some(content.as_slice()) {
                fs::create_dir_all(path.parent().expect("it has one")).expect("make it");
                self.put_whole(&path, content);
            }
        }
    }

    /// Makes a directory with its files, unless it is there. It appears with all of them: a file that is added later would give it
    /// another time, which it would not in procfs.
    fn put_whole_dir(&self, path: &Path, tree: &ProcTree) {
        if path.exists() {
            return;
        }
        let parent = path.parent().expect("it has one");
        if !parent.exists() {
            return self.put_whole_dir(parent, tree);
        }
        let new = self.out().with_file_name("new");
        fs::create_dir(&new).expect("make it");
        let place = |below: &Path| {
            let place = new.join(below.strip_prefix(path).ok()?);
            fs::create_dir_all(place.parent()?).expect("make it");
            Some(place)
        };
        for dir in tree.dirs.iter().filter_map(|dir| place(&self.path(dir))) {
            fs::create_dir_all(dir).expect("make it");
        }
        for (file, content) in &tree.files {
            if let Some(file) = place(&self.path(file)) {
                fs::write(file, content).expect("write it");
            }
        }
        fs::rename(new, path).expect("put it there");
    }

    fn put_whole(&self, path: &Path, content: &[u8]) {
        // A rename, so that readers see the old or the new content, as of a file in procfs.
        let new = self.out().with_file_name("new");
        fs::write(&new, content).expect("write it");
        fs::rename(new, path).expect("put it there");
    }

    /// Returns the spec that `generate` writes now into another file; `None` when there is nothing to write.
    ///
    /// # Panics
    /// When it fails for another reason than a missing driver.
    #[must_use]
    pub fn current_spec(&self) -> Option<String> {
        let dir = self.out().with_file_name("current");
        fs::create_dir_all(&dir).expect("make it");
        let file = dir.join("nvidia.com-mig.json");
        let run = self.run(&["generate", &format!("--output={}", file.display())]);
        assert!([0, 3, 4].contains(&run.code), "{}", run.stderr);
        let text = fs::read_to_string(&file).ok();
        // A failed run keeps the old file, which would be stale here.
        let _ = fs::remove_file(&file);
        text
    }
}

/// Returns all paths below a directory, parents first.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let inner = if path.is_dir() { below(&path) } else { Vec::new() };
        paths.push(path);
        paths.extend(inner);
    }
    paths
}
