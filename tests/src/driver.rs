//! The driver's user-space files in the layouts of distributions, made of stubs: each library is an ELF file with a
//! SONAME and nothing else, unless a test puts a real one there.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};

/// Directories in which a distribution installs the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DistributionLayout {
    /// `/usr/lib/x86_64-linux-gnu/nvidia/current`, with links through `/etc/alternatives`.
    Debian,
    /// `/usr/lib64`, 32-bit libraries in `/usr/lib`.
    Fedora,
    /// `/run/opengl-driver/lib`, a link into the store.
    Nixos,
    /// `/usr/local/glibc/usr/lib`, programs in `/usr/local/bin`.
    Talos,
    /// `/opt/nvidia/current`, a link to the version, programs in `/opt/bin`.
    Flatcar,
    /// A directory that only the loader's cache names.
    Cache,
}

/// All layouts.
pub const LAYOUTS: [DistributionLayout; 6] = [
    DistributionLayout::Debian,
    DistributionLayout::Fedora,
    DistributionLayout::Nixos,
    DistributionLayout::Talos,
    DistributionLayout::Flatcar,
    DistributionLayout::Cache,
];

/// Libraries: classes, file name without version, and version of the SONAME; empty where it is the driver's.
pub const LIBRARIES: [(&str, &str, &str); 41] = [
    ("compute", "libcuda.so", "1"),
    ("compute", "libcudadebugger.so", "1"),
    ("compute", "libnvidia-ptxjitcompiler.so", "1"),
    ("compute", "libnvidia-nvvm.so", "4"),
    ("compute", "libnvidia-nvvm70.so", "4"),
    ("compute", "libnvidia-tileiras.so", ""),
    ("compute", "libnvidia-pkcs11.so", ""),
    ("compute", "libnvidia-pkcs11-openssl3.so", ""),
    ("compute", "libnvidia-opencl.so", "1"),
    ("compute", "libnvidia-compiler.so", ""),
    ("compute graphics", "libnvidia-gpucomp.so", ""),
    ("compute graphics", "libnvidia-allocator.so", "1"),
    ("utility", "libnvidia-ml.so", "1"),
    ("utility", "libnvidia-cfg.so", "1"),
    ("utility", "libnvidia-nscq.so", "2"),
    ("utility", "libnvidia-sandboxutils.so", "1"),
    ("video", "libnvcuvid.so", "1"),
    ("video", "libnvidia-encode.so", "1"),
    ("video", "libnvidia-opticalflow.so", "1"),
    ("video", "libvdpau_nvidia.so", "1"),
    ("graphics", "libnvidia-glcore.so", ""),
    ("graphics", "libnvidia-eglcore.so", ""),
    ("graphics", "libnvidia-glsi.so", ""),
    ("graphics", "libnvidia-tls.so", ""),
    ("graphics", "libnvidia-glvkspirv.so", ""),
    ("graphics", "libnvidia-rtcore.so", ""),
    ("graphics", "libnvoptix.so", "1"),
    ("graphics", "libnvidia-fbc.so", "1"),
    ("graphics", "libGLX_nvidia.so", "0"),
    ("graphics", "libEGL_nvidia.so", "0"),
    ("graphics", "libGLESv1_CM_nvidia.so", "1"),
    ("graphics", "libGLESv2_nvidia.so", "2"),
    ("ngx", "libnvidia-ngx.so", "1"),
    // Files of the driver that are of no use in a container.
    ("", "libnvidia-gtk3.so", ""),
    ("", "libnvidia-wayland-client.so", ""),
    ("", "libglxserver_nvidia.so", ""),
    ("", "libnvidia-present.so", ""),
    ("", "libnvidia-vksc-core.so", "1"),
    ("", "libnvidia-api.so", "1"),
    ("", "libnvidia-egl-wayland2.so", "1"),
    ("", "libnvidia-unheard-of.so", ""),
];

/// Programs by class.
pub const PROGRAMS: [(&str, &str); 9] = [
    ("compute", "nvidia-cuda-mps-control"),
    ("compute", "nvidia-cuda-mps-server"),
    ("utility", "nvidia-smi"),
    ("utility", "nvidia-debugdump"),
    ("utility", "nvidia-persistenced"),
    ("ngx", "nvidia-ngx-updater"),
    ("", "nvidia-settings"),
    ("", "nvidia-xconfig"),
    ("", "nvidia-modprobe"),
];

/// Other files by class.
pub const DATA: [(&str, &str); 10] = [
    ("compute", "/etc/OpenCL/vendors/nvidia.icd"),
    ("compute", "/lib/firmware/nvidia/VERSION/gsp_ga10x.bin"),
    ("compute", "/lib/firmware/nvidia/VERSION/gsp_tu10x.bin"),
    ("graphics", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"),
    ("graphics", "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json"),
    ("graphics", "/usr/share/vulkan/icd.d/nvidia_icd.json"),
    ("graphics", "/usr/share/vulkan/implicit_layer.d/nvidia_layers.json"),
    ("graphics", "/usr/share/nvidia/nvoptix.bin"),
    ("", "/usr/share/nvidia/nvidia-application-profiles-VERSION-rc"),
    ("", "/usr/share/applications/nvidia-settings.desktop"),
];

/// Returns the SONAME of a library.
#[must_use]
pub fn soname(stem: &str, suffix: &str, version: &str) -> String {
    format!("{stem}.{}", if suffix.is_empty() { version } else { suffix })
}

/// Installs the files of a driver below `root`.
///
/// # Panics
/// When a file cannot be made.
pub fn install(root: &Path, layout: DistributionLayout, version: &str) {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let (libs, libs_32, programs) = match layout {
        DistributionLayout::Debian => (
            "/usr/lib/x86_64-linux-gnu/nvidia/current",
            "/usr/lib/i386-linux-gnu/nvidia/current",
            "/usr/lib/nvidia/current",
        ),
        DistributionLayout::Fedora => ("/usr/lib64", "/usr/lib", "/usr/bin"),
        DistributionLayout::Nixos => (
            "/nix/store/abc-driver/lib",
            "/nix/store/def-driver32/lib",
            "/nix/store/abc-driver/bin",
        ),
        DistributionLayout::Talos => ("/usr/local/glibc/usr/lib", "/usr/lib32", "/usr/local/bin"),
        DistributionLayout::Flatcar => ("/opt/nvidia/580/usr/lib64", "/usr/lib32", "/opt/bin"),
        DistributionLayout::Cache => ("/opt/vendor/lib", "/opt/vendor/lib32", "/usr/bin"),
    };
    for (_, stem, suffix) in LIBRARIES {
        let soname = soname(stem, suffix, version);
        for (dir, bits) in [(libs, 64), (libs_32, 32)] {
            let file = format!("{dir}/{stem}.{version}");
            write(&at(&file), &stub(bits, &soname));
            if !suffix.is_empty() {
                link(&format!("{stem}.{version}"), &at(&format!("{dir}/{soname}")));
            }
        }
    }
    for (_, name) in PROGRAMS {
        write(&at(&format!("{programs}/{name}")), b"#!/bin/sh\n");
    }
    for (_, path) in DATA {
        write(&at(&path.replace("VERSION", version)), b"data\n");
    }
    match layout {
        DistributionLayout::Debian => {
            // The links of the alternatives glx--libcuda and nvidia--nvidia-smi.
            link(&format!("{libs}/libcuda.so.1"), &at("/etc/alternatives/libcuda"));
            link("/etc/alternatives/libcuda", &at("/usr/lib/x86_64-linux-gnu/libcuda.so.1"));
            link(&format!("{programs}/nvidia-smi"), &at("/etc/alternatives/nvidia-smi"));
            link("/etc/alternatives/nvidia-smi", &at("/usr/bin/nvidia-smi"));
        }
        DistributionLayout::Fedora | DistributionLayout::Talos => {}
        DistributionLayout::Flatcar => link("580", &at("/opt/nvidia/current")),
        DistributionLayout::Nixos => {
            link("/nix/store/abc-driver", &at("/run/opengl-driver"));
            link("/nix/store/def-driver32", &at("/run/opengl-driver-32"));
            link("/nix/store/abc-driver/bin", &at("/run/current-system/sw/bin"));
            // Nix makes the store writable for the group of its builders.
            let store = at("/nix/store");
            chown(&store, Some(0), Some(30_000)).expect("give the store to its group");
            fs::set_permissions(store, fs::Permissions::from_mode(0o1775)).expect("open the store");
        }
        DistributionLayout::Cache => {
            let wide = format!("{libs}/libcuda.so.1");
            let narrow = format!("{libs_32}/libcuda.so.1");
            let entries = [(0x0303, "libcuda.so.1", wide), (0x0003, "libcuda.so.1", narrow)];
            write(&at("/etc/ld.so.cache"), &cache(&entries));
        }
    }
}

/// Returns a directory of `layout` with the 64-bit libraries.
#[must_use]
pub fn library_dir(layout: DistributionLayout) -> &'static str {
    match layout {
        DistributionLayout::Debian => "/usr/lib/x86_64-linux-gnu/nvidia/current",
        DistributionLayout::Fedora => "/usr/lib64",
        DistributionLayout::Nixos => "/nix/store/abc-driver/lib",
        DistributionLayout::Talos => "/usr/local/glibc/usr/lib",
        DistributionLayout::Flatcar => "/opt/nvidia/580/usr/lib64",
        DistributionLayout::Cache => "/opt/vendor/lib",
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file has a parent")).expect("make a directory");
    fs::write(path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

fn link(to: &str, at: &Path) {
    fs::create_dir_all(at.parent().expect("a link has a parent")).expect("make a directory");
    symlink(to, at).unwrap_or_else(|e| panic!("link {}: {e}", at.display()));
}

/// Returns an ld.so.cache of glibc 2.33 and later (`dl-cache.h`, struct `cache_file_new`).
#[must_use]
pub fn cache(entries: &[(u32, &str, String)]) -> Vec<u8> {
    let mut table = Vec::new();
    let mut strings = Vec::new();
    let base = 48 + 24 * entries.len();
    for (flags, name, path) in entries {
        table.extend(flags.to_le_bytes());
        for text in [*name, path.as_str()] {
            table.extend(((base + strings.len()) as u32).to_le_bytes());
            strings.extend(text.bytes().chain([0]));
        }
        table.extend([0; 12]);
    }
    let mut head = b"glibc-ld.so.cache1.1".to_vec();
    head.extend((entries.len() as u32).to_le_bytes());
    head.extend((strings.len() as u32).to_le_bytes());
    head.push(2);
    head.resize(48, 0);
    [head, table, strings].concat()
}

/// Returns a shared library with a SONAME; an empty one is omitted. Two program headers, a dynamic section, a string
/// table (elf.h).
#[must_use]
pub fn stub(bits: u8, soname: &str) -> Vec<u8> {
    let wide = bits == 64;
    let word =
        |n: u64| if wide { n.to_le_bytes().to_vec() } else { (n as u32).to_le_bytes().to_vec() };
    let (head_size, entry_size, machine) =
        if wide { (64_u64, 56_u64, 62_u16) } else { (52, 32, 3) };
    let dynamic_at = head_size + 2 * entry_size;
    let strings_at = dynamic_at + if wide { 64 } else { 32 };
    let strings = [b"\0", soname.as_bytes(), b"\0"].concat();
    let end = strings_at + strings.len() as u64;
    let mut file = b"\x7fELF".to_vec();
    file.extend([if wide { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    file.extend([3, 0]);
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for n in [0, head_size, 0] {
        file.extend(word(n));
    }
    file.extend(0_u32.to_le_bytes());
    for n in [head_size, entry_size, 2, 0, 0, 0] {
        file.extend((n as u16).to_le_bytes());
    }
    let mut segment = |kind: u32, offset: u64, size: u64| {
        let (place, sizes) =
            ([offset, offset, offset].map(word).concat(), [size, size].map(word).concat());
        file.extend(kind.to_le_bytes());
        if wide {
            file.extend(4_u32.to_le_bytes());
        }
        file.extend(place);
        file.extend(sizes);
        if !wide {
            file.extend(4_u32.to_le_bytes());
        }
        file.extend(word(8));
    };
    segment(1, 0, end);
    segment(2, dynamic_at, strings_at - dynamic_at);
    let name = if soname.is_empty() { (0, 0) } else { (14, 1) };
    for (tag, value) in [(5, strings_at), (10, strings.len() as u64), name, (0, 0)] {
        file.extend(word(tag));
        file.extend(word(value));
    }
    file.extend(strings);
    file
}
