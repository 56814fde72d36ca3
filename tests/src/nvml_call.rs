//! Calls of the fake driver's C functions, each from a process that a test can kill.
//!
//! ```no_run
//! use mig_cdi_tests::{FakeHost, nvml_call::Caller};
//!
//! let host = FakeHost::new("[[gpu]]\nmodel = \"a100-80gb\"\n");
//! let mut nvml = Caller::new(&host);
//! // A GPU instance of profile 9, 3g.40gb: its id is 1. A second process sees it.
//! assert_eq!(nvml.get("create 0 9"), "1");
//! assert_eq!(Caller::new(&host).get("list 0 9"), "1");
//! ```

use crate::{
    FakeHost, build_dir,
    deadline::{kill_and_wait, read_line},
    fake_nvml,
};
use std::{
    io::{BufReader, ErrorKind, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

/// Process that calls the fake driver of a host; see `tests/fake-nvml/src/bin/nvml-call`.
#[derive(Debug)]
pub struct Caller {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Caller {
    /// Starts a process that calls `nvmlInit_v2`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn new(host: &FakeHost) -> Caller {
        let mut caller = Caller::with(host, &[]);
        assert_eq!(caller.call("init"), Some((0, String::new())));
        caller
    }

    /// Starts a process with these variables, which has called nothing.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn with(host: &FakeHost, environment: &[(&str, &str)]) -> Caller {
        let mut command = Command::new(build_dir().join("nvml-call"));
        let (key, value) = host.env();
        command.env_clear().arg(fake_nvml()).env(key, value);
        command.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Caller { child, answers }
    }

    /// Makes a call, and returns the code and the output, or nothing when the process died in it.
    ///
    /// # Panics
    /// When the call does not return within [`crate::deadline::PROGRAM`].
    pub fn call(&mut self, line: &str) -> Option<(u32, String)> {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        // A process that died reads no line and writes none.
        let answer = writeln!(stdin, "{line}").and_then(|()| read_line(&mut self.answers));
        let answer = match answer {
            Err(e) if e.kind() == ErrorKind::TimedOut => panic!("{line}: {e}"),
            answer => answer.unwrap_or_default(),
        };
        let (code, value) = answer.trim_end_matches('\n').split_once(' ')?;
        Some((code.parse().expect("a code"), value.trim_end().to_owned()))
    }

    /// Returns the output of a call that has to succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn get(&mut self, line: &str) -> String {
        match self.call(line) {
            Some((0, value)) => value,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// Returns the code of a call.
    ///
    /// # Panics
    /// When the process dies in it.
    pub fn code(&mut self, line: &str) -> u32 {
        self.call(line).unwrap_or_else(|| panic!("{line}: died")).0
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        kill_and_wait(&mut self.child);
    }
}
