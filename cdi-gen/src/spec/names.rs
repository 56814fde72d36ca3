//! Names of MIG devices.

use super::{Options, label};
use crate::discover::{Problem, Source};
use mig_cdi_model::{MigDevice, Topology, cdi::DeviceName};
use std::collections::BTreeMap;

/// A way to name a MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum NameStyle {
    /// MIG-… as nvidia-smi -L prints it.
    Uuid,
    /// gpu:profile:start, as 0:2g.20gb:4; it vanishes when the geometry changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1.
    Slot,
    /// gpu:mig, as 0:1. It can become another slice when others come and go.
    Index,
}

impl NameStyle {
    /// The name as a person types it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            NameStyle::Uuid => "uuid",
            NameStyle::Slot => "slot",
            NameStyle::Index => "index",
        }
    }
}

/// Names with their devices, in the order of the topology and of the styles asked for.
pub(super) struct Naming<'a> {
    pub named: Vec<(DeviceName, MigDevice<'a>)>,
    pub left_out: Vec<MigDevice<'a>>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
}

/// Names every device in every style that it can be named in.
pub(super) fn name_all<'a>(topology: &'a Topology, options: &Options) -> Naming<'a> {
    let mut naming = Naming {
        named: Vec::new(),
        left_out: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let mut unnamed: BTreeMap<NameStyle, usize> = BTreeMap::new();
    for device in topology.mig_devices() {
        let before = naming.named.len();
        if options.source == Source::Proc {
            naming.named.extend(ids(&device).map(|name| (name, device)));
        } else {
            for &style in &options.names {
                match name(&device, style) {
                    Some(name) => naming.named.push((name, device)),
                    None => *unnamed.entry(style).or_default() += 1,
                }
            }
        }
        if naming.named.len() == before {
            naming.left_out.push(device);
        }
    }
    naming.warnings =
        unnamed.into_iter().map(|(style, count)| unnamed_warning(style, count)).collect();
    drop_shared(&mut naming);
    naming
}

fn unnamed_warning(style: NameStyle, count: usize) -> String {
    let cause = match style {
        NameStyle::Slot => "nvml tells placements to root only, and to no vgpu guest",
        NameStyle::Uuid | NameStyle::Index => "nvml does not tell it",
    };
    format!("{count} devices have no {} name: {cause}", style.as_str())
}

/// A name that two devices have names neither: a container would be given one of them by chance.
fn drop_shared(naming: &mut Naming<'_>) {
    let mut holders: BTreeMap<DeviceName, Vec<String>> = BTreeMap::new();
    for (name, device) in &naming.named {
        holders.entry(name.clone()).or_default().push(label(device));
    }
    holders.retain(|_, labels| labels.len() > 1);
    naming.named.retain(|(name, _)| !holders.contains_key(name));
    let shared = holders.into_iter().map(|(name, labels)| {
        let reason = format!("{} have the same name; it is given to none", labels.join(" and "));
        Problem::new(name.as_str(), reason)
    });
    naming.problems.extend(shared);
}

fn name(device: &MigDevice<'_>, style: NameStyle) -> Option<DeviceName> {
    let MigDevice { gpu, gi, ci } = device;
    let text = match style {
        NameStyle::Uuid => ci.uuid.as_ref()?.to_string(),
        NameStyle::Index => format!("{}:{}", gpu.index?, ci.index?),
        NameStyle::Slot => {
            let profile = ci.profile.as_ref()?;
            let slot = format!("{}:{}:{}", gpu.index?, profile.cdi_safe(), gi.placement?.start);
            match profile.is_partial() {
                true => format!("{slot}:{}", ci.placement?.start),
                false => slot,
            }
        }
    };
    text.parse().ok()
}

/// `minor:gi:ci`, the numbers of the capability tree: all that is known without NVML.
fn ids(device: &MigDevice<'_>) -> Option<DeviceName> {
    let MigDevice { gpu, gi, ci } = device;
    format!("{}:{}:{}", gpu.minor, gi.id, ci.id).parse().ok()
}

pub(super) fn handy(device: &MigDevice<'_>, source: Source) -> Option<DeviceName> {
    match source {
        Source::Proc => ids(device),
        Source::Nvml => name(device, NameStyle::Slot).or_else(|| name(device, NameStyle::Uuid)),
    }
}
