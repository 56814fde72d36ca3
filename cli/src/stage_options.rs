//! Options of the stages that commands run, made of the arguments of a command and the settings.

use crate::cli::{ChangeArgs, HoldersArgs, LayoutArgs};
use mig_cdi_args::{GenerateArgs, SpecArgs};
use mig_cdi_config::Settings;
use mig_cdi_gen::{
    Error, NodeSource,
    generate::{DeviceOptions, GenerateOptions},
};
use mig_cdi_partition::{ApplyOptions, HolderOptions, LayoutFile, LayoutSource};
use std::{path::Path, time::Duration};

/// Flags of a command merged with the settings, where the flags take precedence.
pub(crate) struct Resolver<'a> {
    pub node: &'a NodeSource,
    pub settings: &'a Settings,
    /// Configuration file that the command line names.
    pub config: Option<&'a Path>,
}

impl Resolver<'_> {
    /// Options of the devices of a spec.
    pub(crate) fn devices(&self, args: &SpecArgs) -> Result<DeviceOptions, Error> {
        args.resolve(self.node, self.settings, self.config)
    }

    /// Options of `generate` and `check`.
    pub(crate) fn generate(&self, args: &GenerateArgs) -> Result<GenerateOptions, Error> {
        args.resolve(self.node, self.settings, self.config)
    }

    /// Options of a change. Those of the refresh that follows it are resolved here, before the change: an error in
    /// the settings would otherwise leave a stale spec behind it.
    pub(crate) fn apply(&self, args: &ChangeArgs) -> Result<ApplyOptions, Error> {
        let refresh = match args.no_refresh {
            true => None,
            false => Some(self.generate(&GenerateArgs::default())?),
        };
        Ok(ApplyOptions {
            holders: holder_options(&args.holders),
            journal_dir: args.journal_dir.clone(),
            wait: Duration::from_secs(args.evict),
            refresh,
        })
    }
}

/// Source of the desired layouts: the layout that `--file` and `--layout` name, or the assignments `GPU=LAYOUT`.
///
/// # Errors
/// For `--layout` beside assignments. There clap does not require `--file`, which the assignments conflict with.
pub(crate) fn layout_source(args: &LayoutArgs) -> Result<LayoutSource, Error> {
    match (&args.file, &args.layout) {
        (Some(file), Some(name)) => {
            Ok(LayoutSource::File(LayoutFile { path: file.clone(), layout: name.clone() }))
        }
        (None, Some(_)) if !args.gpus.is_empty() => Err(Error::usage("accept", "--layout")
            .because("it names a layout in a file, and GPU=LAYOUT takes the place of one")
            .with_cure("omit --layout, or use --file FILE --layout NAME in place of GPU=LAYOUT")),
        _ => Ok(LayoutSource::Assignments(args.gpus.clone())),
    }
}

/// Options of the search for holders.
pub(crate) fn holder_options(args: &HoldersArgs) -> HolderOptions {
    HolderOptions {
        host_root: args.host_root.clone(),
        in_use: args.in_use.clone(),
        state_dir: args.state.state_dir.clone(),
        must_see_machine: true,
    }
}
