//! Real containerd or CRI-O, with CRI requests like those of kubelet. CRI is gRPC, and Debian has no client for it;
//! curl speaks HTTP/2, and the messages are few. Field numbers are those of CRI's `api.proto`.

use crate::{
    FakeHost,
    daemon::{Daemon, Setting},
    debian_release::DebianRelease,
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

/// Image of the probe.
const IMAGE: &str = "localhost/probe:1";

/// Running containerd or CRI-O.
#[derive(Debug)]
pub struct Containerd {
    dir: PathBuf,
    /// Daemon that ends with this value.
    daemon: Option<Daemon>,
    numbers: AtomicU32,
}

impl Containerd {
    /// Starts containerd on the directory of specs of a host, with runc and cgroup `v1` or `v2`.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start(cgroup: &'static str, host: &FakeHost) -> Containerd {
        let variant = ("runc", cgroup);
        Containerd::of(
            &Setting { engine: "containerd", release: DebianRelease::Trixie, variant },
            host,
        )
    }

    /// Starts another containerd, or a CRI-O.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn of(setting: &Setting<'_>, host: &FakeHost) -> Containerd {
        let daemon = Daemon::start(setting, host);
        let ours = Containerd::at(daemon.dir());
        Containerd { daemon: Some(daemon), ..ours }
    }

    /// Returns a client of one that runs already, with its socket in this directory.
    #[must_use]
    pub fn at(dir: &Path) -> Containerd {
        Containerd { dir: dir.to_owned(), daemon: None, numbers: AtomicU32::new(0) }
    }

    /// Waits until CRI lists the image of the probe. containerd's part for CRI learns of an imported image from an
    /// event, so a pod that is requested right after the import may not find its image.
    ///
    /// # Panics
    /// When it does not, or the engine has ended.
    pub fn until_image_is_ready(&self) {
        // ImageStatusRequest has an ImageSpec. The answer of an unknown image has none in its field 1.
        let request = field(1, field(1, IMAGE));
        until("CRI lists the image", || {
            let answer = self.call("ImageService/ImageStatus", &request);
            answer.is_ok_and(|answer| answer.first() == Some(&10))
        });
    }

    /// Runs the probe with these CDI devices in a pod of its own, and returns its output.
    ///
    /// # Errors
    /// The message with which containerd refuses.
    ///
    /// # Panics
    /// When containerd has ended.
    pub fn probe(&self, devices: &[&str], args: &[&str]) -> Result<String, String> {
        self.run("", &cdi_devices(devices), args)
    }

    /// Runs the probe with the handler `mig-cdi` and this annotation instead of devices.
    ///
    /// # Errors
    /// The message with which containerd refuses.
    ///
    /// # Panics
    /// When containerd has ended.
    pub fn probe_by_runtime(&self, devices: &str, args: &[&str]) -> Result<String, String> {
        let annotation = [field(1, "mig-cdi/devices"), field(2, devices)].concat();
        self.run("mig-cdi", &field(10, annotation), args)
    }

    /// Runs the probe with the annotation that a device plugin sets for CDI devices, instead of their field.
    ///
    /// # Errors
    /// The message with which containerd refuses.
    ///
    /// # Panics
    /// When containerd has ended.
    pub fn probe_by_annotation(&self, devices: &[&str], args: &[&str]) -> Result<String, String> {
        self.run("", &annotation(devices), args)
    }

    /// Makes a container with these CDI devices, by their field or by the annotation, runs the probe in it twice,
    /// removes it, and returns the outputs.
    ///
    /// # Errors
    /// The message with which containerd refuses.
    ///
    /// # Panics
    /// When containerd has ended.
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
            let once = || {
                self.call("RuntimeService/ExecSync", &[&id[..], &command].concat())
                    .map(|a| first_text(&a))
            };
            let outputs = [once()?, once()?];
            self.call("RuntimeService/StopContainer", &id)?;
            self.call("RuntimeService/RemoveContainer", &id)?;
            let left = self.call("RuntimeService/ListContainers", &[])?;
            match left.is_empty() {
                true => Ok(outputs),
                false => Err(format!("left: {}", String::from_utf8_lossy(&left))),
            }
        })
    }

    /// Runs the probe in a pod of a handler, with these fields added to the container's configuration.
    fn run(&self, handler: &str, more: &[u8], args: &[&str]) -> Result<String, String> {
        self.in_a_pod(handler, |name, pod| self.container(name, pod, more, args))
    }

    /// Calls a function with a pod of its own: its name, and its fields in requests.
    fn in_a_pod<T>(
        &self,
        handler: &str,
        work: impl Fn(&str, &[u8]) -> Result<T, String>,
    ) -> Result<T, String> {
        let name = self.fresh("pod");
        let pod = self.pod(&name);
        let id = self
            .call("RuntimeService/RunPodSandbox", &[field(1, &pod), field(2, handler)].concat())?;
        let done = work(&name, &[&id, &field(3, &pod)[..]].concat());
        self.end("RuntimeService/StopPodSandbox", &id)?;
        self.end("RuntimeService/RemovePodSandbox", &id)?;
        done
    }

    /// Calls a method again when it fails, as kubelet does: containerd fails ("ttrpc: closed") when a container ends
    /// by itself at this moment.
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

    /// Returns a `PodSandboxConfig`.
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
        // Each line begins with the time, the stream, and whether the line is complete.
        let read = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        until("the probe ends", || read().ends_with("end\n"));
        Ok(read().trim_end_matches("end\n").to_owned())
    }

    /// Starts a container with a command in a pod, and returns its identifier as a field of requests. The identifier
    /// is the only field of the answer, with the number that it has in requests.
    fn start_container(
        &self,
        pod: &[u8],
        more: &[u8],
        command: &[&str],
    ) -> Result<Vec<u8>, String> {
        let config = [
            field(1, field(1, "probe")),
            field(2, field(1, IMAGE)),
            command.iter().flat_map(|word| field(3, word)).collect(),
            field(11, "log"),
            field(15, field(2, [field(1, field(1, "MKNOD")), field(3, namespaces())].concat())),
            more.to_vec(),
        ];
        let id = self
            .call("RuntimeService/CreateContainer", &[pod, &field(2, config.concat())].concat())?;
        self.call("RuntimeService/StartContainer", &id)?;
        Ok(id)
    }

    /// Calls a method and returns the message of the answer.
    fn call(&self, method: &str, message: &[u8]) -> Result<Vec<u8>, String> {
        let file = |kind| self.dir.join(self.fresh(kind));
        let (request, answer) = (file("request"), file("answer"));
        // Frame of gRPC: not compressed, and the length.
        let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
        fs::write(&request, [&[0], &length[..], message].concat()).expect("write the request");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--http2-prior-knowledge"]);
        curl.args(["--header", "content-type: application/grpc", "--header", "te: trailers"]);
        curl.arg("--unix-socket").arg(self.dir.join("socket"));
        curl.args(["--dump-header", "-", "--output"]).arg(&answer);
        curl.arg("--data-binary").arg(format!("@{}", request.display()));
        let run = run(curl.arg(format!("http://localhost/runtime.v1.{method}")));
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

/// Returns a `NamespaceOption`: the network of the host, so that no network plugin is needed; and as from kubelet, a
/// PID namespace for each container.
fn namespaces() -> Vec<u8> {
    [varint(1 << 3), varint(2), varint(2 << 3), varint(1)].concat()
}

/// Returns the field of CDI devices in a `ContainerConfig`.
fn cdi_devices(devices: &[&str]) -> Vec<u8> {
    devices.iter().flat_map(|device| field(17, field(1, device))).collect()
}

/// Returns the annotation that replaces this field.
fn annotation(devices: &[&str]) -> Vec<u8> {
    field(10, [field(1, "cdi.k8s.io/mig-cdi-tests"), field(2, devices.join(","))].concat())
}

/// Returns the text in the first field of a message, which is field 1 or absent.
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

/// Returns a field of a protobuf message that is a text or a message.
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
