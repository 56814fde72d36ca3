//! A real containerd, or CRI-O, which is asked as kubelet asks it: by CRI. That is gRPC, and Debian has no client
//! for it; curl speaks HTTP/2, and the messages are few. The numbers of their fields are those of CRI's
//! `api.proto`.

use crate::{
    FakeHost,
    daemon::{Daemon, Setting},
    root::Root,
    run,
    watch::until,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// A containerd that runs, or a CRI-O.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    /// Ends it.
    daemon: Option<Daemon>,
    numbers: AtomicU32,
}

impl Containerd {
    /// Starts it on the directory of specs of a host, with runc and cgroup `v1` or `v2`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(cgroup: &'static str, host: &FakeHost) -> Containerd {
        let variant = ("runc", cgroup);
        Containerd::of(&Setting { engine: "containerd", root: Root::Trixie, variant }, host)
    }

    /// The same for another one.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn of(setting: &Setting<'_>, host: &FakeHost) -> Containerd {
        let daemon = Daemon::start(setting, host);
        let ours = Containerd::at(daemon.dir());
        Containerd { daemon: Some(daemon), ..ours }
    }

    /// One that somebody else has started, with its socket in this directory.
    #[must_use]
    pub fn at(dir: &Path) -> Containerd {
        Containerd { dir: dir.to_owned(), daemon: None, numbers: AtomicU32::new(0) }
    }

    /// Runs the probe with these CDI devices, in a pod of its own: what it printed.
    ///
    /// # Errors
    /// How containerd refuses.
    ///
    /// # Panics
    /// When containerd has gone.
    pub fn probe(&self, devices: &[&str], args: &[&str]) -> Result<String, String> {
        self.run("", &cdi_devices(devices), args)
    }

    /// The same with the handler `mig-cdi`, and this annotation in the place of devices.
    ///
    /// # Errors
    /// How containerd refuses.
    ///
    /// # Panics
    /// When containerd has gone.
    pub fn probe_by_runtime(&self, ask: &str, args: &[&str]) -> Result<String, String> {
        let annotation = [field(1, "mig-cdi/devices"), field(2, ask)].concat();
        self.run("mig-cdi", &field(10, annotation), args)
    }

    /// The same with the annotation that a device plugin gives for CDI devices, instead of their field.
    ///
    /// # Errors
    /// How containerd refuses.
    ///
    /// # Panics
    /// When containerd has gone.
    pub fn probe_by_annotation(&self, devices: &[&str], args: &[&str]) -> Result<String, String> {
        self.run("", &annotation(devices), args)
    }

    /// Makes a container with these CDI devices, by their field or by the annotation, runs the probe in it
    /// twice, and ends it: what the probe printed, and the containers that are left.
    ///
    /// # Errors
    /// How containerd refuses.
    ///
    /// # Panics
    /// When containerd has gone.
    pub fn exec(
        &self,
        devices: &[&str],
        annotated: bool,
        args: &[&str],
    ) -> Result<[String; 2], String> {
        let more = if annotated { annotation(devices) } else { cdi_devices(devices) };
        self.in_a_pod("", |_, pod| {
            let id = self.start_container(pod, &more, &["sleep", "1000000"])?;
            let command: Vec<_> =
                ["probe"].iter().chain(args).flat_map(|word| field(2, word)).collect();
            let once =
                || self.call("ExecSync", &[&id[..], &command].concat()).map(|a| first_text(&a));
            let said = [once()?, once()?];
            self.call("StopContainer", &id)?;
            self.call("RemoveContainer", &id)?;
            let left = self.call("ListContainers", &[])?;
            match left.is_empty() {
                true => Ok(said),
                false => Err(format!("left: {}", String::from_utf8_lossy(&left))),
            }
        })
    }

    /// A pod of a handler, with one container that has more in its configuration than others.
    fn run(&self, handler: &str, more: &[u8], args: &[&str]) -> Result<String, String> {
        self.in_a_pod(handler, |name, pod| self.container(name, pod, more, args))
    }

    /// Does something in a pod of its own, by its name and by what requests say of it.
    fn in_a_pod<T>(
        &self,
        handler: &str,
        work: impl Fn(&str, &[u8]) -> Result<T, String>,
    ) -> Result<T, String> {
        let name = self.fresh("pod");
        let pod = self.pod(&name);
        let id = self.call("RunPodSandbox", &[field(1, &pod), field(2, handler)].concat())?;
        let done = work(&name, &[&id, &field(3, &pod)[..]].concat());
        self.end("StopPodSandbox", &id)?;
        self.end("RemovePodSandbox", &id)?;
        done
    }

    /// Calls a method again when it fails, as kubelet does: that a container ends by itself at this very
    /// moment is an error to containerd ("ttrpc: closed").
    fn end(&self, method: &str, id: &[u8]) -> Result<Vec<u8>, String> {
        let begin = Instant::now();
        loop {
            let answer = self.call(method, id);
            if answer.is_ok() || begin.elapsed() > Duration::from_secs(30) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A `PodSandboxConfig`.
    fn pod(&self, name: &str) -> Vec<u8> {
        let group = self.dir.file_name().expect("it has a name").to_string_lossy();
        let metadata = [field(1, name), field(2, name), field(3, "default")].concat();
        let linux = [field(1, format!("/{group}")), field(2, field(1, namespaces()))].concat();
        let logs = self.dir.join(name).display().to_string();
        [field(1, metadata), field(3, logs), field(8, linux)].concat()
    }

    /// Runs a container to its end in a pod, whose identifier and configuration are in `pod`.
    fn container(
        &self,
        name: &str,
        pod: &[u8],
        more: &[u8],
        args: &[&str],
    ) -> Result<String, String> {
        let command: Vec<_> =
            ["sh", "-c", "probe \"$@\"; echo end", "sh"].iter().chain(args).copied().collect();
        self.start_container(pod, more, &command)?;
        let log = self.dir.join(name).join("log");
        // Before each line are the time, the stream, and whether the line is whole.
        let read = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        until("the probe ends", || read().ends_with("end\n"));
        Ok(read().trim_end_matches("end\n").to_owned())
    }

    /// Starts a container of a command in a pod: its identifier, as requests have it. The only field of
    /// an answer with an identifier has the number that it has in a request.
    fn start_container(
        &self,
        pod: &[u8],
        more: &[u8],
        command: &[&str],
    ) -> Result<Vec<u8>, String> {
        let config = [
            field(1, field(1, "probe")),
            field(2, field(1, "localhost/probe:1")),
            command.iter().flat_map(|word| field(3, word)).collect(),
            field(11, "log"),
            field(15, field(2, [field(1, field(1, "MKNOD")), field(3, namespaces())].concat())),
            more.to_vec(),
        ];
        let id = self.call("CreateContainer", &[pod, &field(2, config.concat())].concat())?;
        self.call("StartContainer", &id)?;
        Ok(id)
    }

    /// Calls a method; gives the message that it answers.
    fn call(&self, method: &str, message: &[u8]) -> Result<Vec<u8>, String> {
        let file = |kind| self.dir.join(self.fresh(kind));
        let (request, answer) = (file("request"), file("answer"));
        // Not compressed, and this long.
        let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
        fs::write(&request, [&[0], &length[..], message].concat()).expect("write the request");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--http2-prior-knowledge"]);
        curl.args(["--header", "content-type: application/grpc", "--header", "te: trailers"]);
        curl.arg("--unix-socket").arg(self.dir.join("socket"));
        curl.args(["--dump-header", "-", "--output"]).arg(&answer);
        curl.arg("--data-binary").arg(format!("@{}", request.display()));
        let run = run(curl.arg(format!("http://localhost/runtime.v1.RuntimeService/{method}")));
        let log = || self.daemon.as_ref().map(Daemon::log).unwrap_or_default();
        assert_eq!(run.code, 0, "{method}: {}{}", run.stderr, log());
        let header =
            |name: &str| run.stdout.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        match header("grpc-status:") {
            Some("0") => Ok(fs::read(&answer).expect("an answer")[5..].to_vec()),
            _ => Err(format!("{method}: {}", header("grpc-message:").unwrap_or(&run.stdout))),
        }
    }

    fn fresh(&self, kind: &str) -> String {
        format!("{kind}{}", self.numbers.fetch_add(1, Ordering::Relaxed))
    }
}

/// A `NamespaceOption`: the network of the host, so that no plugin for networks is needed; and as kubelet asks for it, a
/// namespace of processes for each container.
fn namespaces() -> Vec<u8> {
    [varint(1 << 3), varint(2), varint(2 << 3), varint(1)].concat()
}

/// The field of CDI devices in a `ContainerConfig`.
fn cdi_devices(devices: &[&str]) -> Vec<u8> {
    devices.iter().flat_map(|device| field(17, field(1, device))).collect()
}

/// The annotation that stands for it.
fn annotation(devices: &[&str]) -> Vec<u8> {
    field(10, [field(1, "cdi.k8s.io/mig-cdi-tests"), field(2, devices.join(","))].concat())
}

/// The text in the first field of a message, which has it as field 1 or not at all.
fn first_text(message: &[u8]) -> String {
    let [10, rest @ ..] = message else { return String::new() };
    let (mut length, mut at) = (0, 0);
    loop {
        length |= usize::from(rest[at] & 0x7f) << (7 * at);
        at += 1;
        if rest[at - 1] < 0x80 {
            break;
        }
    }
    String::from_utf8(rest[at..at + length].to_vec()).expect("output is UTF-8")
}

/// A field of a protobuf message that is a text or a message.
fn field(number: usize, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [varint(number << 3 | 2), varint(content.len()), content.to_vec()].concat()
}

fn varint(value: usize) -> Vec<u8> {
    let low = u8::try_from(value & 0x7f).expect("seven bits");
    match value >> 7 {
        0 => vec![low],
        rest => [vec![low | 0x80], varint(rest)].concat(),
    }
}
