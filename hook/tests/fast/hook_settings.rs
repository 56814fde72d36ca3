//! The settings file of a hook: a wrong value of a key that the hook uses stops every container, with the message of
//! `mig-cdi`; one of a key that it does not use stops none.

use mig_cdi_sim::preset;
use mig_cdi_tests::{FakeHost, hook::oci_config};
use std::fs;

#[test]
fn keys_that_the_hook_does_not_use_stop_no_container() {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    let config = oci_config(&[], &[], false);
    for text in [
        "max-cdi-version = '0.5'",
        "names = []",
        "names = 1",
        "capabilities = 'cuda'",
        "library-dirs = ['lib']",
        "driver-root = ''",
        "library-search-path = 'x'",
        "driver-events = 'yes'",
    ] {
        host.configure_hook("");
        let policy = fs::read_to_string(host.config()).unwrap();
        let key = text.split(' ').next().unwrap();
        let others: Vec<_> = policy.lines().filter(|line| !line.starts_with(key)).collect();
        fs::write(host.config(), format!("{text}\n{}", others.join("\n"))).unwrap();
        assert_eq!(host.run(&["list"]).code, 2, "{text}");
        let run = host.precreate(&config, &[]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{text}");
        assert_eq!(run.stdout, config);
    }
}

#[test]
fn keys_that_the_hook_uses_stop_every_container() {
    let host = FakeHost::new(preset("a100-80gb").unwrap());
    for text in [
        "kind = 'mig'",
        "spec-dirs = ['relative']",
        "dev-root = ''",
        "proc-root = '..'",
        "[hook]\nrequests = 'nobody'",
        "[hook]\ndevices = ['']",
        "[hook]\nruntimes = []",
        "[hook]\nlog = 'log'",
        "[hok]\nrequests = 'none'",
        "request = 'none'",
        "names = ",
    ] {
        fs::write(host.config(), text).unwrap();
        let run = host.precreate(&oci_config(&[], &[], false), &[]);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{text}: {}", run.stderr);
        let file = host.config().display().to_string();
        assert_eq!(
            run.stderr.replace(&file, "TMP/config.toml"),
            host.run(&["list"]).stderr,
            "{text}"
        );
    }
}
