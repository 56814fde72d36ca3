//! All access to the operating system and the driver: every system call, every call into the driver's library
//! and every path that mig-cdi reads or writes goes through this crate.
//!
//! The other crates decide; this one acts. It holds no policy: it never chooses which device a container
//! gets, what a spec contains or when to refresh. Everything that it reads from the driver arrives as bytes
//! and is parsed by pure functions ([`text`], [`ldcache`], [`elf`]), so that a test needs no machine.
//!
//! # Finding your way
//!
//! | to do this | use |
//! |---|---|
//! | read `/proc`, `/sys`, `/dev` or the driver's files below another root | [`Root`], [`DriverRoot`], [`Host`] |
//! | read a real or a simulated node in the same way | [`Machine`] |
//! | find the DRI nodes of a GPU | [`dri_nodes`] |
//! | parse what the driver prints | [`text`] |
//! | read NVML, partition a GPU, wait for driver events | [`nvml`] |
//! | notice a changed capability tree without NVML | [`Fingerprint`] |
//! | write a file so that no reader sees half of it | [`TrustedDir`], [`ConfigFile`], [`Bundle`] |
//! | show that a process is alive | [`LifeLock`] |
//! | make device nodes on the host | [`NodeDir`] |
//! | make device nodes and mounts in a container | [`Container`], [`MountSource`] |
//! | allow devices in a cgroup | [`DeviceCgroup`], [`ClosedUnit`] |
//! | find what cgroups allow, and who can use a device | [`DevicePolicies`], [`device_access`] |
//! | shed privileges before doing anything as root | [`isolate`] |
//! | run another program | [`run`], [`exec_program`], [`ChildLines`] |
//! | wait for signals and file changes, notify systemd | [`Events`], [`SdNotify`] |
//!
//! # Example
//!
//! A directory that stands for `/` is a parameter everywhere, so the same code reads this machine, a driver
//! container and a test fixture:
//!
//! ```
//! use mig_cdi_sys::{Root, text};
//! use std::path::Path;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = Root::open(Path::new("/"))?;
//! let bytes = root.read("/proc/devices", 64 << 10)?.unwrap_or_default();
//! let devices = text::char_devices(&bytes)?;
//! match devices.gpu_major() {
//!     Some(major) => println!("the nvidia driver has major number {major}"),
//!     None => println!("no nvidia driver is loaded"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Unsafe code
//!
//! `unsafe` is allowed in two places: `nvml/raw.rs` with the file below it, for calls that nvml-wrapper has
//! no safe form of, and `kernel/`, for system calls that nix has no safe form of.
//!
//! # Features
//!
//! `nvml` links nvml-wrapper. Without it, which is how the hook is built, every NVML call answers
//! [`nvml::NvmlError::NoLibrary`].
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod atomic_write;
mod bundle;
mod child_lines;
mod config_file;
mod container;
mod device_cgroup;
mod dri;
mod driver_root;
mod error;
mod events;
mod file_identity;
mod file_stamp;
mod fingerprint;
mod host;
mod isolate;
mod kernel;
mod library_dirs;
mod life_lock;
mod lock_holder;
mod log;
mod mount_namespace;
mod node_dir;
mod node_stat;
mod open_devices;
mod open_in_root;
mod owner;
mod program;
mod root;
mod sd_notify;
mod socket;
mod trusted_path;
mod unit_devices;
mod user_path;

pub mod device_access;
pub mod elf;
pub mod ldcache;
pub mod nvml;
pub mod text;

pub use atomic_write::{Lock, Outcome, TrustedDir};
pub use bundle::Bundle;
pub use child_lines::{ChildLines, NewLines, die_with_parent};
pub use config_file::{ConfigFile, remove_empty_dir};
pub use container::{Container, MountSource, NewNode};
pub use device_cgroup::{
    DeviceCgroup, DevicePolicies, DevicePolicy, DeviceRule, PolicyFromWithin, PolicyProbe,
    TaskPolicies, TaskPolicy, enter_host_cgroup_namespace,
};
pub use dri::{HostDriNode, dri_nodes};
pub use driver_root::{DriverRoot, ExaminedFile};
pub use error::{Error, Result};
pub use events::{DirEvents, Events, Wakeup};
pub use file_identity::FileIdentity;
pub use file_stamp::FileStamp;
pub use fingerprint::Fingerprint;
pub use host::{Host, KernelFiles, Machine, NodeRoots};
pub use isolate::{KeepCaps, isolate};
pub use library_dirs::{LibraryDirs, distinct};
pub use life_lock::{LifeLock, is_life_lock_held};
pub use log::{Log, LogLevel, append_line};
pub use mount_namespace::mountinfo_from_root;
pub use node_dir::{NodeDir, NodeDirEntry, is_root, user_id};
pub use node_stat::NodeStat;
pub use open_devices::{OpenDevices, may_examine_processes, share_descriptors};
pub use owner::Owner;
pub use program::{ProgramOutput, exec_program, is_executable, own_image, own_program, run, sleep};
pub use root::Root;
pub use sd_notify::SdNotify;
pub use socket::{listen_at, remove_socket};
pub use trusted_path::{
    UNMAPPED_OWNER, exchangeable_by_others, in_user_namespace, replaceable_by_others,
};
pub use unit_devices::{ClosedUnit, UnitDevices, UnitRule};
pub use user_path::{
    absolute, exists, is_directory, list_named, node_named, read_named, read_regular,
};
