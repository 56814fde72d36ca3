//! Writes a node as the description that parses to it.

use crate::{
    FileFault, NvmlFault, ProcessDescription, ProcessKind, SimulatedComputeInstance, SimulatedGpu,
    SimulatedInstance, SimulatedNode,
};
use mig_cdi_model::is_unprintable;
use std::fmt::{self, Display, Write};

impl SimulatedNode {
    /// Returns the description of this node with every optional key given. [`SimulatedNode::parse`] of it
    /// returns this node.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::with_capacity(512 + 1024 * self.gpus.len());
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        if !self.description.is_empty() {
            writeln!(out, "description = {}", Quoted(&self.description))?;
        }
        let majors = self.majors;
        writeln!(out, "driver = {}", Quoted(&self.driver))?;
        option(out, "machine", self.machine.as_deref().map(Quoted))?;
        writeln!(out, "\n[majors]")?;
        writeln!(out, "nvidia = {}\nnvidia-caps = {}", majors.nvidia, majors.nvidia_caps)?;
        writeln!(out, "nvidia-uvm = {}\ndrm = {}", majors.nvidia_uvm, majors.drm)?;
        self.gpus.iter().try_for_each(|gpu| gpu.write(out))?;
        self.faults(out)
    }

    fn faults(&self, out: &mut String) -> fmt::Result {
        out.push_str("\n[faults]\n");
        match self.nvml_fault {
            Some(NvmlFault::DriverNotLoaded) => out.push_str("nvml = \"driver-not-loaded\"\n"),
            Some(NvmlFault::VersionMismatch) => out.push_str("nvml = \"version-mismatch\"\n"),
            None => {}
        }
        if self.names_without_profile {
            out.push_str("names-without-profile = true\n");
        }
        let hidden = self.gpus.iter().flat_map(SimulatedGpu::hidden);
        list(out, "hidden-from-nvml", hidden.map(|path| Quoted(&path).to_string()))?;
        let missing = self.missing_nodes.iter();
        list(out, "missing-nodes", missing.map(|path| Quoted(path).to_string()))?;
        option(out, "stale-caps-major", self.stale_caps_major)?;
        self.files.iter().try_for_each(|fault| file(out, fault))
    }
}

impl SimulatedGpu {
    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n[[gpu]]\nmodel = {}\nminor = {}", Quoted(self.model.key), self.minor)?;
        writeln!(out, "pci = \"{}\"\nuuid = \"{}\"", self.pci, self.uuid)?;
        writeln!(
            out,
            "mig = {}\nmig-pending = {}",
            self.is_mig_enabled, self.is_mig_enabled_after_reset
        )?;
        option(out, "numa", self.numa)?;
        if self.is_lost {
            out.push_str("lost = true\n");
        }
        if self.is_drained {
            out.push_str("drained = true\n");
        }
        if self.is_open {
            out.push_str("held = true\n");
        }
        if let Some(dri) = self.dri {
            writeln!(out, "dri = {{ card = {}, render = {} }}", dri.card, dri.render)?;
        }
        list(out, "instances", self.instances.iter().map(instance))?;
        list(out, "processes", self.processes.iter().map(process))
    }

    /// Returns the compute instances that NVML does not list, as the key `hidden-from-nvml` names them.
    fn hidden(&self) -> impl Iterator<Item = String> + '_ {
        self.instances.iter().flat_map(|gi| {
            let hidden = gi.compute.iter().filter(|ci| ci.is_hidden);
            hidden.map(|ci| format!("gpu{}/gi{}/ci{}", self.minor, gi.id, ci.id))
        })
    }
}

fn instance(gi: &SimulatedInstance) -> String {
    let compute: Vec<_> = gi.compute.iter().map(compute).collect();
    let (name, start, compute) = (gi.profile.name, gi.placement.start, compute.join(", "));
    format!("{{ profile = \"{name}\", start = {start}, id = {}, compute = [{compute}] }}", gi.id)
}

fn compute(ci: &SimulatedComputeInstance) -> String {
    let (size, start) = (ci.placement.size, ci.placement.start);
    format!("{{ profile = \"{size}c\", start = {start}, id = {} }}", ci.id)
}

fn process(process: &ProcessDescription) -> String {
    let mut text = format!("{{ pid = {}", process.pid);
    let kind = match process.kind {
        ProcessKind::Compute => None,
        ProcessKind::Graphics => Some("\"graphics\""),
        ProcessKind::Mps => Some("\"mps\""),
    };
    for (key, id) in [("gi", process.gi), ("ci", process.ci)] {
        let _ = id.map(|id| write!(text, ", {key} = {id}"));
    }
    let _ = kind.map(|kind| write!(text, ", kind = {kind}"));
    text + " }"
}

fn file(out: &mut String, fault: &FileFault) -> fmt::Result {
    let FileFault { path, remove, truncate, size, bytes, text } = fault;
    writeln!(out, "\n[[faults.files]]\npath = {}\nremove = {remove}", Quoted(path))?;
    option(out, "truncate", *truncate)?;
    option(out, "size", *size)?;
    option(out, "bytes", bytes.as_ref().map(|bytes| format!("{bytes:?}")))?;
    option(out, "text", text.as_deref().map(Quoted))
}

fn option(out: &mut String, key: &str, value: Option<impl Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| writeln!(out, "{key} = {value}"))
}

/// Writes a list with one entry on each line; nothing for an empty list.
fn list(out: &mut String, key: &str, entries: impl Iterator<Item = String>) -> fmt::Result {
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "{key} = [")?;
    entries.try_for_each(|entry| writeln!(out, "    {entry},"))?;
    writeln!(out, "]")
}

/// A text that is displayed as a basic string of TOML 1.0.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if is_unprintable(c) => write!(f, "\\U{:08X}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}
