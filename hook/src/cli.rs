//! The command line of the hook, with its help text. Never reads settings and never does anything.

use crate::error::{Error, Result};
use lexopt::{Arg, Parser, ValueExt};
use mig_cdi_model::ExpectedSlice;
use mig_cdi_sys::device_access;
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// Name under which the program is an OCI runtime.
const RUNTIME: &str = "mig-cdi-runtime";

const HELP: &str = "\
Inject MIG devices into a container, or refuse to start it if they are stale

Usage: mig-cdi-hook MODE [OPTIONS]

Modes:
  precreate               podman's filter: reads an OCI configuration on standard input and prints it
                          with the slices that the container requests
  create-runtime          an OCI hook (prestart, createRuntime): adds device nodes, files and device
                          cgroup rules to a container that exists already. Also called prestart
  verify SLICE…           an OCI hook that mig-cdi generate --verify puts into a spec: checks that the
                          slices still match the spec
  ldcache NAME…           an OCI hook (createContainer) that mig-cdi generate --ldcache-hook puts into a
                          spec: mounts a loader cache that lists these libraries
  runtime [--] ARGUMENTS  an OCI runtime: edits the configuration of a new container, then becomes the
                          real runtime. Under the name mig-cdi-runtime the program is always in this mode

Options:
  --config FILE           read settings from FILE instead of /etc/mig-cdi/config.toml
  --dry-run               print what would be done, as JSON, and change nothing
  -h, --help              print this
  -V, --version           print the version
Only for verify, which reads no settings:
  --proc-root DIR         read DIR/proc instead of /proc
  --full PROGRAM          check with NVML too: PROGRAM is mig-cdi, which gets --config, --driver-root,
                          --dev-root, --proc-root and --library-search-path
Only for ldcache, which reads no settings:
  --dir DIR               look for the libraries in DIR of the container

Exit codes:
  0  done, or nothing to do
  1  refused: the container must not start; the message names the cause and the cure
  2  wrong command line or configuration

A container requests slices by the annotation mig-cdi/devices or cdi.k8s.io/…, or by
NVIDIA_VISIBLE_DEVICES; /etc/mig-cdi/config.toml lists what it may request.
";

/// Mode of the hook, with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookCommand {
    /// Print this text.
    Print(String),
    /// `precreate`.
    Precreate(HookOptions),
    /// `create-runtime`.
    CreateRuntime(HookOptions),
    /// `runtime`.
    Runtime {
        /// Options of the hook.
        options: HookOptions,
        /// Arguments of the real runtime.
        args: Vec<OsString>,
    },
    /// `verify`.
    Verify(VerifyOptions),
    /// `ldcache`.
    Ldcache(LdcacheOptions),
    /// `device-access`, which the program runs itself, with the message for it.
    DeviceAccess(String),
    /// `cgroup-access`, which `device-access` runs.
    CgroupAccess(String),
}

/// Options of the modes that inject slices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookOptions {
    /// Settings to read instead of those of the machine.
    pub config: Option<PathBuf>,
    /// Print the plan only.
    pub dry_run: bool,
}

/// Options of `verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Directory that holds `proc`.
    pub proc_root: PathBuf,
    /// Path of `mig-cdi`, which calls NVML.
    pub full: Option<PathBuf>,
    /// Options for `mig-cdi`, as `--NAME=VALUE`.
    pub mig_cdi_options: Vec<String>,
    /// Print the slices only.
    pub dry_run: bool,
    /// Slices as the spec describes them; at least one.
    pub slices: Vec<ExpectedSlice>,
}

/// Options of `ldcache`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LdcacheOptions {
    /// Directory of the container, absolute.
    pub dir: String,
    /// Names of the libraries in it; at least one.
    pub names: Vec<String>,
    /// Print the libraries only.
    pub dry_run: bool,
}

/// Parses the command line, program name first.
///
/// # Errors
/// Fails with [`crate::HookExit::Usage`] for an unknown argument: an option that an older hook ignored
/// could be one that should have refused the container.
///
/// ```
/// use mig_cdi_hook::cli::{HookCommand, parse};
///
/// let args = ["mig-cdi-hook", "precreate", "--dry-run"].map(Into::into);
/// let Ok(HookCommand::Precreate(options)) = parse(args.into()) else { panic!("not precreate") };
/// assert!(options.dry_run);
/// ```
pub fn parse(args: Vec<OsString>) -> Result<HookCommand> {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    // Before the name is looked at: a child has the name of the file, which may be a copy.
    if let Some(command) = child_command(&args) {
        return Ok(command);
    }
    // podman and CRI-O configure a runtime by its path alone, with no argument of its own.
    if Path::new(&program).file_name() == Some(OsStr::new(RUNTIME)) {
        let options = HookOptions::default();
        return Ok(HookCommand::Runtime { options, args });
    }
    let mut parser = Parser::from_args(args);
    match parser.next()? {
        Some(Arg::Value(mode)) => parse_mode(&mode, parser),
        Some(Arg::Short('h') | Arg::Long("help")) => Ok(HookCommand::Print(HELP.to_owned())),
        Some(Arg::Short('V') | Arg::Long("version")) => {
            let version = concat!("mig-cdi-hook ", env!("CARGO_PKG_VERSION"), "\n");
            Ok(HookCommand::Print(version.to_owned()))
        }
        Some(option) => Err(option.unexpected().into()),
        None => Err(usage("the mode is missing")),
    }
}

/// Parses the arguments of a child process of this program.
fn child_command(args: &[OsString]) -> Option<HookCommand> {
    let [subcommand, message] = args else { return None };
    let command = match subcommand.to_str()? {
        device_access::SUBCOMMAND => HookCommand::DeviceAccess,
        device_access::CGROUP_SUBCOMMAND => HookCommand::CgroupAccess,
        _ => return None,
    };
    Some(command(message.to_str()?.to_owned()))
}

fn parse_mode(mode: &OsStr, parser: Parser) -> Result<HookCommand> {
    match mode.to_str() {
        Some("precreate") => options(parser).map(HookCommand::Precreate),
        Some("create-runtime" | "prestart") => options(parser).map(HookCommand::CreateRuntime),
        Some("verify") => verify(parser).map(HookCommand::Verify),
        Some("ldcache") => ldcache(parser).map(HookCommand::Ldcache),
        Some("runtime") => runtime(parser),
        _ => Err(usage(format!("{} is not a mode", mode.display()))),
    }
}

fn usage(cause: impl std::fmt::Display) -> Error {
    Error::usage("parse the command line", "", cause).with_cure("see mig-cdi-hook --help")
}

impl From<lexopt::Error> for Error {
    fn from(error: lexopt::Error) -> Error {
        usage(error)
    }
}

/// Returns the value of an option. `--option=` comes from an unset variable in a script: no path is empty.
fn value(parser: &mut Parser, option: &str) -> Result<String> {
    let value = parser.value()?.string()?;
    match value.is_empty() {
        false => Ok(value),
        true => Err(usage(format!("the value of {option} is empty"))),
    }
}

fn options(mut parser: Parser) -> Result<HookOptions> {
    let mut options = HookOptions::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("config") => options.config = Some(settings_file(&mut parser)?),
            Arg::Long("dry-run") => options.dry_run = true,
            arg => return Err(arg.unexpected().into()),
        }
    }
    Ok(options)
}

/// Parses the path of the settings. An engine starts the hook in a directory of its choice.
fn settings_file(parser: &mut Parser) -> Result<PathBuf> {
    let path = value(parser, "--config")?;
    match path.starts_with('/') {
        true => Ok(path.into()),
        false => Err(usage(format!("--config needs an absolute path, and {path:?} is none"))),
    }
}

/// Options of the hook end at `--`, or at the first argument that is not one of them: an engine puts its own
/// arguments right behind those that its configuration has for the runtime.
fn runtime(mut parser: Parser) -> Result<HookCommand> {
    let mut options = HookOptions::default();
    loop {
        match parser.raw_args()?.peek().and_then(OsStr::to_str) {
            Some("--dry-run") => {
                parser.next()?;
                options.dry_run = true;
            }
            Some(arg) if arg == "--config" || arg.starts_with("--config=") => {
                parser.next()?;
                options.config = Some(settings_file(&mut parser)?);
            }
            _ => break,
        }
    }
    let mut args = parser.raw_args()?;
    args.next_if(|arg| arg == "--");
    Ok(HookCommand::Runtime { options, args: args.collect() })
}

/// Options of `verify` that `mig-cdi verify` gets as they are.
const MIG_CDI_OPTIONS: [&str; 5] =
    ["--config", "--driver-root", "--dev-root", "--proc-root", "--library-search-path"];

fn verify(mut parser: Parser) -> Result<VerifyOptions> {
    let mut verify = VerifyOptions {
        proc_root: "/".into(),
        full: None,
        mig_cdi_options: Vec::new(),
        dry_run: false,
        slices: Vec::new(),
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("dry-run") => verify.dry_run = true,
            Arg::Long("full") => verify.full = Some(value(&mut parser, "--full")?.into()),
            Arg::Value(slice) => verify.slices.push(slice.string()?.parse().map_err(usage)?),
            arg => {
                // The spec holds the roots of the node as generate saw it: both programs must read the same one.
                let option = MIG_CDI_OPTIONS.into_iter().find(|name| arg == Arg::Long(&name[2..]));
                let option = option.ok_or_else(|| arg.unexpected())?;
                let value = value(&mut parser, option)?;
                verify.mig_cdi_options.push(format!("{option}={value}"));
                if option == "--proc-root" {
                    verify.proc_root = value.into();
                }
            }
        }
    }
    match verify.slices.is_empty() {
        true => Err(usage("verify needs a slice")),
        false => Ok(verify),
    }
}

fn ldcache(mut parser: Parser) -> Result<LdcacheOptions> {
    let mut ldcache = LdcacheOptions::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("dry-run") => ldcache.dry_run = true,
            Arg::Long("dir") => ldcache.dir = value(&mut parser, "--dir")?,
            Arg::Value(name) => {
                let name = name.string()?;
                if name.is_empty() || name.contains('/') {
                    return Err(usage(format!("{name:?} is not the name of a library")));
                }
                ldcache.names.push(name);
            }
            arg => return Err(arg.unexpected().into()),
        }
    }
    match ldcache.dir.starts_with('/') && !ldcache.names.is_empty() {
        true => Ok(ldcache),
        false => Err(usage("ldcache needs --dir with an absolute path, and the name of a library")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HookExit;

    fn parse_line(line: &str) -> Result<HookCommand> {
        parse(line.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn unknown_arguments_are_refused() {
        for line in [
            "mig-cdi-hook",
            "mig-cdi-hook poststop",
            "mig-cdi-hook --unknown",
            "mig-cdi-hook precreate --verbose",
            "mig-cdi-hook precreate word",
            "mig-cdi-hook precreate --dry-run=no",
            "mig-cdi-hook create-runtime --config",
            "mig-cdi-hook precreate --config config.toml",
            "mig-cdi-hook runtime --config=../config.toml create a",
            "mig-cdi-hook verify",
            "mig-cdi-hook verify --proc-root=/",
            "mig-cdi-hook verify 0:3:0",
            "mig-cdi-hook verify --full= 0:3:0,nodes=1:2:3:4",
            "mig-cdi-hook verify 0:3:0,nodes=1:2:3:4 --quiet",
            "mig-cdi-hook ldcache",
            "mig-cdi-hook ldcache --dir=/usr/lib64",
            "mig-cdi-hook ldcache --dir=lib libcuda.so.1",
            "mig-cdi-hook ldcache --dir=/usr/lib64 ../libcuda.so.1",
            "mig-cdi-hook ldcache --dir=/usr/lib64 --config=x libcuda.so.1",
        ] {
            assert_eq!(parse_line(line).unwrap_err().exit, HookExit::Usage, "{line}");
        }
    }

    #[test]
    fn a_copy_named_as_the_runtime_runs_its_own_child() {
        for program in ["mig-cdi-hook", "/x/mig-cdi-runtime"] {
            let message = "{}".to_owned();
            assert_eq!(
                parse_line(&format!("{program} device-access {{}}")),
                Ok(HookCommand::DeviceAccess(message.clone()))
            );
            assert_eq!(
                parse_line(&format!("{program} cgroup-access {{}}")),
                Ok(HookCommand::CgroupAccess(message))
            );
        }
    }

    #[test]
    fn runtime_arguments_pass_unchanged() {
        let args = |line| match parse_line(line) {
            Ok(HookCommand::Runtime { options, args }) => {
                (options.dry_run, args.join(OsStr::new(" ")).into_string().unwrap())
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(
            args("/x/mig-cdi-runtime --dry-run create a"),
            (false, "--dry-run create a".into())
        );
        assert_eq!(
            args("mig-cdi-hook runtime --dry-run -- --config x"),
            (true, "--config x".into())
        );
        assert_eq!(
            args("mig-cdi-hook runtime --config=/c --root r create a"),
            (false, "--root r create a".into())
        );
        assert_eq!(
            args("mig-cdi-hook runtime --dry-run=no create a"),
            (false, "--dry-run=no create a".into())
        );
        assert_eq!(args("mig-cdi-hook runtime -- -- a"), (false, "-- a".into()));
    }
}
