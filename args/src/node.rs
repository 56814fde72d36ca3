//! Arguments that select the node, and reading of node descriptions and of the configuration file.

use crate::{TEXT_LIMIT, flag_or_setting};
use clap::{Args, ValueEnum};
use mig_cdi_config::{Settings, absolute_path};
use mig_cdi_gen::{Error, ErrorKind, NodeRoots, NodeSource, Result, discover::Source};
use mig_cdi_sim::{PRESETS, SimulatedNode, preset};
use mig_cdi_sys::{read_named, read_regular};
use std::path::{Path, PathBuf};

/// Arguments that select the node.
#[derive(Debug, Args)]
#[command(next_help_heading = "Node selection")]
pub struct NodeArgs {
    /// Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in
    /// FILE (- for standard input)
    #[arg(long, global = true, value_name = "NAME|FILE")]
    pub node: Option<PathBuf>,

    /// Read the MIG state from this source
    #[arg(long, global = true, value_enum, default_value = "nvml")]
    pub source: SourceArg,

    /// Look for driver files below DIR, for a driver that is installed in a container [default: /]
    #[arg(long, global = true, value_name = "DIR", value_parser = absolute_path)]
    pub driver_root: Option<PathBuf>,

    /// Search DIR, below the driver root, for driver libraries before all other places
    #[arg(long, global = true, value_name = "DIR", value_parser = absolute_path)]
    pub library_search_path: Vec<PathBuf>,

    /// Search DIR, below the driver root, for driver programs before all other places
    #[arg(long, global = true, value_name = "DIR")]
    pub program_search_path: Vec<PathBuf>,

    /// Look for device nodes in DIR/dev [default: /]
    #[arg(long, global = true, value_name = "DIR", value_parser = absolute_path)]
    pub dev_root: Option<PathBuf>,

    /// Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]
    #[arg(long, global = true, value_name = "DIR", value_parser = absolute_path)]
    pub proc_root: Option<PathBuf>,
}

/// Values of `--source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// NVML and /proc, which must agree.
    Nvml,
    /// /proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance.
    Proc,
}

impl From<SourceArg> for Source {
    fn from(arg: SourceArg) -> Source {
        match arg {
            SourceArg::Nvml => Source::Nvml,
            SourceArg::Proc => Source::Proc,
        }
    }
}

impl NodeArgs {
    /// Returns the root directories: the flags, or else the settings.
    #[must_use]
    pub fn roots(&self, settings: &Settings) -> NodeRoots {
        let root =
            |flag: &Option<PathBuf>, setting: &PathBuf| flag.as_ref().unwrap_or(setting).clone();
        NodeRoots {
            driver: root(&self.driver_root, &settings.driver_root),
            library_search_path: flag_or_setting(
                &self.library_search_path,
                &settings.library_search_path,
            ),
            program_search_path: flag_or_setting(
                &self.program_search_path,
                &settings.program_search_path,
            ),
            dev: root(&self.dev_root, &settings.dev_root),
            proc: root(&self.proc_root, &settings.proc_root),
            reads_cuda_version: false,
        }
    }

    /// Returns the node that the arguments select.
    ///
    /// # Errors
    /// When a node description cannot be read or is wrong.
    pub fn resolve(&self, settings: &Settings) -> Result<NodeSource> {
        Ok(NodeSource {
            roots: self.roots(settings),
            source: self.source.into(),
            simulated: self.node.as_deref().map(simulated_node).transpose()?,
        })
    }
}

/// Reads the description of a simulated node: a built-in one, or that in a file.
///
/// # Errors
/// When the file cannot be read, or its contents are not a node description. The cure lists the built-in names.
pub fn simulated_node(name: &Path) -> Result<SimulatedNode> {
    let text = match name.to_str().and_then(preset) {
        Some(text) => text.to_owned(),
        None => {
            let bytes = read_named(name, TEXT_LIMIT).map_err(|error| {
                // A misspelt built-in name is taken for a path: the message has to help with both.
                let known: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
                match Error::of_input(error) {
                    error if error.kind != ErrorKind::Usage => error,
                    error => error.with_cure(format!("built-in nodes are {}", known.join(", "))),
                }
            })?;
            utf8(bytes, name)?
        }
    };
    SimulatedNode::parse(&text).map_err(|e| {
        Error::usage("read node description", name.display()).because_of(e.without_cure(), e.cure)
    })
}

/// Reads the configuration file at `path`, or else at the default path, where a missing file means the defaults.
/// `only_regular` refuses a pipe.
///
/// # Errors
/// When the file cannot be read or contains an error.
pub fn read_settings(path: Option<&Path>, only_regular: bool) -> Result<Settings> {
    let file = path.unwrap_or(Path::new(mig_cdi_config::PATH));
    // A pipe blocks until someone writes to it (fifo(7)). The user may name one, as `<(…)` of a shell does; at the default path
    // it would hang every command.
    let read = if only_regular || path.is_none() { read_regular } else { read_named };
    let text = match read(file, TEXT_LIMIT) {
        Ok(bytes) => utf8(bytes, file)?,
        Err(error) if path.is_none() && error.is_absent() => String::new(),
        Err(error) => return Err(Error::of_input(error)),
    };
    let settings = Settings::parse(&text)
        .map_err(|e| Error::usage("read", file.display()).because_of(e.without_cure(), e.cure))?;
    Ok(Settings { file: file.to_owned(), ..settings })
}

/// Converts the contents of a file to text.
fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|_| Error::usage("read", path.display()).because("not valid utf-8"))
}
