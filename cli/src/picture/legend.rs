//! What is written beside the boxes: the table of devices, what is left, and how all of it is read.

use super::{
    Picture, Strip, Style,
    strip::{Device, Fit, Taken},
};
use crate::table::{gib, or_dash, table};

/// The lines below the boxes of a GPU.
pub(super) fn notes(strip: &Strip, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    if strip.taken().next().is_some() {
        lines.extend(devices(strip, style));
    }
    lines.extend(style.wrap(&taken(strip), 2));
    lines.extend(style.wrap(&still_fits(strip), 2));
    lines
}

/// A row for each GPU instance and, if it is divided further, for each part; below a row who holds it.
fn devices(strip: &Strip, style: Style) -> Vec<String> {
    let (mut rows, mut holders) = (Vec::new(), Vec::new());
    for part in strip.taken() {
        let Taken { key, profile, memory_mib, slices, .. } = part;
        let memory = or_dash(memory_mib.map(gib));
        let row = |key: &str, name: String, profile: &str, memory: &str, slices: u32| {
            [key.to_owned(), name, profile.to_owned(), memory.to_owned(), slices.to_string()]
        };
        if let Some(device) = part.whole() {
            rows.push(row(key, named(device), profile, &memory, *slices));
            holders.push([&part.holders[..], &device.holders].concat());
            continue;
        }
        let none = part.cells.iter().all(|cell| cell.device.is_none());
        let name = if none { "no compute instance" } else { "in parts:" };
        rows.push(row(key, name.to_owned(), profile, &memory, *slices));
        holders.push(part.holders.clone());
        for cell in &part.cells {
            if let Some(device) = &cell.device {
                let of = format!("{}c.{profile}", cell.at.size);
                rows.push(row(&device.key, named(device), &of, "shared", cell.at.size));
                holders.push(device.holders.clone());
            }
        }
    }
    let text = table(["", "DEVICE", "PROFILE", "MEMORY", "COMPUTE SLICES"], &rows);
    let mut lines = text.lines();
    let mut found: Vec<String> = lines.next().map(str::to_owned).into_iter().collect();
    for (line, holders) in lines.zip(&holders) {
        found.push(style.plain(line));
        for holder in holders {
            found.extend(style.wrap(&format!("      * in use by {holder}"), 8));
        }
    }
    found
}

/// A device that is in no spec cannot be asked for.
fn named(device: &Device) -> String {
    device.name.clone().unwrap_or_else(|| "not certain: see mig-cdi doctor".to_owned())
}

fn taken(strip: &Strip) -> String {
    let Strip { memory, compute, .. } = strip;
    let (used, computing) = (strip.memory_taken(), strip.compute_taken());
    let left = compute - computing;
    let idle = if used == *memory && left > 0 { ", and no memory for the rest" } else { "" };
    format!(
        "taken: {used} of {memory} memory slices, {computing} of {compute} compute slices{idle}"
    )
}

fn still_fits(strip: &Strip) -> String {
    if !strip.fits.is_empty() {
        let fit = |Fit { profile, starts }: &Fit| {
            let starts: Vec<_> = starts.iter().map(ToString::to_string).collect();
            format!("{profile} at {}", starts.join(","))
        };
        let fits: Vec<_> = strip.fits.iter().map(fit).collect();
        return format!("still fits: {}", fits.join("; "));
    }
    let why = match (strip.memory_taken() == strip.memory, strip.compute_taken() == strip.compute) {
        (true, true) => "all slices are taken",
        (true, false) => "all memory slices are taken",
        (false, true) => "all compute slices are taken",
        (false, false) => "the driver has no profile for what is free",
    };
    format!("still fits: nothing, {why}")
}

/// How the picture is read, for somebody who sees one for the first time. What does not occur is left out.
pub(super) fn legend(picture: &Picture, style: Style) -> Vec<String> {
    if picture.strips().next().is_none() {
        return Vec::new();
    }
    let mut text = vec![format!(
        "A box is a GPU instance: a share of the GPU that no other disturbs. Above are its memory slices, \
         below its compute slices, one {} each.",
        style.slice()
    )];
    if picture.has_spare() {
        let spare = style.spare();
        text.push(format!(
            "{spare} is a compute slice without a compute instance: nothing can run there yet."
        ));
    }
    if picture.is_in_use() {
        text.push("* is in use.".to_owned());
    }
    if picture.strips().any(|strip| !strip.fits.is_empty()) {
        let fits = "Of what still fits any one can be made, from the memory slice behind \"at\" on: see \
                    mig-cdi plan --help.";
        text.push(fits.to_owned());
    }
    let mut lines = vec!["How to read it".to_owned()];
    lines.extend(text.iter().flat_map(|text| style.wrap(&format!("  {text}"), 2)));
    if let Some(name) = picture.example() {
        lines.push("  A container is given a device by its name:".to_owned());
        lines.push(style.plain(&format!("    podman run --device {}={name} IMAGE", picture.kind)));
    }
    lines
}
