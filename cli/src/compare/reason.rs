//! Reasons for differences. Each states what is known of this file, node or hook, and nothing that may be untrue.

use super::HostView;
use mig_cdi_gen::{
    discover::{capabilities_of, is_for_graphics},
    spec_file::ContainerItem,
};
use std::collections::BTreeSet;

const RENDERS: &str = "only slices of a +gfx profile render, with --capabilities graphics";

/// Facts that reasons are made from.
pub(super) struct Reasons<'a> {
    pub host: &'a HostView<'a>,
    /// Paths of the files that our devices have.
    pub our_files: &'a BTreeSet<String>,
}

impl Reasons<'_> {
    /// Reason why only one of the specs has an item.
    pub(super) fn of(&self, is_ours: bool, item: &ContainerItem) -> String {
        match item {
            ContainerItem::Node(path) => node_reason(is_ours, path).to_owned(),
            ContainerItem::Variable(name) => variable_reason(is_ours, name).to_owned(),
            ContainerItem::Hook(command) => hook_reason(command).to_owned(),
            ContainerItem::Foreign(_) => "no program needs it to use a slice".to_owned(),
            ContainerItem::File(path) | ContainerItem::Mount(path) => self.file(is_ours, path),
        }
    }

    fn file(&self, is_ours: bool, path: &str) -> String {
        let file_name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let name = file_name(path);
        let classes = capabilities_of(&name);
        let same_name = || self.our_files.iter().find(|ours| file_name(ours) == name);
        // Another slice of ours has the same file, or none has any.
        let is_included = classes.as_ref().is_some_and(|classes| self.host.includes(classes));
        let is_for_other_slices = || {
            !is_included
                || self.our_files.contains(path)
                || !self.our_files.iter().any(|ours| is_for_graphics(&file_name(ours)))
        };
        match (is_ours, classes) {
            (true, Some(classes)) => format!("of class {classes}"),
            (true, None) => "of the driver".to_owned(),
            (false, _) if !self.host.exists(path) => "it does not exist on this host".to_owned(),
            (false, Some(_)) if is_for_graphics(&name) && is_for_other_slices() => {
                RENDERS.to_owned()
            }
            (false, Some(classes)) if !is_included => {
                format!("of class {classes}: see --capabilities")
            }
            (false, classes) => match (same_name(), classes) {
                (Some(ours), _) => format!("ours has another file of this name, {ours}"),
                (None, Some(classes)) => {
                    format!("of class {classes}, and not where mig-cdi looks for such files")
                }
                (None, None) => "not known to be needed in a container".to_owned(),
            },
        }
    }
}

fn node_reason(is_ours: bool, path: &str) -> &'static str {
    match path {
        "/dev/nvidia-modeset" => "for displays, which no slice drives",
        path if is_ours && path.starts_with("/dev/dri/by-path/") => {
            "in place of the link that a hook of other tools makes"
        }
        path if path.starts_with("/dev/dri/") => RENDERS,
        _ if is_ours => "a program on the slice opens it",
        _ => "not known to be needed on a slice",
    }
}

fn variable_reason(is_ours: bool, name: &str) -> &'static str {
    match name {
        _ if !is_ours => "mig-cdi sets no such variable for the slice",
        name if name.starts_with("MIG_CDI_DEVICE_") => "identifies the slice to programs",
        "NVIDIA_VISIBLE_DEVICES" => "keeps nvidia's own runtime from adding gpus",
        "CUDA_VISIBLE_DEVICES" => "selects the slice for cuda",
        _ => "set for every container with a slice",
    }
}

/// Reason why a hook of nvidia-ctk, or of ours, has no counterpart.
fn hook_reason(command: &str) -> &'static str {
    let known = [
        ("create-symlinks", "libraries and DRI nodes are under every name that programs open"),
        ("update-ldcache", "libraries are in directories that the loader searches without a cache"),
        ("ldcache", "for a loader that searches elsewhere: --ldcache-hook"),
        ("verify", "checks the slice when a container starts: --verify"),
        (
            "enable-cuda-compat",
            "files of the image are not run as root; set LD_LIBRARY_PATH in the image",
        ),
        (
            "disable-device-node-modification",
            "--mask-params does it with crun, NVreg_ModifyDeviceFiles=0 on the host with all",
        ),
        ("chmod", "nodes are made with the driver's modes"),
    ];
    let found = known.iter().find(|(name, _)| command.split(' ').any(|argument| argument == *name));
    found.map_or("mig-cdi runs no such program", |(_, reason)| reason)
}
