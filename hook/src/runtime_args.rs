//! The command line of an OCI runtime: whether it makes a container, and from which bundle. Pure.
//!
//! The bundle found here must be the one that the runtime reads, or a container starts without its slice. Runtimes parse
//! differently: argp, in crun, takes abbreviations and `-db DIR`; Go's flag package, in runc, takes `-bundle DIR` and a
//! dash as a value; cli v3, in runc after 1.5, cuts blanks off arguments, and `-b=DIR` is `DIR` in runc and `=DIR` in crun.
//! So only what all of them read in one way is accepted: the options below, in full, with values that do not begin with a
//! dash. Engines write no others. Anything else is refused where a container may be made of it, and passes to the runtime
//! where not.
//!
//! The options are those of runc 1.0 to 1.5 (`main.go`, `create.go`, `run.go`, `restore.go`; opencontainers/runc) and of
//! crun 1.0 to 1.28 (`src/crun.c`, `create.c`, `run.c`, `restore.c`; containers/crun).

use crate::error::{Error, Result};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

/// Meaning of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OptionKind {
    /// It has no value.
    Flag,
    /// It has a value, in the next argument or after `=`.
    Value,
    /// The runtime prints a text and ends.
    Print,
    /// Directory of the bundle.
    Bundle,
    /// File that crun reads instead of the bundle's `config.json`.
    Config,
}

use OptionKind::{Bundle, Config, Flag, Print, Value};

/// Options before the command, which runc after 1.5 takes after it too.
const GLOBAL: [(&str, OptionKind); 13] = [
    ("--root", Value),
    ("--log", Value),
    ("--log-format", Value),
    ("--log-level", Value),
    ("--criu", Value),
    ("--rootless", Value),
    ("--cgroup-manager", Value),
    ("--debug", Flag),
    ("--systemd-cgroup", Flag),
    ("--help", Print),
    ("-h", Print),
    ("-?", Print),
    ("--usage", Print),
];

/// Options that end the runtime before the command, and in runc after 1.5 do nothing after it.
const VERSION: [(&str, OptionKind); 3] = [("--version", Print), ("-v", Print), ("-V", Print)];

/// Options of the commands that make a container.
const OF_MAKERS: [(&str, OptionKind); 27] = [
    ("--bundle", Bundle),
    ("-b", Bundle),
    ("--config", Config),
    ("-f", Config),
    ("--console-socket", Value),
    ("--pidfd-socket", Value),
    ("--pid-file", Value),
    ("--preserve-fds", Value),
    ("--no-pivot", Flag),
    ("--no-new-keyring", Flag),
    ("--no-subreaper", Flag),
    ("--detach", Flag),
    ("-d", Flag),
    ("--keep", Flag),
    ("--image-path", Value),
    ("--work-path", Value),
    ("--manage-cgroups-mode", Value),
    ("--empty-ns", Value),
    ("--lsm-profile", Value),
    ("--lsm-mount-context", Value),
    ("--tcp-established", Flag),
    ("--tcp-close", Flag),
    ("--ext-unix-sk", Flag),
    ("--shell-job", Flag),
    ("--file-locks", Flag),
    ("--auto-dedup", Flag),
    ("--lazy-pages", Flag),
];

/// Commands that make a container from the configuration in a bundle.
const MAKERS: [&str; 3] = ["create", "run", "restore"];

/// The other commands. `exec` starts a process with the devices and files that its container has.
const OTHERS: [&str; 17] = [
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
    "spec",
    "features",
    "mounts",
    "help",
    "h",
];

/// Command of an OCI runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeCommand {
    /// Makes a container.
    NewContainer {
        /// Directory of its bundle; `None` is the working directory.
        bundle: Option<PathBuf>,
        /// Its id, for messages.
        id: Option<String>,
    },
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

/// Part of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    /// Option by its name, with its value if it has one.
    Option(&'static str, OptionKind, Option<&'a OsStr>),
    /// Argument that is no option.
    Word(&'a OsStr),
    /// `--`: what follows are words.
    EndOfOptions,
    /// Argument that two runtimes may read in different ways.
    Unclear(&'a OsStr),
}

/// Takes the next part off a command line.
fn next_part<'a>(
    args: &mut &'a [OsString],
    known: &[(&'static str, OptionKind)],
) -> Option<Part<'a>> {
    let (arg, rest) = args.split_first()?;
    *args = rest;
    let text = arg.to_string_lossy();
    if arg == "--" {
        return Some(Part::EndOfOptions);
    }
    if text.trim() != text || text.is_empty() || text == "-" {
        return Some(Part::Unclear(arg));
    }
    if !text.starts_with('-') {
        return Some(Part::Word(arg));
    }
    let (name, value) = split(arg);
    let option = known.iter().find(|(option, _)| option.as_bytes() == name);
    Some(match (option, value) {
        (Some(&(name, Flag)), _) => Part::Option(name, Flag, None),
        (Some(&(name, Print)), None) => Part::Option(name, Print, None),
        (None, _) | (Some((_, Print)), Some(_)) => Part::Unclear(arg),
        (Some(&(name, kind)), Some(value)) => Part::Option(name, kind, Some(value)),
        (Some(&(name, kind)), None) => match rest.split_first() {
            Some((value, rest)) if !value.as_bytes().starts_with(b"-") => {
                *args = rest;
                Part::Option(name, kind, Some(value))
            }
            _ => Part::Unclear(arg),
        },
    })
}

/// Splits `--option=value` into option and value.
fn split(arg: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = arg.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(equals) if bytes.starts_with(b"--") => {
            (&bytes[..equals], Some(OsStr::from_bytes(&bytes[equals + 1..])))
        }
        _ => (bytes, None),
    }
}

/// Returns the file for messages, from `--log` and `--log-format`.
#[must_use]
pub fn log(mut args: &[OsString]) -> Option<EngineLog> {
    let (mut path, mut is_json) = (None, false);
    while let Some(Part::Option(name, _, value)) = next_part(&mut args, &GLOBAL) {
        match name {
            "--log" => path = value,
            "--log-format" => is_json = value == Some(OsStr::new("json")),
            _ => {}
        }
    }
    // crun also takes file:PATH, journald:ID and syslog:ID (src/libcrun/error.c).
    let path = path?.as_bytes();
    let path = path.strip_prefix(b"file:").unwrap_or(path);
    path.starts_with(b"/").then(|| EngineLog { path: OsStr::from_bytes(path).into(), is_json })
}

/// Parses the arguments after the runtime's own name.
///
/// # Errors
/// Fails when the command line may make a container from a configuration that is not found for sure.
///
/// ```
/// use mig_cdi_hook::runtime_args::{RuntimeCommand, parse};
///
/// let args = ["--root", "/run/runc", "create", "--bundle", "/b", "web"].map(Into::into);
/// let (bundle, id) = (Some("/b".into()), Some("web".into()));
/// assert_eq!(parse(&args)?, RuntimeCommand::NewContainer { bundle, id });
/// # Ok::<(), mig_cdi_hook::Error>(())
/// ```
pub fn parse(mut args: &[OsString]) -> Result<RuntimeCommand> {
    let known = [&GLOBAL[..], &VERSION].concat();
    let mut prints = false;
    let command = loop {
        match next_part(&mut args, &known) {
            None => return Ok(RuntimeCommand::Other),
            // Not the end: --help=false may follow.
            Some(Part::Option(_, kind, _)) => prints |= kind == Print,
            // The command, which options may follow.
            Some(Part::EndOfOptions) => match args.split_off_first() {
                None => return Ok(RuntimeCommand::Other),
                Some(command) => break command.as_os_str(),
            },
            Some(Part::Word(command)) => break command,
            Some(Part::Unclear(arg)) => return without_the_command(arg, args),
        }
    };
    match command.to_str() {
        _ if prints => Ok(RuntimeCommand::Other),
        Some(command) if MAKERS.contains(&command) => new_container(args),
        Some(command) if OTHERS.contains(&command) => Ok(RuntimeCommand::Other),
        _ => Err(refused(command, "it is no command of runc or crun that is known")
            .with_cure("run the real runtime for it")),
    }
}

/// Parses what follows a command that makes a container.
fn new_container(mut args: &[OsString]) -> Result<RuntimeCommand> {
    let known = [&GLOBAL[..], &OF_MAKERS].concat();
    let (mut bundle, mut id, mut prints) = (None, None, false);
    while let Some(part) = next_part(&mut args, &known) {
        match part {
            Part::Option(_, Bundle, value) => bundle = value.map(PathBuf::from),
            Part::Option(name, Config, _) => {
                let cause = "a configuration with a name of its own is not supported";
                return Err(
                    refused(OsStr::new(name), cause).with_cure("name it config.json in the bundle")
                );
            }
            Part::Option(_, kind, _) => prints |= kind == Print,
            Part::Word(word) => id = id.or(Some(word)),
            Part::EndOfOptions => break,
            Part::Unclear(arg) => return Err(unclear(arg)),
        }
    }
    let id = id.or(args.first().map(OsString::as_os_str));
    let id = id.map(|id| id.to_string_lossy().into_owned());
    Ok(if prints { RuntimeCommand::Other } else { RuntimeCommand::NewContainer { bundle, id } })
}

/// Result for a command line whose command may be this argument, or any after it.
fn without_the_command(arg: &OsStr, after: &[OsString]) -> Result<RuntimeCommand> {
    // Without the blanks, as runc after 1.5 reads them: " create" makes a container there.
    let is_of = |arg: &OsStr, commands: &[&str]| commands.contains(&arg.to_string_lossy().trim());
    let may_make = is_of(arg, &MAKERS) || after.iter().any(|arg| is_of(arg, &MAKERS));
    match !may_make && (after.is_empty() || after.iter().any(|arg| is_of(arg, &OTHERS))) {
        true => Ok(RuntimeCommand::Other),
        false => Err(unclear(arg)),
    }
}

fn unclear(arg: &OsStr) -> Error {
    refused(arg, "runtimes differ in how they read it, or it is not an option of runc and crun")
        .with_cure("write options in full, as --bundle DIR, and leave out others")
}

fn refused(arg: &OsStr, cause: &str) -> Error {
    let shown = if arg.is_empty() { "\"\"".to_owned() } else { arg.display().to_string() };
    Error::usage("parse the runtime's argument", shown, cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    fn command_of(line: &str) -> RuntimeCommand {
        parse(&words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn the_bundle_of_a_new_container_is_found() {
        let new = |bundle: Option<&str>, id: Option<&str>| RuntimeCommand::NewContainer {
            bundle: bundle.map(PathBuf::from),
            id: id.map(str::to_owned),
        };
        // containerd, podman, Docker, CRI-O.
        for line in [
            "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid id",
            "--systemd-cgroup --log-format=json create --bundle /b --pid-file p id",
            "--cgroup-manager disabled --rootless=true create --bundle /b --pid-file p id",
            "--log-format json --log l create -b /b id",
            "--root create --debug create --bundle=/b id",
            "create id --bundle /b",
            "create --pidfd-socket s --bundle /b id",
            "create --no-pivot=true --bundle /b id",
            "create --bundle /a --bundle /b id",
            "create --bundle /b -- id --bundle /c",
            "-- create --bundle /b id",
            "run --keep --bundle /b id",
            "run --detach --no-subreaper --bundle /b id",
            "create --log l --bundle /b id",
            "restore --image-path i --bundle /b id",
        ] {
            assert_eq!(command_of(line), new(Some("/b"), Some("id")), "{line}");
        }
        assert_eq!(command_of("create id"), new(None, Some("id")));
        assert_eq!(command_of("create -- id"), new(None, Some("id")));
        assert_eq!(command_of("create --bundle /b"), new(Some("/b"), None));
    }

    /// Runtimes read these in different ways, or one that is not known yet may.
    #[test]
    fn an_unclear_command_line_that_may_make_a_container_is_refused() {
        for line in [
            "--new-option value create --bundle /b id",
            "--new-option create --bundle /b id",
            "--new-option create state --bundle /b id",
            "--new-option=value create --bundle /b id",
            "--roo create create --bundle /b id",
            "-root r create --bundle /b id",
            "--root --debug create --bundle /b id",
            "--root - create --bundle /b id",
            "- create --bundle /b id",
            "--debug true create --bundle /b id",
            "--help --help=false create --bundle /b id",
            "--version=false create --bundle /b id",
            "create --new-option --bundle /b id",
            "create --new-option=x --bundle /b id",
            "create --bun /b id",
            "create --b /b id",
            "create -bundle /b id",
            "create -b=/b id",
            "create -b/b id",
            "run -db /b id",
            "create - --bundle /b",
            "create --pid-file --bundle --bundle /b id",
            "create --pid-file - --bundle /b id",
            "create --pid-file -- --bundle /b id",
            "create id --bundle",
            "create --help --help=false --bundle /b id",
            "create --version --bundle /b id",
            "create -f x id",
            "create --config=x id",
            "clone --bundle /b id",
            "--new-option clone --bundle /b id",
        ] {
            let error = parse(&words(line)).expect_err(line);
            assert!(error.cure.is_some(), "{error}");
        }
        for blank in [
            &[" create", "id"][..],
            &["create", " --bundle", "/b", "id"],
            &["create", "--bundle=/b "],
            &["--new-option", "value", " create", "--bundle", "/b", "state"],
            &["--new-option", "value", "create ", "--bundle", "/b", "state"],
            &["--new-option", "\tcreate", "state"],
            &["--new-option", "\u{2003}run", "state"],
            &[" ", "create\n", "state"],
            // The id of a container may be the name of a command.
            &[" create", "state"],
            &["create\n", "list"],
            &["", "create", "id"],
            &["create", "", "--bundle", "/b", "id"],
        ] {
            let args: Vec<_> = blank.iter().map(OsString::from).collect();
            assert!(parse(&args).is_err(), "{blank:?}");
        }
    }

    #[test]
    fn the_log_of_the_engine_is_found() {
        let log = |line: &str| log(&words(line));
        let at = |path: &str, json| Some(EngineLog { path: path.into(), is_json: json });
        assert_eq!(
            log("--root r --log /b/log.json --log-format json create id"),
            at("/b/log.json", true)
        );
        assert_eq!(log("--systemd-cgroup --log=file:/l create --log /x id"), at("/l", false));
        assert_eq!(log("--log /l --new-option create id"), at("/l", false));
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
            "-v",
            "--help create",
            "create --help",
            "--root create delete id",
            "state create",
            "exec id create --bundle /b",
            "exec --new-option id create",
            "kill id",
            "features",
            "start id",
            "--root",
            "--new-option",
            "--new-option state id",
            "--new-option value delete --force id",
        ] {
            assert_eq!(command_of(line), RuntimeCommand::Other, "{line}");
        }
    }
}
