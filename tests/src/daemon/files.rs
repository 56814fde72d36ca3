//! Configuration of the engines before `mig-cdi configure` changes it, with the minimum that an engine needs here: a
//! directory of its own, no registry and no network.

use super::setting::Setting;
use std::path::Path;

/// Returns the path of the file below /etc, and its text. The daemon keeps all files in a directory; `runtime` is the
/// program of the OCI runtime.
pub(super) fn before(
    setting: &Setting<'_>,
    version: &str,
    dir: &Path,
    runtime: &Path,
) -> (&'static str, String) {
    let name = dir.file_name().expect("it has a name").to_string_lossy();
    let (dir, runtime) = (dir.display().to_string(), runtime.display().to_string());
    match setting.engine {
        "containerd" if version.starts_with("1.") => {
            ("containerd/config.toml", containerd_1(setting, &dir, &runtime))
        }
        "containerd" => ("containerd/config.toml", containerd_2(setting, &dir, &runtime)),
        "crio" => ("crio/crio.conf", crio(setting, &dir, &runtime)),
        _ => ("docker/daemon.json", docker(setting, &dir, &name, &runtime)),
    }
}

/// Returns the file of containerd 1.7. A process can lower its OOM score only with CAP_SYS_RESOURCE. The native
/// snapshotter needs nothing of the file system below.
fn containerd_1(setting: &Setting<'_>, dir: &str, runtime: &str) -> String {
    let (name, cgroup) = setting.variant;
    let plugin = "plugins.\"io.containerd.grpc.v1.cri\"";
    format!(
        "# As an administrator wrote it\nversion = 2\nroot = \"{dir}/root\"\nstate = \"/run/containerd\"\n\
         [grpc]\n  address = \"{dir}/socket\"\n[{plugin}]\n  sandbox_image = \"localhost/probe:1\"  # no registry\n  \
         disable_cgroup = {}\n  restrict_oom_score_adj = true\n  [{plugin}.cni]\n    \
         conf_dir = \"{dir}/cni\"\n    bin_dir = \"{dir}/cni\"\n  [{plugin}.containerd]\n    \
         snapshotter = \"native\"\n{}",
        cgroup == "v2",
        containerd_runtime(plugin, name, runtime)
    )
}

/// Returns the file of containerd 2, which has no setting against cgroups.
fn containerd_2(setting: &Setting<'_>, dir: &str, runtime: &str) -> String {
    let images = "plugins.'io.containerd.cri.v1.images'";
    let plugin = "plugins.'io.containerd.cri.v1.runtime'";
    format!(
        "# As an administrator wrote it\nversion = 3\nroot = '{dir}/root'\nstate = '/run/containerd'\n\
         [grpc]\n  address = '{dir}/socket'\n[{images}]\n  snapshotter = 'native'\n  \
         [{images}.pinned_images]\n    sandbox = 'localhost/probe:1'  # no registry\n\
         [{plugin}]\n  restrict_oom_score_adj = true\n  [{plugin}.containerd]\n{}",
        containerd_runtime(plugin, setting.variant.0, runtime)
    )
}

/// Returns the table of the runtime of pods that name none, for one that is not built in.
fn containerd_runtime(plugin: &str, name: &str, program: &str) -> String {
    if program == "/usr/bin/runc" {
        return String::new();
    }
    format!(
        "    default_runtime_name = \"{name}\"\n    [{plugin}.containerd.runtimes.{name}]\n      \
         runtime_type = \"io.containerd.runc.v2\"\n      \
         [{plugin}.containerd.runtimes.{name}.options]\n        BinaryName = \"{program}\"\n"
    )
}

fn docker(setting: &Setting<'_>, dir: &str, group: &str, runtime: &str) -> String {
    let name = setting.variant.0;
    let runtime = match runtime {
        "/usr/bin/runc" => String::new(),
        path => format!(
            ",\n \"default-runtime\": \"{name}\", \"runtimes\": {{\"{name}\": {{\"path\": \"{path}\"}}}}"
        ),
    };
    format!(
        "{{\"hosts\": [\"unix://{dir}/socket\"], \"data-root\": \"{dir}/root\",\n \
         \"storage-driver\": \"vfs\", \"cgroup-parent\": \"/{group}\", \"exec-opts\": \
         [\"native.cgroupdriver=cgroupfs\"],\n \"bridge\": \"none\", \"iptables\": false, \"ip6tables\": \
         false, \"ip-forward\": false{runtime}}}\n"
    )
}

/// Returns the file of CRI-O. Pods run in the network of the machine.
fn crio(setting: &Setting<'_>, dir: &str, runtime: &str) -> String {
    let name = setting.variant.0;
    let pinns = setting.crio().with_file_name("pinns");
    format!(
        "# As an administrator wrote it\n[crio]\nroot = \"{dir}/root\"\nrunroot = \"/run/crio-storage\"\n\
         storage_driver = \"vfs\"\nlog_dir = \"{dir}/logs\"\nversion_file = \"/run/crio/version\"\n\
         version_file_persist = \"\"\nclean_shutdown_file = \"\"\n[crio.api]\nlisten = \"{dir}/socket\"\n\
         [crio.image]\npause_image = \"localhost/probe:1\"\npause_command = \"\"\n[crio.runtime]\n\
         cgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"pod\"\npinns_path = \"{}\"\n\
         container_attach_socket_dir = \"/run/crio/attach\"\ncontainer_exits_dir = \"/run/crio/exits\"\n\
         default_runtime = \"{name}\"\n[crio.runtime.runtimes.{name}]\nruntime_path = \"{runtime}\"\n\
         [crio.nri]\nenable_nri = false\n",
        pinns.display()
    )
}
