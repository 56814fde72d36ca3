//! Commands of the documents, for a test of each: those of code blocks run, and those in sentences and tables are parsed.

use crate::{
    Run,
    configure_host::ConfigureHost,
    docs::DocPage,
    hook::{feed, oci_config},
    mig_cdi,
    partition_host::PartitionHost,
    program, run,
};
use mig_cdi_sim::preset;
use std::{fs, process::Command};

/// Commands of other programs, and those that no test may run on its machine: the beginning of the command, and the
/// test or script that runs it.
pub const TESTED_ELSEWHERE: [(&str, &str); 34] = [
    ("apt install ./mig-cdi_", "docs_engines::quickstart_podman_works"),
    (
        "podman run --rm --device nvidia.com/mig=all docker.io/",
        "docs_engines::quickstart_podman_works",
    ),
    (
        "podman run --rm --device nvidia.com/mig=0:2g.20gb:0 docker.io/",
        "docs_engines::quickstart_rootless_podman_works",
    ),
    (
        "podman run --rm --device nvidia.com/mig=0:2g.20gb:0 IMAGE",
        "podman::a_container_gets_its_slice_and_no_other",
    ),
    (
        "podman --runtime /usr/bin/mig-cdi-runtime run --privileged",
        "hook_engines::under_the_name_mig_cdi_runtime_the_hook_is_a_runtime",
    ),
    ("mkdir -p /etc/containers/systemd", "docs_engines::quickstart_quadlet_works"),
    ("mig-cdi configure podman --quadlet | sudo tee ", "docs_engines::quickstart_quadlet_works"),
    ("systemctl start mig-cdi-example", "docs_engines::quickstart_quadlet_works"),
    ("journalctl -u mig-cdi-example", "docs_engines::quickstart_quadlet_works"),
    (
        "docker run --rm --device nvidia.com/mig=",
        "docs_engines::quickstart_docker_and_compose_works",
    ),
    ("docker compose run --rm train", "docs_engines::quickstart_docker_and_compose_works"),
    (
        "docker run --runtime mig-cdi ",
        "hook_engines::docker_injects_a_slice_with_the_runtime_mig_cdi",
    ),
    ("systemctl restart docker", "docs_engines::quickstart_docker_and_compose_works"),
    ("systemctl restart containerd", "docs_engines::quickstart_containerd_over_cri_works"),
    ("systemctl daemon-reload", "systemd::systemd_analyze_accepts_the_units"),
    ("systemctl enable --now mig-cdi", "systemd::watch_works_in_its_sandbox"),
    ("systemctl enable mig-cdi-refresh", "systemd::the_refresh_works_in_its_sandbox"),
    ("systemctl start mig-cdi-refresh", "systemd::the_refresh_works_in_its_sandbox"),
    ("systemctl enable mig-cdi-restore", "systemd::the_restore_works_in_its_sandbox"),
    (
        ". /run/mig-cdi/environment",
        "hook_engines::a_container_gets_the_requested_slice_and_no_other",
    ),
    ("make -C packaging build", "packaging::make_builds_what_it_installs"),
    (
        "make -C packaging install PREFIX=/usr/local",
        "packaging::another_prefix_is_written_into_the_files",
    ),
    ("tests/demo", ".ci/run"),
    ("tests/run", ".ci/run"),
    ("tests/machine/run", ".ci/run"),
    ("tests/engines/matrix", "engine_rows::the_document_has_these_rows"),
    ("cargo build --profile kubelet", "kubernetes_chart::the_image_runs"),
    ("packaging/kubernetes/image", "kubernetes_chart::the_image_runs"),
    ("helm install mig-cdi packaging/", "kubernetes_chart::helm_lint_accepts_the_chart"),
    ("kubectl get node NODE -o", "kubernetes::a_pod_gets_its_slices"),
    ("kubectl get nodes -o", "kubernetes_daemonset::one_daemon_set_advertises_slices"),
    ("kubectl label node NODE", "kubernetes_cluster::a_label_partitions_gpus_around_running_pods"),
    ("kubectl get node NODE -L", "kubernetes_cluster::a_label_partitions_gpus_around_running_pods"),
    ("mig-cdi status", "watch::status_and_metrics_report_the_node"),
];

/// The same for commands that build and install packages.
const PACKAGES: [&str; 10] = [
    "apt ",
    "dnf ",
    "rpm ",
    "dpkg",
    "cargo deb",
    "cargo install ",
    "cargo generate-rpm",
    "packaging/",
    "make -C packaging ",
    "tests/packages/",
];

/// Command of a document.
#[derive(Debug, Clone)]
pub struct DocumentedCommand {
    /// Name of its test below `docs`: `commands::docs/map.md::mig-cdi map`.
    pub name: String,
    command: String,
    /// Commands of the same block before it, which run first. In a sentence there are none.
    before: Option<Vec<String>>,
}

/// Returns our commands in the documents, each once for a page and the commands that run before it.
#[must_use]
pub fn documented_commands() -> Vec<DocumentedCommand> {
    let mut cases: Vec<DocumentedCommand> = Vec::new();
    for page in DocPage::all() {
        let first = cases.len();
        let mut add = |command: &str, before: Option<Vec<String>>| {
            let same = cases[first..].iter().filter(|case| case.command == command);
            let same: Vec<_> = same.collect();
            // A command that has run need not be parsed again.
            if same.iter().any(|case| before.is_none() || case.before == before) {
                return;
            }
            let count =
                if same.is_empty() { String::new() } else { format!(" ({})", same.len() + 1) };
            let name = format!("commands::{}::{command}{count}", page.path);
            cases.push(DocumentedCommand { name, command: command.to_owned(), before });
        };
        for block in page.shell() {
            let ours: Vec<_> =
                block.into_iter().filter(|command| !is_tested_elsewhere(command)).collect();
            for (at, command) in ours.iter().enumerate() {
                add(command, Some(ours[..at].to_vec()));
            }
        }
        for span in page.spans().iter().filter(|span| is_ours(span)) {
            add(span, None);
        }
    }
    cases
}

fn is_tested_elsewhere(command: &str) -> bool {
    let mut begins = TESTED_ELSEWHERE.iter().map(|(begin, _)| begin).chain(&PACKAGES);
    begins.any(|begin| command.starts_with(begin))
}

/// Returns whether a span is a command of ours with arguments. The text after an ellipsis is not checked.
fn is_ours(span: &str) -> bool {
    let [name, _, ..] = &complete_words(span)[..] else { return false };
    ["mig-cdi", "mig-cdi-hook", "mig-cdi-kubelet"].contains(&name.as_str())
}

fn complete_words(span: &str) -> Vec<String> {
    let complete = span.split(['…', '<']).next().expect("text before it");
    complete.split_whitespace().map(placeholder_value).collect()
}

impl DocumentedCommand {
    /// Returns whether it needs a host with device nodes, and so root.
    #[must_use]
    pub fn needs_root(&self) -> bool {
        self.before.is_some() && !is_parsed_only(&self.command) && !self.command.contains(" --node")
    }

    /// Runs it after the commands before it, or parses it.
    ///
    /// # Panics
    /// When it fails, or its program does not accept it.
    pub fn check(&self) {
        if self.before.is_none() || is_parsed_only(&self.command) {
            return assert_parsed(&self.command);
        }
        let (run, fine) = if self.needs_root() {
            let host = Host::new();
            for command in self.before.iter().flatten().filter(|command| !is_parsed_only(command)) {
                // A failure is that of its own case.
                let _ = host.run(command);
            }
            host.run(&self.command)
        } else {
            let words = self.command.split_whitespace().skip(1);
            (run(&mut mig_cdi(words)), &[0][..])
        };
        let output = format!("{}{}", run.stdout, run.stderr);
        assert!(fine.contains(&run.code), "{}: exit code {}: {output}", self.command, run.code);
    }
}

/// Returns whether a command would run until it is stopped.
fn is_parsed_only(command: &str) -> bool {
    command.starts_with("mig-cdi-kubelet") || command.starts_with("mig-cdi watch")
}

/// Host on which the commands of a block run one after the other.
struct Host {
    site: PartitionHost,
    machine: ConfigureHost,
}

impl Host {
    /// Makes a host with the GPU of the documents, and another that is not in MIG mode.
    fn new() -> Host {
        let node = format!(
            "{}\n[[gpu]]\nmodel = \"a100-80gb\"\nmig = false\n",
            preset("a100-80gb").expect("a known preset")
        );
        let host = Host { site: PartitionHost::new(&node), machine: ConfigureHost::new() };
        fs::write(host.file("layouts.yaml"), LAYOUTS).expect("write the layouts");
        let generated = host.site.fake.generate(&[]);
        assert_eq!(generated.code, 0, "{}", generated.stderr);
        fs::copy(host.site.fake.spec(), host.file("nvidia.yaml")).expect("copy the spec");
        host
    }

    fn file(&self, name: &str) -> String {
        self.site.fake.out().with_file_name(name).display().to_string()
    }

    /// Runs a command, and returns the exit codes that are fine with its result.
    fn run(&self, command: &str) -> (Run, &'static [i32]) {
        let command = command
            .replace("/var/run/cdi/nvidia.yaml", &self.file("nvidia.yaml"))
            .replace("layouts.yaml", &self.file("layouts.yaml"));
        let mut words: Vec<&str> = command.split_whitespace().collect();
        let layout = self.file("layout.yaml");
        if ["checkpoint", "restore"].contains(&words[1]) && words.len() == 2 {
            words.push(&layout);
        }
        match (words[0], words[1]) {
            ("mig-cdi-hook", _) => (self.hook(&words), &[0]),
            ("mig-cdi", "configure") => (self.configure(&words[2..]), &[0]),
            ("mig-cdi", _) if words.contains(&"--node") => (run(&mut mig_cdi(&words[1..])), &[0]),
            ("mig-cdi", "doctor") => {
                let root = format!("--host-root={}", self.site.fake.root().display());
                (self.site.run(&[&words[1..], &[&root]].concat()), &[0, 1])
            }
            ("mig-cdi", _) => (self.site.run(&words[1..]), &[0]),
            _ => panic!("nobody runs {command:?}: name the test that does in TESTED_ELSEWHERE"),
        }
    }

    fn hook(&self, words: &[&str]) -> Run {
        let [_, mode, options @ .., "<", _] = words else { panic!("{words:?} reads nothing") };
        self.site.fake.configure_hook("");
        let config = format!("--config={}", self.site.fake.config().display());
        let mut hook = self.site.fake.hook(&[&[*mode], options, &[&config]].concat());
        let request = oci_config(&[], &[("mig-cdi/devices", "0:2g.20gb:0")], false);
        feed(&mut hook, request.as_bytes())
    }

    fn configure(&self, words: &[&str]) -> Run {
        let release = match words[0] {
            "podman" => "5.5.0",
            "containerd" => "1.7.24",
            "crio" => "1.36.0",
            _ => "26.1.5",
        };
        let words = format!("{} --engine-version={release}", words.join(" "));
        run(&mut self.machine.command(&words))
    }
}

/// Layout file that the documents refer to.
const LAYOUTS: &str = "version: v1
mig-configs:
  all-balanced:
    - devices: all
      mig-enabled: true
      mig-devices: { 1g.10gb: 2, 2g.20gb: 1, 3g.40gb: 1 }
";

/// Asserts that a command is accepted by its program.
fn assert_parsed(span: &str) {
    let words = complete_words(span);
    let (name, rest) = words.split_first().expect("the name of a program");
    let mut command = Command::new(program(name));
    command.env_clear();
    if name == "mig-cdi-hook" {
        let help = run(command.arg("--help")).stdout;
        for word in rest.iter().filter(|word| word.starts_with('-') || *word == &rest[0]) {
            let word = word.split('=').next().expect("text before it");
            assert!(help.contains(word), "{word} is unknown");
        }
        return;
    }
    let run = run(command.args(rest).arg("--help"));
    assert_eq!(run.code, 0, "{}", run.stderr);
}

/// Returns a value for a placeholder.
fn placeholder_value(word: &str) -> String {
    match word {
        "ENGINE" => "docker".to_owned(),
        word => word.replace("VENDOR/CLASS", "example.com/class"),
    }
}
