//! Node of a real Kubernetes: kubelet, API server, scheduler and etcd, beside a containerd and in its namespaces, so
//! that nothing is left when their test ends or is killed.

mod process;

pub use process::NodeProcess;

use crate::{
    FakeHost, Run,
    daemon::{Daemon, Setting},
    deadline::{self, run_within},
    debian_release::DebianRelease,
    project, run,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Name of the node.
pub const NAME: &str = "node";

/// Time limit that fits the slowest machine: five programs start while others build.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Running node; dropping it ends the node and all its pods.
///
/// Its pods can use the image `localhost/probe:1`: busybox, and `tests/engines/probe.sh` as `probe`.
#[derive(Debug)]
pub struct KubernetesNode {
    // Fields are dropped in this order: the namespaces end with the engine.
    kubelet: Option<NodeProcess>,
    others: Vec<NodeProcess>,
    daemon: Daemon,
    numbers: AtomicU32,
}

impl KubernetesNode {
    /// Starts a node with a containerd on the directory of specs of a host, and waits until it is ready for pods.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start(host: &FakeHost) -> KubernetesNode {
        let mut node = KubernetesNode {
            kubelet: None,
            others: Vec::new(),
            daemon: Daemon::start(
                &Setting {
                    engine: "containerd",
                    release: DebianRelease::Trixie,
                    variant: ("runc", "v1"),
                },
                host,
            ),
            numbers: AtomicU32::new(0),
        };
        let mut script = node.inside("sh");
        run(script.arg(project().join("tests/kubernetes/node.sh")).arg(node.dir())).assert_code(0);
        node.start_api_server();
        node.start_kubelet();
        node.until("the node is ready", || {
            let condition = "{.status.conditions[?(@.type=='Ready')].status}";
            node.node_field(condition) == "True"
        });
        node
    }

    /// Starts etcd, API server and scheduler. The files of etcd are in memory, since it waits for its disk.
    fn start_api_server(&mut self) {
        let etcd = "http://127.0.0.1:2379";
        self.start_other(
            "etcd",
            &[
                "--data-dir=/run/etcd",
                &format!("--listen-client-urls={etcd}"),
                &format!("--advertise-client-urls={etcd}"),
                "--listen-peer-urls=http://127.0.0.1:2380",
            ],
        );
        let pki = self.dir().join("pki").display().to_string();
        // No controller runs that would give service accounts to pods, or remove the taint of a new node.
        self.start_other(
            "kube-apiserver",
            &[
                &format!("--etcd-servers={etcd}"),
                "--bind-address=192.0.2.1",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=198.51.100.0/24",
                &format!("--cert-dir={pki}"),
                &format!("--token-auth-file={pki}/tokens"),
                "--authorization-mode=AlwaysAllow",
                "--allow-privileged",
                // No name server runs.
                "--kubelet-preferred-address-types=InternalIP",
                "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
                "--service-account-issuer=https://192.0.2.1",
                &format!("--service-account-key-file={pki}/accounts.key"),
                &format!("--service-account-signing-key-file={pki}/accounts.key"),
            ],
        );
        self.until("the API server is ready", || {
            self.kubectl(&["get", "--raw=/readyz"]).stdout == "ok"
        });
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        self.start_other(
            "kube-scheduler",
            &[&kubeconfig, "--leader-elect=false", "--port=0", "--secure-port=0"],
        );
    }

    fn start_other(&mut self, name: &str, args: &[&str]) {
        let process = self.start_program(name, args);
        self.others.push(process);
    }

    fn start_program(&self, name: &str, args: &[&str]) -> NodeProcess {
        let mut command = self.inside(built_program(name));
        command.args(args);
        self.spawn(name, command)
    }

    /// Starts kubelet, for the first time or again.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start_kubelet(&mut self) {
        assert!(self.kubelet.is_none(), "kubelet runs");
        let dir = self.dir().display().to_string();
        let args = [
            &format!("--config={dir}/kubelet.yaml")[..],
            &format!("--kubeconfig={dir}/kubeconfig"),
            &format!("--cert-dir={dir}/pki"),
            "--container-runtime=remote",
            &format!("--container-runtime-endpoint=unix://{dir}/socket"),
            "--pod-infra-container-image=localhost/probe:1",
            &format!("--hostname-override={NAME}"),
            "--node-ip=192.0.2.1",
        ];
        self.kubelet = Some(self.start_program("kubelet", &args));
    }

    /// Kills kubelet; its pods keep running.
    pub fn kill_kubelet(&mut self) {
        self.kubelet = None;
    }

    /// Kills kubelet, starts it again, and waits until it serves device plugins again.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn restart_kubelet(&mut self) {
        self.kill_kubelet();
        // Nothing listens on the old socket any more; kubelet makes it again.
        let socket = self.kubelet_dir().join("device-plugins/kubelet.sock");
        let _ = fs::remove_file(&socket);
        self.start_kubelet();
        self.until("kubelet listens", || socket.exists());
    }

    /// Returns the directory with its files. The node sees it under the same path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.daemon.dir()
    }

    /// Returns the directory that the node sees as `/var/lib/kubelet`, as seen from outside.
    #[must_use]
    pub fn kubelet_dir(&self) -> PathBuf {
        self.dir().join("kubelet")
    }

    /// Returns the kubeconfig of clients of the API server, who have all permissions.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("kubeconfig")
    }

    /// Returns the log of a program of the node: `kubelet`, or one that a test has started.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.dir().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Returns a command that runs a program on the node.
    #[must_use]
    pub fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.daemon.inside(program)
    }

    /// Starts a command of [`KubernetesNode::inside`], and appends its output to a log of this name.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(&self, name: &str, mut command: Command) -> NodeProcess {
        let path = self.dir().join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(path).expect("make a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        NodeProcess(command.spawn().expect("it starts"))
    }

    /// Starts `mig-cdi-kubelet` with the slices of a host, into which it also writes their spec.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn plugin(&self, host: &FakeHost, args: &[&str]) -> NodeProcess {
        let mut plugin = self.inside(crate::program("mig-cdi-kubelet"));
        let (key, value) = host.env();
        plugin.env(key, value).args(args).arg("--").args(host.flags());
        plugin.arg(format!("--output={}", host.spec().display()));
        plugin.arg(format!("--state-dir={}", self.dir().join("state").display()));
        self.spawn("mig-cdi-kubelet", plugin)
    }

    /// Runs kubectl to its end.
    #[must_use]
    pub fn kubectl(&self, args: &[&str]) -> Run {
        let mut kubectl = self.inside(built_program("kubectl"));
        kubectl.arg(format!("--kubeconfig={}", self.kubeconfig().display()));
        run_within(kubectl.args(args), None, deadline::ENGINE)
    }

    /// Runs kubectl, which has to succeed, and returns its output.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn kubectl_ok(&self, args: &[&str]) -> String {
        let run = self.kubectl(args);
        assert_eq!(run.code, 0, "kubectl {args:?}: {}", run.stderr);
        run.stdout
    }

    /// Applies objects.
    ///
    /// # Panics
    /// When it fails.
    pub fn apply(&self, yaml: &str) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let path = self.dir().join(format!("{number}.yaml"));
        fs::write(&path, yaml).expect("write the objects");
        let output = self.kubectl_ok(&["apply", "--filename", &path.display().to_string()]);
        assert!(!output.is_empty());
    }

    /// Creates a pod with one container, which runs a command with these amounts of resources. It is not restarted,
    /// and it can make device nodes.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn pod(&self, name: &str, limits: &[(&str, u32)], command: &[&str]) {
        self.make_pod(name, "", limits, command);
    }

    /// Creates a pod that is bound to the node without the scheduler.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn bound_pod(&self, name: &str, limit: (&str, u32), command: &[&str]) {
        self.make_pod(name, &format!("  nodeName: {NAME}\n"), &[limit], command);
    }

    fn make_pod(&self, name: &str, more: &str, limits: &[(&str, u32)], command: &[&str]) {
        let limits: Vec<_> = limits.iter().map(|(key, n)| format!("{key}: {n}")).collect();
        self.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{more}  restartPolicy: Never\n  \
             terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: \"localhost/probe:1\"\n    \
             command: {command:?}\n    securityContext: {{capabilities: {{add: [MKNOD]}}}}\n    \
             resources: {{limits: {{{}}}}}\n",
            limits.join(", ")
        ));
    }

    /// Returns the phase of a pod: `Pending`, `Running`, `Succeeded`, `Failed`; nothing when it does not exist.
    #[must_use]
    pub fn phase(&self, pod: &str) -> String {
        self.kubectl(&["get", "pod", pod, "--output=jsonpath={.status.phase}"]).stdout
    }

    /// Waits until a pod is in a phase.
    ///
    /// # Panics
    /// When it is not within the time limit, or has ended in another phase.
    pub fn until_phase(&self, pod: &str, wanted: &str) {
        self.until(&format!("pod {pod} is {wanted}"), || {
            let phase = self.phase(pod);
            let ended = ["Succeeded", "Failed"].contains(&&phase[..]);
            assert!(!ended || phase == wanted, "{phase}: {}", self.describe(pod));
            phase == wanted
        });
    }

    /// Returns the description of a pod, with its events.
    #[must_use]
    pub fn describe(&self, pod: &str) -> String {
        self.kubectl(&["describe", "pod", pod]).stdout
    }

    /// Returns the description of the node, with its events.
    #[must_use]
    pub fn describe_node(&self) -> String {
        self.kubectl(&["describe", "node", NAME]).stdout
    }

    /// Returns the log of a pod.
    ///
    /// # Panics
    /// When there is no such pod.
    #[must_use]
    pub fn logs(&self, pod: &str) -> String {
        self.kubectl_ok(&["logs", pod])
    }

    /// Runs a command to its end in a running pod.
    #[must_use]
    pub fn exec(&self, pod: &str, command: &[&str]) -> Run {
        self.kubectl(&[&["exec", pod, "--"], command].concat())
    }

    /// Deletes a pod, and waits until kubelet reports that none of its containers runs.
    ///
    /// # Panics
    /// When that fails.
    pub fn delete(&self, pod: &str) {
        let output = self.kubectl_ok(&["delete", "pod", pod]);
        assert!(output.contains("deleted"), "{output}");
    }

    /// Returns the allocatable resources of the node as kubelet reports them to the API server.
    #[must_use]
    pub fn allocatable(&self) -> BTreeMap<String, String> {
        let template = "{{range $key, $value := .status.allocatable}}{{$key}} {{$value}}\n{{end}}";
        let output =
            self.kubectl_ok(&["get", "node", NAME, &format!("--output=go-template={template}")]);
        let pairs = output.lines().filter_map(|line| line.split_once(' '));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Returns a field of the node by a JSON path; nothing while there is no node.
    #[must_use]
    pub fn node_field(&self, path: &str) -> String {
        self.kubectl(&["get", "node", NAME, &format!("--output=jsonpath={path}")]).stdout
    }

    /// Waits until a condition holds, and returns the time that it took.
    ///
    /// # Panics
    /// When it does not hold within the time limit; the message has the last log lines of kubelet and the API server.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
        let begin = Instant::now();
        while !holds() {
            if begin.elapsed() > TIMEOUT || self.ended() {
                let last = |name| {
                    let log = self.log(name);
                    let lines: Vec<_> = log.lines().rev().take(15).collect();
                    lines
                        .into_iter()
                        .rev()
                        .map(|line| format!("{name}: {line}\n"))
                        .collect::<String>()
                };
                let logs: String = ["etcd", "kube-apiserver", "kubelet"].map(last).concat();
                panic!("timeout: {what}\n{logs}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        begin.elapsed()
    }

    /// Returns whether a program of the node has ended by itself.
    fn ended(&self) -> bool {
        self.others.iter().chain(&self.kubelet).any(|process| !process.runs())
    }
}

/// Returns the minors of the capability nodes in the output of a probe.
#[must_use]
pub fn minors(output: &str) -> BTreeSet<u32> {
    let paths =
        output.lines().filter_map(|line| line.strip_prefix("node /dev/nvidia-caps/nvidia-cap"));
    paths.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

/// Returns the path of a program that `tests/kubernetes/setup` has built.
fn built_program(name: &str) -> PathBuf {
    let path = project().join("target/test-deps/kubernetes").join(name);
    assert!(path.exists(), "{} is not there; run tests/setup.sh", path.display());
    path
}
