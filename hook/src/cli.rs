//! The command line: one source of what is accepted, and of the help.

use crate::Failure;
use mig_cdi_model::ExpectedSlice;
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// The name under which the program is an OCI runtime.
const RUNTIME: &str = "mig-cdi-runtime";

const HELP: &str = "\
Gives a container its slice of an NVIDIA GPU where the engine does not, or refuses to start it

Usage: mig-cdi-hook DOOR [OPTIONS]

Doors:
  precreate               podman's filter: an OCI configuration on standard input, the same with the
                          slices that the container asks for on standard output
  create-runtime          an OCI hook (prestart, createRuntime): nodes, files and device cgroup of a
                          container that is made already. Also called prestart
  verify SLICE…           an OCI hook that mig-cdi generate --verify puts into a spec: are the slices
                          still what the spec says?
  ldcache NAME…           an OCI hook (createContainer) that mig-cdi generate --ldcache-hook puts into a
                          spec: mounts a cache of the loader that knows these libraries
  runtime [--] ARGUMENTS  an OCI runtime: changes the configuration of a new container, then becomes
                          the real runtime. Under the name mig-cdi-runtime it is always this door

Options:
  --config FILE           read settings from FILE instead of /etc/mig-cdi/config.toml
  --dry-run               print what would be done, as JSON, and do nothing
  -h, --help              print this
  -V, --version           print the version
Of verify alone, which reads no settings:
  --proc-root DIR         directory that holds proc
  --full PROGRAM          ask NVML too: PROGRAM is mig-cdi, which is given --config, --driver-root,
                          --dev-root, --proc-root and --library-search-path
Of ldcache alone, which reads no settings:
  --dir DIR               directory of the container that holds the libraries

Exit codes:
  0  done, or nothing to do
  1  refused: the container must not start; the message says why, and what helps
  2  wrong command line or configuration

A container asks by the annotation mig-cdi/devices or cdi.k8s.io/…, or by NVIDIA_VISIBLE_DEVICES;
what it may ask for is in /etc/mig-cdi/config.toml.
";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print this text.
    Print(String),
    /// `precreate`.
    Precreate(Options),
    /// `create-runtime`.
    CreateRuntime(Options),
    /// `runtime`.
    Runtime {
        /// Ours.
        options: Options,
        /// The runtime's.
        args: Vec<OsString>,
    },
    /// `verify`.
    Verify(Verify),
    /// `ldcache`.
    Ldcache(Ldcache),
}

/// What the doors that inject may be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Settings to read.
    pub config: Option<PathBuf>,
    /// Print the plan.
    pub dry_run: bool,
}

/// What `verify` is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// Holds `proc`.
    pub proc_root: PathBuf,
    /// The program that asks NVML.
    pub full: Option<PathBuf>,
    /// What that program is told.
    pub pass: Vec<String>,
    /// Print the plan.
    pub dry_run: bool,
    /// What the spec says.
    pub claims: Vec<ExpectedSlice>,
}

/// What `ldcache` is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ldcache {
    /// Of the container, absolute.
    pub dir: String,
    /// Of libraries in it.
    pub names: Vec<String>,
    /// Print the plan.
    pub dry_run: bool,
}

/// Reads the command line, program name first.
///
/// # Errors
/// When there is anything in it that is not known.
pub fn parse(args: Vec<OsString>) -> Result<Command, Failure> {
    let mut args = args.into_iter();
    let name = args.next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new(RUNTIME)) {
        return Ok(Command::Runtime { options: Options::default(), args: args.collect() });
    }
    let door = args.next().ok_or_else(|| usage("no door is named"))?;
    let mut args = Args { rest: args.collect::<Vec<_>>().into_iter() };
    match door.to_str() {
        Some("-h" | "--help") => Ok(Command::Print(HELP.to_owned())),
        Some("-V" | "--version") => {
            Ok(Command::Print(concat!("mig-cdi-hook ", env!("CARGO_PKG_VERSION"), "\n").to_owned()))
        }
        Some("precreate") => options(&mut args).map(Command::Precreate),
        Some("create-runtime" | "prestart") => options(&mut args).map(Command::CreateRuntime),
        Some("verify") => verify(&mut args).map(Command::Verify),
        Some("ldcache") => ldcache(&mut args).map(Command::Ldcache),
        Some("runtime") => runtime(args),
        _ => Err(usage(format!("{} is no door", door.display()))),
    }
}

fn usage(message: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("{message}; see mig-cdi-hook --help"))
}

/// The words after the door.
struct Args {
    rest: std::vec::IntoIter<OsString>,
}

/// An option with what stood behind its `=`, or another word.
enum Word {
    Option(String, Option<String>),
    Plain(String),
}

impl Args {
    fn next(&mut self) -> Result<Option<Word>, Failure> {
        let Some(word) = self.rest.next() else { return Ok(None) };
        let word = text(word)?;
        Ok(Some(match word.split_once('=') {
            _ if !word.starts_with('-') => Word::Plain(word),
            Some((option, value)) => Word::Option(option.to_owned(), Some(value.to_owned())),
            None => Word::Option(word, None),
        }))
    }

    fn value(&mut self, option: &str, value: Option<String>) -> Result<String, Failure> {
        let value = match value {
            Some(value) => Some(value),
            None => self.rest.next().map(text).transpose()?,
        };
        value.filter(|v| !v.is_empty()).ok_or_else(|| usage(format!("{option} needs a value")))
    }
}

fn text(word: OsString) -> Result<String, Failure> {
    word.into_string().map_err(|word| usage(format!("{} is not valid utf-8", word.display())))
}

fn unknown(option: &str) -> Failure {
    usage(format!("{option} is no option of this door"))
}

fn options(args: &mut Args) -> Result<Options, Failure> {
    let mut options = Options::default();
    while let Some(word) = args.next()? {
        match word {
            Word::Option(option, value) if option == "--config" => {
                options.config = Some(args.value(&option, value)?.into());
            }
            Word::Option(option, None) if option == "--dry-run" => options.dry_run = true,
            Word::Option(option, _) => return Err(unknown(&option)),
            Word::Plain(word) => return Err(unknown(&word)),
        }
    }
    Ok(options)
}

/// Options of ours end at the first word that is none, or at `--`.
fn runtime(mut args: Args) -> Result<Command, Failure> {
    let mut options = Options::default();
    loop {
        let rest = args.rest.as_slice();
        match rest.first().and_then(|word| word.to_str()) {
            Some("--") => {
                args.rest.next();
                break;
            }
            Some("--dry-run") => options.dry_run = true,
            Some(word) if word == "--config" || word.starts_with("--config=") => {}
            _ => break,
        }
        if let Some(Word::Option(option, value)) = args.next()?
            && option == "--config"
        {
            options.config = Some(args.value(&option, value)?.into());
        }
    }
    Ok(Command::Runtime { options, args: args.rest.collect() })
}

fn verify(args: &mut Args) -> Result<Verify, Failure> {
    let mut verify = Verify {
        proc_root: "/".into(),
        full: None,
        pass: Vec::new(),
        dry_run: false,
        claims: Vec::new(),
    };
    while let Some(word) = args.next()? {
        let (option, value) = match word {
            Word::Option(option, None) if option == "--dry-run" => {
                verify.dry_run = true;
                continue;
            }
            Word::Option(option, value) => (option, value),
            Word::Plain(word) => {
                verify.claims.push(word.parse().map_err(usage)?);
                continue;
            }
        };
        let known = [
            "--full",
            "--proc-root",
            "--config",
            "--driver-root",
            "--dev-root",
            "--library-search-path",
        ];
        if !known.contains(&option.as_str()) {
            return Err(unknown(&option));
        }
        let value = args.value(&option, value)?;
        if option == "--full" {
            verify.full = Some(value.into());
            continue;
        }
        if option == "--proc-root" {
            verify.proc_root = value.clone().into();
        }
        verify.pass.push(format!("{option}={value}"));
    }
    match verify.claims.is_empty() {
        true => Err(usage("no slice is named")),
        false => Ok(verify),
    }
}

fn ldcache(args: &mut Args) -> Result<Ldcache, Failure> {
    let mut ldcache = Ldcache::default();
    while let Some(word) = args.next()? {
        match word {
            Word::Option(option, None) if option == "--dry-run" => ldcache.dry_run = true,
            Word::Option(option, value) if option == "--dir" => {
                ldcache.dir = args.value(&option, value)?;
            }
            Word::Option(option, _) => return Err(unknown(&option)),
            Word::Plain(name) if name.is_empty() || name.contains('/') => {
                return Err(usage(format!("{name:?} is no name of a library")));
            }
            Word::Plain(name) => ldcache.names.push(name),
        }
    }
    match ldcache.dir.starts_with('/') && !ldcache.names.is_empty() {
        true => Ok(ldcache),
        false => Err(usage("ldcache needs --dir, an absolute path, and a name of a library")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Command, Failure> {
        parse(words.split(' ').map(OsString::from).collect())
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for words in [
            "mig-cdi-hook",
            "mig-cdi-hook poststop",
            "mig-cdi-hook precreate --verbose",
            "mig-cdi-hook precreate word",
            "mig-cdi-hook precreate --dry-run=no",
            "mig-cdi-hook create-runtime --config",
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
            assert_eq!(parse_words(words).unwrap_err().exit, 2, "{words}");
        }
    }

    #[test]
    fn the_runtime_s_words_are_its_own() {
        let args = |words| match parse_words(words) {
            Ok(Command::Runtime { options, args }) => {
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
            args("mig-cdi-hook runtime --config=c --root r create a"),
            (false, "--root r create a".into())
        );
    }
}
