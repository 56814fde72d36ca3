//! Runs of the hook: its configuration, the state that runtimes pass to it, and an OCI configuration to change.

use crate::{
    FakeHost, Run, bare, copy_program,
    deadline::{self, run_within},
    project, script_program,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Runs a command to its end with this standard input, within [`deadline::PROGRAM`].
///
/// # Panics
/// When it cannot be started, does not read its input to the end, does not end, or prints anything but UTF-8.
pub fn feed(command: &mut Command, input: &[u8]) -> Run {
    run_within(command, Some(input), deadline::PROGRAM)
}

/// Returns the state of a container as runc passes it to a hook.
#[must_use]
pub fn runc_state(pid: u32, bundle: &Path) -> String {
    format!(
        r#"{{"ociVersion":"1.0.2-dev","id":"test","status":"creating","pid":{pid},"bundle":"{}"}}"#,
        bundle.display()
    )
}

/// Returns the state of a container as crun passes it to a hook.
#[must_use]
pub fn crun_state(pid: u32, bundle: &Path) -> String {
    // crun escapes slashes in JSON, which parsers of a fixed text would miss.
    let bundle = bundle.display().to_string().replace('/', "\\/");
    format!(
        r#"{{ "ociVersion": "1.0", "id": "test", "pid": {pid}, "root": "rootfs", "bundle": "{bundle}", "status": "created" }}"#
    )
}

impl FakeHost {
    /// Writes a configuration with the paths of this host and this policy. Every container may request slices, also those that another one
    /// has, unless the policy has other values of `requests` and `allow-shared`: containers of tests that run at the same time have
    /// the same device numbers.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure_hook(&self, policy: &str) {
        let requests = if policy.contains("requests =") { "" } else { "requests = \"all\"\n" };
        let shared = if policy.contains("allow-shared") { "" } else { "allow-shared = true\n" };
        let root = self.root().display().to_string();
        let text = format!(
            "capabilities = \"none\"\nspec-dirs = [\"{}\"]\nproc-root = \"{root}\"\ndev-root = \"{root}\"\n\
             driver-root = \"{root}\"\n[hook]\nlog = \"{}\"\n{requests}{shared}{policy}\n",
            self.out().display(),
            self.log().display()
        );
        fs::write(self.config(), text).expect("write the configuration");
    }

    /// Returns the path of the hook's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.out().with_file_name("hook.log")
    }

    /// Reads the hook's log.
    #[must_use]
    pub fn read_log(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Returns the installed hook with these arguments, in an empty environment.
    #[must_use]
    pub fn hook(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.install().join("mig-cdi-hook"));
        bare(&mut command).args(args);
        command
    }

    /// Returns a directory that has only the shipped file of hooks.d for a mode, with this host's paths in it.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn hooks_dir(&self, mode: &str) -> PathBuf {
        let name = format!("mig-cdi-{mode}.json");
        let text = fs::read_to_string(project().join("config/hooks.d").join(&name));
        let hook = self.install().join("mig-cdi-hook");
        let config = format!("{mode:?}, \"--config={}\"]", self.config().display());
        let text = text
            .expect("it is shipped")
            .replace("/usr/bin/mig-cdi-hook", &hook.display().to_string())
            .replace(&format!("{mode:?}],\n        \"env"), &format!("{config},\n        \"env"));
        assert!(text.contains("--config="), "{text}");
        let dir = self.out().with_file_name(format!("hooks-{mode}"));
        fs::create_dir_all(&dir).expect("make a directory");
        fs::write(dir.join(name), text).expect("write the file");
        dir
    }

    /// Returns the mode `runtime` as a program of its own, with this host's configuration.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        let (hook, config) = (self.install().join("mig-cdi-hook"), self.config());
        let path = self.out().with_file_name("runtime");
        let (hook, config) = (hook.display(), config.display());
        script_program(&path, &format!("exec {hook} runtime --config={config} -- \"$@\""));
        path
    }

    /// Returns a directory with `mig-cdi`, [`FakeHost::runtime`] as its `mig-cdi-runtime`, and settings with the
    /// directory of this host's specs.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn configured(&self) -> PathBuf {
        let dir = self.out().with_file_name("configured");
        fs::create_dir_all(&dir).expect("make a directory");
        copy_program(&self.install().join("mig-cdi"), &dir.join("mig-cdi"));
        copy_program(&self.runtime(), &dir.join("mig-cdi-runtime"));
        let settings = format!("spec-dirs = [{:?}]\n", self.out().display().to_string());
        fs::write(dir.join("config.toml"), settings).expect("write the settings");
        dir
    }

    /// Runs the mode `precreate` on this configuration.
    #[must_use]
    pub fn precreate(&self, config: &str, args: &[&str]) -> Run {
        let mut command = self.hook(&["precreate"]);
        command.arg(format!("--config={}", self.config().display())).args(args);
        feed(&mut command, config.as_bytes())
    }
}

/// Returns an OCI configuration as engines write it, with this environment and these annotations. A privileged container has the
/// device rule that engines write for `--privileged`.
#[must_use]
pub fn oci_config(env: &[&str], annotations: &[(&str, &str)], privileged: bool) -> String {
    let list = |items: Vec<String>| items.join(",");
    let env = list(env.iter().map(|entry| format!("{entry:?}")).collect());
    let annotations =
        list(annotations.iter().map(|(key, value)| format!("{key:?}:{value:?}")).collect());
    format!(
        r#"{{"ociVersion":"1.0.2","process":{{"terminal":false,"user":{{"uid":0,"gid":0}},"args":["sh"],"env":["PATH=/bin"{}{env}],"cwd":"/","capabilities":{{"bounding":["CAP_CHOWN","CAP_SYS_ADMIN"]}},"x-unknown":{{"number":1.50}}}},"root":{{"path":"rootfs"}},"mounts":[{{"destination":"/proc","type":"proc","source":"proc"}}],"annotations":{{{annotations}}},"linux":{{"resources":{{"devices":[{{"allow":{privileged},"access":"rwm"}}],"unified":{{"a":"b"}}}},"maskedPaths":["/proc/kcore"],"namespaces":[{{"type":"mount"}}]}},"x-large":12345678901234567890123}}"#,
        if env.is_empty() { "" } else { "," }
    )
}
