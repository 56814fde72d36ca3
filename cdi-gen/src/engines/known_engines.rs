//! Table of the supported engines: their programs, and the CDI library that each release is built with.

use super::EngineVersion;
use mig_cdi_model::cdi::Version::{
    self, V0_3_0, V0_4_0, V0_5_0, V0_6_0, V0_7_0, V0_8_0, V1_0_0, V1_1_0,
};

/// Row of the table of supported engines.
pub(super) struct KnownEngine {
    pub name: &'static str,
    /// Names of the program; the first one that exists is run with `--version`.
    pub programs: &'static [&'static str],
    /// CDI library by the first engine version that is built with it, ascending. Empty for an OCI runtime: it receives the
    /// edited OCI configuration and never reads a spec.
    pub libraries: &'static [(EngineVersion, CdiLibrary)],
    /// Newest major version for which the table and the configuration keys are known to hold.
    pub newest_major: u32,
}

/// Releases of the Go library container-device-interface that judge the version of a spec alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CdiLibrary {
    /// Highest `cdiVersion` that it accepts.
    pub max_cdi: Version,
    /// True from 0.5.4 on: it compares `cdiVersion` with the content (`pkg/cdi/version.go`, `MinimumRequiredVersion`).
    pub compares_content: bool,
}

/// A library before 0.5.4.
const fn before_0_5_4(max_cdi: Version) -> CdiLibrary {
    CdiLibrary { max_cdi, compares_content: false }
}

/// The library 0.5.4 or a later one.
const fn current(max_cdi: Version) -> CdiLibrary {
    CdiLibrary { max_cdi, compares_content: true }
}

const fn v(major: u32, minor: u32, patch: u32) -> EngineVersion {
    EngineVersion::new(major, minor, patch)
}

/// By the version of container-device-interface in `go.mod` of each release (of Docker before 29, in `vendor.mod`), and its
/// `CurrentVersion`. Confirmed by running podman 4.3.1, 5.4.2 and 5.8.6, containerd 1.7.24 and 2.1.9, Docker 26.1.5 and 28.5.2,
/// and CRI-O 1.37. A distribution may build an engine with a newer library: Debian's containerd 1.7.24 accepts 0.8.0.
pub(super) const KNOWN_ENGINES: [KnownEngine; 6] = [
    KnownEngine {
        name: "podman",
        programs: &["podman"],
        libraries: &[
            (v(4, 1, 0), before_0_5_4(V0_4_0)),
            (v(4, 3, 0), before_0_5_4(V0_5_0)),
            (v(4, 5, 0), current(V0_5_0)),
            (v(4, 7, 0), current(V0_6_0)),
            (v(5, 1, 0), current(V0_7_0)),
            (v(5, 2, 0), current(V0_8_0)),
            (v(5, 5, 0), current(V1_0_0)),
            // As in the development version before 6.0.0.
            (v(6, 0, 0), current(V1_1_0)),
        ],
        newest_major: 6,
    },
    KnownEngine {
        name: "containerd",
        programs: &["containerd"],
        libraries: &[
            (v(1, 7, 0), current(V0_5_0)),
            (v(1, 7, 12), current(V0_6_0)),
            (v(1, 7, 16), current(V0_7_0)),
            (v(1, 7, 27), current(V0_8_0)),
            (v(2, 0, 5), current(V1_0_0)),
            (v(2, 2, 1), current(V1_1_0)),
        ],
        newest_major: 2,
    },
    KnownEngine {
        name: "docker",
        // The daemon reads the specs; the client may be of another version.
        programs: &["dockerd", "docker"],
        libraries: &[
            (v(25, 0, 0), current(V0_6_0)),
            // The last release of this branch took a newer library than the first ones of the next.
            (v(25, 0, 17), current(V0_8_0)),
            (v(26, 0, 0), current(V0_6_0)),
            (v(26, 1, 0), current(V0_7_0)),
            (v(27, 4, 0), current(V0_8_0)),
            (v(28, 1, 0), current(V1_0_0)),
            (v(29, 2, 0), current(V1_1_0)),
        ],
        newest_major: 29,
    },
    KnownEngine {
        name: "crio",
        programs: &["crio"],
        libraries: &[
            (v(1, 24, 0), before_0_5_4(V0_3_0)),
            (v(1, 25, 0), before_0_5_4(V0_5_0)),
            (v(1, 25, 5), current(V0_5_0)),
            (v(1, 26, 0), before_0_5_4(V0_5_0)),
            (v(1, 27, 0), current(V0_5_0)),
            (v(1, 28, 0), current(V0_6_0)),
            (v(1, 30, 0), current(V0_7_0)),
            (v(1, 31, 0), current(V0_8_0)),
            (v(1, 33, 0), current(V1_0_0)),
            (v(1, 35, 0), current(V1_1_0)),
        ],
        newest_major: 1,
    },
    KnownEngine { name: "runc", programs: &["runc"], libraries: &[], newest_major: 1 },
    KnownEngine { name: "crun", programs: &["crun"], libraries: &[], newest_major: 1 },
];
