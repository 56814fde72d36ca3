//! Table of the driver's files and the capabilities that need them. One row per file, to be checked against the README of
//! NVIDIA's driver, chapter "Listing of Installed Components", against the values of `NVIDIA_DRIVER_CAPABILITIES` in the
//! documentation of NVIDIA's container toolkit, and against what its release 1.20.0 mounts (`pkg/nvcdi/driver-nvml.go`,
//! `internal/discover/graphics.go`, `ipc.go`).

use super::missing_file::join_capabilities;
use mig_cdi_model::{
    DriverCapabilities,
    DriverCapability::{self, Compute, Display, Graphics, Ngx, Utility, Video},
};

/// Way to find a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileLookup {
    /// A library whose file name ends in the version of the driver: `libcuda.so` is the file
    /// `libcuda.so.580.105.08`.
    Versioned(&'static str),
    /// A library with a version of its own, by the name under which programs load it.
    Named(&'static str),
    /// A program in any directory of programs, which goes to `/usr/bin`.
    Program(&'static str),
    /// A file below the first of these directories in the container: `/usr/share`, `/etc`. The names are those that
    /// packages give to it; `VERSION` in them is the version of the driver.
    Data(&'static str, &'static [&'static str]),
    /// A module of the X server, in this subdirectory of its modules.
    Xorg(&'static str, &'static str),
    /// A socket or a directory of sockets, at this path, while a daemon runs.
    Socket(&'static str),
    /// The firmware of the driver's version.
    Firmware,
}

/// Consequence of a file that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Without it the capability does not work at all: an error.
    Required,
    /// Programs that the capability is for do not work: a warning.
    Expected,
    /// The same, but few drivers are without programs for it: a warning where the capability is requested by its name, and
    /// not by `all`.
    ExpectedByName,
    /// Not every driver has it, or few programs use it.
    Optional,
}

/// Names of a library in the container, below the directories of libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LibraryNames {
    /// Its SONAME, and these.
    Soname(&'static [&'static str]),
    /// These alone. Programs open it by a path of their own, and not as a dependency.
    Only(&'static [&'static str]),
}

/// A file and the capabilities that need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableRow {
    /// Way to find it.
    pub lookup: FileLookup,
    /// Capabilities; each of them needs the file.
    pub capabilities: &'static [DriverCapability],
    /// Consequence when it is missing.
    pub need: Need,
    /// Names of a library.
    pub names: LibraryNames,
}

impl TableRow {
    /// True for a file that only slices that render get.
    pub fn is_graphics_only(&self) -> bool {
        self.capabilities.iter().all(|capability| matches!(capability, Graphics | Display))
    }

    /// The row for a request of these capabilities.
    pub fn for_request(self, requested: &DriverCapabilities) -> TableRow {
        let is_named = self.capabilities.iter().any(|each| requested.names(*each));
        let need = match self.need {
            Need::ExpectedByName if is_named => Need::Expected,
            Need::ExpectedByName => Need::Optional,
            need => need,
        };
        TableRow { need, ..self }
    }

    const fn expected(self) -> TableRow {
        TableRow { need: Need::Expected, ..self }
    }

    const fn expected_by_name(self) -> TableRow {
        TableRow { need: Need::ExpectedByName, ..self }
    }

    const fn required(self) -> TableRow {
        TableRow { need: Need::Required, ..self }
    }

    const fn also(self, names: &'static [&'static str]) -> TableRow {
        TableRow { names: LibraryNames::Soname(names), ..self }
    }

    const fn only(self, names: &'static [&'static str]) -> TableRow {
        TableRow { names: LibraryNames::Only(names), ..self }
    }
}

const fn row(lookup: FileLookup, capabilities: &'static [DriverCapability]) -> TableRow {
    TableRow { lookup, capabilities, need: Need::Optional, names: LibraryNames::Soname(&[]) }
}

const fn library(stem: &'static str, capabilities: &'static [DriverCapability]) -> TableRow {
    row(FileLookup::Versioned(stem), capabilities)
}

/// A file of `/usr/share` for rendering.
const fn shared(names: &'static [&'static str]) -> TableRow {
    row(FileLookup::Data("/usr/share", names), RENDER)
}

const COMPUTE: &[DriverCapability] = &[Compute];
const UTILITY: &[DriverCapability] = &[Utility];
const VIDEO: &[DriverCapability] = &[Video];
const RENDER: &[DriverCapability] = &[Graphics, Display];

/// All known files.
pub(super) const TABLE: &[TableRow] = &[
    // CUDA: the driver library, its compilers, its debugger, its cryptography.
    library("libcuda.so", COMPUTE).also(&["libcuda.so"]).required(),
    library("libcudadebugger.so", COMPUTE),
    library("libnvcuextend.so", COMPUTE),
    library("libnvidia-ptxjitcompiler.so", COMPUTE).expected(),
    library("libnvidia-nvvm.so", COMPUTE),
    // The only library of this kind without the version in its name (negativo17's nvidia-driver.spec).
    row(FileLookup::Named("libnvidia-nvvm70.so.4"), COMPUTE),
    library("libnvidia-tileiras.so", COMPUTE),
    library("libnvidia-fatbinaryloader.so", COMPUTE),
    library("libnvidia-pkcs11.so", COMPUTE),
    library("libnvidia-pkcs11-openssl3.so", COMPUTE),
    row(FileLookup::Program("nvidia-cuda-mps-control"), COMPUTE),
    row(FileLookup::Program("nvidia-cuda-mps-server"), COMPUTE),
    row(FileLookup::Socket("/tmp/nvidia-mps"), COMPUTE),
    row(FileLookup::Socket("/run/nvidia-fabricmanager/socket"), COMPUTE),
    row(FileLookup::Firmware, COMPUTE),
    // OpenCL.
    library("libnvidia-opencl.so", COMPUTE),
    library("libnvidia-compiler.so", COMPUTE),
    row(FileLookup::Data("/etc", &["OpenCL/vendors/nvidia.icd"]), COMPUTE),
    // Shared by CUDA and rendering.
    library("libnvidia-gpucomp.so", &[Compute, Graphics, Display]),
    library("libnvidia-allocator.so", &[Compute, Graphics, Display]),
    // Management.
    library("libnvidia-ml.so", UTILITY).required(),
    library("libnvidia-cfg.so", UTILITY),
    library("libnvidia-nscq.so", UTILITY),
    library("libnvidia-sandboxutils.so", UTILITY),
    row(FileLookup::Program("nvidia-smi"), UTILITY).expected(),
    row(FileLookup::Program("nvidia-debugdump"), UTILITY),
    row(FileLookup::Program("nvidia-persistenced"), UTILITY),
    row(FileLookup::Program("nv-fabricmanager"), UTILITY),
    row(FileLookup::Program("nvidia-imex"), UTILITY),
    row(FileLookup::Program("nvidia-imex-ctl"), UTILITY),
    row(FileLookup::Socket("/run/nvidia-persistenced/socket"), UTILITY),
    // Video.
    library("libnvcuvid.so", VIDEO).expected(),
    library("libnvidia-encode.so", VIDEO).expected(),
    library("libnvidia-opticalflow.so", VIDEO).also(&["libnvidia-opticalflow.so"]),
    // libvdpau opens vdpau/libvdpau_NAME.so.1 in its module directory, then libvdpau_NAME.so by the loader
    // (src/vdpau_wrapper.c).
    library("libvdpau_nvidia.so", VIDEO).only(&[
        "vdpau/libvdpau_nvidia.so.1",
        "vdpau/libvdpau_nvidia.so",
        "libvdpau_nvidia.so",
    ]),
    // Rendering: OpenGL, EGL, Vulkan, ray tracing.
    library("libnvidia-glcore.so", RENDER).expected(),
    library("libnvidia-eglcore.so", RENDER).expected(),
    library("libnvidia-glsi.so", RENDER).expected(),
    library("libnvidia-tls.so", RENDER).expected(),
    library("libnvidia-glvkspirv.so", RENDER),
    library("libnvidia-cbl.so", RENDER),
    library("libnvidia-vulkan-producer.so", RENDER).also(&["libnvidia-vulkan-producer.so"]),
    library("libnvidia-rtcore.so", RENDER),
    library("libnvoptix.so", RENDER),
    library("libnvidia-fbc.so", RENDER),
    library("libnvidia-ifr.so", RENDER),
    // nvidia_layers.json names it: the Vulkan layer VK_LAYER_NV_present.
    library("libnvidia-present.so", RENDER),
    library("libnvidia-vksc-core.so", RENDER),
    library("libGLX_nvidia.so", RENDER).also(&["libGLX_indirect.so.0"]).expected(),
    library("libEGL_nvidia.so", RENDER).expected(),
    library("libGLESv1_CM_nvidia.so", RENDER),
    library("libGLESv2_nvidia.so", RENDER),
    // libgbm opens gbm/NAME_gbm.so, NAME being the kernel driver's (Mesa, src/gbm/main/backend.c).
    library("libnvidia-allocator.so", RENDER).only(&["gbm/nvidia-drm_gbm.so"]),
    row(FileLookup::Named("libnvidia-egl-gbm.so.1"), RENDER),
    row(FileLookup::Named("libnvidia-egl-wayland.so.1"), RENDER),
    row(FileLookup::Named("libnvidia-egl-wayland2.so.1"), RENDER),
    row(FileLookup::Named("libnvidia-egl-xcb.so.1"), RENDER),
    row(FileLookup::Named("libnvidia-egl-xlib.so.1"), RENDER),
    shared(&["glvnd/egl_vendor.d/10_nvidia.json"]).expected(),
    shared(&["egl/egl_external_platform.d/09_nvidia_wayland2.json"]),
    shared(&["egl/egl_external_platform.d/10_nvidia_wayland.json"]),
    shared(&["egl/egl_external_platform.d/15_nvidia_gbm.json"]),
    shared(&["egl/egl_external_platform.d/20_nvidia_xcb.json"]),
    shared(&["egl/egl_external_platform.d/20_nvidia_xlib.json"]),
    // Packages for several architectures have the architecture in the name, as those of Fedora and RHEL.
    row(FileLookup::Data("/etc", VULKAN_ICD), RENDER).expected(),
    row(FileLookup::Data("/etc", VULKAN_LAYERS), RENDER),
    row(FileLookup::Data("/etc", VULKAN_SC_ICD), RENDER),
    shared(&["nvidia/nvoptix.bin"]),
    // Workarounds for programs; NixOS leaves out the version.
    shared(&[
        "nvidia/nvidia-application-profiles-VERSION-rc",
        "nvidia/nvidia-application-profiles-rc",
    ]),
    // The X server.
    row(FileLookup::Xorg("drivers", "nvidia_drv.so"), RENDER),
    row(FileLookup::Xorg("extensions", "libglxserver_nvidia.so"), RENDER),
    shared(&["X11/xorg.conf.d/10-nvidia.conf"]),
    shared(&["X11/xorg.conf.d/nvidia-drm-outputclass.conf"]),
    // DLSS.
    library("libnvidia-ngx.so", &[Ngx]).expected_by_name(),
    row(FileLookup::Program("nvidia-ngx-updater"), &[Ngx]),
];

const VULKAN_ICD: &[&str] = &[
    "vulkan/icd.d/nvidia_icd.json",
    if cfg!(target_arch = "aarch64") {
        "vulkan/icd.d/nvidia_icd.aarch64.json"
    } else {
        "vulkan/icd.d/nvidia_icd.x86_64.json"
    },
];

/// The second is the place on Google's Container-Optimized OS.
const VULKAN_LAYERS: &[&str] =
    &["vulkan/implicit_layer.d/nvidia_layers.json", "vulkan/icd.d/nvidia_layers.json"];

const VULKAN_SC_ICD: &[&str] =
    &["vulkansc/icd.d/nvidia_icd_vksc.json", "vulkansc/icd.d/nvidia_icd.x86_64.json"];

/// Returns the capabilities that need a file of the driver, as users write them: `graphics or display`.
#[must_use]
pub fn capabilities_of(name: &str) -> Option<String> {
    row_of(name).map(|row| join_capabilities(row.capabilities))
}

/// True for the name of a file that only slices with graphics get.
#[must_use]
pub fn is_for_graphics(name: &str) -> bool {
    row_of(name).is_some_and(TableRow::is_graphics_only)
}

fn row_of(name: &str) -> Option<&'static TableRow> {
    let is_row = |row: &&TableRow| match row.lookup {
        // The file behind a link has the version of the library in its name.
        FileLookup::Versioned(stem) | FileLookup::Named(stem) => name.starts_with(stem),
        FileLookup::Program(stem) => name == stem,
        FileLookup::Data(_, paths) => paths.iter().any(|path| is_file_name(path, name)),
        FileLookup::Xorg(_, stem) => name.starts_with(stem),
        FileLookup::Socket(path) => is_file_name(path, name),
        FileLookup::Firmware => name.starts_with("gsp_"),
    };
    TABLE.iter().find(is_row)
}

/// True when a path of the table ends in a file name, whatever the version in it is.
fn is_file_name(path: &str, name: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or(path);
    match last.split_once("VERSION") {
        Some((before, after)) => name.starts_with(before) && name.ends_with(after),
        None => name == last,
    }
}
