//! One file per command, and what they share: settings, the machine, the discovery.

mod check;
mod compare;
mod configure;
mod doctor;
mod generate;
mod list;
mod listen;
mod nodes;
mod partition;
mod plan;
mod refresh;
mod show;
mod status;
mod verify;
mod watch;

use crate::{
    Exit, Failure, Look,
    cli::{Cli, Command, NodeArgs, SpecArgs, Verify},
    console::Console,
    discover::{self, Discovery, Source},
    engines::{self, Installed},
    spec::{Built, NameStyle, Options, VerifyHook},
};
use clap::ValueEnum;
use mig_cdi_config::Settings;
use mig_cdi_model::{
    DriverCapabilities, DriverCapability, DriverFile, Topology,
    cdi::{Kind, Limit, Version},
};
use mig_cdi_sim::{PRESETS, SimulatedMachine, SimulatedNode, preset};
use mig_cdi_sys::{
    Host, Machine, Root, Roots, absolute, exchangeable, is_program, own_program, read_named,
    read_regular,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Far above any configuration or node description.
const TEXT_LIMIT: usize = 1 << 20;

/// What a command did.
pub(crate) struct Done {
    /// For standard output.
    pub stdout: String,
    /// How it ended.
    pub exit: Exit,
}

/// Does what the command line asks.
pub(crate) fn run(
    cli: &Cli,
    words: &[OsString],
    console: &Console,
    looked: &mut dyn FnMut(Look),
) -> Result<Done, Failure> {
    let is_doctor = matches!(cli.command, Command::Doctor(_));
    let (settings, broken) = match settings(cli.config.as_deref(), is_doctor) {
        // The doctor says what is wrong with them.
        Err(failure) if is_doctor => {
            (Settings::parse("").map_err(|e| usage(e.to_string()))?, Some(failure))
        }
        read => (read?, None),
    };
    let (node, config) = (&cli.node, cli.config.as_deref());
    let (settings, engines) = (&settings, &OnceLock::new());
    let hands_out = matches!(&cli.command, Command::Watch(args) if args.refresh && args.inventory);
    let context = Context { node, config, words, settings, console, engines, hands_out };
    match &cli.command {
        Command::Generate(args) => generate::run(&context, args),
        Command::Check(args) => check::run(&context, args),
        Command::Compare(args) => compare::run(&context, args),
        Command::Doctor(args) => doctor::run(&context, args, broken),
        Command::Configure(args) => configure::run(&context, args),
        Command::List(args) => list::run(&context, args),
        Command::Map(args) => partition::map(&context, args),
        Command::Show(args) => show::run(&context, args),
        Command::Watch(args) => watch::run(&context, args, looked),
        Command::Status(args) => status::run(&context, args),
        Command::Nodes(args) => nodes::run(&context, args),
        Command::Profiles(args) => partition::profiles(&context, args),
        Command::Plan(args) => partition::plan(&context, args),
        Command::Apply(args) => partition::apply(&context, args),
        Command::Assert(args) => partition::assert(&context, args),
        Command::Export(args) => partition::export(&context, args),
        Command::Checkpoint(args) => partition::checkpoint(&context, args),
        Command::Restore(args) => partition::restore(&context, args),
        Command::Verify(args) => verify::run(&context, args),
    }
}

/// A file that the user names may be a pipe, but the doctor waits for no writer.
fn settings(path: Option<&Path>, is_doctor: bool) -> Result<Settings, Failure> {
    let file = path.unwrap_or(Path::new(mig_cdi_config::PATH));
    let read = if is_doctor || path.is_none() { read_regular } else { read_named };
    let text = match read(file, TEXT_LIMIT) {
        Ok(bytes) => utf8(bytes, file)?,
        Err(error) if path.is_none() && error.is_absent() => String::new(),
        Err(error) => return Err(Failure::new(Exit::Usage, error.to_string())),
    };
    Settings::parse(&text).map_err(|e| usage(format!("read {}: {e}", file.display())))
}

fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| usage(format!("read {}: not valid utf-8", path.display())))
}

fn usage(message: String) -> Failure {
    Failure::new(Exit::Usage, message)
}

/// What every command needs.
struct Context<'a> {
    node: &'a NodeArgs,
    config: Option<&'a Path>,
    /// The command line, from the command on.
    words: &'a [OsString],
    settings: &'a Settings,
    console: &'a Console,
    /// Once they have been asked.
    engines: &'a OnceLock<Vec<Installed>>,
    /// Somebody hands out what is found, and labels it.
    hands_out: bool,
}

impl Context<'_> {
    /// The machine that runs this, by its roots.
    fn host(&self) -> Result<Host, Failure> {
        Ok(Host::open(&self.roots())?)
    }

    fn roots(&self) -> Roots {
        let (node, settings) = (self.node, self.settings);
        let pick =
            |flag: &Option<PathBuf>, set: &PathBuf| flag.clone().unwrap_or_else(|| set.clone());
        Roots {
            driver: pick(&node.driver_root, &settings.driver_root),
            library_search_path: either(&node.library_search_path, &settings.library_search_path),
            dev: pick(&node.dev_root, &settings.dev_root),
            proc: pick(&node.proc_root, &settings.proc_root),
            cuda: self.hands_out,
        }
    }

    /// The machine that is asked: this one, or a simulated one.
    fn machine(&self) -> Result<Box<dyn Machine>, Failure> {
        match &self.node.node {
            None => Ok(Box::new(self.host()?)),
            Some(name) => Ok(Box::new(SimulatedMachine::new(simulated(name)?))),
        }
    }

    /// Discovers, and says what is missing.
    fn discover(&self, machine: &dyn Machine) -> Result<Discovery, Failure> {
        let source = self.node.source;
        let discovery = discover::discover(machine, source)?;
        if source == Source::Proc {
            let message = "without nvml there are no uuids and no profiles; devices are named by gpu minor, \
                           gpu instance and compute instance";
            self.console.warn(message);
        }
        for problem in &discovery.problems {
            self.console.error(&problem.to_string());
        }
        self.detail(&discovery);
        Ok(discovery)
    }

    fn detail(&self, discovery: &Discovery) {
        let Discovery { topology, library, .. } = discovery;
        let driver = &topology.driver_version;
        let asked = library.as_deref().unwrap_or("/proc alone");
        self.console.detail(&format!("driver {driver}, asked {asked}"));
        for gpu in &topology.gpus {
            let devices =
                gpu.gpu_instances.iter().map(|gi| gi.compute_instances.len()).sum::<usize>();
            let (label, node, instances) = (gpu.label(), &gpu.node.path, gpu.gpu_instances.len());
            self.console.detail(&format!(
                "{label} at {} is {node}: {instances} gpu instances, {devices} mig devices",
                gpu.pci
            ));
        }
    }

    fn capabilities<'b>(&'b self, args: &'b SpecArgs) -> &'b DriverCapabilities {
        args.capabilities.as_ref().unwrap_or(&self.settings.capabilities)
    }

    /// The files of the driver that containers shall have. A simulated node has none to give.
    fn driver_files(
        &self,
        machine: &dyn Machine,
        topology: &Topology,
        args: &SpecArgs,
    ) -> Result<Vec<DriverFile>, Failure> {
        let capabilities = self.capabilities(args);
        let root = machine.driver().filter(|_| !topology.gpus.is_empty());
        let Some(root) = root else { return Ok(Vec::new()) };
        let found = discover::find_files(root, &topology.driver_version, capabilities)?;
        for warning in &found.warnings {
            self.console.warn(warning);
        }
        for file in &found.files {
            self.console.detail(&format!("mount {}", file.host_path));
        }
        Ok(found.files)
    }

    /// Says what the document lacks.
    fn report(&self, built: &Built) {
        for problem in &built.problems {
            self.console.error(&problem.to_string());
        }
        for warning in &built.warnings {
            self.console.warn(warning);
        }
    }

    fn kind<'b>(&'b self, args: &'b SpecArgs) -> &'b Kind {
        args.kind.as_ref().unwrap_or(&self.settings.kind)
    }

    /// Flags over settings.
    fn options(&self, args: &SpecArgs) -> Result<Options, Failure> {
        let source = self.node.source;
        if source == Source::Proc && !args.names.is_empty() {
            let message =
                "--names needs nvml: with --source proc devices are named gpu minor:gi:ci";
            return Err(usage(message.to_owned()));
        }
        let mut names = args.names.clone();
        if names.is_empty() {
            let set = self.settings.names.iter();
            let parse = |name: &String| {
                NameStyle::from_str(name, false).map_err(|_| {
                    usage(format!(
                        "read the configuration: names: {name:?} is not uuid, slot or index"
                    ))
                })
            };
            names = set.map(parse).collect::<Result<_, _>>()?;
        }
        let library_dirs = either(&args.library_dirs, &self.settings.library_dirs);
        if let Some(dir) = library_dirs.iter().find(|dir| !is_plain_directory(dir)) {
            return Err(usage(format!(
                "--library-dirs: {dir:?} is no absolute path of a directory below the container's root"
            )));
        }
        let mut seen = Vec::new();
        names.retain(|name| {
            !seen.contains(name) && {
                seen.push(*name);
                true
            }
        });
        let (max_version, limited_by) = self.limit(args)?;
        Ok(Options {
            kind: self.kind(args).clone(),
            names,
            source,
            library_dirs,
            params_file: None,
            graphics: draws(self.capabilities(args)),
            admin: args.admin.clone(),
            cuda_env: args.cuda_env,
            annotations: args.annotations,
            verify: args.verify.map(|how| self.verify_hook(how, source)).transpose()?,
            ldcache: args.ldcache_hook.then(|| self.hook("--ldcache-hook")).transpose()?,
            max_version,
            limited_by,
        })
    }

    /// The highest version that may be used, and which engine says so.
    fn limit(&self, args: &SpecArgs) -> Result<(Version, Option<String>), Failure> {
        match args.max_cdi_version.unwrap_or(self.settings.max_cdi_version) {
            Limit::Is(version) => Ok((version, None)),
            Limit::Auto => Ok(engines::limit(self.engines(args)?)),
        }
    }

    /// The engines that are installed, or that were said. They are asked once.
    fn engines(&self, args: &SpecArgs) -> Result<&[Installed], Failure> {
        if let Some(known) = self.engines.get() {
            return Ok(known);
        }
        let engines = match &args.engines {
            Some(said) => said.0.clone(),
            None => {
                let root = args.engines_root.as_deref().unwrap_or(Path::new("/"));
                engines::installed(&Root::open(root)?)
            }
        };
        Ok(self.engines.get_or_init(|| engines))
    }
}

impl Context<'_> {
    /// The hook that a flag asks for is installed beside this program.
    fn hook(&self, flag: &str) -> Result<String, Failure> {
        if self.node.node.is_some() {
            let message =
                format!("{flag} is for containers with the driver: a simulated node has none");
            return Err(usage(message));
        }
        beside("mig-cdi-hook", flag)
    }

    /// The hook looks where this run looks.
    fn verify_hook(&self, how: Verify, source: Source) -> Result<VerifyHook, Failure> {
        const FLAG: &str = "--verify";
        if (how, source) == (Verify::Full, Source::Proc) {
            let message = "--verify=full asks NVML what --source=proc leaves out: take one of them";
            return Err(usage(message.to_owned()));
        }
        let path = self.hook(FLAG)?;
        let text = |path: &Path| text(path, FLAG);
        let program = own_program()?;
        let Roots { driver, library_search_path, dev, proc, .. } = self.roots();
        let mut options = vec![format!("--proc-root={}", text(&proc)?)];
        if how == Verify::Full {
            trusted(&program, FLAG)?;
            options.push(format!("--full={}", text(&program)?));
            options.push(format!("--driver-root={}", text(&driver)?));
            options.push(format!("--dev-root={}", text(&dev)?));
            for dir in &library_search_path {
                options.push(format!("--library-search-path={}", dir.display()));
            }
            if let Some(config) = self.config {
                options.push(format!("--config={}", text(config)?));
            }
        }
        let timeout = if how == Verify::Full { 20 } else { 5 };
        Ok(VerifyHook { path, options, timeout })
    }
}

/// A program that is installed with this one.
fn beside(name: &str, flag: &str) -> Result<String, Failure> {
    let program = own_program()?.with_file_name(name);
    trusted(&program, flag)?;
    text(&program, flag)
}

/// Engines run it as root, so nobody else may be able to put another in its place.
fn trusted(program: &Path, flag: &str) -> Result<(), Failure> {
    let fail = |why: String| {
        Err(Failure::new(Exit::Refused, format!("use {} for {flag}: {why}", program.display())))
    };
    match (is_program(program), exchangeable(program)) {
        (false, _) => fail("no such program; install mig-cdi-hook beside mig-cdi".to_owned()),
        (true, Some(why)) => fail(format!("{why}, and the hook runs as root; install it as root")),
        (true, None) => Ok(()),
    }
}

/// An absolute path for the spec.
fn text(path: &Path, flag: &str) -> Result<String, Failure> {
    let path = absolute(path)?;
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| usage(format!("{flag}: {} is not valid utf-8", path.display())))
}

fn draws(capabilities: &DriverCapabilities) -> bool {
    capabilities.has(DriverCapability::Graphics) || capabilities.has(DriverCapability::Display)
}

fn is_plain_directory(path: &str) -> bool {
    let names = path.strip_prefix('/').unwrap_or_default();
    names.split('/').all(|name| !name.is_empty() && name != "." && name != "..")
        && !path.chars().any(char::is_control)
}

/// The flag's list when there is one.
fn either<T: Clone>(flag: &[T], setting: &[T]) -> Vec<T> {
    if flag.is_empty() { setting.to_vec() } else { flag.to_vec() }
}

fn simulated(name: &Path) -> Result<SimulatedNode, Failure> {
    let text = match name.to_str().and_then(preset) {
        Some(text) => text.to_owned(),
        None => {
            let bytes = read_named(name, TEXT_LIMIT).map_err(|error| {
                let known: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
                usage(format!("{error}; built-in nodes are {}", known.join(", ")))
            })?;
            utf8(bytes, name)?
        }
    };
    SimulatedNode::parse(&text).map_err(|e| usage(format!("read node {}: {e}", name.display())))
}

fn exit(complete: bool) -> Exit {
    if complete { Exit::Success } else { Exit::Incomplete }
}
