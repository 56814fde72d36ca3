//! Table of the places in which distributions have the driver's files: one row each, with its source. For another
//! distribution add a name to [`DistributionLayout`] and a row to the table.

/// A distribution, or another way to install the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DistributionLayout {
    /// Debian's current driver, with links through `/etc/alternatives`.
    Debian,
    /// Debian's driver for data centres, known to the loader's cache by a link only.
    DebianTesla,
    /// Debian's driver for old GPUs, in a host without a loader's cache.
    DebianLegacy,
    /// Ubuntu.
    Ubuntu,
    /// Fedora and RHEL.
    Fedora,
    /// SUSE Linux Enterprise and openSUSE.
    Suse,
    /// Arch Linux.
    Arch,
    /// NixOS, in the store.
    Nixos,
    /// Talos.
    Talos,
    /// Flatcar.
    Flatcar,
    /// Google's Container-Optimized OS.
    Cos,
    /// Bottlerocket.
    Bottlerocket,
    /// The driver container of NVIDIA's GPU operator.
    GpuOperator,
    /// A directory that only the loader's cache names.
    Cache,
}

/// Places of a driver. `VERSION` is its version.
#[derive(Debug, Clone, Copy)]
pub struct DriverLayout {
    /// Name.
    pub layout: DistributionLayout,
    /// Public source of the paths.
    pub source: &'static str,
    /// Driver root below that of the host.
    pub root: &'static str,
    /// Directory of the 64-bit libraries.
    pub libraries: &'static str,
    /// Directory of the 32-bit libraries.
    pub libraries_32: &'static str,
    /// Directory of the library for VDPAU.
    pub vdpau: &'static str,
    /// Directory of the programs.
    pub programs: &'static str,
    /// Directory that has `nvidia/VERSION`.
    pub firmware: &'static str,
    /// Stands for `/usr/share`.
    pub share: &'static str,
    /// Stands for `/etc`.
    pub etc: &'static str,
    /// Directory that has `vulkan`.
    pub vulkan: &'static str,
    /// File name of Vulkan's driver description.
    pub icd: &'static str,
    /// Directories of the X server's driver and extension; empty for none.
    pub xorg: [&'static str; 2],
    /// Links from `/usr/lib/TRIPLET` to the libraries, and from `/usr/bin` to nvidia-smi: so many in a chain.
    pub hops: usize,
    /// Directory of the loader's cache entries.
    pub cached: Option<&'static str>,
    /// Other links, and where they lead.
    pub links: &'static [(&'static str, &'static str)],
}

/// A plain layout, from which the rows differ.
const PLAIN: DriverLayout = DriverLayout {
    layout: DistributionLayout::Fedora,
    source: "NVIDIA/yum-packaging-nvidia-driver and negativo17/nvidia-driver, nvidia-driver.spec",
    root: "",
    libraries: "/usr/lib64",
    libraries_32: "/usr/lib",
    vdpau: "/usr/lib64/vdpau",
    programs: "/usr/bin",
    firmware: "/lib/firmware",
    share: "/usr/share",
    etc: "/etc",
    vulkan: "/usr/share",
    icd: "nvidia_icd.x86_64.json",
    xorg: ["/usr/lib64/xorg/modules/drivers", "/usr/lib64/xorg/modules/extensions"],
    hops: 0,
    cached: None,
    links: &[],
};

const DEBIAN: DriverLayout = DriverLayout {
    layout: DistributionLayout::Debian,
    source: "Debian's nvidia-graphics-drivers, debian/*.install; update-glx(8)",
    libraries: "/usr/lib/x86_64-linux-gnu/nvidia/current",
    libraries_32: "/usr/lib/i386-linux-gnu/nvidia/current",
    vdpau: "/usr/lib/x86_64-linux-gnu/nvidia/current",
    programs: "/usr/lib/nvidia/current",
    icd: "nvidia_icd.json",
    xorg: ["/usr/lib/nvidia/current", "/usr/lib/nvidia/current"],
    hops: 1,
    ..PLAIN
};

/// All layouts.
pub const LAYOUTS: [DriverLayout; 14] = [
    DEBIAN,
    DriverLayout {
        layout: DistributionLayout::DebianTesla,
        source: "Debian's nvidia-graphics-drivers-tesla; the directory in keylase/nvidia-patch, patch.sh",
        libraries: "/usr/lib/x86_64-linux-gnu/nvidia/tesla-570",
        libraries_32: "/usr/lib/i386-linux-gnu/nvidia/tesla-570",
        vdpau: "/usr/lib/x86_64-linux-gnu/nvidia/tesla-570",
        programs: "/usr/lib/nvidia/tesla-570",
        xorg: ["/usr/lib/nvidia/tesla-570", "/usr/lib/nvidia/tesla-570"],
        hops: 3,
        cached: Some("/usr/lib/x86_64-linux-gnu"),
        ..DEBIAN
    },
    DriverLayout {
        layout: DistributionLayout::DebianLegacy,
        source: "Debian's nvidia-graphics-drivers-legacy-390xx, debian/*.install",
        libraries: "/usr/lib/x86_64-linux-gnu/nvidia/legacy-390xx",
        libraries_32: "/usr/lib/i386-linux-gnu/nvidia/legacy-390xx",
        vdpau: "/usr/lib/x86_64-linux-gnu/nvidia/legacy-390xx",
        programs: "/usr/lib/nvidia/legacy-390xx",
        vulkan: "/etc",
        xorg: ["/usr/lib/nvidia/legacy-390xx", "/usr/lib/nvidia/legacy-390xx"],
        hops: 2,
        ..DEBIAN
    },
    DriverLayout {
        layout: DistributionLayout::Ubuntu,
        source: "Ubuntu's libnvidia-compute-580, libnvidia-decode-580, nvidia-utils-580, xserver-xorg-video-nvidia-580",
        libraries: "/usr/lib/x86_64-linux-gnu",
        libraries_32: "/usr/lib/i386-linux-gnu",
        vdpau: "/usr/lib/x86_64-linux-gnu/vdpau",
        icd: "nvidia_icd.json",
        xorg: ["/usr/lib/x86_64-linux-gnu/nvidia/xorg", "/usr/lib/x86_64-linux-gnu/nvidia/xorg"],
        cached: Some("/usr/lib/x86_64-linux-gnu"),
        ..PLAIN
    },
    PLAIN,
    DriverLayout {
        layout: DistributionLayout::Suse,
        source: "openSUSE's nvidia-driver-G06.spec",
        vulkan: "/etc",
        icd: "nvidia_icd.json",
        cached: Some("/usr/lib64"),
        ..PLAIN
    },
    DriverLayout {
        layout: DistributionLayout::Arch,
        source: "Arch Linux's nvidia-utils, PKGBUILD",
        libraries: "/usr/lib",
        libraries_32: "/usr/lib32",
        vdpau: "/usr/lib/vdpau",
        firmware: "/usr/lib/firmware",
        icd: "nvidia_icd.json",
        xorg: ["/usr/lib/xorg/modules/drivers", "/usr/lib/nvidia/xorg"],
        links: &[
            ("/usr/lib64", "lib"),
            ("/lib", "usr/lib"),
            ("/lib64", "usr/lib"),
            ("/bin", "usr/bin"),
        ],
        ..PLAIN
    },
    DriverLayout {
        layout: DistributionLayout::Nixos,
        source: "nixpkgs, pkgs/os-specific/linux/nvidia-x11/builder.sh",
        libraries: "/nix/store/abc-driver/lib",
        libraries_32: "/nix/store/def-driver32/lib",
        vdpau: "/nix/store/abc-driver/lib/vdpau",
        programs: "/nix/store/abc-driver-bin/origBin",
        firmware: "/nix/store/abc-firmware/lib/firmware",
        share: "/nix/store/abc-driver/share",
        vulkan: "/nix/store/abc-driver/share",
        xorg: ["", ""],
        links: &[
            ("/run/opengl-driver", "/nix/store/abc-driver"),
            ("/run/opengl-driver-32", "/nix/store/def-driver32"),
            ("/run/current-system/sw/bin", "/nix/store/abc-driver-bin/bin"),
            ("/run/current-system/firmware", "/nix/store/abc-firmware/lib/firmware"),
        ],
        ..PLAIN
    },
    DriverLayout {
        layout: DistributionLayout::Talos,
        source: "siderolabs/extensions, nvidia-gpu/nvidia-driver/userspace/production/pkg.yaml",
        libraries: "/usr/local/glibc/usr/lib64",
        libraries_32: "/usr/lib32",
        vdpau: "/usr/local/glibc/usr/lib64/vdpau",
        programs: "/usr/local/glibc/usr/bin",
        firmware: "/usr/lib/firmware",
        share: "/usr/local/glibc/usr/share",
        etc: "/usr/local/glibc/etc",
        vulkan: "/usr/local/glibc/etc",
        icd: "nvidia_icd.json",
        xorg: [
            "/usr/local/glibc/usr/lib64/xorg/modules/drivers",
            "/usr/local/glibc/usr/lib64/xorg/modules/extensions",
        ],
        ..PLAIN
    },
    DriverLayout {
        layout: DistributionLayout::Flatcar,
        source: "flatcar/flatcar-website, setup/customization/using-nvidia.md",
        libraries: "/opt/nvidia/580/usr/lib64",
        libraries_32: "/usr/lib32",
        vdpau: "/opt/nvidia/580/usr/lib64/vdpau",
        programs: "/opt/bin",
        firmware: "/opt/nvidia/580/usr/lib/firmware",
        share: "/opt/nvidia/580/usr/share",
        vulkan: "/etc",
        icd: "nvidia_icd.json",
        xorg: ["", ""],
        links: &[("/opt/nvidia/current", "580")],
        ..PLAIN
    },
    DriverLayout {
        layout: DistributionLayout::Cos,
        source: "GoogleCloudPlatform/container-engine-accelerators, nvidia-driver-installer/cos; cos-tools, cos_gpu_installer",
        libraries: "/home/kubernetes/bin/nvidia/lib64",
        libraries_32: "/home/kubernetes/bin/nvidia/lib32",
        vdpau: "/home/kubernetes/bin/nvidia/lib64/vdpau",
        programs: "/home/kubernetes/bin/nvidia/bin",
        firmware: "/home/kubernetes/bin/nvidia/firmware",
        share: "/home/kubernetes/bin/nvidia/share",
        vulkan: "/home/kubernetes/bin/nvidia",
        icd: "nvidia_icd.json",
        xorg: ["", ""],
        ..PLAIN
    },
    DriverLayout {
        layout: DistributionLayout::Bottlerocket,
        source: "bottlerocket-os/bottlerocket-kernel-kit, packages/kmod-6.1-nvidia/kmod-6.1-nvidia.spec",
        libraries: "/usr/lib/nvidia/tesla",
        libraries_32: "/usr/lib32",
        vdpau: "/usr/lib/nvidia/tesla",
        programs: "/usr/libexec/nvidia/tesla/bin",
        firmware: "/usr/lib/firmware",
        xorg: ["", ""],
        ..PLAIN
    },
    DriverLayout {
        layout: DistributionLayout::GpuOperator,
        source: "NVIDIA/gpu-driver-container, ubuntu22.04/nvidia-driver",
        root: "/run/nvidia/driver",
        libraries: "/usr/lib/x86_64-linux-gnu",
        libraries_32: "/usr/lib/i386-linux-gnu",
        vdpau: "/usr/lib/x86_64-linux-gnu/vdpau",
        vulkan: "/etc",
        icd: "nvidia_icd.json",
        xorg: ["/usr/lib/xorg/modules/drivers", "/usr/lib/xorg/modules/extensions"],
        ..PLAIN
    },
    DriverLayout {
        layout: DistributionLayout::Cache,
        source: "ld.so(8), /etc/ld.so.cache",
        libraries: "/opt/vendor/lib",
        libraries_32: "/opt/vendor/lib32",
        vdpau: "/opt/vendor/lib/vdpau",
        cached: Some("/opt/vendor/lib"),
        ..PLAIN
    },
];

impl DistributionLayout {
    /// Returns the row of the table.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn places(self) -> &'static DriverLayout {
        LAYOUTS.iter().find(|row| row.layout == self).expect("a row for each layout")
    }
}

impl DriverLayout {
    /// Returns the path on the host, below the driver root, and the path in a container of a file that is given by its
    /// path in a container of the plain layout.
    #[must_use]
    pub fn data(&self, path: &str, version: &str) -> (String, String) {
        let path = path.replace("VERSION", version);
        let below = |from: &str, to: &str| {
            let rest = path.strip_prefix(from)?.replace("nvidia_icd.json", self.icd);
            rest.starts_with('/').then(|| format!("{to}{rest}"))
        };
        let is_vulkan = path.starts_with("/etc/vulkan/");
        let host = if is_vulkan { below("/etc", self.vulkan) } else { None }
            .or_else(|| below("/usr/share", self.share))
            .or_else(|| below("/etc", self.etc))
            .or_else(|| below("/lib/firmware", self.firmware))
            .unwrap_or_else(|| path.clone());
        let is_standard = ["/etc/", "/usr/share/"].iter().any(|dir| host.starts_with(dir));
        let home = path.replace("nvidia_icd.json", self.icd);
        let inside = if is_standard { host.clone() } else { home };
        (host, inside)
    }
}
