//! The error of `mig-cdi show` for a name that no device has: why, and what can be requested in its place.

use crate::{first_layout, impossible_name};
use mig_cdi_gen::{
    Error, NodeSource,
    discover::Source,
    slice_names::SliceNames,
    spec::{self, BuiltSpec, DeviceSet, SpecOptions, flag_of_name, preferred_name},
};
use mig_cdi_model::{GoneName, Gpu, GpuIndex, MigDevice, MigMode, Topology, cdi::Kind};

/// Most names that a message lists.
const LISTED: usize = 8;

/// A name that no device of a built spec has.
pub(super) struct UnknownDevice<'a> {
    pub node: &'a NodeSource,
    pub topology: &'a Topology,
    /// False when some devices of the driver are not confirmed.
    pub is_complete: bool,
    pub built: &'a BuiltSpec,
    pub names: &'a SliceNames,
    pub options: &'a SpecOptions,
    /// Kind of the node's slices, whatever kind was requested.
    pub slice_kind: &'a Kind,
    pub name: &'a str,
}

/// Cause and cure.
type Reason = (String, String);

impl UnknownDevice<'_> {
    pub(super) fn error(&self, request: &str, content: DeviceSet) -> Error {
        let (cause, cure) = match content {
            DeviceSet::Mig => self.slice(),
            DeviceSet::Gpus => self.whole_gpu(),
        };
        Error::failed("show", format!("{request:?}")).because(cause).with_cure(cure)
    }

    fn slice(&self) -> Reason {
        let name = self.name;
        let mut slices = self.topology.mig_devices();
        let with_flag = slices.find_map(|slice| Some((flag_of_name(&slice, name)?, slice)));
        let known = self.known();
        if let Some((flag, slice)) = with_flag.filter(|(flag, _)| !self.is_given(flag)) {
            let own = self.name_of(&slice);
            return match own != name && known.contains(&own) {
                true => (
                    format!("{own} has this name only with {flag}"),
                    format!("use {own}, or add {flag}"),
                ),
                false => {
                    (format!("its slice has this name only with {flag}"), format!("add {flag}"))
                }
            };
        }
        if self.node.source == Source::Proc && name.contains("g.") {
            let cause = "names by slot are known only with nvml".to_owned();
            return (cause, "add --source=nvml".to_owned());
        }
        if self.topology.admin.iter().any(|admin| admin.name == name) {
            let cause = "this capability is a device only with --admin".to_owned();
            return (cause, format!("add --admin={name}"));
        }
        let gone = GoneName::new(name, known.iter().map(String::as_str));
        let Some(gone) = gone else { return self.no_such_device() };
        let Some(gone) = impossible_name::by_spec(name, gone, self.topology, self.names) else {
            let (cause, cure) = impossible_name::UNKNOWN_SLOT;
            return (cause.to_owned(), cure.to_owned());
        };
        let gone = impossible_name::with_reason(name, gone, &impossible_name::gpus(self.node));
        let list = || match known.is_empty() {
            true => self.no_slice(),
            false => "use a name that mig-cdi list shows".to_owned(),
        };
        match gone.gpu.map(|number| (number, self.gpu(number))) {
            Some((number, None)) if self.is_complete => {
                (format!("this node has no GPU {number}"), list())
            }
            Some((number, None)) => {
                (format!("GPU {number} is not confirmed"), "run mig-cdi doctor".to_owned())
            }
            Some((number, Some(gpu))) if gpu.mig == MigMode::Unsupported => {
                (format!("GPU {number} does not support mig"), list())
            }
            Some((_, Some(gpu))) if gone.is_empty => {
                let advice = first_layout::advice_for(self.node, gpu.index);
                (gone.cause, format!("{}: {advice}", gone.now))
            }
            None if gone.is_empty => {
                (gone.cause, format!("{}: {}", gone.now, first_layout::advice(self.node)))
            }
            _ => (gone.cause, gone.now),
        }
    }

    /// True for a flag with which the spec was built.
    fn is_given(&self, flag: &str) -> bool {
        let styles = self.options.names.iter();
        styles.map(|style| style.as_str()).any(|style| flag.strip_prefix("--names=") == Some(style))
    }

    /// A GPU in MIG mode is requested by its slices.
    fn whole_gpu(&self) -> Reason {
        let name = self.name;
        let has_name = |gpu: &&Gpu| gpu.has_name(name);
        let of_mode = |mode| self.topology.gpus.iter().any(|gpu| gpu.mig == mode);
        match self.topology.gpus.iter().find(has_name) {
            Some(gpu) if gpu.mig == MigMode::Enabled => {
                let slices = self.slices(|slice| std::ptr::eq(slice.gpu, gpu));
                let cure = match slices.is_empty() {
                    true => {
                        let advice = first_layout::advice_for(self.node, gpu.index);
                        format!("it has no slice: {advice}")
                    }
                    false => format!("request one of its slices: {slices}"),
                };
                (format!("{} is in mig mode", gpu.label()), cure)
            }
            _ if of_mode(MigMode::Unknown) => {
                let cause = "without nvml it is unknown which gpus are in mig mode".to_owned();
                (cause, "read from nvml: --source=nvml".to_owned())
            }
            _ if of_mode(MigMode::Enabled) && self.built.spec.is_none() => {
                let slices = self.slices(|_| true);
                let cure = match slices.is_empty() {
                    true => format!("none has a slice: {}", first_layout::advice(self.node)),
                    false => format!("request a slice, of the kind {}: {slices}", self.slice_kind),
                };
                ("every gpu is in mig mode, and none can be given out whole".to_owned(), cure)
            }
            _ => self.no_such_device(),
        }
    }

    fn no_such_device(&self) -> Reason {
        let known = self.known();
        let cure = match known.is_empty() {
            true => self.no_slice(),
            false => format!("use one of {}", known.join(", ")),
        };
        ("no such device".to_owned(), cure)
    }

    /// The cure where there is none.
    fn no_slice(&self) -> String {
        format!("the node has no slice: {}", first_layout::advice(self.node))
    }

    /// Names of the devices of the requested kind.
    fn known(&self) -> Vec<String> {
        let devices = self.built.spec.iter().flat_map(|spec| &spec.devices);
        devices.map(|device| device.name.clone()).collect()
    }

    /// The GPU that a name of a slice begins with: its index, or without NVML its minor number.
    fn gpu(&self, number: u32) -> Option<&Gpu> {
        let has_number =
            |gpu: &&Gpu| gpu.index.map_or(gpu.minor.0, |GpuIndex(index)| index) == number;
        self.topology.gpus.iter().find(has_number)
    }

    /// Names of the first slices, empty without one.
    fn slices(&self, is_wanted: impl Fn(&MigDevice<'_>) -> bool) -> String {
        let slices = self.topology.mig_devices().filter(is_wanted);
        let names: Vec<_> = slices.map(|slice| self.name_of(&slice)).collect();
        let more = names.len().saturating_sub(LISTED);
        let listed = names[..names.len() - more].join(", ");
        if more == 0 { listed } else { format!("{listed} and {more} more") }
    }

    fn name_of(&self, slice: &MigDevice<'_>) -> String {
        let name = preferred_name(slice, self.node.source);
        name.map_or_else(|| spec::label(slice), |name| name.to_string())
    }
}
