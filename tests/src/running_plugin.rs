//! Running `mig-cdi-kubelet` on a fake host, with a directory of its own for the kubelet.

use crate::{FakeHost, bare, copy_program, deadline, program, watch::until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// Running plugin; dropping it kills it.
#[derive(Debug)]
pub struct RunningPlugin {
    child: Child,
    log: PathBuf,
}

/// Returns the directory of the kubelet on a host.
#[must_use]
pub fn kubelet_dir(host: &FakeHost) -> PathBuf {
    host.out().with_file_name("kubelet")
}

impl RunningPlugin {
    /// Starts the plugin with these options.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(host: &FakeHost, args: &[&str]) -> RunningPlugin {
        RunningPlugin::with(host, args, &[], &[])
    }

    /// Starts the plugin with options, options of watch, and environment variables.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn with(
        host: &FakeHost,
        args: &[&str],
        watch: &[&str],
        variables: &[(&str, &str)],
    ) -> RunningPlugin {
        RunningPlugin::through(&[], host, args, watch, variables)
    }

    /// Starts the plugin as the only process that it sees, as in a container of its own. It cannot be stopped, only killed.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn apart(host: &FakeHost) -> RunningPlugin {
        let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
        RunningPlugin::through(&unshare, host, &[], &[], &[])
    }

    fn through(
        before: &[&str],
        host: &FakeHost,
        args: &[&str],
        watch: &[&str],
        variables: &[(&str, &str)],
    ) -> RunningPlugin {
        let bin = host.install();
        let program_s = bin.join("mig-cdi-kubelet");
        if !program_s.exists() {
            copy_program(&program("mig-cdi-kubelet"), &program_s);
        }
        // One log of all plugins on a host, so that a test of a restart sees both.
        let log = host.out().with_file_name("plugin.log");
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let (key, node) = host.env();
        let program_s = program_s.to_str().expect("a path in UTF-8");
        let words = [before, &[program_s], args].concat();
        let mut command = Command::new(words[0]);
        bare(&mut command).env(key, node).envs(variables.iter().copied());
        command.args(&words[1..]);
        if !args.iter().any(|arg| arg.starts_with("--kubelet-dir")) {
            command.arg("--kubelet-dir").arg(kubelet_dir(host));
        }
        command.arg("--").args(host.flags());
        command.arg(format!("--output={}", host.spec().display()));
        command.arg(format!("--state-dir={}", host.out().with_file_name("state").display()));
        command.args(watch).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        RunningPlugin { child: command.spawn().expect("the plugin starts"), log }
    }

    /// Returns its process id.
    ///
    /// # Panics
    /// Never: a process id fits.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Returns the log of this plugin and of those before it on this host.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log has this text.
    ///
    /// # Panics
    /// When it does not within the time limit.
    pub fn until_logged(&self, text: &str) {
        until(&format!("{text:?} is in the log: {}", self.log()), || self.log().contains(text));
    }

    /// Returns the number of log lines with this text.
    #[must_use]
    pub fn times_logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Returns a figure of its memory in KiB, such as `VmRSS`.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn memory(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = text.lines().find(|line| line.starts_with(name)).expect("a figure");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("KiB")
    }

    /// Returns the number of its open files.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs").count()
    }

    /// Returns the number of its sockets. Unlike other files, none is opened after the first list.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn open_sockets(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it runs");
        let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        deadline::kill_and_wait(&mut self.child);
    }

    /// Stops it with SIGTERM and returns its exit code.
    ///
    /// # Panics
    /// When it has ended, or does not end within [`deadline::PROGRAM`].
    pub fn stop(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).expect("it runs");
        deadline::wait(&mut self.child).code()
    }

    /// Waits for its end and returns its exit code.
    ///
    /// # Panics
    /// When it does not end within [`deadline::PROGRAM`].
    pub fn ended(mut self) -> Option<i32> {
        deadline::wait(&mut self.child).code()
    }
}

impl Drop for RunningPlugin {
    fn drop(&mut self) {
        deadline::kill_and_wait(&mut self.child);
    }
}
