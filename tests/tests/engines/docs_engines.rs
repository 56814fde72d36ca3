//! The quick starts, run in the engines that they describe, with commands taken from the pages.

use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost, Run,
    containerd::Containerd,
    debian_release::DebianRelease,
    docker::Docker,
    docs::DocPage,
    driver::DistributionLayout,
    engine_checks, make_install,
    podman::{Podman, PodmanKind, VARIANTS, compile},
};

/// Image that the pages use.
const IMAGE: &str = "nvidia/cuda:13.0.0-base-ubuntu24.04";
const SMI: &str = "nvidia-smi -L";
/// Nodes of a container with the slice of the pages: which of them open, and whether another slice's node can be
/// created.
const NODES: [&str; 2] = [
    "node /dev/nvidia-caps/nvidia-cap30 444 508:30 ENXIO",
    "node /dev/nvidia-caps/nvidia-cap31 444 508:31 ENXIO",
];

fn passed(run: &Run) -> &str {
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    &run.stdout
}

/// Returns the capability nodes in the output of the probe.
fn caps(output: &str) -> Vec<&str> {
    output.lines().filter(|line| line.starts_with("node /dev/nvidia-caps/")).collect()
}

/// Converts a command of a page for [`Podman::script`]: with the programs of the test, the root file system in the
/// place of the image, and `run` as the command in the container.
fn script(command: &str, mig_cdi: &str, run: &str, probe: &str) -> String {
    let image = [format!("docker.io/{IMAGE} {SMI}"), format!("{IMAGE} {SMI}")];
    let image = image.iter().find(|image| command.contains(*image));
    match command.strip_prefix("mig-cdi ") {
        Some(rest) => format!("{mig_cdi} {rest} $FLAGS >/dev/null\n"),
        None => command
            .replace("podman run", run)
            .replace(image.expect("it names the image"), &format!("--rootfs $ROOTFS {probe}")),
    }
}

/// Returns the value of `--device` in a command.
fn device(command: &str) -> &str {
    let rest = command.split_once("--device ").expect("it asks for a device").1;
    rest.split(' ').next().expect("a word")
}

/// With installed programs, on a host whose nvidia-smi runs.
#[test]
fn quickstart_podman_works() {
    let page = DocPage::read("docs/quickstart-podman.md");
    let [install, generate, run] = &page.shell()[0][..] else { panic!("{:?}", page.shell()) };
    assert!(install.starts_with("apt install ./mig-cdi_"), "{install}");
    let dir = tempfile::tempdir().unwrap();
    make_install(dir.path(), "/usr");
    let installed = dir.path().join("usr/bin/mig-cdi").display().to_string();
    let host = FakeHost::with_driver(preset("a100-80gb").unwrap(), DistributionLayout::Debian);
    compile("fake-nvidia-smi.c", &host.path("/usr/lib/nvidia/current/nvidia-smi"), &[]);
    let podman = "$PODMAN run -e FAKE_NVML_NODE=/node.toml -v $NODE:/node.toml:ro";
    let script: String =
        [generate, run].iter().map(|line| script(line, &installed, podman, SMI)).collect();
    for variant in VARIANTS {
        let run = Podman::with_c_library(variant, "debian-root").script(&host, &script);
        assert_eq!(passed(&run), "driver 580.105.08\n", "{variant:?}");
    }
    // And a single slice.
    let one = &page.shell()[1][0];
    let script = script_of_one(generate, one, "$PODMAN run --cap-add MKNOD");
    for variant in VARIANTS {
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        let run = Podman::new(variant).script(&host, &script);
        assert_eq!(caps(passed(&run)), NODES, "{variant:?}");
        assert!(run.stdout.contains("\nmade 508:39 EPERM\n"), "{}", run.stdout);
    }
}

fn script_of_one(generate: &str, run: &str, podman: &str) -> String {
    let converted = |line| script(line, "$MIG_CDI", podman, "probe 508:30 508:39");
    converted(generate) + &converted(run)
}

#[test]
fn quickstart_rootless_podman_works() {
    let page = DocPage::read("docs/quickstart-podman-rootless.md");
    let [nodes, generate] = &page.shell()[0][..] else { panic!("{:?}", page.shell()) };
    let run = &page.shell()[1][0];
    for variant in VARIANTS {
        let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
        let gone = format!("rm -r {}/nvidia*\n", host.path("/dev").display());
        let converted = |line| script(line, "$MIG_CDI", "$PODMAN run", "probe 508:39");
        let script = gone + &converted(nodes) + &converted(generate) + &converted(run);
        let run =
            Podman::of(PodmanKind { release: DebianRelease::Trixie, rootless: true }, variant)
                .script(&host, &script);
        assert_eq!(caps(passed(&run)), NODES, "{variant:?}");
        // mknod(2) of a device needs CAP_MKNOD in the initial user namespace.
        assert!(run.stdout.contains("\nmade 508:39 FAILED\n"), "{}", run.stdout);
    }
}

/// podman's own generator reads the file, and podman accepts the arguments that the generator makes of it.
#[test]
fn quickstart_quadlet_works() {
    let page = DocPage::read("docs/quickstart-quadlet.md");
    let commands = page.shell()[1].clone();
    let (print, write) = commands[1].split_once(" | ").expect("it is piped");
    let (unit, dir) = ("mig-cdi-example.container", "/etc/containers/systemd");
    assert_eq!(write, format!("sudo tee {dir}/{unit}"));
    assert!(commands[0].ends_with(dir), "{commands:?}");
    let print = print.replace("mig-cdi ", "$MIG_CDI ");
    let script = format!(
        "mkdir /run/quadlet
        {print} >/run/quadlet/{unit}
        QUADLET_UNIT_DIRS=/run/quadlet /usr/libexec/podman/quadlet -dryrun 2>/run/quadlet.errors >/run/made
        grep -q '^After=mig-cdi.service$' /run/made
        words=$(sed -n 's/^ExecStart=.* -d \\(.*\\) registry.*{SMI}$/\\1/p' /run/made)
        echo $words
        $MIG_CDI generate $FLAGS >/dev/null
        $PODMAN run --rm $words --rootfs $ROOTFS probe"
    );
    let asked = "nvidia.com/mig=0:2g.20gb:0";
    assert!(page.text.contains(&format!("`AddDevice={asked}`")));
    let host = FakeHost::with_nodes(preset("a100-80gb").unwrap());
    let kind = PodmanKind { release: DebianRelease::Trixie, rootless: false };
    let run = Podman::of(kind, VARIANTS[0]).script(&host, &script);
    assert!(passed(&run).starts_with(&format!("--device {asked}\n")), "{}", run.stdout);
    assert_eq!(caps(&run.stdout), NODES);
}

/// Docker is configured by `mig-cdi configure docker`.
#[test]
fn quickstart_docker_and_compose_works() {
    let page = DocPage::read("docs/quickstart-docker.md");
    let commands = page.shell()[0].clone();
    assert!(commands.contains(&"mig-cdi configure docker".to_owned()), "{commands:?}");
    let run = commands.last().unwrap();
    assert!(run.ends_with(&format!("{IMAGE} {SMI}")), "{run}");
    let (_, blocks) = page.parts();
    let file = blocks.iter().find(|block| block.language == "yaml").unwrap().lines.join("\n");
    assert!(file.contains(IMAGE) && page.shell()[1] == ["docker compose run --rm train"]);
    let host = engine_checks::host();
    let docker = Docker::start("v1", &host);
    let numbers = ["508:30", "508:39"];
    for output in [docker.probe(&[device(run)], &numbers), docker.compose(&file, "train", &numbers)]
    {
        let output = output.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(caps(&output), NODES, "{output}");
        assert!(output.contains("made 508:39 EPERM"), "{output}");
    }
    let other = file.replace("0:2g.20gb:0", "0:2g.20gb:6");
    let refused = docker.compose(&other, "train", &[]).unwrap_err();
    assert!(refused.contains("unresolvable CDI devices"), "{refused}");
}

/// containerd is configured by `mig-cdi configure containerd`.
#[test]
fn quickstart_containerd_over_cri_works() {
    let page = DocPage::read("docs/quickstart-cri.md");
    assert!(page.shell()[0].contains(&"mig-cdi configure containerd".to_owned()));
    let asked: Vec<_> =
        page.spans().into_iter().filter(|span| span.starts_with("nvidia.com/mig=")).collect();
    let [asked] = &asked[..] else { panic!("{asked:?}") };
    let host = engine_checks::host();
    let containerd = Containerd::start("v1", &host);
    let numbers = ["508:30", "508:39"];
    for output in
        [containerd.probe(&[asked], &numbers), containerd.probe_by_annotation(&[asked], &numbers)]
    {
        let output = output.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(caps(&output), NODES, "{output}");
        assert!(output.contains("made 508:39 EPERM"), "{output}");
    }
}
