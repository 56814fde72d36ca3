//! `mig-cdi configure`: has an engine read our specs.

use super::Done;
use crate::{
    cli::{ConfigureArgs, Engine},
    configure::{
        ConfigPlan, ConfigureRequest, DaemonState, Draft, LIMIT, Record, UndoPreview, UserDirs,
        daemon_state, lock, plan as draft, record_path, write,
    },
    console::Console,
};
use mig_cdi_args::installed_beside;
use mig_cdi_config::Settings;
use mig_cdi_gen::{
    Error, Exit, MessageSink,
    engines::{self, InstalledEngine, PROGRAM_DIRS},
};
use mig_cdi_sys::{ConfigFile, Root, is_root};

pub(super) fn run(
    args: &ConfigureArgs,
    settings: &Settings,
    console: &Console,
) -> Result<Done, Error> {
    let name = check(args)?;
    if args.quadlet {
        let stdout = mig_cdi_config::engines::QUADLET.to_owned();
        return Ok(Done { stdout, exit: Exit::Success });
    }
    let host = Root::open(&args.host_root)?;
    let home = args.rootless.then(home).transpose()?;
    let state = home.as_ref().map_or("/var/lib", |home| &home.state);
    let record = record_path(state, name);
    if args.undo {
        return undo(console, &host, name, &record, args.dry_run);
    }
    let request = ConfigureRequest {
        engine: engine(console, &host, name, args)?,
        dirs: settings.spec_dirs.iter().map(|dir| dir.display().to_string()).collect(),
        runtime: program(args.runtime, "mig-cdi-runtime", "--runtime")?,
        hook: program(args.hook, "mig-cdi-hook", "--hook")?,
        host: &host,
        user: home,
    };
    let first = draft(&request)?;
    // One that finds nothing to change leaves no trace, not even a lock.
    let writes = !args.dry_run && first.drafts.iter().any(Draft::changes);
    let _lock = writes.then(|| lock(&host, &record)).transpose()?;
    // Another may have written while this one waited.
    let plan = if writes { draft(&request)? } else { first };
    plan.warnings.iter().for_each(|warning| console.warn(warning));
    plan.notes.iter().for_each(|note| console.status(note));
    let changes = plan.drafts.iter().any(Draft::changes);
    if args.dry_run {
        let changes = plan.drafts.iter().filter(|draft| draft.changes());
        let stdout: String = changes.map(Draft::diff).collect();
        if stdout.is_empty() {
            console.status("nothing to change");
        }
        return Ok(Done { stdout, exit: Exit::Success });
    }
    let lines = write(&plan.drafts, &host, &record)?;
    lines.iter().for_each(|line| console.status(line));
    if !changes {
        console.status("nothing to change");
    }
    say_restart(console, &plan, &request)?;
    Ok(Done { stdout: String::new(), exit: Exit::Success })
}

/// What goes with which engine.
fn check(args: &ConfigureArgs) -> Result<&'static str, Error> {
    let name = match args.engine {
        Engine::Podman => "podman",
        Engine::Containerd => "containerd",
        Engine::Crio => "crio",
        Engine::Docker => "docker",
    };
    let no = |flag: &str, why: &str| {
        Err(Error::usage("configure", name).because(format!("{flag}: {why}")))
    };
    match args.engine {
        Engine::Containerd | Engine::Crio if args.rootless => {
            no("--rootless", "podman and docker alone are run by users")
        }
        Engine::Containerd | Engine::Docker if args.hook => {
            no("--hook", "it reads no hooks.d; take --runtime")
        }
        Engine::Containerd | Engine::Crio | Engine::Docker if args.quadlet => {
            no("--quadlet", "podman alone has it")
        }
        _ if args.rootless && args.runtime => {
            no("--runtime", "mig-cdi-runtime works as root alone; use --device")
        }
        _ => Ok(name),
    }
}

/// Where the user who runs this has files.
fn home() -> Result<UserDirs, Error> {
    if is_root() && std::env::var_os("SUDO_USER").is_some() {
        return Err(Error::usage(
            "",
            "--rootless is of the user who runs this, and sudo makes that root",
        )
        .because("run it without"));
    }
    let set = |name| std::env::var(name).ok().filter(|dir| dir.starts_with('/'));
    let dir = |name, below: &str| {
        let home = || set("HOME").map(|home| format!("{}/{below}", home.trim_end_matches('/')));
        set(name).or_else(home).ok_or_else(|| {
            Error::usage("", "--rootless")
                .because(format!("neither {name} nor HOME names a directory"))
                .cure("set HOME")
        })
    };
    Ok(UserDirs {
        config: dir("XDG_CONFIG_HOME", ".config")?,
        state: dir("XDG_STATE_HOME", ".local/state")?,
    })
}

/// The engine as it is installed, or as it is said to be.
fn engine(
    console: &Console,
    host: &Root,
    name: &'static str,
    args: &ConfigureArgs,
) -> Result<InstalledEngine, Error> {
    let listed =
        args.engine_version.and_then(|version| InstalledEngine::named(name, Some(version)));
    let engine = listed.or_else(|| engines::find_engine(host, name)).ok_or_else(|| {
        Error::failed("configure", name)
            .because(format!("it is in none of {}", PROGRAM_DIRS.join(", ")))
            .cure("install it, or say its release with --engine-version")
    })?;
    if let Err(reason) = &engine.version {
        console.warn(&format!(
            "the version of {name} is not known: {reason}; it is configured as the newest known one, unless \
             --engine-version says its release"
        ));
    }
    Ok(engine)
}

fn program(wanted: bool, name: &str, flag: &str) -> Result<Option<String>, Error> {
    if !wanted {
        return Ok(None);
    }
    let path = installed_beside(name, flag)?;
    match path.contains(|c: char| c == '"' || c == '\\' || c.is_control()) {
        true => Err(Error::usage("", flag)
            .because(format!("{path:?} is no path for a file of configuration"))),
        false => Ok(Some(path)),
    }
}

/// What has to be restarted, if anything.
fn say_restart(
    console: &Console,
    plan: &ConfigPlan,
    request: &ConfigureRequest<'_>,
) -> Result<(), Error> {
    let (Some(daemon), Some(restart)) = (plan.daemon, plan.restart) else {
        console.status("each start of a container reads it: nothing is to be restarted");
        return Ok(());
    };
    let mut changed = 0;
    for draft in &plan.drafts {
        let file = ConfigFile::open(request.host, &draft.path, LIMIT)?;
        changed = changed.max(file.changed().unwrap_or(0));
    }
    let message = match daemon_state(request.host, daemon, request.user.is_some(), changed) {
        DaemonState::NotRunning => format!("no {daemon} runs: it reads this when it starts"),
        DaemonState::Current => {
            format!("the {daemon} that runs was started since then, and has it")
        }
        DaemonState::Outdated => {
            format!("the {daemon} that runs does not have it yet: run {restart}")
        }
    };
    console.status(&message);
    Ok(())
}

fn undo(
    console: &Console,
    host: &Root,
    name: &str,
    path: &str,
    dry_run: bool,
) -> Result<Done, Error> {
    let writes = !dry_run && !Record::read(host, path)?.files.is_empty();
    let _lock = writes.then(|| lock(host, path)).transpose()?;
    let record = Record::read(host, path)?;
    if record.files.is_empty() {
        console.status("nothing to take back: configure has changed nothing here");
        return Ok(Done { stdout: String::new(), exit: Exit::Success });
    }
    match record.preview_undo(host)? {
        UndoPreview::Clean(stdout) if dry_run => Ok(Done { stdout, exit: Exit::Success }),
        UndoPreview::Clean(_) => {
            let lines = record.undo(host, path)?;
            lines.iter().for_each(|line| console.status(line));
            console.status(&format!("restart {name} if it is a service and runs"));
            Ok(Done { stdout: String::new(), exit: Exit::Success })
        }
        UndoPreview::Conflict(stdout) => {
            console.error(&format!(
                "configure {name} --undo: somebody else has changed a file since; nothing is taken back. Take out \
                 by hand what mig-cdi wrote, or put FILE.mig-cdi-backup back, then remove {}",
                host.show(path).display()
            ));
            Ok(Done { stdout, exit: Exit::Refused })
        }
    }
}
