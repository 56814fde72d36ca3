//! The one model of a CDI spec, for what mig-cdi writes and for what it reads.
//!
//! Rules are those of cncf-tags/container-device-interface: `pkg/parser/parser.go` for names, `specs-go/config.go` for
//! fields, `specs-go/version.go` for versions.
//!
//! A [`Spec`] is read in one of three ways:
//!
//! | reader | function | unknown fields | omitted numbers |
//! |---|---|---|---|
//! | the hook, which trusts the spec with a container | [`StrictSpec::parse`] | refused | refused |
//! | `check`, `compare`, `doctor`, which report what an engine does with a spec | [`AsEngine`] | refused | 0 |
//! | the same for a spec that engines refuse; names in specs of any tool | [`Lenient`] | ignored | 0 |
//!
//! This module reads and writes text. It opens no file, and its only parser is that of JSON.
//!
//! ```
//! use mig_cdi_model::cdi::{Lenient, Spec, StrictSpec};
//!
//! let text = r#"{"kind": "nvidia.com/gpu", "devices": [{"name": "0", "containerEdits": {"other": []}}]}"#;
//! let Lenient(spec) = serde_json::from_str::<Lenient<Spec>>(text).unwrap();
//! assert_eq!(spec.devices[0].name, "0");
//! assert!(StrictSpec::parse(text.as_bytes(), "nvidia.com/gpu").is_err());
//! ```

mod lenient;
mod name;
mod scalar;
mod spec;
mod strict;
mod text;
mod version;

pub use lenient::{AsEngine, Lenient};
pub use name::{CdiNameError, DeviceName, Kind};
pub use spec::{ContainerEdits, Device, Hook, IntelRdt, Mount, NetDevice, Spec, SpecNode};
pub use strict::{SpecError, StrictSpec, UnreadEdits};
pub use version::{Version, VersionLimit, VersionNeed};
