//! The documents match the programs: links resolve, named tests exist, and every command is run here or names the
//! test that runs it. Pages are found in the file system, so that new ones are checked too.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    Run, SHIPPED_CRATES,
    configure_host::ConfigureHost,
    docs::{DocPage, is_test},
    hook::{feed, oci_config},
    mig_cdi,
    partition_host::PartitionHost,
    program, project, run,
};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Commands of other programs, and those that no test may run on its machine: the beginning of the command, and the
/// test or script that runs it.
const TESTED_ELSEWHERE: [(&str, &str); 34] = [
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
        "podman --runtime /usr/bin/mig-cdi-runtime run --annotation",
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
    (
        "tests/engines/matrix",
        "engine_matrix::every_engine_passes_all_checks_and_the_table_is_current",
    ),
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

/// Page that names no test: it describes what people do.
const UNTESTED: [&str; 1] = ["SECURITY.md"];

#[test]
fn links_of_the_documents_resolve() {
    let pages = DocPage::all().into_iter().chain([DocPage::read("ARCHITECTURE.md")]);
    for page in pages {
        let dir = project().join(Path::new(&page.path).parent().unwrap());
        for link in page.links().iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { project().join(&page.path) } else { dir.join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.path);
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let anchors = DocPage { path: link.clone(), text }.anchors();
                assert!(anchors.iter().any(|a| a == anchor), "{}: {link}: {anchors:?}", page.path);
            }
        }
    }
}

/// Tests and benchmarks that documents name as `file::test`, `file.rs` or `--bench name` exist. Every page names one.
#[test]
fn named_tests_and_benchmarks_exist() {
    let there = |path: &str| project().join(path).exists();
    for page in DocPage::all() {
        let mut named = 0;
        for span in page.spans() {
            let path = &page.path;
            if span.contains("::") && !span.contains(' ') {
                assert!(is_test(&span), "{path}: {span} is no test");
                named += 1;
            } else if span.ends_with(".rs") {
                let found = there(&span) || there(&format!("tests/tests/{span}"));
                assert!(found, "{path}: {span} is not there");
                named += 1;
            } else if let Some((_, bench)) = span.split_once("--bench ") {
                assert!(there(&format!("tests/benches/{bench}.rs")), "{path}: {span}");
                assert!(span.starts_with("cargo bench -p mig-cdi-tests "), "{path}: {span}");
                named += 1;
            } else if span.starts_with("tests/") && !span.contains(' ') {
                assert!(there(&span), "{path}: {span} is not there");
            }
        }
        let may = UNTESTED.contains(&page.path.as_str());
        assert!(named > 0 || may, "{}: no test is named", page.path);
    }
}

/// Commands of ours in code blocks run on a fake host; those in sentences and tables are parsed.
#[test]
fn every_documented_command_is_accepted() {
    let mut used = BTreeSet::new();
    for page in DocPage::all() {
        for block in page.shell() {
            let host = Host::new();
            for command in &block {
                println!("{}: {command}", page.path);
                let known = TESTED_ELSEWHERE.iter().find(|(begin, _)| command.starts_with(begin));
                match known {
                    Some((begin, _)) => drop(used.insert(*begin)),
                    None if PACKAGES.iter().any(|begin| command.starts_with(begin)) => {
                        let script = project().join("tests/packages/run");
                        assert!(script.exists(), "{}: nobody runs {command}", page.path);
                    }
                    None => host.run(command),
                }
            }
        }
        for span in page.spans() {
            assert_parsed(&page.path, &span);
        }
    }
    for (begin, proof) in TESTED_ELSEWHERE {
        assert!(used.contains(begin), "no document has {begin:?}");
        assert!(is_test(proof) || project().join(proof).exists(), "{begin}: {proof} is no test");
    }
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
            preset("a100-80gb").unwrap()
        );
        let host = Host { site: PartitionHost::new(&node), machine: ConfigureHost::new() };
        fs::write(host.file("layouts.yaml"), LAYOUTS).unwrap();
        let generated = host.site.fake.generate(&[]);
        assert_eq!(generated.code, 0, "{}", generated.stderr);
        fs::copy(host.site.fake.spec(), host.file("nvidia.yaml")).unwrap();
        host
    }

    fn file(&self, name: &str) -> String {
        self.site.fake.out().with_file_name(name).display().to_string()
    }

    fn run(&self, command: &str) {
        let command = command
            .replace("/var/run/cdi/nvidia.yaml", &self.file("nvidia.yaml"))
            .replace("layouts.yaml", &self.file("layouts.yaml"));
        let mut words: Vec<&str> = command.split_whitespace().collect();
        let layout = self.file("layout.yaml");
        if ["checkpoint", "restore"].contains(&words[1]) && words.len() == 2 {
            words.push(&layout);
        }
        let (run, fine): (Run, &[i32]) = match (words[0], words[1]) {
            ("mig-cdi-hook", _) => (self.hook(&words), &[0]),
            ("mig-cdi-kubelet", _) | (_, "watch") => return assert_parsed("a block", &command),
            ("mig-cdi", "configure") => (self.configure(&words[2..]), &[0]),
            ("mig-cdi", _) if words.contains(&"--node") => (run(&mut mig_cdi(&words[1..])), &[0]),
            ("mig-cdi", "doctor") => {
                let root = format!("--host-root={}", self.site.fake.root().display());
                (self.site.run(&[&words[1..], &[&root]].concat()), &[0, 1])
            }
            ("mig-cdi", _) => (self.site.run(&words[1..]), &[0]),
            _ => panic!("nobody runs {command:?}: name the test that does in TESTED_ELSEWHERE"),
        };
        let output = format!("{}{}", run.stdout, run.stderr);
        assert!(fine.contains(&run.code), "{command}: exit code {}: {output}", run.code);
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

/// Asserts that a command in a sentence is accepted by its program. The text after an ellipsis is not checked.
fn assert_parsed(path: &str, span: &str) {
    let complete = span.split(['…', '<']).next().unwrap().trim();
    let words: Vec<String> = complete.split_whitespace().map(placeholder_value).collect();
    let [name, rest @ ..] = &words[..] else { return };
    if rest.is_empty() || !["mig-cdi", "mig-cdi-hook", "mig-cdi-kubelet"].contains(&name.as_str()) {
        return;
    }
    let mut command = Command::new(program(name));
    command.env_clear();
    if name == "mig-cdi-hook" {
        let help = run(command.arg("--help")).stdout;
        for word in rest.iter().filter(|word| word.starts_with('-') || *word == &rest[0]) {
            let word = word.split('=').next().unwrap();
            assert!(help.contains(word), "{path}: {span}: {word} is unknown");
        }
        return;
    }
    let run = run(command.args(rest).arg("--help"));
    assert_eq!(run.code, 0, "{path}: {span}: {}", run.stderr);
}

/// Returns a value for a placeholder.
fn placeholder_value(word: &str) -> String {
    match word {
        "ENGINE" => "docker".to_owned(),
        word => word.replace("VENDOR/CLASS", "example.com/class"),
    }
}

/// The README links all pages, and all commands of the program are on one of them.
#[test]
fn every_page_is_linked_and_every_command_documented() {
    let pages = DocPage::all();
    let links = pages[0].links();
    for page in &pages[1..] {
        assert!(links.contains(&page.path), "README.md does not link {}", page.path);
    }
    let help = run(&mut mig_cdi(["--help"])).stdout;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // The description of a command continues on lines that are indented further.
    let lines = commands.lines().filter(|line| !line.starts_with("   "));
    let names: Vec<_> = lines.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(names.len() > 10, "{help}");
    for name in names {
        let command = format!("mig-cdi {name}");
        assert!(pages.iter().any(|page| page.text.contains(&command)), "no page has {command}");
    }
}

/// The tables match the help and the source, and the programs exit with these codes.
#[test]
fn documented_exit_codes_match_the_programs() {
    let page = DocPage::read("docs/exit-codes.md").text;
    for name in ["mig-cdi", "mig-cdi-hook"] {
        let help = run(Command::new(program(name)).arg("--help").env_clear()).stdout;
        let in_help = help.split("Exit codes:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let in_help: Vec<_> =
            in_help.lines().filter_map(|line| line.trim().split_once("  ")).collect();
        let table = page.split(&format!("## {name}\n")).nth(1).unwrap();
        let rows = table.lines().skip(1).skip_while(|line| !line.starts_with('|'));
        let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
        let cells: Vec<_> = rows.map(|row| row.split(" | ").collect::<Vec<_>>()).collect();
        let table: Vec<_> =
            cells.iter().map(|row| (row[0].trim_start_matches("| "), row[1])).collect();
        assert_eq!(table, in_help, "{name}");
        let wrong = run(Command::new(program(name)).args(["--no-such-option"]).env_clear());
        assert_eq!(wrong.code, 2, "{name}");
    }
    let source = fs::read_to_string(project().join("cdi-gen/src/exit.rs")).unwrap();
    let codes: Vec<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "))
        .collect();
    let codes: Vec<_> = codes.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "5", "6"]);
    for name in ["mig-cdi-kubelet", "mig-cdi-runtime"] {
        assert!(page.contains(&format!("## {name}\n")), "{name}");
    }
    let kubelet = run(Command::new(program("mig-cdi-kubelet")).arg("--no-such-option").env_clear());
    assert_eq!(kubelet.code, 2, "{}", kubelet.stderr);
}

/// A message that a page attributes to us is in the sources. One attributed to an engine is in the tests of engines,
/// or has a link to a report beside it.
#[test]
fn documented_messages_match_the_sources() {
    let page = DocPage::read("docs/troubleshooting.md").text;
    let section = |heading: &str| {
        let text =
            page.split(&format!("## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
        rows.map(|row| {
            let (first, rest) = row[2..].split_once(" | ").unwrap();
            (first.split('`').nth(1).map(str::to_owned), rest.to_owned())
        })
        .collect::<Vec<_>>()
    };
    // A message that only `sim` has would be about a simulated node, which the page does not cover.
    let crates = SHIPPED_CRATES.iter().filter(|name| **name != "sim");
    let ours: String = crates.map(|name| sources(&project().join(name).join("src"))).collect();
    let rows = section("Messages of mig-cdi");
    assert!(rows.len() > 10);
    for (message, _) in rows {
        let message = message.expect("a message in backquotes");
        for part in message.split('…') {
            assert!(ours.contains(part.trim()), "no program prints {part:?}");
        }
    }
    let tests =
        sources(&project().join("tests/tests")) + &sources(&project().join("tests/src")) + &ours;
    for (message, rest) in section("Messages of engines") {
        let Some(message) = message.filter(|_| !rest.contains("](https://github.com/")) else {
            continue;
        };
        assert!(tests.contains(&message), "{message:?} is neither tested nor reported");
    }
}

/// Returns all Rust sources below a directory, with continued string literals joined.
fn sources(dir: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{dir:?}: {e}")) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut parts = text.split("\\\n");
            all += parts.next().unwrap();
            parts.for_each(|part| all += part.trim_start());
        }
    }
    all
}

/// The files and numbers of the table match the sources.
#[test]
fn the_inventory_of_unsafe_is_complete() {
    let listed = run(Command::new("find")
        .current_dir(project())
        .args(SHIPPED_CRATES)
        .args(["-name", "*.rs", "-type", "f"]));
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let counted = listed.stdout.lines().filter_map(|path| {
        let text = std::fs::read_to_string(project().join(path)).ok()?;
        let forms = ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "];
        let count: usize = forms.iter().map(|form| text.matches(form).count()).sum();
        (count > 0).then(|| format!("| `{path}` | {count} |"))
    });
    let page = DocPage::read("docs/unsafe.md").text;
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let rows: BTreeSet<_> =
        rows.map(|row| row.rsplitn(3, '|').nth(2).unwrap().to_owned() + "|").collect();
    assert_eq!(rows, counted.collect());
}
