//! Options of a generated spec, resolved: flags, settings and defaults have been merged by the caller.

use crate::{
    MessageSink, NodeSource, Result,
    discover::{self, DriverFiles, Source},
    engines::{self, BASELINE_CDI, EngineLimit, EngineList, InstalledEngine},
    spec::{self, BuiltSpec, DeviceSet, Format, NameStyle, SpecOptions},
};
use mig_cdi_model::{
    DriverCapabilities, DriverFile, Topology,
    cdi::{Kind, VersionLimit},
};
use mig_cdi_sys::{Machine, Root};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, sync::OnceLock};

/// Source of the container engines' versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineLookup {
    /// A list from the command line, or from an earlier refresh.
    Listed(EngineList),
    /// The engines that are installed below a directory that stands for `/`; each is run with `--version`.
    Installed(PathBuf),
}

/// Contents of the devices in a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceOptions {
    /// Options of the spec, with `max_version` and `limited_by` still open: [`DeviceBuilder::options`] fills them in.
    pub spec: SpecOptions,
    /// Driver capabilities of a container: they select its driver files.
    #[serde(with = "crate::as_text")]
    pub capabilities: DriverCapabilities,
    /// Highest CDI version that the spec may need.
    #[serde(with = "crate::as_text")]
    pub cdi_limit: VersionLimit,
    /// Engines that will read the spec: they limit its CDI version, and a warning names those that will refuse it.
    pub engines: EngineLookup,
}

impl DeviceOptions {
    /// Options of a spec of this kind in its simplest form: names by UUID and by slot, driver files for compute and utility, CDI
    /// 0.5.0, and neither hooks nor annotations.
    #[must_use]
    pub fn new(kind: Kind) -> DeviceOptions {
        let spec = SpecOptions {
            kind,
            names: vec![NameStyle::Uuid, NameStyle::Slot],
            source: Source::Nvml,
            library_dirs: Vec::new(),
            params_file: None,
            wants_graphics: false,
            admin: Vec::new(),
            sets_cuda_env: false,
            wants_annotations: false,
            verify: None,
            ldcache: None,
            max_version: BASELINE_CDI,
            limited_by: None,
        };
        DeviceOptions {
            spec,
            capabilities: DriverCapabilities::default(),
            cdi_limit: VersionLimit::Fixed(BASELINE_CDI),
            engines: EngineLookup::Listed(EngineList(Vec::new())),
        }
    }
}

/// Destination of a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecDestination {
    /// Standard output.
    Stdout,
    /// The file that the user names.
    File(PathBuf),
    /// The file named after the kind, in the last of the spec directories, which has the highest priority.
    SpecDir,
}

/// Options of [`crate::generate::Generator`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateOptions {
    /// Contents of the devices.
    pub devices: DeviceOptions,
    /// Destination of the spec.
    pub output: SpecDestination,
    /// Format of the spec.
    pub format: Format,
    /// Directories that engines read specs from, lowest priority first.
    pub spec_dirs: Vec<PathBuf>,
    /// Adds a spec of the GPUs that are not in MIG mode.
    pub whole_gpus: bool,
    /// Mounts a masked copy of `/proc/driver/nvidia/params` into containers.
    pub mask_params: bool,
    /// Writes nothing unless every device is complete.
    pub strict: bool,
}

/// Builds the devices of a spec from a node: the stages discover, driver files and spec, with their messages reported.
pub struct DeviceBuilder<'a> {
    node: &'a NodeSource,
    request: &'a DeviceOptions,
    messages: &'a dyn MessageSink,
    /// Filled when first needed: `--version` of an engine takes as long as the rest of a run.
    engines: OnceLock<Vec<InstalledEngine>>,
}

impl<'a> DeviceBuilder<'a> {
    /// Makes a builder. Nothing is read yet.
    #[must_use]
    pub fn new(
        node: &'a NodeSource,
        request: &'a DeviceOptions,
        messages: &'a dyn MessageSink,
    ) -> DeviceBuilder<'a> {
        DeviceBuilder { node, request, messages, engines: OnceLock::new() }
    }

    /// The node that is read.
    #[must_use]
    pub fn node(&self) -> &'a NodeSource {
        self.node
    }

    /// The sink that messages go to.
    #[must_use]
    pub fn messages(&self) -> &'a dyn MessageSink {
        self.messages
    }

    /// Options of the spec with the highest CDI version that may be used, and the engine that sets it.
    ///
    /// # Errors
    /// When the directory that engines are looked up in cannot be opened.
    pub fn options(&self) -> Result<SpecOptions> {
        let (max_version, limited_by) = match self.request.cdi_limit {
            VersionLimit::Fixed(version) => (version, None),
            VersionLimit::Auto => {
                let EngineLimit { version, engine } = engines::common_cdi_version(self.engines()?);
                (version, Some(engine))
            }
        };
        Ok(SpecOptions { max_version, limited_by, ..self.request.spec.clone() })
    }

    /// Engines that will read the spec. `--version` of each is run at most once.
    ///
    /// # Errors
    /// As [`DeviceBuilder::options`].
    pub fn engines(&self) -> Result<&[InstalledEngine]> {
        if let Some(known) = self.engines.get() {
            return Ok(known);
        }
        let engines = match &self.request.engines {
            EngineLookup::Listed(list) => list.0.clone(),
            EngineLookup::Installed(root) => engines::find_engines(&Root::open(root)?),
        };
        Ok(self.engines.get_or_init(|| engines))
    }

    /// Engines that will read the spec, if anything needed them so far.
    #[must_use]
    pub fn known_engines(&self) -> Option<&[InstalledEngine]> {
        self.engines.get().map(Vec::as_slice)
    }

    /// Finds the driver files that containers get. There are none on a simulated node or one without GPUs.
    ///
    /// # Errors
    /// When a file that every container needs is missing.
    pub fn driver_files(
        &self,
        machine: &dyn Machine,
        topology: &Topology,
    ) -> Result<Vec<DriverFile>> {
        // Without GPUs no device needs the files, so a missing one is no failure.
        let root = machine.driver().filter(|_| !topology.gpus.is_empty());
        let Some(root) = root else { return Ok(Vec::new()) };
        let capabilities = &self.request.capabilities;
        let DriverFiles { files, warnings, omitted_sockets, missing } =
            discover::find_files(machine, root, &topology.driver_version, capabilities)?;
        for warning in &warnings {
            self.messages.warn(warning);
        }
        // A daemon keeps its socket in such a place by default (MPS in /tmp, nvidia-persistenced in a directory of its own user), and
        // nothing would cure that: a warning at each refresh would only hide others. The doctor has a note for it.
        for omitted in &omitted_sockets {
            self.messages.detail(omitted);
        }
        for file in missing.iter().filter(|file| file.is_needed_by(topology)) {
            self.messages.warn(&format!("{file}; {}", file.cure));
        }
        for file in &files {
            self.messages.detail(&format!("mount {}", file.host_path));
        }
        Ok(files)
    }

    /// Builds the spec, and reports each device that is omitted from it.
    ///
    /// # Errors
    /// As [`spec::build`].
    pub fn build(
        &self,
        topology: &Topology,
        files: &[DriverFile],
        content: DeviceSet,
        options: &SpecOptions,
    ) -> Result<BuiltSpec> {
        let built = spec::build(topology, files, content, options)?;
        for problem in &built.problems {
            self.messages.error(&problem.to_string());
        }
        Ok(built)
    }

    /// Reports the names that devices of a spec lack.
    pub fn report_unnamed(&self, built: &BuiltSpec) {
        for (style, count) in &built.unnamed {
            self.messages.warn(&spec::unnamed_warning(*style, *count));
        }
    }
}
