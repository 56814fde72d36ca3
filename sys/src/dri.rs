//! The DRI nodes of a GPU, `/dev/dri/cardN` and `/dev/dri/renderDN`: names and numbers from the kernel's sysfs, mode and owner
//! from the node.
//!
//! udev's links in `/dev/dri/by-path` name them as well, where udev runs and has rules for DRM. They may be missing or stale, so
//! nodes are taken from them only below a root without a `/sys`.

use crate::{Error, KernelFiles, NodeStat, Result, in_user_namespace, text};
use mig_cdi_model::{Major, Minor, PciAddress};

/// Upper bound of the file `dev` of a device, in bytes: two numbers.
const LIMIT: usize = 64;
const DEVICES: &str = "/sys/bus/pci/devices";
const LOAD: &str = "run modprobe nvidia-drm";

/// A DRI node of a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDriNode {
    /// Path: `/dev/dri/card1`.
    pub path: String,
    /// Numbers, mode and owner.
    pub stat: NodeStat,
    /// Path of udev's link to it: `/dev/dri/by-path/pci-0000:07:00.0-card`.
    pub link: String,
    /// Whether the link exists and leads to it.
    pub is_linked: bool,
    /// Path of the file that its numbers are from.
    pub source: String,
}

/// One of the two kinds of DRI nodes that a GPU has. The kernel names nodes by kind and minor (`drm_sysfs_minor_alloc` in
/// `drivers/gpu/drm/drm_sysfs.c`), and udev ends its links with the kind (`60-drm.rules`).
struct Kind {
    name: &'static str,
    link: &'static str,
}

const CARD: Kind = Kind { name: "card", link: "card" };
const RENDER: Kind = Kind { name: "renderD", link: "render" };

/// Returns the card and the render node of the GPU at a PCI address.
///
/// # Errors
/// When nvidia-drm has registered none, or when the node in `/dev` is missing or another device.
pub fn dri_nodes(files: &dyn KernelFiles, pci: PciAddress) -> Result<[HostDriNode; 2]> {
    files.check_sys()?;
    let device = format!("{DEVICES}/{pci}");
    let has_sysfs = files.list(&device)?.is_some();
    if !has_sysfs && files.list(DEVICES)?.is_some() {
        let cause = format!("{pci} is not there, and the driver has it");
        return Err(Error::refused("list", DEVICES, cause).with_cure("see dmesg"));
    }
    let node = |kind: Kind| {
        let link = format!("/dev/dri/by-path/pci-{pci}-{}", kind.link);
        match has_sysfs {
            true => by_sysfs(files, &format!("{device}/drm"), &kind, link),
            false => by_link(files, &kind, link),
        }
    };
    Ok([node(CARD)?, node(RENDER)?])
}

/// Finds a node in the directory `drm` of a PCI device, and compares it with the one in `/dev`.
fn by_sysfs(files: &dyn KernelFiles, dir: &str, kind: &Kind, link: String) -> Result<HostDriNode> {
    let refused = |cause: String| Error::refused("list", dir, cause);
    let names = files.list(dir)?.ok_or_else(|| refused("not there".to_owned()).with_cure(LOAD))?;
    let mut names = names.iter().filter(|name| text::numbered(name, kind.name).is_some());
    let name = match (names.next(), names.next()) {
        (Some(name), None) => name,
        (None, _) => return Err(refused(format!("no {}N", kind.name)).with_cure(LOAD)),
        (Some(one), Some(other)) => return Err(refused(format!("both {one} and {other}"))),
    };
    let (source, path) = (format!("{dir}/{name}/dev"), format!("/dev/dri/{name}"));
    let numbers = numbers(files, &source)?;
    let stat = checked(files, &path, numbers)?;
    // A link that leads elsewhere is of an earlier load of a driver: the kernel numbers nodes in the order in which drivers register.
    let linked = files.node(&link).ok().flatten();
    let is_linked = linked.is_some_and(|linked| has_numbers(&linked, numbers));
    Ok(HostDriNode { path, stat, link, is_linked, source })
}

fn numbers(files: &dyn KernelFiles, path: &str) -> Result<(Major, Minor)> {
    // Removed between the list and the read: the module is being unloaded.
    let gone = || Error::refused("read", path, "not there").with_cure(LOAD);
    let bytes = files.read(path, LIMIT)?.ok_or_else(gone)?;
    text::device_numbers(&bytes).map_err(|cause| Error::refused("parse", path, cause.to_string()))
}

/// Status of a node that has the kernel's numbers.
fn checked(files: &dyn KernelFiles, path: &str, numbers: (Major, Minor)) -> Result<NodeStat> {
    let (major, minor) = numbers;
    // devtmpfs makes the node with the device, unless something else has its name (`drivers/base/devtmpfs.c`): a missing one was
    // removed, or /dev is none. udev makes links alone.
    let (found, cure) = match files.node(path)? {
        Some(stat) if has_numbers(&stat, numbers) => return Ok(stat),
        None => (
            "not there".to_owned(),
            "name a /dev that is a devtmpfs with --dev-root, or make it with mknod",
        ),
        Some(stat) if stat.is_char => {
            (format!("it is {}:{}", stat.major, stat.minor), "remove it and make it with mknod")
        }
        Some(_) => ("no character device".to_owned(), "remove it and make it with mknod"),
    };
    // The kernel makes no device node in a user namespace (`fs/namei.c`, `vfs_mknod`).
    let cure = if in_user_namespace() { "bind the host's node there" } else { cure };
    let cause = format!("{found}, and the kernel has {major}:{minor} under this name");
    Err(Error::refused("stat", path, cause).with_cure(cure))
}

fn has_numbers(stat: &NodeStat, numbers: (Major, Minor)) -> bool {
    stat.is_char && (stat.major, stat.minor) == numbers
}

/// Finds a node by udev's link.
fn by_link(files: &dyn KernelFiles, kind: &Kind, link: String) -> Result<HostDriNode> {
    let refused = |cause| Err(Error::refused("stat", &link, cause).with_cure(LOAD));
    match files.node(&link)? {
        Some(stat) if stat.is_char => {
            let path = format!("/dev/dri/{}{}", kind.name, stat.minor);
            Ok(HostDriNode { path, stat, source: link.clone(), link, is_linked: true })
        }
        Some(_) => refused("no character device"),
        None => refused("not there"),
    }
}
