//! The driver's user-space files in the layouts of distributions, made of stubs: each library is an ELF file with a
//! SONAME and nothing else, unless a test puts a real one there.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

pub use crate::driver_layouts::{DistributionLayout, DriverLayout, LAYOUTS};

/// Libraries: classes, file name without version, and version of the SONAME; empty where it is the driver's.
pub const LIBRARIES: [(&str, &str, &str); 38] = [
    ("compute", "libcuda.so", "1"),
    ("compute", "libcudadebugger.so", "1"),
    ("compute", "libnvidia-ptxjitcompiler.so", "1"),
    ("compute", "libnvidia-nvvm.so", "4"),
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
    ("graphics", "libnvidia-present.so", ""),
    ("graphics", "libnvidia-vksc-core.so", "1"),
    ("ngx", "libnvidia-ngx.so", "1"),
    // Files of the driver that are of no use in a container.
    ("", "libnvidia-gtk3.so", ""),
    ("", "libnvidia-wayland-client.so", ""),
    ("", "libnvidia-api.so", "1"),
    ("", "libnvidia-unheard-of.so", ""),
];

/// Libraries with a version of their own: class, file name and SONAME.
pub const NAMED_LIBRARIES: [(&str, &str, &str); 6] = [
    ("compute", "libnvidia-nvvm70.so.4", "libnvidia-nvvm70.so.4"),
    ("graphics", "libnvidia-egl-gbm.so.1.1.2", "libnvidia-egl-gbm.so.1"),
    ("graphics", "libnvidia-egl-wayland.so.1.1.20", "libnvidia-egl-wayland.so.1"),
    ("graphics", "libnvidia-egl-wayland2.so.1.0.1", "libnvidia-egl-wayland2.so.1"),
    ("graphics", "libnvidia-egl-xcb.so.1.0.3", "libnvidia-egl-xcb.so.1"),
    ("graphics", "libnvidia-egl-xlib.so.1.0.3", "libnvidia-egl-xlib.so.1"),
];

/// Modules of the X server: kind and file name; all are for graphics.
pub const XORG_MODULES: [(&str, &str); 2] =
    [("drivers", "nvidia_drv.so"), ("extensions", "libglxserver_nvidia.so")];

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

/// Other files by class, at their paths in a container.
pub const DATA: [(&str, &str); 17] = [
    ("compute", "/etc/OpenCL/vendors/nvidia.icd"),
    ("compute", "/lib/firmware/nvidia/VERSION/gsp_ga10x.bin"),
    ("compute", "/lib/firmware/nvidia/VERSION/gsp_tu10x.bin"),
    ("graphics", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"),
    ("graphics", "/usr/share/egl/egl_external_platform.d/09_nvidia_wayland2.json"),
    ("graphics", "/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json"),
    ("graphics", "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json"),
    ("graphics", "/usr/share/egl/egl_external_platform.d/20_nvidia_xcb.json"),
    ("graphics", "/usr/share/egl/egl_external_platform.d/20_nvidia_xlib.json"),
    ("graphics", "/etc/vulkan/icd.d/nvidia_icd.json"),
    ("graphics", "/etc/vulkan/implicit_layer.d/nvidia_layers.json"),
    ("graphics", "/usr/share/X11/xorg.conf.d/10-nvidia.conf"),
    ("graphics", "/usr/share/X11/xorg.conf.d/nvidia-drm-outputclass.conf"),
    ("graphics", "/usr/share/nvidia/nvoptix.bin"),
    ("graphics", "/usr/share/nvidia/nvidia-application-profiles-VERSION-rc"),
    ("", "/usr/share/nvidia/nvidia-application-profiles-VERSION-key-documentation"),
    ("", "/usr/share/applications/nvidia-settings.desktop"),
];

/// Returns the SONAME of a library.
#[must_use]
pub fn soname(stem: &str, suffix: &str, version: &str) -> String {
    format!("{stem}.{}", if suffix.is_empty() { version } else { suffix })
}

/// Installs the files of a driver below the root of a host.
///
/// # Panics
/// When a file cannot be made.
pub fn install(host: &Path, layout: DistributionLayout, version: &str) {
    let places = layout.places();
    let root = host.join(places.root.trim_start_matches('/'));
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    for (from, to) in places.links {
        let from = at(from);
        let target = if to.starts_with('/') { at(to) } else { from.with_file_name(to) };
        fs::create_dir_all(target).expect("make the target of a link");
        link(to, &from);
    }
    install_libraries(&at, places, version);
    for (_, name) in PROGRAMS {
        write(&at(&format!("{}/{name}", places.programs)), b"#!/bin/sh\n");
    }
    for (_, path) in DATA {
        write(&at(&places.data(path, version).0), b"data\n");
    }
    for ((_, name), dir) in XORG_MODULES.iter().zip(places.xorg).filter(|(_, dir)| !dir.is_empty())
    {
        write(&at(&format!("{dir}/{name}")), b"module\n");
    }
    if places.hops > 0 {
        let to = format!("{}/nvidia-smi", places.programs);
        link_in_steps(&at, "/usr/bin/nvidia-smi", &to, places.hops);
    }
    if let Some(dir) = places.cached {
        let entry = |flags, dir: &str| (flags, "libcuda.so.1", format!("{dir}/libcuda.so.1"));
        let entries = [entry(0x0303, dir), entry(0x0003, places.libraries_32)];
        write(&at("/etc/ld.so.cache"), &cache(&entries));
    }
    if layout == DistributionLayout::Nixos {
        for (_, name) in PROGRAMS {
            write(&at(&format!("/nix/store/abc-driver-bin/bin/{name}")), b"for NixOS alone\n");
        }
        // Nix makes the store writable for the group of its builders.
        let store = at("/nix/store");
        chown(&store, Some(0), Some(30_000)).expect("give the store to its group");
        fs::set_permissions(store, fs::Permissions::from_mode(0o1775)).expect("open the store");
    }
}

fn install_libraries(at: &impl Fn(&str) -> PathBuf, places: &DriverLayout, version: &str) {
    let vdpau_32 = places.vdpau.replace(places.libraries, places.libraries_32);
    for (_, stem, suffix) in LIBRARIES {
        let soname = soname(stem, suffix, version);
        let dirs = match stem {
            "libvdpau_nvidia.so" => [(places.vdpau, 64), (&*vdpau_32, 32)],
            _ => [(places.libraries, 64), (places.libraries_32, 32)],
        };
        for (dir, bits) in dirs {
            write(&at(&format!("{dir}/{stem}.{version}")), &stub(bits, &soname));
            if !suffix.is_empty() {
                link(&format!("{stem}.{version}"), &at(&format!("{dir}/{soname}")));
            }
        }
        let linked = [("x86_64", places.libraries), ("i386", places.libraries_32)];
        for (arch, dir) in linked.iter().filter(|_| places.hops > 0 && !suffix.is_empty()) {
            let from = format!("/usr/lib/{arch}-linux-gnu/{soname}");
            link_in_steps(at, &from, &format!("{dir}/{soname}"), places.hops);
        }
    }
    for (_, file, soname) in NAMED_LIBRARIES {
        write(&at(&format!("{}/{file}", places.libraries)), &stub(64, soname));
        if file != soname {
            link(file, &at(&format!("{}/{soname}", places.libraries)));
        }
    }
}

/// Makes a chain of links as update-alternatives(1) and update-glx(8) do.
fn link_in_steps(at: &impl Fn(&str) -> PathBuf, from: &str, to: &str, hops: usize) {
    let name = from.replace('/', "-");
    let steps = (1..hops).map(|step| format!("/etc/alternatives/step{step}{name}"));
    let path: Vec<_> = [from.to_owned()].into_iter().chain(steps).chain([to.to_owned()]).collect();
    for pair in path.windows(2) {
        link(&pair[1], &at(&pair[0]));
    }
}

/// Returns the directory of `layout` with the 64-bit libraries.
#[must_use]
pub fn library_dir(layout: DistributionLayout) -> &'static str {
    layout.places().libraries
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
