//! Distributions of Kubernetes that write the configuration of their containerd themselves: a change of ours would be lost at the next
//! start or upgrade.

use super::request::ConfigureRequest;
use mig_cdi_gen::Error;

/// A distribution, by the directory of its file.
struct Distribution {
    directory: &'static str,
    name: &'static str,
    /// Change that has the same effect, in the imperative.
    how: &'static str,
}

/// By the documentation of each; k3s writes the name of its template into the first line of the file. None was run for this.
const DISTRIBUTIONS: [Distribution; 6] = [
    Distribution {
        directory: "/var/lib/rancher/k3s/",
        name: "k3s",
        how: "copy the file to config-v3.toml.tmpl (config.toml.tmpl before containerd 2) beside it, and change that",
    },
    Distribution {
        directory: "/var/lib/rancher/rke2/",
        name: "rke2",
        how: "copy the file to config-v3.toml.tmpl (config.toml.tmpl before containerd 2) beside it, and change that",
    },
    Distribution {
        directory: "/var/snap/microk8s/",
        name: "microk8s",
        how: "change /var/snap/microk8s/current/args/containerd-template.toml, and run microk8s stop and microk8s start",
    },
    Distribution {
        directory: "/var/lib/k0s/",
        name: "k0s",
        how: "put the lines into a file of /etc/k0s/containerd.d/",
    },
    Distribution {
        directory: "/etc/k0s/",
        name: "k0s",
        how: "put the lines into a file of /etc/k0s/containerd.d/",
    },
    Distribution {
        directory: "/etc/cri/",
        name: "talos",
        how: "put the lines into /etc/cri/conf.d/20-customization.part by machine.files of the machine configuration",
    },
];

/// Refuses to edit a file that a distribution writes itself.
///
/// # Errors
/// For such a file, with what to do there.
pub(super) fn refuse_generated(request: &ConfigureRequest<'_>, path: &str) -> Result<(), Error> {
    let found = DISTRIBUTIONS.iter().find(|known| path.starts_with(known.directory));
    let Some(Distribution { name, how, .. }) = found else { return Ok(()) };
    Err(Error::refused("edit", request.host.display_path(path).display())
        .because(format!("{name} writes this file at each start"))
        .with_cure(*how))
}
