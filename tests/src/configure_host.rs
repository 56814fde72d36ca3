//! Host of files only, for `mig-cdi configure`.

use crate::{Run, bare, copy_program, fake_host::trusted_tempdir, run, write_program};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// Host with configuration files of engines, and the installed programs.
#[derive(Debug)]
pub struct ConfigureHost {
    dir: TempDir,
}

impl Default for ConfigureHost {
    fn default() -> ConfigureHost {
        ConfigureHost::new()
    }
}

impl ConfigureHost {
    /// Makes the host. Its programs are in a directory of this user, so `--hook` and `--runtime` refuse them.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn new() -> ConfigureHost {
        ConfigureHost::in_dir(tempfile::tempdir().expect("a temporary directory"))
    }

    /// Makes the host in a directory that only root can change, as `--hook` and `--runtime` require.
    ///
    /// # Panics
    /// When that fails, or without root.
    #[must_use]
    pub fn trusted() -> ConfigureHost {
        ConfigureHost::in_dir(trusted_tempdir())
    }

    fn in_dir(dir: TempDir) -> ConfigureHost {
        for name in ["root/etc", "bin"] {
            fs::create_dir_all(dir.path().join(name)).expect("it works");
        }
        let machine = ConfigureHost { dir };
        copy_program(&crate::program("mig-cdi"), &machine.dir.path().join("bin/mig-cdi"));
        for name in ["bin/mig-cdi-hook", "bin/mig-cdi-runtime"] {
            machine.program(name, "#!/bin/sh\n");
        }
        machine
    }

    /// Installs a program below its directory.
    ///
    /// # Panics
    /// When that fails.
    pub fn program(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().expect("it works")).expect("it works");
        write_program(&path, text);
    }

    /// Returns the directory that holds all files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns a path of the host.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path.trim_start_matches('/'))
    }

    /// Writes a file of the host.
    ///
    /// # Panics
    /// When that fails.
    pub fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it works")).expect("it works");
        fs::write(path, text).expect("it works");
    }

    /// Reads a file of the host.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// Sets the directories of specs.
    ///
    /// # Panics
    /// When that fails.
    pub fn set_spec_dirs(&self, dirs: &[&str]) {
        let text = format!("spec-dirs = {dirs:?}\n");
        fs::write(self.dir.path().join("settings.toml"), text).expect("it works");
    }

    /// Returns the command `mig-cdi configure` for this host.
    #[must_use]
    pub fn command(&self, args: &str) -> Command {
        let own = self.dir.path().join("settings.toml");
        self.command_with(args, if own.exists() { &own } else { Path::new("/dev/null") })
    }

    /// Returns the command `mig-cdi configure` for this host with other settings.
    #[must_use]
    pub fn command_with(&self, args: &str, settings: &Path) -> Command {
        let mut command = Command::new(self.dir.path().join("bin/mig-cdi"));
        bare(&mut command).env("HOME", "/home/u").arg("configure").args(args.split_whitespace());
        command.arg(format!("--host-root={}", self.dir.path().join("root").display()));
        command.arg("--config").arg(settings);
        command
    }

    /// Replaces temporary paths in the output by those of the host.
    #[must_use]
    pub fn tidy(&self, run: Run) -> Run {
        let dir = self.dir.path().display().to_string();
        let tidy = |text: String| text.replace(&format!("{dir}/root"), "").replace(&dir, "TMP");
        Run { code: run.code, stdout: tidy(run.stdout), stderr: tidy(run.stderr) }
    }

    /// Runs `mig-cdi configure`.
    #[must_use]
    pub fn configure(&self, args: &str) -> Run {
        self.tidy(run(&mut self.command(args)))
    }

    /// Runs `mig-cdi configure`, which has to succeed.
    ///
    /// # Panics
    /// When that fails.
    pub fn run_ok(&self, args: &str) -> Run {
        let run = self.configure(args);
        assert_eq!(run.code, 0, "{args}: {}", run.stderr);
        run
    }

    /// Returns every file with its content, every directory and every link.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let root = self.dir.path().join("root");
        let mut tree = BTreeMap::new();
        let mut todo = vec![root.clone()];
        while let Some(path) = todo.pop() {
            let name = path.strip_prefix(&root).expect("it works").display().to_string();
            let kind = fs::symlink_metadata(&path).expect("it works");
            if kind.is_dir() {
                todo.extend(
                    fs::read_dir(&path)
                        .expect("it works")
                        .map(|entry| entry.expect("it works").path()),
                );
                // The directory of configure's own backups is not part of it.
                if name.is_empty() || !"var/lib/mig-cdi/configure".starts_with(&name) {
                    tree.insert(name, Vec::new());
                }
            } else if kind.is_symlink() {
                tree.insert(
                    name,
                    fs::read_link(&path).expect("it works").into_os_string().into_encoded_bytes(),
                );
            } else if name != "var/lib/mig-cdi/configure/.mig-cdi.lock" {
                tree.insert(name, fs::read(&path).expect("it works"));
            }
        }
        tree
    }
}
