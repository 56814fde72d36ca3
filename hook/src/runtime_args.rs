//! The command line of an OCI runtime, as far as it says whether a container is made, and from which
//! bundle. Pure.
//!
//! runc's options are those of its `main.go` and `create.go` (opencontainers/runc 1.3), crun's those of
//! its `src/crun.c` and `src/create.c` (containers/crun 1.28). Of another runtime's options we know that
//! one which takes a value stands before a word that is no command.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// Options before the command that take the next word.
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

/// Words that are commands of runtimes.
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

/// Options of `create` and `run` that take the next word, besides the bundle.
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

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A new container from the bundle in this directory; `None` is the working directory.
    NewContainer(Option<PathBuf>),
    /// Something else.
    Other,
}

/// Where an engine wants to read why its runtime failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineLog {
    /// A file.
    pub path: PathBuf,
    /// A line is an object, as containerd and Docker want it.
    pub json: bool,
}

/// The file for messages that the words name: `--log`, which crun may also be told as `file:PATH`.
#[must_use]
pub fn log(args: &[OsString]) -> Option<EngineLog> {
    let (mut path, mut json) = (None, false);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let (option, value) = split(word);
        if !option.starts_with(b"-") {
            break;
        }
        let takes = GLOBAL.iter().any(|known| known.as_bytes() == option);
        let value =
            if takes { value.or_else(|| words.next().map(OsString::as_os_str)) } else { None };
        match option {
            b"--log" => path = value,
            b"--log-format" => json = value == Some(OsStr::new("json")),
            _ => {}
        }
    }
    let path = path?.as_bytes();
    let path = path.strip_prefix(b"file:").unwrap_or(path);
    path.starts_with(b"/").then(|| EngineLog { path: OsStr::from_bytes(path).into(), json })
}

/// Reads the words after the runtime's own name.
///
/// # Errors
/// When a container is to be made from a configuration of another name, which crun allows.
pub fn parse(args: &[OsString]) -> Result<Asked, String> {
    let mut words = args.iter();
    let Some(command) = command(&mut words) else { return Ok(Asked::Other) };
    if command != "create" && command != "run" {
        return Ok(Asked::Other);
    }
    let mut bundle = None;
    while let Some(word) = words.next() {
        let (option, value) = split(word);
        let mut value = || value.map(OsStr::to_owned).or_else(|| words.next().cloned());
        match option {
            b"--" => break,
            b"--bundle" | b"-b" => bundle = value().map(PathBuf::from),
            b"--config" | b"-f" => {
                return Err(format!(
                    "{} names a configuration of its own: not known to mig-cdi-runtime",
                    word.display()
                ));
            }
            option if CREATE.iter().any(|known| known.as_bytes() == option) => drop(value()),
            _ => {}
        }
    }
    Ok(Asked::NewContainer(bundle))
}

/// The first word that is neither an option nor an option's value.
fn command<'a>(words: &mut std::slice::Iter<'a, OsString>) -> Option<&'a str> {
    let mut before_unknown = false;
    loop {
        let word = words.next()?;
        let (option, value) = split(word);
        if option.starts_with(b"-") {
            let takes = GLOBAL.iter().any(|known| known.as_bytes() == option);
            if takes && value.is_none() {
                words.next()?;
            }
            before_unknown = !takes && value.is_none();
            continue;
        }
        match word.to_str() {
            Some(word) if COMMANDS.contains(&word) => return Some(word),
            // The value of an option that we do not know.
            _ if before_unknown => before_unknown = false,
            word => return word,
        }
    }
}

/// `--option=value`, `-b=value` (Go) and `-bvalue` (getopt) as option and value.
fn split(word: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = word.as_bytes();
    let short = bytes.len() > 2 && matches!(bytes[..2], [b'-', b'b' | b'f']);
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) if bytes.starts_with(b"--") || (short && at == 2) => {
            (&bytes[..at], Some(OsStr::from_bytes(&bytes[at + 1..])))
        }
        _ if short => (&bytes[..2], Some(OsStr::from_bytes(&bytes[2..]))),
        _ => (bytes, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &str) -> Asked {
        parse(&words.split_whitespace().map(OsString::from).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn bundles_of_new_containers() {
        let from = |dir: &str| Asked::NewContainer(Some(dir.into()));
        // containerd, podman, Docker, CRI-O.
        for words in [
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
            assert_eq!(asked(words), from("/b"), "{words}");
        }
        assert_eq!(asked("create id"), Asked::NewContainer(None));
    }

    #[test]
    fn where_engines_read_of_failures() {
        let log =
            |words: &str| log(&words.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        let at = |path: &str, json| Some(EngineLog { path: path.into(), json });
        assert_eq!(
            log("--root r --log /b/log.json --log-format json create id"),
            at("/b/log.json", true)
        );
        assert_eq!(log("--systemd-cgroup --log=file:/l create --log /x id"), at("/l", false));
        for words in
            ["create --log /x id", "--log", "--log journald:x create id", "--log l create id", ""]
        {
            assert_eq!(log(words), None, "{words}");
        }
    }

    #[test]
    fn other_commands() {
        for words in [
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
            assert_eq!(asked(words), Asked::Other, "{words}");
        }
        assert!(parse(&["create", "-f", "x", "id"].map(OsString::from)).is_err());
    }
}
