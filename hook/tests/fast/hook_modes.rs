//! The modes besides `precreate` that need no root for it: what they leave alone, and the runtime that they run.

use super::hook_requests::host;
use mig_cdi_tests::{
    FakeHost, Run,
    hook::{feed, oci_config, runc_state},
    run, script_program,
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Makes a runtime that records its arguments, and returns its path.
fn recorder(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let path = dir.join("runc");
    script_program(&path, &format!("echo {} \"$@\" >{}", path.display(), record(dir).display()));
    path
}

/// File in which the runtime of a directory records its arguments.
fn record(dir: &Path) -> PathBuf {
    dir.join("record")
}

fn bundle(host: &FakeHost, config: &str) -> PathBuf {
    let dir = host.out().with_file_name("bundle");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.json"), config).unwrap();
    dir
}

/// Runs the mode `runtime` with `create`, for this bundle.
fn create(host: &FakeHost, bundle: &Path) -> Run {
    let config = format!("--config={}", host.config().display());
    let bundle = bundle.display().to_string();
    run(&mut host.hook(&["runtime", &config, "create", "--bundle", &bundle, "web"]))
}

/// The cure is in the file that was read, whichever `--config` names.
#[test]
fn a_runtime_that_is_missing_is_listed_in_the_settings_that_were_read() {
    let host = host("");
    host.configure_hook("runtimes = ['/no/such/runc']");
    let run = create(&host, &bundle(&host, &oci_config(&[], &[], false)));
    let cure = format!("; list its path in hook.runtimes of {}", host.config().display());
    assert!(run.code == 2 && run.stderr.contains(&cure), "{}", run.stderr);
}

/// Sizes of an environment, up to the limit of a configuration. The kernel accepts 128 KiB in one variable and, by its default limit
/// of the stack, 2 MiB in all (execve(2)); nothing limits what an engine is given.
#[test]
fn a_large_container_without_a_request_starts_unchanged() {
    let host = host("");
    // A container without a request starts even if a spec cannot be read.
    fs::write(host.spec(), "{").unwrap();
    let dir = host.out().with_file_name("runtime");
    let runtime = recorder(&dir);
    host.configure_hook(&format!("runtimes = [{runtime:?}]"));
    for (count, size) in [(12, 100 << 10), (120, 100 << 10), (1, 15 << 20)] {
        let variables: Vec<_> =
            (0..count).map(|i| format!("LONG{i}={}", "x".repeat(size))).collect();
        let variables: Vec<_> = variables.iter().map(String::as_str).collect();
        let config = oci_config(&variables, &[], false);
        let bundle = bundle(&host, &config);
        let read = || fs::read_to_string(bundle.join("config.json")).unwrap();

        create(&host, &bundle).assert_code(0);
        let args = format!("{} create --bundle {} web\n", runtime.display(), bundle.display());
        assert_eq!(fs::read_to_string(record(&dir)).unwrap(), args);
        fs::remove_file(record(&dir)).unwrap();
        assert!(read() == config, "runtime, {count} times {size}");

        let settings = format!("--config={}", host.config().display());
        for mode in ["create-runtime", "prestart"] {
            let state = runc_state(std::process::id(), &bundle);
            let done = feed(&mut host.hook(&[mode, &settings]), state.as_bytes());
            assert_eq!((done.code, &*done.stdout, &*done.stderr), (0, "", ""), "{mode}");
            assert!(read() == config, "{mode}, {count} times {size}");
        }
        assert_eq!(host.read_log(), "");
    }
}

/// The log names a container by the id that its engine gave it.
#[test]
fn the_runtime_logs_the_id_of_a_container() {
    let host = host("");
    let runtime = recorder(&host.out().with_file_name("runtime"));
    host.configure_hook(&format!("runtimes = [{runtime:?}]"));
    for (value, code, text) in [
        ("0:0", 0, "runtime: container \"web\" gets 0:0: 6 device nodes"),
        ("void", 0, "runtime: container \"web\" starts without a slice: "),
        ("9:9", 1, "runtime: container \"web\" is refused: "),
    ] {
        let _ = fs::remove_file(host.log());
        let config = oci_config(&[&format!("NVIDIA_VISIBLE_DEVICES={value}")], &[], false);
        create(&host, &bundle(&host, &config)).assert_code(code);
        assert!(host.read_log().contains(text), "{}", host.read_log());
    }
}

/// The real runtime is root's on most machines: one that others could exchange is not run.
#[test]
fn a_runtime_that_others_can_exchange_is_not_run() {
    let host = host("");
    let (weak, good) = (host.out().with_file_name("weak"), host.out().with_file_name("good"));
    let (weak_runc, good_runc) = (recorder(&weak), recorder(&good));
    let bundle = bundle(&host, &oci_config(&[], &[], false));
    let chmod =
        |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    // Debian's mode of /usr/local/sbin, everybody's, and a file that can be written to.
    for (path, mode, back) in
        [(&weak, 0o2775, 0o755), (&weak, 0o757, 0o755), (&weak_runc, 0o775, 0o755)]
    {
        chmod(path, mode);
        let reason = format!("{}: {} has mode {mode:04o}", weak_runc.display(), path.display());
        host.configure_hook(&format!("runtimes = [{weak_runc:?}, {good_runc:?}]"));
        let _ = fs::remove_file(host.log());
        create(&host, &bundle).assert_code(0);
        assert!(!record(&weak).exists() && record(&good).exists());
        fs::remove_file(record(&good)).unwrap();
        let log = host.read_log();
        let line = format!("runtime: container \"web\" is not run by {reason}\n");
        assert!(log.ends_with(&line) && log.matches('\n').count() == 1, "{log}");

        host.configure_hook(&format!("runtimes = [{weak_runc:?}]"));
        let refused = create(&host, &bundle);
        let why = format!(
            "error: find the real runtime: another user could exchange {reason}; run chown root"
        );
        assert!(refused.code == 1 && refused.stderr.starts_with(&why), "{}", refused.stderr);
        assert!(!record(&weak).exists());
        chmod(path, back);
    }
    create(&host, &bundle).assert_code(0);
    assert!(record(&weak).exists());
}
