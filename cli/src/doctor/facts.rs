//! Facts that the checks judge: the driver, NVML, spec files, engines. Read once, before the first check.

use super::{
    engine_config::{EngineConfig, find_engines},
    text_file::{TEXT_LIMIT, TextFileError, read_text},
};
use crate::engine_files::is_same_dir;
use crate::first_layout::FirstLayout;
use mig_cdi_config::Settings;
use mig_cdi_gen::{
    Error,
    discover::{self, Discovery, DriverFiles, Source},
    engines::InstalledEngine,
    slice_names::lacks_placements,
    spec::{self, DeviceSet, SpecOptions},
    spec_file::{self, JudgedSpec, SIZE_LIMIT},
};
use mig_cdi_model::{DeviceNode, MigDevice, Topology, cdi::Spec};
use mig_cdi_sys::{
    Machine, Root, exists, is_directory, list_named,
    nvml::{self, GpuPartitioning},
    read_regular, text,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    ops::Deref,
    path::{Path, PathBuf},
};

/// Everything that the checks read.
pub(crate) struct NodeFacts<'a> {
    pub settings: &'a Settings,
    /// Error of the settings file, when `settings` are the defaults because of it.
    pub settings_error: Option<Error>,
    /// Files and device nodes of the driver.
    pub machine: &'a dyn Machine,
    /// Root directory of the engines, their configuration, and `/proc` and `/sys` of the host.
    pub host: &'a Root,
    /// Root directory that paths in a spec refer to.
    pub spec_root: Root,
    pub nvml: Result<nvml::NvmlSnapshot, NvmlUnavailable>,
    /// MIG devices that NVML and `/proc` agree on, or those of `/proc` where NVML is not available.
    pub discovery: Result<Discovery, Error>,
    /// MIG devices of `/proc` alone: every instance that exists.
    pub proc_discovery: Result<Discovery, Error>,
    /// Files of the driver that containers get; `None` for a simulated node.
    pub libraries: Option<Result<DriverFiles, Error>>,
    /// Spec that `generate` would write now; `None` for a node without MIG devices.
    pub expected_spec: Result<Option<Spec>, ExpectedSpecError>,
    /// Spec directories, in ascending priority.
    pub spec_dirs: Vec<SpecDirFacts>,
    pub engines: Vec<EngineFacts>,
    /// Profiles and placements of the GPUs, as far as NVML describes them.
    pub gpus: Vec<GpuPartitioning>,
    /// Commands that make slices on the GPUs.
    pub first_layouts: Vec<FirstLayout>,
}

/// Reason why nothing was read from NVML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NvmlUnavailable {
    /// `--source proc` was given.
    NotRequested,
    /// There is no driver that NVML could query.
    NoDriver,
    /// NVML could not be loaded, or a call failed.
    Failed(Error),
}

/// Reason why the spec that `generate` would write is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpectedSpecError {
    /// A spec of `/proc` alone has other names.
    #[error("nvml is not available")]
    NoNvml,
    /// A stage of `generate` failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A spec directory.
pub(crate) struct SpecDirFacts {
    pub path: PathBuf,
    /// Files that engines read; `None` when the directory does not exist.
    pub files: Result<Option<Vec<SpecFileFacts>>, mig_cdi_sys::Error>,
    /// Files that engines pass over for the spelling of their suffix, each with the path that it needs.
    pub misnamed: Vec<(PathBuf, PathBuf)>,
}

/// A file that engines read as a spec.
pub(crate) struct SpecFileFacts {
    pub path: PathBuf,
    pub spec: Result<Spec, SpecFileError>,
    /// Reason why every engine refuses a spec that was read.
    pub refusal: Option<String>,
}

/// Reason why a file cannot be used as a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpecFileError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] mig_cdi_sys::Error),
    /// The file is in neither format, or lacks a required field.
    #[error(transparent)]
    NotASpec(#[from] spec_file::ParseError),
}

/// A spec that was read, and its place.
#[derive(Clone, Copy)]
pub(super) struct LocatedSpec<'f> {
    /// Index of its directory in [`NodeFacts::spec_dirs`]: the higher one wins.
    pub dir: usize,
    pub path: &'f Path,
    pub spec: &'f Spec,
    pub refusal: Option<&'f str>,
}

/// An installed engine and its configuration.
pub(crate) struct EngineFacts {
    installed: InstalledEngine,
    pub config: EngineConfig,
    /// Root directory of the paths in its configuration.
    host_root: PathBuf,
}

impl Deref for EngineFacts {
    type Target = InstalledEngine;

    fn deref(&self) -> &InstalledEngine {
        &self.installed
    }
}

impl EngineFacts {
    /// True for an OCI runtime, which gets the edited configuration and reads no specs.
    pub(super) fn is_oci_runtime(&self) -> bool {
        matches!(self.name, "runc" | "crun")
    }

    /// True when it reads the specs of a directory.
    pub(super) fn reads(&self, dir: &Path, root: &Root) -> bool {
        self.priority(dir, root).is_some()
    }

    /// The place of a directory among those that it reads: the later one wins.
    pub(super) fn priority(&self, dir: &Path, root: &Root) -> Option<usize> {
        self.config.spec_dirs.iter().rposition(|read| self.is_dir(read, dir, root))
    }

    /// A directory that it lists and does not look into: the evidence, and the cure.
    pub(super) fn hidden(&self, facts: &NodeFacts<'_>, dir: &Path) -> Option<(String, String)> {
        let mut hidden = self.config.hidden_dirs.iter();
        let (dir, link) = hidden.find(|(hidden, _)| self.is_dir(hidden, dir, &facts.spec_root))?;
        let cure = link.cure(&facts.settings.file);
        Some((format!("it does not look into {dir}: {}", link.reason()), cure))
    }

    /// True when a directory of its configuration is `dir`.
    fn is_dir(&self, read: &str, dir: &Path, root: &Root) -> bool {
        let is_same = |dir| is_same_dir(root, read, dir);
        self.on_host(read) == dir || dir.to_str().is_some_and(is_same)
    }

    /// Path on this machine of a path in its configuration.
    fn on_host(&self, path: &str) -> PathBuf {
        self.host_root.join(path.trim_start_matches('/'))
    }
}

impl NodeFacts<'_> {
    /// Reads everything. A source that cannot be read becomes an error in its field.
    ///
    /// # Errors
    /// When the root directory cannot be opened.
    pub(crate) fn gather<'a>(
        machine: &'a dyn Machine,
        host: &'a Root,
        settings: &'a Settings,
        options: &SpecOptions,
    ) -> Result<NodeFacts<'a>, Error> {
        let proc_discovery = discover::discover(machine, Source::Proc);
        // Without a driver nvmlInit fails too: the error of /proc is more precise.
        let nvml = match (&proc_discovery, options.source) {
            (Err(_), _) => Err(NvmlUnavailable::NoDriver),
            (Ok(_), Source::Proc) => Err(NvmlUnavailable::NotRequested),
            (Ok(_), Source::Nvml) => machine
                .nvml()
                .map_err(|e| NvmlUnavailable::Failed(discover::optional_nvml_error(e))),
        };
        let discovery = match &nvml {
            Ok(_) => discover::discover(machine, Source::Nvml),
            Err(_) => proc_discovery.clone(),
        };
        let libraries = machine.driver().zip(discovery.as_ref().ok()).map(|(root, discovery)| {
            let version = &discovery.topology.driver_version;
            discover::find_files(machine, root, version, &settings.capabilities)
        });
        let expected_spec = match (&nvml, &discovery) {
            (Ok(_), Ok(discovery)) => expected_spec(discovery, libraries.as_ref(), options),
            _ => Err(ExpectedSpecError::NoNvml),
        };
        let spec_root = Root::open(Path::new("/"))?;
        let engines = read_engines(host);
        let spec_dirs = read_spec_dirs(settings, &engines, &spec_root);
        Ok(NodeFacts {
            settings,
            settings_error: None,
            machine,
            host,
            spec_root,
            nvml,
            discovery,
            proc_discovery,
            libraries,
            expected_spec,
            spec_dirs,
            engines,
            gpus: Vec::new(),
            first_layouts: Vec::new(),
        })
    }

    /// The topology as far as it is known.
    pub(super) fn topology(&self) -> Option<&Topology> {
        let discovery = self.discovery.as_ref().or(self.proc_discovery.as_ref());
        discovery.ok().map(|discovery| &discovery.topology)
    }

    /// True when NVML has not reported the placements of slices, which it does to root only.
    pub(super) fn lacks_placements(&self) -> bool {
        let discovery = self.discovery.as_ref().ok().filter(|_| self.nvml.is_ok());
        discovery.is_some_and(|found| lacks_placements(&found.topology, Source::Nvml))
    }

    /// Device nodes of the slices, and those that every CUDA program opens, by path.
    pub(super) fn nodes(&self) -> BTreeMap<&str, &DeviceNode> {
        let Some(topology) = self.topology() else { return BTreeMap::new() };
        let slices = topology.mig_devices().flat_map(|device| MigDevice::nodes(&device));
        let nodes = topology.common.iter().chain(slices);
        nodes.map(|node| (node.path.as_str(), node)).collect()
    }

    /// Spec files that could be read.
    pub(super) fn specs(&self) -> impl Iterator<Item = LocatedSpec<'_>> {
        let dirs = self.spec_dirs.iter().enumerate();
        let files = dirs.flat_map(|(dir, facts)| facts.all().map(move |file| (dir, file)));
        files.filter_map(|(dir, file)| {
            let SpecFileFacts { path, spec, refusal } = file;
            Some(LocatedSpec { dir, path, spec: spec.as_ref().ok()?, refusal: refusal.as_deref() })
        })
    }

    /// Major number of capability nodes.
    pub(super) fn caps_major(&self) -> Option<u32> {
        let bytes = self.machine.read("/proc/devices", TEXT_LIMIT).ok()??;
        Some(text::char_devices(&bytes).ok()?.major("nvidia-caps")?.0)
    }

    /// Minor numbers of the capabilities of every instance that the GPUs could have.
    pub(super) fn instance_capabilities(&self, topology: &Topology) -> BTreeSet<u32> {
        let table = self.machine.read("/proc/driver/nvidia-caps/mig-minors", TEXT_LIMIT).ok();
        let table = table.flatten().and_then(|table| text::mig_minors(&table).ok());
        let is_here = |gpu| topology.gpus.iter().any(|there| there.minor == gpu);
        let all = table.iter().flat_map(text::MigMinors::capabilities);
        all.filter(|capability| is_here(capability.gpu)).map(|found| found.minor.0).collect()
    }

    /// Minor numbers of capabilities that belong to no instance, such as `config` and `monitor`.
    pub(super) fn non_instance_capabilities(&self) -> BTreeSet<u32> {
        let minors = |table: &str| {
            let path = format!("/proc/driver/nvidia-caps/{table}-minors");
            text::non_instance_minors(&self.machine.read(&path, TEXT_LIMIT).ok()??).ok()
        };
        let tables = ["mig", "nvlink", "sys"].into_iter().filter_map(minors);
        tables.flatten().map(|minor| minor.0).collect()
    }

    /// Reads a text file of the host; `None` when it does not exist.
    pub(super) fn text(&self, path: &str) -> Option<Result<String, TextFileError>> {
        read_text(self.host, path)
    }
}

impl SpecDirFacts {
    /// The files; none when the directory cannot be read.
    pub(super) fn all(&self) -> impl Iterator<Item = &SpecFileFacts> {
        self.files.iter().flatten().flatten()
    }
}

fn read_engines(host: &Root) -> Vec<EngineFacts> {
    let facts =
        |(installed, config)| EngineFacts { installed, config, host_root: host.display_path("") };
    find_engines(host).into_iter().map(facts).collect()
}

/// Reads the directories that only engines know, where they exist, and then those of the settings.
fn read_spec_dirs(settings: &Settings, engines: &[EngineFacts], root: &Root) -> Vec<SpecDirFacts> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    for engine in engines.iter().filter(|engine| engine.has_cdi && engine.config.cdi_off.is_none())
    {
        for read in &engine.config.spec_dirs {
            let mut known = settings.spec_dirs.iter().chain(&dirs);
            let is_known = known.any(|dir| engine.is_dir(read, dir, root));
            let dir = engine.on_host(read);
            if !is_known && exists(&dir) {
                dirs.push(dir);
            }
        }
    }
    dirs.extend_from_slice(&settings.spec_dirs);
    // A directory under two names, as /run/cdi and /var/run/cdi, is read once: its files would clash with themselves.
    let identity = |dir: &PathBuf| root.identity(dir.to_str()?).ok().flatten();
    let is_again = |index: usize, dir: &PathBuf| {
        let mut later = dirs[index + 1..].iter();
        identity(dir).is_some_and(|found| later.any(|later| identity(later) == Some(found)))
    };
    let once = dirs.iter().enumerate().filter(|(index, dir)| !is_again(*index, dir));
    once.map(|(_, dir)| read_spec_dir(dir)).collect()
}

fn read_spec_dir(path: &Path) -> SpecDirFacts {
    // Engines pass over subdirectories, whatever their names (CDI pkg/cdi/spec-dirs.go).
    let is_spec =
        |name: &OsString| spec_file::is_spec_file(name) && !is_directory(&path.join(name));
    let file = |name: OsString| {
        let path = path.join(name);
        let bytes = read_regular(&path, SIZE_LIMIT).map_err(SpecFileError::from);
        match bytes.and_then(|bytes| Ok(spec_file::judge(&bytes)?)) {
            Ok(JudgedSpec { spec, refusal }) => SpecFileFacts { path, spec: Ok(spec), refusal },
            Err(error) => SpecFileFacts { path, spec: Err(error), refusal: None },
        }
    };
    let misnamed = |name: &OsString| {
        let from = path.join(name);
        let to = path.join(spec_file::corrected_name(name)?);
        (!is_directory(&from)).then_some((from, to))
    };
    let names = list_named(path);
    let all = names.iter().flatten().flatten();
    let misnamed = all.filter_map(misnamed).collect();
    let files = names.map(|names| Some(names?.into_iter().filter(is_spec).map(file).collect()));
    SpecDirFacts { path: path.to_owned(), files, misnamed }
}

/// Builds the spec that `generate` would write without flags.
fn expected_spec(
    discovery: &Discovery,
    libraries: Option<&Result<DriverFiles, Error>>,
    options: &SpecOptions,
) -> Result<Option<Spec>, ExpectedSpecError> {
    let files = match libraries {
        Some(Ok(libraries)) => &libraries.files[..],
        Some(Err(failure)) => return Err(failure.clone().into()),
        None => &[],
    };
    Ok(spec::build(&discovery.topology, files, DeviceSet::Mig, options)?.spec)
}
