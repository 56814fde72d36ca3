//! `mig-cdi configure`: configures an engine to read our specs, or undoes it.

use crate::{
    cli::{ConfigureArgs, EngineArg},
    command_output::CommandOutput,
    configure::{
        ConfigPlan, ConfigureRequest, DaemonState, Draft, EngineDaemon, LIMIT, Record,
        RunningDaemons, UndoPreview, daemon_state, find_engine, lock, plan, record_path,
        running_daemons, write,
    },
    console::Console,
    engine_files::{ConfigPlaces, user_dir},
};
use mig_cdi_args::installed_beside;
use mig_cdi_config::{HookSettings, RequestPolicy, Settings};
use mig_cdi_gen::{
    Error, Exit, MessageSink,
    engines::{InstalledEngine, PROGRAM_DIRS},
};
use mig_cdi_model::is_unprintable;
use mig_cdi_sys::{ConfigFile, Root, is_root};
use std::path::{Path, PathBuf};

const NOTHING_TO_CHANGE: &str = "nothing to change";

pub(super) fn run(
    args: &ConfigureArgs,
    settings: &Settings,
    console: &Console,
) -> Result<CommandOutput, Error> {
    check(args)?;
    let name = args.engine.name();
    // The unit is the same on every host, and is printed even where podman is not installed.
    if args.quadlet {
        let stdout = mig_cdi_config::engines::QUADLET.to_owned();
        return Ok(CommandOutput::success(stdout));
    }
    let host = Root::open(&args.host_root)?;
    let user = args.rootless.then(|| user_dirs(&host)).transpose()?;
    let state = user.as_ref().map_or("/var/lib", |user| &user.state);
    let record = record_path(state, name);
    if args.undo {
        return undo(console, &host, name, &record, args.dry_run);
    }
    let paths = |list: &[PathBuf]| list.iter().map(|path| path.display().to_string()).collect();
    let is_image = args.host_root != Path::new("/");
    let running = running_daemons(&host, args.engine, user.is_some());
    if let Some(unclear) = &running.unclear {
        return Err(unclear.refusal(args.engine));
    }
    let uses_hook = args.hook || args.runtime;
    let hook = uses_hook.then(|| hook_settings(&host)).transpose()?;
    let request = ConfigureRequest {
        engine_kind: args.engine,
        engine: engine(console, &host, args, &running)?,
        dirs: paths(&settings.spec_dirs),
        settings_file: &settings.file,
        runtime: program(args.runtime, "mig-cdi-runtime", "--runtime")?,
        hook: program(args.hook, "mig-cdi-hook", "--hook")?,
        host: &host,
        places: ConfigPlaces::new(
            args.engine,
            user.map(|user| user.config),
            running.given,
            !is_image,
        ),
        is_image,
        program_dirs: running.program_dirs,
        real_runtimes: hook.as_ref().map(|hook| paths(&hook.runtimes)).unwrap_or_default(),
    };
    for file in running.others {
        console.warn(&format!("another running {name} reads {file}, which stays as it is"));
    }
    let done = match args.dry_run {
        true => preview(console, &request),
        false => configure(console, &request, &record),
    };
    if let (Ok(_), Some(hook)) = (&done, hook) {
        console.status(&accepted_requests(hook.requests, &host));
    }
    done
}

/// Returns the settings that the hook will have where the engine runs it: it reads the file of that root, whatever `--config` names
/// here.
///
/// # Errors
/// When it cannot be read or is wrong: the hook would stop every container.
fn hook_settings(host: &Root) -> Result<HookSettings, Error> {
    let path = mig_cdi_config::PATH;
    let error = || Error::usage("read", host.display_path(path).display());
    let bytes = host.read(path, LIMIT)?.unwrap_or_default();
    let text = String::from_utf8(bytes).map_err(|_| error().because("not valid utf-8"))?;
    let settings = Settings::parse_for_hook(&text);
    settings.map(|settings| settings.hook).map_err(|e| error().because_of(e.without_cure(), e.cure))
}

/// Line that names the containers from which the hook accepts requests, now that an engine runs it.
fn accepted_requests(policy: RequestPolicy, host: &Root) -> String {
    let containers = match policy {
        RequestPolicy::None => "no container",
        RequestPolicy::Privileged => "containers that may open every device (--privileged)",
        RequestPolicy::All => "every container, so any image gets the slices that it names",
    };
    let path = host.display_path(mig_cdi_config::PATH);
    let path = path.display();
    format!(
        "requests by annotation or NVIDIA_VISIBLE_DEVICES are accepted from {containers}: hook.requests in {path}"
    )
}

/// Prints the changes as a unified diff, and makes none.
fn preview(console: &Console, request: &ConfigureRequest<'_>) -> Result<CommandOutput, Error> {
    let plan = plan(request)?;
    report_plan(console, &plan, request);
    let changed = plan.drafts.iter().filter(|draft| draft.is_changed());
    let stdout: String = changed.map(Draft::diff).collect();
    if stdout.is_empty() {
        console.status(NOTHING_TO_CHANGE);
    }
    Ok(CommandOutput::success(stdout))
}

/// Makes the changes, and reports the daemon that has to read them.
fn configure(
    console: &Console,
    request: &ConfigureRequest<'_>,
    record: &str,
) -> Result<CommandOutput, Error> {
    let first = plan(request);
    // Without a change there is nothing to protect: a user without the right to write can run it too.
    let is_done = |plan: &ConfigPlan| !plan.drafts.iter().any(Draft::is_changed);
    let locked = match first.as_ref().is_ok_and(is_done) {
        true => None,
        false => Some(lock(request.host, record)),
    };
    // Another run may have changed the files while this one read them, or waited for the lock.
    let plan = match &locked {
        Some(Ok(_)) => plan(request)?,
        _ => first?,
    };
    let _lock = locked.transpose()?;
    report_plan(console, &plan, request);
    let lines = write(&plan.drafts, request.host, record)?;
    lines.iter().for_each(|line| console.status(line));
    if lines.is_empty() {
        console.status(NOTHING_TO_CHANGE);
    }
    report_restart(console, &plan, request)?;
    Ok(CommandOutput::success(String::new()))
}

fn report_plan(console: &Console, plan: &ConfigPlan, request: &ConfigureRequest<'_>) {
    let daemon = plan.daemon.map(|daemon| daemon.process);
    if let (Some(file), Some(daemon)) = (&request.places.given.file, daemon) {
        console.status(&format!("the running {daemon} reads {file}"));
    }
    plan.warnings.iter().for_each(|warning| console.warn(warning));
    plan.notes.iter().for_each(|note| console.status(note));
}

/// Checks that the engine has what the flags request.
fn check(args: &ConfigureArgs) -> Result<(), Error> {
    let no = |flag: &str, why: &str| {
        Err(Error::usage("configure", args.engine.name()).because(format!("{flag}: {why}")))
    };
    match args.engine {
        EngineArg::Containerd | EngineArg::Crio if args.rootless => {
            no("--rootless", "only podman and docker can be run by a user")
        }
        EngineArg::Containerd | EngineArg::Docker if args.hook => {
            no("--hook", "it reads no hooks.d; use --runtime")
        }
        EngineArg::Containerd | EngineArg::Crio | EngineArg::Docker if args.quadlet => {
            no("--quadlet", "only podman has it")
        }
        _ if args.rootless && args.runtime => {
            // It changes cgroups and device nodes, which the kernel allows to root only.
            no("--runtime", "mig-cdi-runtime works only as root; use --device")
        }
        _ => Ok(()),
    }
}

/// Directories of a user (XDG Base Directory Specification).
struct UserDirs {
    /// `$XDG_CONFIG_HOME`, or `~/.config`.
    config: String,
    /// `$XDG_STATE_HOME`, or `~/.local/state`.
    state: String,
}

/// Returns the directories of the user who runs this (XDG Base Directory Specification).
///
/// # Errors
/// When there are none, and for root, when they are not root's own: `su` and `sudo -E` keep the HOME of another user, who
/// would decide which files root writes and removes.
fn user_dirs(host: &Root) -> Result<UserDirs, Error> {
    if is_root() && std::env::var_os("SUDO_USER").is_some() {
        return Err(Error::usage("accept", "--rootless")
            .because("it configures the engine of the user who runs it, and sudo makes that root")
            .with_cure("run it without sudo"));
    }
    let dir = |name, below: &str| {
        user_dir(name, below).ok_or_else(|| {
            Error::usage("accept", "--rootless")
                .because(format!("neither {name} nor HOME names a directory"))
                .with_cure("set HOME")
        })
    };
    let dirs = UserDirs {
        config: dir("XDG_CONFIG_HOME", ".config")?,
        state: dir("XDG_STATE_HOME", ".local/state")?,
    };
    for dir in [&dirs.config, &dirs.state].into_iter().filter(|_| is_root()) {
        if let Some(reason) = host.exchangeable(dir) {
            return Err(Error::refused("use", host.display_path(dir).display())
                .because(format!("{reason}, and this runs as root"))
                .with_cure("run it as the user whose engine it is, or set HOME to root's"));
        }
    }
    Ok(dirs)
}

/// Returns the engine: in the version of the command line, or else as it is installed.
fn engine(
    console: &Console,
    host: &Root,
    args: &ConfigureArgs,
    running: &RunningDaemons,
) -> Result<InstalledEngine, Error> {
    let name = args.engine.name();
    let listed =
        args.engine_version.and_then(|version| InstalledEngine::named(name, Some(version)));
    let found = listed.or_else(|| find_engine(host, args.engine, running));
    let engine = found.ok_or_else(|| {
        Error::failed("configure", name)
            .because(format!("it is in none of {}", PROGRAM_DIRS.join(", ")))
            .with_cure("install it, or give its version with --engine-version")
    })?;
    if let Err(reason) = &engine.version {
        console.warn(&format!(
            "the version of {name} is not known: {reason}; it is configured as the newest known one, unless \
             --engine-version gives it"
        ));
    }
    Ok(engine)
}

/// Returns the path of a program to register, when its flag is given.
fn program(requested: bool, name: &str, flag: &str) -> Result<Option<String>, Error> {
    if !requested {
        return Ok(None);
    }
    let path = installed_beside(name, flag)?;
    // Files of engines quote it in TOML or JSON, where these characters would need an escape.
    match path.contains(|c: char| matches!(c, '"' | '\\') || is_unprintable(c)) {
        true => Err(Error::usage("accept", flag).because(format!(
            "{path:?} contains a character that cannot be written into a configuration"
        ))),
        false => Ok(Some(path)),
    }
}

/// Reports the daemon that has to be restarted, if any.
fn report_restart(
    console: &Console,
    plan: &ConfigPlan,
    request: &ConfigureRequest<'_>,
) -> Result<(), Error> {
    let Some(EngineDaemon { process, restart }) = plan.daemon else {
        console.status("each start of a container reads it: no restart is needed");
        return Ok(());
    };
    // The daemon has read all files only if it is younger than the newest change.
    let mut changed = 0;
    let drafted = plan.drafts.iter().map(|draft| &draft.path);
    for path in plan.read.iter().chain(drafted) {
        let file = ConfigFile::open(request.host, path, LIMIT)?;
        changed = changed.max(file.changed().unwrap_or(0));
    }
    let message =
        match daemon_state(request.host, process, request.places.user_config.is_some(), changed) {
            DaemonState::NotRunning => {
                format!("{process} is not running: it reads the change when it starts")
            }
            DaemonState::Current => {
                format!("the running {process} was started after the change, and has read it")
            }
            DaemonState::Outdated => {
                format!("the running {process} has not read the change yet: run {restart}")
            }
        };
    console.status(&message);
    Ok(())
}

/// Undoes the changes, or with `dry_run` prints them as a unified diff.
fn undo(
    console: &Console,
    host: &Root,
    name: &str,
    path: &str,
    dry_run: bool,
) -> Result<CommandOutput, Error> {
    // As in `configure`: a run that changes nothing takes no lock.
    let writes = !dry_run && !Record::read(host, path)?.files.is_empty();
    let _lock = writes.then(|| lock(host, path)).transpose()?;
    let record = Record::read(host, path)?;
    if record.files.is_empty() {
        console.status("nothing to undo: configure has changed nothing here");
        return Ok(CommandOutput::success(String::new()));
    }
    match record.preview_undo(host)? {
        UndoPreview::Clean(stdout) if dry_run => Ok(CommandOutput::success(stdout)),
        UndoPreview::Clean(_) => {
            let lines = record.undo(host, path)?;
            lines.iter().for_each(|line| console.status(line));
            console.status(&format!("restart {name} if it runs as a service"));
            Ok(CommandOutput::success(String::new()))
        }
        UndoPreview::Conflict(stdout) => {
            console.error(&format!(
                "configure {name} --undo: someone else has changed a file since; nothing is undone. Remove \
                 the changes of mig-cdi by hand, or restore FILE.mig-cdi-backup, then remove {}",
                host.display_path(path).display()
            ));
            Ok(CommandOutput { stdout, exit: Exit::Refused })
        }
    }
}
