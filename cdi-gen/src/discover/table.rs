//! Which files of the driver are for what. One row per file, to be checked against the README of
//! NVIDIA's driver, chapter "Listing of Installed Components", and against the classes of
//! `NVIDIA_DRIVER_CAPABILITIES` in the documentation of NVIDIA's container toolkit.

use mig_cdi_model::DriverCapability::{self, Compute, Display, Graphics, Ngx, Utility, Video};

/// How a file is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A library whose file name ends in the version of the driver: `libcuda.so` is the file
    /// `libcuda.so.580.105.08`.
    Versioned(&'static str),
    /// A library with a version of its own, by the name under which programs load it.
    Named(&'static str),
    /// A program, from wherever the machine has programs, to `/usr/bin`.
    Program(&'static str),
    /// A file at this path, on the host and in the container.
    Data(&'static str),
    /// A socket or a directory of sockets, at this path, while a daemon runs.
    Socket(&'static str),
    /// The firmware of the driver's version.
    Firmware,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// How it is found.
    pub what: What,
    /// Any of these asks for it.
    pub for_: &'static [DriverCapability],
    /// Without it the class does not work: missing, it is an error.
    pub required: bool,
    /// Names under which programs open a library besides its SONAME.
    pub also: &'static [&'static str],
}

const fn row(what: What, for_: &'static [DriverCapability]) -> Row {
    Row { what, for_, required: false, also: &[] }
}

const fn library(stem: &'static str, for_: &'static [DriverCapability]) -> Row {
    row(What::Versioned(stem), for_)
}

const COMPUTE: &[DriverCapability] = &[Compute];
const UTILITY: &[DriverCapability] = &[Utility];
const VIDEO: &[DriverCapability] = &[Video];
const RENDER: &[DriverCapability] = &[Graphics, Display];

/// Every file that is known.
pub(super) const TABLE: &[Row] = &[
    // CUDA: the driver library, its compilers, its debugger, its cryptography.
    Row { required: true, also: &["libcuda.so"], ..library("libcuda.so", COMPUTE) },
    library("libcudadebugger.so", COMPUTE),
    library("libnvidia-ptxjitcompiler.so", COMPUTE),
    library("libnvidia-nvvm.so", COMPUTE),
    library("libnvidia-nvvm70.so", COMPUTE),
    library("libnvidia-tileiras.so", COMPUTE),
    library("libnvidia-fatbinaryloader.so", COMPUTE),
    library("libnvidia-pkcs11.so", COMPUTE),
    library("libnvidia-pkcs11-openssl3.so", COMPUTE),
    row(What::Program("nvidia-cuda-mps-control"), COMPUTE),
    row(What::Program("nvidia-cuda-mps-server"), COMPUTE),
    row(What::Socket("/tmp/nvidia-mps"), COMPUTE),
    row(What::Socket("/run/nvidia-fabricmanager/socket"), COMPUTE),
    row(What::Firmware, COMPUTE),
    // OpenCL.
    library("libnvidia-opencl.so", COMPUTE),
    library("libnvidia-compiler.so", COMPUTE),
    row(What::Data("/etc/OpenCL/vendors/nvidia.icd"), COMPUTE),
    // What CUDA and rendering share.
    library("libnvidia-gpucomp.so", &[Compute, Graphics, Display]),
    library("libnvidia-allocator.so", &[Compute, Graphics, Display]),
    // Management.
    Row { required: true, ..library("libnvidia-ml.so", UTILITY) },
    library("libnvidia-cfg.so", UTILITY),
    library("libnvidia-nscq.so", UTILITY),
    library("libnvidia-sandboxutils.so", UTILITY),
    row(What::Program("nvidia-smi"), UTILITY),
    row(What::Program("nvidia-debugdump"), UTILITY),
    row(What::Program("nvidia-persistenced"), UTILITY),
    row(What::Program("nv-fabricmanager"), UTILITY),
    row(What::Socket("/run/nvidia-persistenced/socket"), UTILITY),
    // Video.
    library("libnvcuvid.so", VIDEO),
    library("libnvidia-encode.so", VIDEO),
    Row { also: &["libnvidia-opticalflow.so"], ..library("libnvidia-opticalflow.so", VIDEO) },
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
    Row { also: &["libGLX_indirect.so.0"], ..library("libGLX_nvidia.so", RENDER) },
    library("libEGL_nvidia.so", RENDER),
    library("libGLESv1_CM_nvidia.so", RENDER),
    library("libGLESv2_nvidia.so", RENDER),
    row(What::Named("libnvidia-egl-gbm.so.1"), RENDER),
    row(What::Named("libnvidia-egl-wayland.so.1"), RENDER),
    row(What::Named("libnvidia-egl-xcb.so.1"), RENDER),
    row(What::Named("libnvidia-egl-xlib.so.1"), RENDER),
    row(What::Data("/usr/share/glvnd/egl_vendor.d/10_nvidia.json"), RENDER),
    row(What::Data("/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json"), RENDER),
    row(What::Data("/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json"), RENDER),
    row(What::Data("/usr/share/egl/egl_external_platform.d/20_nvidia_xcb.json"), RENDER),
    row(What::Data("/usr/share/egl/egl_external_platform.d/20_nvidia_xlib.json"), RENDER),
    row(What::Data("/usr/share/vulkan/icd.d/nvidia_icd.json"), RENDER),
    row(What::Data("/etc/vulkan/icd.d/nvidia_icd.json"), RENDER),
    row(What::Data("/usr/share/vulkan/implicit_layer.d/nvidia_layers.json"), RENDER),
    row(What::Data("/etc/vulkan/implicit_layer.d/nvidia_layers.json"), RENDER),
    row(What::Data("/usr/share/nvidia/nvoptix.bin"), RENDER),
    // DLSS.
    library("libnvidia-ngx.so", &[Ngx]),
    row(What::Program("nvidia-ngx-updater"), &[Ngx]),
];

/// The classes that a file name of the driver belongs to, as users write them.
#[must_use]
pub fn class_of(name: &str) -> Option<String> {
    let is = |row: &&Row| match row.what {
        What::Versioned(stem) => name.starts_with(stem),
        What::Named(stem) | What::Program(stem) => name == stem,
        What::Data(path) | What::Socket(path) => path.ends_with(&format!("/{name}")),
        What::Firmware => name.starts_with("gsp_"),
    };
    let row = TABLE.iter().find(is)?;
    Some(row.for_.iter().map(|class| class.as_str()).collect::<Vec<_>>().join(" or "))
}
