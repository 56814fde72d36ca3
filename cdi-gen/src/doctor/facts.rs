//! What the checks look at, read once.

use super::engines::{self, Engine};
use crate::{
    Failure,
    discover::{self, Discovery, DriverFiles, Source},
    spec::{self, Content, SpecOptions},
    spec_file::{self, SIZE_LIMIT},
};
use mig_cdi_config::Settings;
use mig_cdi_model::{DeviceNode, MigDevice, Topology, cdi::Spec};
use mig_cdi_sys::{Machine, Root, list_named, nvml, read_regular, text};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Far above any configuration of an engine.
pub(super) const TEXT_LIMIT: usize = 1 << 20;

/// What was read.
pub(crate) struct Facts<'a> {
    pub settings: &'a Settings,
    /// Why the settings are the defaults.
    pub broken_settings: Option<String>,
    /// The driver's files and nodes.
    pub machine: &'a dyn Machine,
    /// Where engines, their configuration and the processes are.
    pub host: &'a Root,
    /// Where the paths of a spec lead.
    pub real: Root,
    pub nvml: Result<nvml::Report, Failure>,
    /// Both views, or `/proc` alone when there is no NVML.
    pub found: Result<Discovery, Failure>,
    /// `/proc` alone: every instance that there is.
    pub tree: Result<Discovery, Failure>,
    /// `None` where they do not matter.
    pub libraries: Option<Result<DriverFiles, Failure>>,
    /// What `generate` would write now; the reason when that cannot be told.
    pub truth: Result<Option<Spec>, String>,
    pub dirs: Vec<Dir>,
    pub engines: Vec<Engine>,
}

/// A directory of specs.
pub(crate) struct Dir {
    pub path: PathBuf,
    /// `None` when it is not there.
    pub files: Result<Option<Vec<File>>, String>,
}

/// A file that engines take for a spec.
pub(crate) struct File {
    pub path: PathBuf,
    /// What it says, or why that cannot be told.
    pub spec: Result<Spec, String>,
}

impl Facts<'_> {
    /// Looks everywhere.
    pub(crate) fn gather<'a>(
        machine: &'a dyn Machine,
        host: &'a Root,
        settings: &'a Settings,
        options: &SpecOptions,
    ) -> Result<Facts<'a>, Failure> {
        let tree = discover::discover(machine, Source::Proc);
        let nvml = match (&tree, options.source) {
            (Ok(_), Source::Nvml) => machine.nvml().map_err(discover::explain),
            (Ok(_), Source::Proc) => Err(Failure::new(crate::Exit::NoDriver, "not asked; ask it")),
            (Err(failure), _) => Err(failure.clone()),
        };
        let found = match &nvml {
            Ok(_) => discover::discover(machine, Source::Nvml),
            Err(_) => tree.clone(),
        };
        let libraries = machine.driver().zip(found.as_ref().ok()).map(|(root, found)| {
            let version = &found.topology.driver_version;
            discover::find_files(root, version, &settings.capabilities)
        });
        let truth = match (&nvml, &found) {
            (Ok(_), Ok(found)) => truth(found, libraries.as_ref(), options),
            _ => Err("nvml does not answer".to_owned()),
        };
        Ok(Facts {
            settings,
            broken_settings: None,
            machine,
            host,
            real: Root::open(Path::new("/"))?,
            nvml,
            found,
            tree,
            libraries,
            truth,
            dirs: settings.spec_dirs.iter().map(|dir| read_dir(dir)).collect(),
            engines: engines::find(host),
        })
    }

    /// The node as far as it is known.
    pub(super) fn topology(&self) -> Option<&Topology> {
        self.found.as_ref().or(self.tree.as_ref()).ok().map(|found| &found.topology)
    }

    /// The nodes of the slices, and those that every program opens: by path.
    pub(super) fn nodes(&self) -> BTreeMap<&str, &DeviceNode> {
        let Some(topology) = self.topology() else { return BTreeMap::new() };
        let slices = topology.mig_devices().flat_map(|device| MigDevice::nodes(&device));
        let nodes = topology.common.iter().chain(slices);
        nodes.map(|node| (node.path.as_str(), node)).collect()
    }

    /// Every file that can be read as a spec, with the number of its directory.
    pub(super) fn specs(&self) -> impl Iterator<Item = (usize, &Path, &Spec)> {
        let dirs = self.dirs.iter().enumerate();
        let files = dirs.flat_map(|(i, dir)| dir.all().map(move |file| (i, file)));
        files.filter_map(|(i, file)| Some((i, file.path.as_path(), file.spec.as_ref().ok()?)))
    }

    /// The major of capability nodes.
    pub(super) fn caps_major(&self) -> Option<u32> {
        let bytes = self.machine.read("/proc/devices", TEXT_LIMIT).ok()??;
        Some(text::char_devices(&bytes).ok()?.major("nvidia-caps")?.0)
    }

    /// The minors of capabilities that are of no instance, as `config`: in the driver's tables their
    /// names have no slash.
    pub(super) fn standing(&self) -> BTreeSet<u32> {
        let minors = |table: &str| -> Option<Vec<u32>> {
            let path = format!("/proc/driver/nvidia-caps/{table}-minors");
            let table = String::from_utf8(self.machine.read(&path, TEXT_LIMIT).ok()??).ok()?;
            let lines = table.lines().filter(|line| !line.contains('/'));
            Some(lines.filter_map(|line| line.split_once(' ')?.1.parse().ok()).collect())
        };
        ["mig", "nvlink", "sys"].into_iter().filter_map(minors).flatten().collect()
    }

    /// A text of an engine: `None` when it is not there.
    pub(super) fn text(&self, path: &str) -> Option<Result<String, String>> {
        read_text(self.host, path)
    }
}

impl Dir {
    /// Its files, none when it cannot be read.
    pub(super) fn all(&self) -> impl Iterator<Item = &File> {
        self.files.iter().flatten().flatten()
    }
}

/// A text below a root: `None` when it is not there.
pub(super) fn read_text(root: &Root, path: &str) -> Option<Result<String, String>> {
    match root.read(path, TEXT_LIMIT) {
        Ok(bytes) => Some(String::from_utf8(bytes?).map_err(|_| "it is not utf-8".to_owned())),
        Err(error) => Some(Err(error.to_string())),
    }
}

fn read_dir(path: &Path) -> Dir {
    let is_spec = |name: &String| {
        let extension = Path::new(name).extension();
        extension.is_some_and(|extension| extension == "json" || extension == "yaml")
    };
    let file = |name: String| {
        let path = path.join(name);
        let spec = read_regular(&path, SIZE_LIMIT).map_err(|error| error.to_string());
        let what = "it is no cdi spec in json or yaml";
        let spec = spec.and_then(|b| spec_file::parse(&b).ok_or_else(|| what.to_owned()));
        File { path, spec }
    };
    let names = list_named(path).map_err(|error| error.to_string());
    let files = names.map(|names| Some(names?.into_iter().filter(is_spec).map(file).collect()));
    Dir { path: path.to_owned(), files }
}

/// The spec that the node would get.
fn truth(
    found: &Discovery,
    libraries: Option<&Result<DriverFiles, Failure>>,
    options: &SpecOptions,
) -> Result<Option<Spec>, String> {
    let files = match libraries {
        Some(Ok(found)) => &found.files[..],
        Some(Err(failure)) => return Err(failure.message.clone()),
        None => &[],
    };
    let built = spec::build(&found.topology, files, Content::Mig, options);
    built.map(|built| built.spec).map_err(|failure| failure.message)
}
