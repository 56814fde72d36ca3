//! Arguments that determine the contents of a spec, and its file.

use crate::{
    flag_or_setting,
    trusted_program::{absolute_text, check_trusted, installed_beside},
};
use clap::{Args, ValueEnum};
use mig_cdi_config::{Settings, library_dir};
use mig_cdi_gen::{
    Error, NodeSource, Result,
    discover::Source,
    engines::EngineList,
    generate::{DeviceOptions, EngineLookup, GenerateOptions, SpecDestination},
    spec::{Admin, Format, NameStyle, SpecOptions, VerifyHook},
};
use mig_cdi_model::{
    DriverCapabilities, DriverCapability,
    cdi::{Kind, Version, VersionLimit},
};
use mig_cdi_sys::own_program;
use std::path::{Path, PathBuf};

/// Values of `--names`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(clippy::doc_markdown)] // The docs are help texts, where backticks would be printed.
pub enum NameStyleArg {
    /// UUID of the slice, MIG-…, as nvidia-smi -L prints it.
    Uuid,
    /// GPU, profile and start, such as 0:2g.20gb:4; it vanishes when the layout changes. A compute instance smaller than its GPU
    /// instance adds its own start: 0:1c.3g.40gb:4:1.
    Slot,
    /// GPU and MIG index, such as 0:1. It may become the name of another slice when slices are created or destroyed.
    Index,
}

impl From<NameStyleArg> for NameStyle {
    fn from(arg: NameStyleArg) -> NameStyle {
        match arg {
            NameStyleArg::Uuid => NameStyle::Uuid,
            NameStyleArg::Slot => NameStyle::Slot,
            NameStyleArg::Index => NameStyle::Index,
        }
    }
}

/// Values of `--admin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AdminArg {
    /// Create and destroy GPU instances and compute instances.
    Config,
    /// See processes, memory and events of all instances.
    Monitor,
}

impl From<AdminArg> for Admin {
    fn from(arg: AdminArg) -> Admin {
        match arg {
            AdminArg::Config => Admin::Config,
            AdminArg::Monitor => Admin::Monitor,
        }
    }
}

/// Values of `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// JSON.
    Json,
    /// YAML, with every string quoted.
    Yaml,
}

impl From<FormatArg> for Format {
    fn from(arg: FormatArg) -> Format {
        match arg {
            FormatArg::Json => Format::Json,
            FormatArg::Yaml => Format::Yaml,
        }
    }
}

/// Arguments that determine the devices of a spec: their names and their edits.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Spec contents")]
#[allow(clippy::doc_markdown)] // The docs are help texts, where backticks would be printed.
pub struct SpecArgs {
    /// Name devices in each STYLE [default: uuid,slot]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STYLE,…")]
    pub names: Vec<NameStyleArg>,

    /// Set the CDI kind of the devices [default: nvidia.com/mig]
    #[arg(long, value_name = "VENDOR/CLASS")]
    pub kind: Option<Kind>,

    /// Mount these classes of driver files: a list of compute, utility, video, graphics, display, ngx,
    /// compat32; or all, or none [default: compute,utility]
    #[arg(long, value_name = "CLASS,…")]
    pub capabilities: Option<DriverCapabilities>,

    /// Mount driver libraries into each DIR of the container, which its loader has to search without a cache
    /// [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]
    #[arg(long, value_name = "DIR,…", value_delimiter = ',', value_parser = library_dir)]
    pub library_dirs: Vec<String>,

    /// Define nvidia.com/mig=config or =monitor too, each one capability over all slices of the node, for
    /// containers that partition or monitor GPUs
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CAPABILITY,…")]
    pub admin: Vec<AdminArg>,

    /// Set CUDA_VISIBLE_DEVICES too. Of two requested devices the last one's value wins, so use this for
    /// containers with one slice, or with all
    #[arg(long)]
    pub cuda_env: bool,

    /// Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec
    /// (needs CDI 0.6.0)
    #[arg(long)]
    pub annotations: bool,

    /// Verify the slices by a hook when a container starts: same numbers, same GPU; with full also same
    /// profile, placement and UUID, which needs NVML. If they differ, the container does not start
    #[arg(long, value_enum, value_name = "LEVEL", num_args = 0..=1, require_equals = true,
        default_missing_value = "proc")]
    pub verify: Option<VerifyLevel>,

    /// Add the first of --library-dirs to the loader's cache, by a hook that mounts a changed copy of
    /// /etc/ld.so.cache: for images whose loader searches none of --library-dirs
    #[arg(long)]
    pub ldcache_hook: bool,

    /// Limit the CDI version of the spec to VERSION; with auto, to what all installed engines accept
    /// [default: 0.5.0]
    #[arg(long, value_name = "VERSION|auto")]
    pub max_cdi_version: Option<VersionLimit>,

    /// Assume these engines, as podman=4.3.1,docker=26.1, or none, instead of the installed ones. They
    /// matter when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto
    #[arg(long, value_name = "ENGINE=VERSION,…")]
    pub engines: Option<EngineList>,

    /// Look for engines below DIR
    #[arg(long = "engines-root", value_name = "DIR", hide = true)]
    pub engines_root: Option<PathBuf>,
}

/// Values of `--verify`: the extent of the check when a container starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum VerifyLevel {
    /// Check against /proc, in less than a millisecond.
    Proc,
    /// Check against NVML too, which takes as long as a run of mig-cdi.
    Full,
}

/// Arguments that determine a spec and its file.
#[derive(Debug, Default, Args)]
pub struct GenerateArgs {
    /// Write or check PATH; with - generate prints to standard output [default:
    /// /var/run/cdi/nvidia.com-mig.json]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,

    /// Write the spec in this format [default: by the suffix of PATH, else json]
    #[arg(long, value_enum)]
    pub format: Option<FormatArg>,

    /// Write GPUs that are not in MIG mode too, as nvidia.com/gpu=INDEX and =UUID, into a second file in the
    /// same directory
    #[arg(long)]
    pub gpus: bool,

    /// Mount a copy of /proc/driver/nvidia/params that forbids the driver's libraries to create device
    /// nodes. For engines with crun only: runc starts no container with a mount in /proc
    #[arg(long)]
    pub mask_params: bool,

    /// Write nothing unless every device is complete and has every name
    #[arg(long)]
    pub strict: bool,

    /// Devices of the spec.
    #[command(flatten)]
    pub spec: SpecArgs,
}

impl SpecArgs {
    /// Resolves the options of the devices: the flags, or else the settings. `config` is the configuration file that the
    /// command line names; a hook of the spec reads it again.
    ///
    /// # Errors
    /// When flags contradict each other, or a program that a flag needs is not installed or not safe to run as root.
    pub fn resolve(
        &self,
        node: &NodeSource,
        settings: &Settings,
        config: Option<&Path>,
    ) -> Result<DeviceOptions> {
        let capabilities = self.capabilities.as_ref().unwrap_or(&settings.capabilities);
        let library_dirs = flag_or_setting(&self.library_dirs, &settings.library_dirs);
        let verify = self.verify.map(|level| verify_hook(level, node, config)).transpose()?;
        let ldcache = self.ldcache_hook.then(|| hook(node, "--ldcache-hook")).transpose()?;
        let spec = SpecOptions {
            kind: self.kind.as_ref().unwrap_or(&settings.kind).clone(),
            names: self.names(node.source, settings)?,
            source: node.source,
            library_dirs,
            params_file: None,
            // A slice of a +gfx profile renders through the nodes of /dev/dri.
            wants_graphics: capabilities.has(DriverCapability::Graphics)
                || capabilities.has(DriverCapability::Display),
            admin: self.admin.iter().copied().map(Admin::from).collect(),
            sets_cuda_env: self.cuda_env,
            wants_annotations: self.annotations,
            verify,
            ldcache,
            // `DeviceBuilder::options` sets both, when it knows the engines.
            max_version: Version::V0_5_0,
            limited_by: None,
        };
        let engines = match &self.engines {
            Some(list) => EngineLookup::Listed(list.clone()),
            None => {
                EngineLookup::Installed(self.engines_root.clone().unwrap_or_else(|| "/".into()))
            }
        };
        Ok(DeviceOptions {
            spec,
            capabilities: capabilities.clone(),
            cdi_limit: self.max_cdi_version.unwrap_or(settings.max_cdi_version),
            engines,
        })
    }

    /// Returns the styles of the names, each once, in the given order.
    fn names(&self, source: Source, settings: &Settings) -> Result<Vec<NameStyle>> {
        if source == Source::Proc && !self.names.is_empty() {
            // /proc has no UUIDs of slices, no placements and no MIG indices.
            return Err(Error::usage("accept", "--names")
                .because("without nvml devices are named gpu minor:gi:ci")
                .with_cure("omit --names or --source proc"));
        }
        let names = self.names.iter().copied().map(NameStyle::from).collect::<Vec<_>>();
        let mut names = flag_or_setting(&names, &settings.names);
        let mut seen = Vec::new();
        names.retain(|name| {
            let is_new = !seen.contains(name);
            seen.push(*name);
            is_new
        });
        Ok(names)
    }
}

impl GenerateArgs {
    /// Resolves the options of the spec and its file: the flags, or else the settings. `config` is as for
    /// [`SpecArgs::resolve`].
    ///
    /// # Errors
    /// As [`SpecArgs::resolve`].
    pub fn resolve(
        &self,
        node: &NodeSource,
        settings: &Settings,
        config: Option<&Path>,
    ) -> Result<GenerateOptions> {
        // Engines load *.json and *.yaml, and no other suffix (container-device-interface pkg/cdi/spec-dirs.go).
        let by_suffix = || match self.output.as_ref()?.extension()?.to_str()? {
            "yaml" => Some(Format::Yaml),
            _ => None,
        };
        let format = self.format.map(Format::from).or_else(by_suffix).unwrap_or(Format::Json);
        let output = match &self.output {
            Some(path) if path == Path::new("-") => SpecDestination::Stdout,
            Some(path) => SpecDestination::File(path.clone()),
            None => SpecDestination::SpecDir,
        };
        Ok(GenerateOptions {
            devices: self.spec.resolve(node, settings, config)?,
            output,
            format,
            spec_dirs: settings.spec_dirs.clone(),
            whole_gpus: self.gpus,
            mask_params: self.mask_params,
            strict: self.strict,
        })
    }
}

/// Returns the path of the hook that a flag needs.
fn hook(node: &NodeSource, flag: &str) -> Result<String> {
    if node.is_simulated() {
        return Err(Error::usage("accept", flag)
            .because("it is for containers that use the driver, and a simulated node has none")
            .with_cure(format!("omit {flag} or --node")));
    }
    installed_beside("mig-cdi-hook", flag)
}

/// Returns the hook that checks slices when a container starts. It reads the node from the same places as this run.
fn verify_hook(level: VerifyLevel, node: &NodeSource, config: Option<&Path>) -> Result<VerifyHook> {
    const FLAG: &str = "--verify";
    if (level, node.source) == (VerifyLevel::Full, Source::Proc) {
        return Err(Error::usage("accept", "--verify=full")
            .because("it needs nvml, which --source proc does not use")
            .with_cure("omit --verify=full or --source proc"));
    }
    let path = hook(node, FLAG)?;
    let text = |path: &Path| absolute_text(path, FLAG);
    let roots = &node.roots;
    let mut options = vec![format!("--proc-root={}", text(&roots.proc)?)];
    if level == VerifyLevel::Full {
        // The hook runs `mig-cdi verify`, and engines run the hook as root.
        let program = own_program()?;
        check_trusted(&program, FLAG)?;
        options.push(format!("--full={}", text(&program)?));
        options.push(format!("--driver-root={}", text(&roots.driver)?));
        options.push(format!("--dev-root={}", text(&roots.dev)?));
        for dir in &roots.library_search_path {
            options.push(format!("--library-search-path={}", dir.display()));
        }
        if let Some(config) = config {
            options.push(format!("--config={}", text(config)?));
        }
    }
    // In seconds. To initialise a GPU that no program has open takes NVML seconds (NVIDIA, "Driver Persistence").
    let timeout = if level == VerifyLevel::Full { 20 } else { 5 };
    Ok(VerifyHook { path, options, timeout })
}
