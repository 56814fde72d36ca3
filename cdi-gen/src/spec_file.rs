//! Specs as they stand in files, whoever wrote them: read as far as they can be compared.

use mig_cdi_model::DeviceVariable;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use std::collections::BTreeMap;

/// The names that a spec defines, and nothing else of it: what an engine would refuse for some other
/// reason, or what we do not know, hides no name.
#[derive(Debug, Clone, Deserialize)]
pub struct Names {
    /// `vendor/class`.
    pub kind: String,
    #[serde(default)]
    devices: Option<Vec<Name>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Name {
    name: Option<String>,
}

impl Names {
    /// Reads JSON or YAML; `None` for what is no spec, which engines pass over as well.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Names> {
        parse(bytes)
    }

    /// The names of its devices.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().flatten().filter_map(|device| device.name.as_deref())
    }
}

/// A device node by path, major and minor number.
pub type NodeId<'a> = (&'a str, Option<i64>, Option<i64>);

/// A spec. Fields that say nothing of what a container gets are passed over.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpecFile {
    /// What an engine must know to read it.
    pub cdi_version: Option<String>,
    /// `vendor/class`.
    pub kind: String,
    /// In the order of the file.
    #[serde(default, deserialize_with = "or_empty")]
    pub devices: Vec<DeviceEntry>,
    #[serde(default, deserialize_with = "or_empty")]
    container_edits: Edits,
}

/// Go writes an empty list as null, and reads both alike.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    // serde-saphyr bounds depth and what aliases expand to (`Budget`), as a spec may be anybody's.
    serde_json::from_slice(bytes).ok().or_else(|| serde_saphyr::from_slice(bytes).ok())
}

/// A device of a spec.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceEntry {
    /// Its name.
    pub name: String,
    #[serde(default, deserialize_with = "or_empty")]
    container_edits: Edits,
}

/// What is done to a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edits {
    #[serde(deserialize_with = "or_empty")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_empty")]
    device_nodes: Vec<NodeEntry>,
    #[serde(deserialize_with = "or_empty")]
    mounts: Vec<MountEntry>,
    #[serde(deserialize_with = "or_empty")]
    hooks: Vec<HookEntry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeEntry {
    path: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MountEntry {
    host_path: String,
    container_path: String,
    #[serde(default, deserialize_with = "or_empty")]
    options: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HookEntry {
    hook_name: String,
    path: String,
    #[serde(default, deserialize_with = "or_empty")]
    args: Vec<String>,
}

/// One thing that a container gets. The order is that of output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// A device node at this path.
    Node(String),
    /// A file at this path of the container.
    Mount(String),
    /// This file of the host, wherever it appears.
    File(String),
    /// This variable.
    Variable(String),
    /// A program that runs at this point, with these words.
    Hook(String),
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, text) = match self {
            Fact::Node(path) => ("node", path),
            Fact::Mount(path) => ("mount", path),
            Fact::File(path) => ("file", path),
            Fact::Variable(name) => ("variable", name),
            Fact::Hook(words) => ("hook", words),
        };
        write!(f, "{what} {text}")
    }
}

/// What a container gets, each with its particulars.
pub type Facts = BTreeMap<Fact, String>;

impl SpecFile {
    /// Reads JSON or YAML; `None` for what is no spec, which engines pass over as well.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<SpecFile> {
        parse(bytes)
    }

    /// The device nodes that every container with any of the devices gets.
    pub fn common_nodes(&self) -> impl Iterator<Item = NodeId<'_>> {
        self.container_edits.numbers()
    }

    /// Each difference from the spec that the node would get now, as a line.
    #[must_use]
    pub fn differences(&self, truth: &SpecFile) -> Vec<String> {
        let mut lines = Vec::new();
        if self.cdi_version != truth.cdi_version {
            let version =
                |spec: &SpecFile| spec.cdi_version.clone().unwrap_or_else(|| "none".to_owned());
            let (ours, should) = (version(self), version(truth));
            lines.push(format!("its cdiVersion is {ours}, should be {should}"));
        }
        lines.extend(differences("every container", &self.common(), &truth.common()));
        let by_name = |spec: &SpecFile| -> BTreeMap<String, Facts> {
            spec.devices.iter().map(|device| (device.name.clone(), device.own())).collect()
        };
        let (ours, theirs) = (by_name(truth), by_name(self));
        for (name, facts) in &theirs {
            match ours.get(name) {
                Some(true_facts) => lines.extend(differences(name, facts, true_facts)),
                None => lines.push(format!("device {name}: the node has no such device any more")),
            }
        }
        let missing = ours.keys().filter(|name| !theirs.contains_key(*name));
        lines.extend(missing.map(|name| format!("device {name}: not in the file")));
        lines
    }

    /// What stands for all devices, then each device with its name.
    pub fn parts(&self) -> impl Iterator<Item = (Option<&str>, &Edits)> {
        let devices = self.devices.iter();
        let devices = devices.map(|device| (Some(device.name.as_str()), &device.container_edits));
        std::iter::once((None, &self.container_edits)).chain(devices)
    }

    /// What every container with any of the devices gets.
    #[must_use]
    pub fn common(&self) -> Facts {
        self.container_edits.facts(Mounts::ByPlace)
    }

    /// All that a container with this device gets, files by where they are on the host.
    #[must_use]
    pub fn whole(&self, device: &DeviceEntry) -> Facts {
        let mut facts = self.container_edits.facts(Mounts::ByFile);
        facts.extend(device.container_edits.facts(Mounts::ByFile));
        facts
    }
}

fn differences(subject: &str, file: &Facts, truth: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    for (fact, particulars) in file {
        match truth.get(fact) {
            Some(true_ones) if true_ones == particulars => {}
            Some(true_ones) => {
                lines.push(format!("{subject}: {fact} is {particulars}, should be {true_ones}"));
            }
            None => lines.push(format!("{subject}: {fact} should not be there")),
        }
    }
    let missing = truth.keys().filter(|fact| !file.contains_key(fact));
    lines.extend(missing.map(|fact| format!("{subject}: {fact} is missing")));
    lines
}

impl DeviceEntry {
    /// What is this device's own.
    #[must_use]
    pub fn own(&self) -> Facts {
        self.container_edits.facts(Mounts::ByPlace)
    }

    /// Its own device nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId<'_>> {
        self.container_edits.numbers()
    }

    /// The slices that it is, by the variables that mig-cdi gives them.
    pub fn slices(&self) -> impl Iterator<Item = DeviceVariable> {
        let variables = self.container_edits.env.iter();
        variables.filter_map(|variable| DeviceVariable::parse(variable)?.ok())
    }

    /// The paths of its capability nodes, which say which slice it is.
    #[must_use]
    pub fn capability_nodes(&self) -> Vec<&str> {
        let paths = self.container_edits.device_nodes.iter().map(|node| node.path.as_str());
        let mut paths: Vec<_> = paths.filter(|path| path.contains("/nvidia-caps/")).collect();
        paths.sort_unstable();
        paths
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mounts {
    ByPlace,
    ByFile,
}

impl Edits {
    /// The nodes, each with its path and the numbers that it states.
    pub fn numbers(&self) -> impl Iterator<Item = NodeId<'_>> {
        self.device_nodes.iter().map(|node| (node.path.as_str(), node.major, node.minor))
    }

    /// The files of the host that are mounted.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.mounts.iter().map(|mount| mount.host_path.as_str())
    }

    /// The programs of the host that run.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.hooks.iter().map(|hook| hook.path.as_str())
    }

    fn facts(&self, mounts: Mounts) -> Facts {
        let variables = self.env.iter().map(|variable| {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            (Fact::Variable(name.to_owned()), value.to_owned())
        });
        let nodes = self.device_nodes.iter().map(|n| (Fact::Node(n.path.clone()), n.particulars()));
        let mounts = self.mounts.iter().map(|mount| match mounts {
            Mounts::ByPlace => {
                let particulars = format!("{} {}", mount.host_path, mount.options.join(","));
                (Fact::Mount(mount.container_path.clone()), particulars)
            }
            Mounts::ByFile => (Fact::File(mount.host_path.clone()), String::new()),
        });
        let hooks = self.hooks.iter().map(|hook| {
            let words = format!("{} {} {}", hook.hook_name, hook.path, hook.args.join(" "));
            (Fact::Hook(words), String::new())
        });
        variables.chain(nodes).chain(mounts).chain(hooks).collect()
    }
}

impl NodeEntry {
    fn particulars(&self) -> String {
        let number = |n: Option<i64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        let mode = self.file_mode.map_or_else(|| "?".to_owned(), |mode| format!("{mode:04o}"));
        format!(
            "{} {}:{} {mode} {} of {}:{}",
            self.kind.as_deref().unwrap_or("?"),
            number(self.major),
            number(self.minor),
            self.permissions.as_deref().unwrap_or("?"),
            self.uid.unwrap_or(0),
            self.gid.unwrap_or(0)
        )
    }
}
