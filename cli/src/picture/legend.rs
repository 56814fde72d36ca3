//! Text below the boxes: the table of devices, the free slices, and an explanation of the picture.

use super::{
    contents::Picture,
    gpu_layout::{DrawnDevice, FreeProfile, GpuLayout, InstanceView},
    style::Style,
};
use crate::table::{gib, or_dash, table};

/// Returns the lines below the boxes of a GPU.
pub(super) fn notes(layout: &GpuLayout, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    if layout.instances().next().is_some() {
        lines.extend(devices(layout, style));
    }
    lines.extend(style.wrap(&taken(layout), 2));
    lines.extend(style.wrap(&still_fits(layout), 2));
    lines
}

/// Table with a row for each GPU instance and, where it has several, for each compute instance. The holders are
/// listed below a row.
fn devices(layout: &GpuLayout, style: Style) -> Vec<String> {
    let (mut rows, mut holders) = (Vec::new(), Vec::new());
    for gi in layout.instances() {
        let InstanceView { key, profile, memory_mib, compute_slices, .. } = gi;
        let memory = or_dash(memory_mib.map(gib));
        let row = |key: &str, name: String, profile: &str, memory: &str, slices: u32| {
            [key.to_owned(), name, profile.to_owned(), memory.to_owned(), slices.to_string()]
        };
        if let Some(device) = gi.only_device() {
            rows.push(row(key, device_name(device), profile, &memory, *compute_slices));
            holders.push([&gi.holders[..], &device.holders].concat());
            continue;
        }
        let is_empty = gi.spans.iter().all(|span| span.device.is_none());
        let name = if is_empty { "no compute instance" } else { "compute instances:" };
        rows.push(row(key, name.to_owned(), profile, &memory, *compute_slices));
        holders.push(gi.holders.clone());
        for span in &gi.spans {
            if let Some(device) = &span.device {
                // Compute instances share the memory of their GPU instance: none has memory of its own.
                let size = span.placement.size;
                let profile = format!("{size}c.{profile}");
                rows.push(row(&device.key, device_name(device), &profile, "shared", size));
                holders.push(device.holders.clone());
            }
        }
    }
    let text = table(["", "DEVICE", "PROFILE", "MEMORY", "COMPUTE SLICES"], &rows);
    let mut lines = text.lines();
    let mut table: Vec<String> = lines.next().map(str::to_owned).into_iter().collect();
    for (line, holders) in lines.zip(&holders) {
        table.push(style.plain(line));
        for holder in holders {
            table.extend(style.wrap(&format!("      * in use by {holder}"), 8));
        }
    }
    table
}

fn device_name(device: &DrawnDevice) -> String {
    device.name.clone().unwrap_or_else(|| "unconfirmed: see mig-cdi doctor".to_owned())
}

fn taken(layout: &GpuLayout) -> String {
    let GpuLayout { memory_slices: memory, compute_slices: compute, .. } = layout;
    let (memory_taken, compute_taken) = (layout.memory_taken(), layout.compute_taken());
    // Profiles do not use both in the same proportion: two 3g.40gb leave one of seven compute slices without
    // memory.
    let is_stranded = memory_taken == *memory && compute_taken < *compute;
    let stranded = if is_stranded { ", and no memory for the rest" } else { "" };
    format!(
        "taken: {memory_taken} of {memory} memory slices, {compute_taken} of {compute} compute slices{stranded}"
    )
}

fn still_fits(layout: &GpuLayout) -> String {
    if !layout.fits.is_empty() {
        let fit = |FreeProfile { profile, starts }: &FreeProfile| {
            let starts: Vec<_> = starts.iter().map(ToString::to_string).collect();
            format!("{profile} at {}", starts.join(","))
        };
        let fits: Vec<_> = layout.fits.iter().map(fit).collect();
        return format!("still fits: {}", fits.join("; "));
    }
    let has_memory = layout.memory_taken() < layout.memory_slices;
    let has_compute = layout.compute_taken() < layout.compute_slices;
    let reason = match (has_memory, has_compute) {
        (false, false) => "all slices are taken",
        (false, true) => "all memory slices are taken",
        (true, false) => "all compute slices are taken",
        (true, true) => "the driver has no profile for what is free",
    };
    format!("still fits: nothing, {reason}")
}

/// Explains the picture to a reader who sees one for the first time. Omits what does not occur in it.
pub(super) fn legend(picture: &Picture, style: Style) -> Vec<String> {
    if picture.layouts().next().is_none() {
        return Vec::new();
    }
    let mut text = vec![format!(
        "A box is a GPU instance: memory and compute slices of the GPU that no other instance uses. The upper \
         row shows its memory slices, the lower row its compute slices, one {} each.",
        style.used_slice()
    )];
    if picture.has_idle_slice() {
        let idle = style.idle_slice();
        text.push(format!(
            "{idle} is a compute slice without a compute instance: nothing can run there yet."
        ));
    }
    if picture.is_in_use() {
        text.push("* is in use.".to_owned());
    }
    if picture.layouts().any(|layout| !layout.fits.is_empty()) {
        let fits = "Any one of the profiles that still fit can be created now. The number after \"at\" is its \
                    first memory slice: see mig-cdi plan --help.";
        text.push(fits.to_owned());
    }
    let mut lines = vec!["How to read it".to_owned()];
    lines.extend(text.iter().flat_map(|text| style.wrap(&format!("  {text}"), 2)));
    if let Some(name) = picture.example() {
        lines.push("  A container gets a device by its name:".to_owned());
        lines.push(style.plain(&format!("    podman run --device {}={name} IMAGE", picture.kind)));
    }
    lines
}
