//! The command line of an OCI runtime: whether it makes a container, and from which bundle. Pure; never refuses an
//! option, since the command line belongs to the real runtime, which gets it unchanged.
//!
//! runc's options are those of its `main.go` and `create.go` (opencontainers/runc 1.3), crun's those of its `src/crun.c`
//! and `src/create.c` (containers/crun 1.28). An unknown option of another runtime takes a value when the argument after it
//! is not a command.
//!
//! `lexopt` does not fit here: which options take a value depends on the command, and two parsers disagree on
//! `-b=value`: Go's flag package, in runc, drops the `=`, getopt, in crun, keeps it.

use crate::error::{Error, Result};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// Options before the command that take a value.
const GLOBAL: [&str; 8] = [
    "--root",
    "--log",
    "--log-format",
    "--log-level",
    "--criu",
    "--rootless",
    "--cgroup-manager",
    "--debug-log",
];

/// Commands of runtimes.
const COMMANDS: [&str; 17] = [
    "create",
    "run",
    "start",
    "state",
    "kill",
    "delete",
    "exec",
    "ps",
    "list",
    "events",
    "pause",
    "resume",
    "update",
    "checkpoint",
    "restore",
    "spec",
    "features",
];

/// Options of `create` and `run` that take a value, besides the bundle.
const CREATE: [&str; 8] = [
    "--console-socket",
    "--pid-file",
    "--preserve-fds",
    "--apparmor",
    "--keyring",
    "--log",
    "--log-level",
    "--keep",
];

/// Command of an OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeCommand {
    /// Makes a container from the bundle in this directory; `None` is the working directory.
    NewContainer(Option<PathBuf>),
    /// Any other command.
    Other,
}

/// File from which an engine reads why a runtime failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineLog {
    /// Path of the file.
    pub path: PathBuf,
    /// True when each line is a JSON object, as containerd and Docker read it.
    pub is_json: bool,
}

/// Returns the file for messages, from `--log` and `--log-format`.
#[must_use]
pub fn log(args: &[OsString]) -> Option<EngineLog> {
    let (mut path, mut json) = (None, false);
    let mut remaining = args.iter();
    while let Some(arg) = remaining.next() {
        let (option, value) = split(arg);
        if !option.starts_with(b"-") {
            break;
        }
        let takes = GLOBAL.iter().any(|known| known.as_bytes() == option);
        let value =
            if takes { value.or_else(|| remaining.next().map(OsString::as_os_str)) } else { None };
        match option {
            b"--log" => path = value,
            b"--log-format" => json = value == Some(OsStr::new("json")),
            _ => {}
        }
    }
    // crun also takes file:PATH, journald:ID and syslog:ID (src/libcrun/error.c).
    let path = path?.as_bytes();
    let path = path.strip_prefix(b"file:").unwrap_or(path);
    path.starts_with(b"/")
        .then(|| EngineLog { path: OsStr::from_bytes(path).into(), is_json: json })
}

/// Parses the arguments after the runtime's own name.
///
/// # Errors
/// Fails when the container is made from a configuration with another name, which crun allows: the plan would go into a
/// file that the runtime does not read.
///
/// ```
/// use mig_cdi_hook::runtime_args::{RuntimeCommand, parse};
///
/// let args = ["--root", "/run/runc", "create", "--bundle", "/b", "id"].map(Into::into);
/// assert_eq!(parse(&args)?, RuntimeCommand::NewContainer(Some("/b".into())));
/// # Ok::<(), mig_cdi_hook::Error>(())
/// ```
pub fn parse(args: &[OsString]) -> Result<RuntimeCommand> {
    let mut remaining = args.iter();
    let Some(command) = command(&mut remaining) else { return Ok(RuntimeCommand::Other) };
    if command != "create" && command != "run" {
        return Ok(RuntimeCommand::Other);
    }
    let mut bundle = None;
    while let Some(arg) = remaining.next() {
        let (option, value) = split(arg);
        let mut value = || value.map(OsStr::to_owned).or_else(|| remaining.next().cloned());
        match option {
            b"--" => break,
            b"--bundle" | b"-b" => bundle = value().map(PathBuf::from),
            b"--config" | b"-f" => {
                let cause = "a configuration with a name of its own is not supported";
                return Err(Error::usage("parse the runtime's option", arg.display(), cause)
                    .with_cure("name it config.json in the bundle"));
            }
            option if CREATE.iter().any(|known| known.as_bytes() == option) => drop(value()),
            _ => {}
        }
    }
    Ok(RuntimeCommand::NewContainer(bundle))
}

/// Returns the first argument that is neither an option nor the value of one.
fn command<'a>(remaining: &mut std::slice::Iter<'a, OsString>) -> Option<&'a str> {
    let mut after_unknown = false;
    loop {
        let arg = remaining.next()?;
        let (option, value) = split(arg);
        if option.starts_with(b"-") {
            let takes = GLOBAL.iter().any(|known| known.as_bytes() == option);
            if takes && value.is_none() {
                remaining.next()?;
            }
            after_unknown = !takes && value.is_none();
            continue;
        }
        match arg.to_str() {
            Some(command) if COMMANDS.contains(&command) => return Some(command),
            // The value of the unknown option before it.
            _ if after_unknown => after_unknown = false,
            command => return command,
        }
    }
}

/// Splits `--option=value`, `-b=value` (Go) and `-bvalue` (getopt) into option and value.
fn split(arg: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = arg.as_bytes();
    let short = bytes.len() > 2 && matches!(bytes[..2], [b'-', b'b' | b'f']);
    match bytes.iter().position(|b| *b == b'=') {
        Some(equals) if bytes.starts_with(b"--") || (short && equals == 2) => {
            (&bytes[..equals], Some(OsStr::from_bytes(&bytes[equals + 1..])))
        }
        _ if short => (&bytes[..2], Some(OsStr::from_bytes(&bytes[2..]))),
        _ => (bytes, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command_of(line: &str) -> RuntimeCommand {
        parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_bundle_of_a_new_container_is_found() {
        let bundle = |dir: &str| RuntimeCommand::NewContainer(Some(dir.into()));
        // containerd, podman, Docker, CRI-O.
        for line in [
            "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid id",
            "--systemd-cgroup --log-format=json create --bundle /b --pid-file p id",
            "--log-format json --log l create -b /b id",
            "--root create --debug create --bundle=/b id",
            "create -b=/b id",
            "create -b/b id",
            "create id --bundle /b",
            "create --pid-file --bundle --bundle /b id",
            "create --bundle /a --bundle /b id",
            "--new-option value create --bundle /b id",
            "run --bundle /b id",
        ] {
            assert_eq!(command_of(line), bundle("/b"), "{line}");
        }
        assert_eq!(command_of("create id"), RuntimeCommand::NewContainer(None));
    }

    #[test]
    fn the_log_of_the_engine_is_found() {
        let log =
            |line: &str| log(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        let at = |path: &str, json| Some(EngineLog { path: path.into(), is_json: json });
        assert_eq!(
            log("--root r --log /b/log.json --log-format json create id"),
            at("/b/log.json", true)
        );
        assert_eq!(log("--systemd-cgroup --log=file:/l create --log /x id"), at("/l", false));
        for line in
            ["create --log /x id", "--log", "--log journald:x create id", "--log l create id", ""]
        {
            assert_eq!(log(line), None, "{line}");
        }
    }

    #[test]
    fn other_commands_make_no_container() {
        for line in [
            "",
            "--version",
            "--root create delete id",
            "state create",
            "exec id create --bundle /b",
            "kill id",
            "features",
            "start id",
            "--root",
            "unknown create --bundle /b id",
        ] {
            assert_eq!(command_of(line), RuntimeCommand::Other, "{line}");
        }
        assert!(parse(&["create", "-f", "x", "id"].map(OsString::from)).is_err());
    }
}
