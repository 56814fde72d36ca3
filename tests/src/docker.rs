//! Real Docker.

use crate::{
    FakeHost,
    daemon::{Daemon, Setting},
    deadline::{self, run_within},
    debian_release::DebianRelease,
    project,
};
use std::{fs, process::Command};

/// Running Docker.
#[derive(Debug)]
pub struct Docker(Daemon);

impl Docker {
    /// Starts Docker on the directory of specs of a host, with runc and cgroup `v1` or `v2`.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start(cgroup: &'static str, host: &FakeHost) -> Docker {
        Docker::of(
            &Setting {
                engine: "docker",
                release: DebianRelease::Trixie,
                variant: ("runc", cgroup),
            },
            host,
        )
    }

    /// Starts another Docker.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn of(setting: &Setting<'_>, host: &FakeHost) -> Docker {
        Docker(Daemon::start(setting, host))
    }

    /// Runs the probe with these CDI devices, and returns its output.
    ///
    /// # Errors
    /// The message with which Docker refuses.
    pub fn probe(&self, devices: &[&str], args: &[&str]) -> Result<String, String> {
        self.run(&flags(devices), args)
    }

    /// Makes a container with these CDI devices, runs the probe in it before and after a restart, removes it, and
    /// returns the outputs.
    ///
    /// # Errors
    /// The message with which Docker refuses.
    ///
    /// # Panics
    /// When a container is left.
    pub fn exec(&self, devices: &[&str], args: &[&str]) -> Result<[String; 2], String> {
        let make =
            [&["run", "--detach", "--name=life"], &OPTIONS[..], &["--entrypoint=sleep"]].concat();
        self.docker(&make, &[flags(devices), vec![IMAGE.into(), "1000000".into()]].concat())?;
        let probe = || {
            let args: Vec<_> = args.iter().copied().map(str::to_owned).collect();
            self.docker(&["exec", "life", "probe"], &args)
        };
        let first = probe()?;
        self.docker(&["stop", "--time=0", "life"], &[])?;
        self.docker(&["start", "life"], &[])?;
        let second = probe()?;
        self.docker(&["rm", "--force", "life"], &[])?;
        assert_eq!(self.docker(&["ps", "--all", "--quiet"], &[])?, "", "a container is left");
        Ok([first, second])
    }

    /// Runs the probe with the runtime `mig-cdi` and this annotation instead of devices.
    ///
    /// # Errors
    /// The message with which Docker refuses.
    pub fn probe_by_runtime(&self, devices: &str, args: &[&str]) -> Result<String, String> {
        let options =
            ["--runtime=mig-cdi".to_owned(), format!("--annotation=mig-cdi/devices={devices}")];
        self.run(&options, args)
    }

    /// Runs the service of a file once with Debian's compose, as a container of the probe, and returns its output.
    ///
    /// # Errors
    /// The message with which compose or Docker refuses.
    ///
    /// # Panics
    /// When it is not there, or the file cannot be written.
    pub fn compose(&self, file: &str, service: &str, args: &[&str]) -> Result<String, String> {
        let program = "target/test-deps/compose/usr/libexec/docker/cli-plugins/docker-compose";
        let program = project().join(program);
        assert!(program.exists(), "{} is not there; run tests/setup.sh", program.display());
        let over = format!(
            "services: {{ {service}: {{ image: '{IMAGE}', entrypoint: [probe], command: {args:?}, \
             network_mode: none, cap_add: [MKNOD] }} }}"
        );
        let mut compose = Command::new(program);
        compose.env_clear().env("HOME", self.0.dir());
        compose.env("DOCKER_HOST", format!("unix://{}/socket", self.0.dir().display()));
        compose.args(["--progress=quiet", "--project-name=docs"]);
        for (name, text) in [("compose.yaml", file), ("over.yaml", &over)] {
            let path = self.0.dir().join(name);
            fs::write(&path, text).expect("write the file");
            compose.arg("--file").arg(path);
        }
        compose.args(["run", "--rm", "--no-TTY", service]);
        let run = run_within(&mut compose, None, deadline::ENGINE);
        if run.code == 0 { Ok(run.stdout) } else { Err(run.stderr) }
    }

    /// Returns what Docker says of itself.
    ///
    /// # Panics
    /// When it says nothing.
    #[must_use]
    pub fn info(&self) -> serde_json::Value {
        let info = self.docker(&["info", "--format={{json .}}"], &[]).expect("docker info works");
        serde_json::from_str(&info).expect("it is JSON")
    }

    fn run(&self, options: &[String], args: &[&str]) -> Result<String, String> {
        let words = [&["run", "--rm"], &OPTIONS[..], &["--entrypoint=probe"]].concat();
        let args = args.iter().copied().map(str::to_owned);
        let args: Vec<_> = options.iter().cloned().chain([IMAGE.to_owned()]).chain(args).collect();
        self.docker(&words, &args)
    }

    fn docker(&self, words: &[&str], more: &[String]) -> Result<String, String> {
        let mut docker = self.0.command("docker");
        docker.arg(format!("--host=unix://{}/socket", self.0.dir().display()));
        let run = run_within(docker.args(words).args(more), None, deadline::ENGINE);
        if run.code == 0 { Ok(run.stdout) } else { Err(run.stderr) }
    }
}

const OPTIONS: [&str; 2] = ["--network=none", "--cap-add=MKNOD"];
const IMAGE: &str = "localhost/probe:1";

fn flags(devices: &[&str]) -> Vec<String> {
    devices.iter().map(|device| format!("--device={device}")).collect()
}
