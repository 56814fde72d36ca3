//! A real Docker.

use crate::{FakeHost, daemon::Daemon, run};

/// A Docker that runs.
#[derive(Debug)]
pub struct Docker(Daemon);

impl Docker {
    /// Starts it on the directory of specs of a host, with cgroup `v1` or `v2`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(cgroup: &str, host: &FakeHost) -> Docker {
        Docker(Daemon::start("docker", cgroup, host))
    }

    /// Runs the probe with these CDI devices: what it printed.
    ///
    /// # Errors
    /// How Docker refuses.
    pub fn probe(&self, devices: &[&str], args: &[&str]) -> Result<String, String> {
        let devices = devices.iter().map(|device| format!("--device={device}"));
        self.run(&devices.collect::<Vec<_>>(), args)
    }

    /// The same with the runtime `mig-cdi`, and this annotation in the place of devices.
    ///
    /// # Errors
    /// How Docker refuses.
    pub fn probe_by_runtime(&self, ask: &str, args: &[&str]) -> Result<String, String> {
        let ask = ["--runtime=mig-cdi".to_owned(), format!("--annotation=mig-cdi/devices={ask}")];
        self.run(&ask, args)
    }

    fn run(&self, options: &[String], args: &[&str]) -> Result<String, String> {
        let mut docker = self.0.command("docker");
        docker.arg(format!("--host=unix://{}/socket", self.0.dir().display()));
        docker.args(["run", "--rm", "--network=none", "--cap-add=MKNOD", "--entrypoint=probe"]);
        docker.args(options);
        let run = run(docker.arg("localhost/probe:1").args(args));
        if run.code == 0 { Ok(run.stdout) } else { Err(run.stderr) }
    }
}
