//! Table of the driver's files and the capabilities that need them. One row per file, to be checked against the README of
//! NVIDIA's driver, chapter "Listing of Installed Components", and against the values of
//! `NVIDIA_DRIVER_CAPABILITIES` in the documentation of NVIDIA's container toolkit.

use mig_cdi_model::DriverCapability::{self, Compute, Display, Graphics, Ngx, Utility, Video};

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
    /// A file at this path, on the host and in the container.
    Data(&'static str),
    /// A socket or a directory of sockets, at this path, while a daemon runs.
    Socket(&'static str),
    /// The firmware of the driver's version.
    Firmware,
}

/// A file and the capabilities that need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableRow {
    /// Way to find it.
    pub lookup: FileLookup,
    /// Capabilities; each of them needs the file.
    pub capabilities: &'static [DriverCapability],
    /// Without it the capability does not work: it is an error when it is missing.
    pub required: bool,
    /// Names under which programs open a library besides its SONAME.
    pub extra_names: &'static [&'static str],
}

const fn row(lookup: FileLookup, capabilities: &'static [DriverCapability]) -> TableRow {
    TableRow { lookup, capabilities, required: false, extra_names: &[] }
}

const fn library(stem: &'static str, capabilities: &'static [DriverCapability]) -> TableRow {
    row(FileLookup::Versioned(stem), capabilities)
}

const COMPUTE: &[DriverCapability] = &[Compute];
const UTILITY: &[DriverCapability] = &[Utility];
const VIDEO: &[DriverCapability] = &[Video];
const RENDER: &[DriverCapability] = &[Graphics, Display];

/// All known files.
pub(super) const TABLE: &[TableRow] = &[
    // CUDA: the driver library, its compilers, its debugger, its cryptography.
    TableRow { required: true, extra_names: &["libcuda.so"], ..library("libcuda.so", COMPUTE) },
    library("libcudadebugger.so", COMPUTE),
    library("libnvidia-ptxjitcompiler.so", COMPUTE),
    library("libnvidia-nvvm.so", COMPUTE),
    library("libnvidia-nvvm70.so", COMPUTE),
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
    row(FileLookup::Data("/etc/OpenCL/vendors/nvidia.icd"), COMPUTE),
    // Shared by CUDA and rendering.
    library("libnvidia-gpucomp.so", &[Compute, Graphics, Display]),
    library("libnvidia-allocator.so", &[Compute, Graphics, Display]),
    // Management.
    TableRow { required: true, ..library("libnvidia-ml.so", UTILITY) },
    library("libnvidia-cfg.so", UTILITY),
    library("libnvidia-nscq.so", UTILITY),
    library("libnvidia-sandboxutils.so", UTILITY),
    row(FileLookup::Program("nvidia-smi"), UTILITY),
    row(FileLookup::Program("nvidia-debugdump"), UTILITY),
    row(FileLookup::Program("nvidia-persistenced"), UTILITY),
    row(FileLookup::Program("nv-fabricmanager"), UTILITY),
    row(FileLookup::Socket("/run/nvidia-persistenced/socket"), UTILITY),
    // Video.
    library("libnvcuvid.so", VIDEO),
    library("libnvidia-encode.so", VIDEO),
    TableRow {
        extra_names: &["libnvidia-opticalflow.so"],
        ..library("libnvidia-opticalflow.so", VIDEO)
    },
    library("libvdpau_nvidia.so", VIDEO),
    // Rendering: OpenGL, EGL, Vulkan, ray tracing.
    library("libnvidia-glcore.so", RENDER),
    library("libnvidia-eglcore.so", RENDER),
    library("libnvidia-glsi.so", RENDER),
    library("libnvidia-tls.so", RENDER),
    library("libnvidia-glvkspirv.so", RENDER),
    library("libnvidia-cbl.so", RENDER),
    library("libnvidia-vulkan-producer.so", RENDER),
    library("libnvidia-rtcore.so", RENDER),
    library("libnvoptix.so", RENDER),
    library("libnvidia-fbc.so", RENDER),
    library("libnvidia-ifr.so", RENDER),
    TableRow { extra_names: &["libGLX_indirect.so.0"], ..library("libGLX_nvidia.so", RENDER) },
    library("libEGL_nvidia.so", RENDER),
    library("libGLESv1_CM_nvidia.so", RENDER),
    library("libGLESv2_nvidia.so", RENDER),
    row(FileLookup::Named("libnvidia-egl-gbm.so.1"), RENDER),
    row(FileLookup::Named("libnvidia-egl-wayland.so.1"), RENDER),
    row(FileLookup::Named("libnvidia-egl-xcb.so.1"), RENDER),
    row(FileLookup::Named("libnvidia-egl-xlib.so.1"), RENDER),
    row(FileLookup::Data("/usr/share/glvnd/egl_vendor.d/10_nvidia.json"), RENDER),
    row(FileLookup::Data("/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json"), RENDER),
    row(FileLookup::Data("/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json"), RENDER),
    row(FileLookup::Data("/usr/share/egl/egl_external_platform.d/20_nvidia_xcb.json"), RENDER),
    row(FileLookup::Data("/usr/share/egl/egl_external_platform.d/20_nvidia_xlib.json"), RENDER),
    row(FileLookup::Data("/usr/share/vulkan/icd.d/nvidia_icd.json"), RENDER),
    row(FileLookup::Data("/etc/vulkan/icd.d/nvidia_icd.json"), RENDER),
    row(FileLookup::Data("/usr/share/vulkan/implicit_layer.d/nvidia_layers.json"), RENDER),
    row(FileLookup::Data("/etc/vulkan/implicit_layer.d/nvidia_layers.json"), RENDER),
    row(FileLookup::Data("/usr/share/nvidia/nvoptix.bin"), RENDER),
    // DLSS.
    library("libnvidia-ngx.so", &[Ngx]),
    row(FileLookup::Program("nvidia-ngx-updater"), &[Ngx]),
];

/// Returns the capabilities that need a file of the driver, as users write them: `graphics or display`.
#[must_use]
pub fn capabilities_of(name: &str) -> Option<String> {
    let is_row = |row: &&TableRow| match row.lookup {
        FileLookup::Versioned(stem) => name.starts_with(stem),
        FileLookup::Named(stem) | FileLookup::Program(stem) => name == stem,
        FileLookup::Data(path) | FileLookup::Socket(path) => path.ends_with(&format!("/{name}")),
        FileLookup::Firmware => name.starts_with("gsp_"),
    };
    let row = TABLE.iter().find(is_row)?;
    Some(
        row.capabilities
            .iter()
            .map(|capability| capability.as_str())
            .collect::<Vec<_>>()
            .join(" or "),
    )
}
