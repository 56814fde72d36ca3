//! Pictures for a terminal, of box-drawing characters or ASCII.

use super::{
    contents::{GpuState, GpuView, Picture},
    gpu_layout::{ComputeSpan, GpuLayout, InstanceView, Region},
    legend::{legend, notes},
    style::Style,
};
use mig_cdi_model::Placement;
use std::collections::BTreeSet;

/// Columns left of the boxes, for the labels of the rows.
const GUTTER: usize = 7;

/// Draws the picture. Lines are no wider than the style, unless a slice would have no column left.
pub(crate) fn text(picture: &Picture, style: Style) -> String {
    if picture.gpus.is_empty() {
        return "no GPU\n".to_owned();
    }
    let mut blocks: Vec<_> = picture.gpus.iter().map(|gpu| gpu_lines(gpu, style)).collect();
    let legend = legend(picture, style);
    if !legend.is_empty() {
        blocks.push(legend);
    }
    let block = |lines: &Vec<String>| -> String {
        lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
    };
    blocks.iter().map(block).collect::<Vec<_>>().join("\n")
}

fn gpu_lines(gpu: &GpuView, style: Style) -> Vec<String> {
    let mut lines = style.wrap(&gpu.heading, 2);
    match &gpu.state {
        GpuState::Whole(reason) => lines.extend(whole(reason, style)),
        GpuState::Partitioned(layout) => lines.extend(boxes(layout, style)),
        GpuState::Unknown { reason, devices } => {
            lines.extend(style.wrap(reason, 2));
            lines.extend(devices.iter().map(|name| style.plain(&format!("  {name}"))));
        }
    }
    for holder in &gpu.holders {
        lines.extend(style.wrap(&format!("* in use as a whole by {holder}"), 2));
    }
    if let GpuState::Partitioned(layout) = &gpu.state {
        lines.extend(notes(layout, style));
    }
    lines
}

/// Draws a GPU that is not partitioned, as one box.
fn whole(reason: &str, style: Style) -> Vec<String> {
    // Two edges, a space and one character are the least that can be drawn.
    let wide = style.width.saturating_sub(GUTTER + 1).max(4);
    let ends = BTreeSet::from([0, wide]);
    let inner = Style { width: wide - 3, ..style };
    let text = inner.wrap(reason, 0);
    let mut lines = vec![border(&BTreeSet::new(), &ends, style)];
    lines.extend(row("", &[Cell { from: 0, to: wide, lines: text }], style));
    lines.push(border(&ends, &BTreeSet::new(), style));
    lines
}

/// A cell of a row of boxes.
struct Cell {
    /// Column of the left edge.
    from: usize,
    /// Column of the right edge.
    to: usize,
    lines: Vec<String>,
}

impl Cell {
    /// Number of columns between the edges.
    fn room(from: usize, to: usize) -> usize {
        to - from - 1
    }
}

fn boxes(layout: &GpuLayout, style: Style) -> Vec<String> {
    let unit = unit(layout, style);
    let regions = layout.regions.iter();
    let memory: Vec<_> = regions.map(|region| memory_cell(region, unit, style)).collect();
    let mut compute = Vec::new();
    for region in &layout.regions {
        match region {
            Region::Free(placement) => {
                let (from, to) = columns(*placement, unit);
                // Compute slices belong to no memory slice before there is an instance: one blank for all.
                match compute.last_mut() {
                    Some(Cell { to: end, lines, .. }) if lines.is_empty() => *end = to,
                    _ => compute.push(Cell { from, to, lines: Vec::new() }),
                }
            }
            Region::Instance(gi) => {
                compute.extend(gi.spans.iter().map(|span| compute_cell(gi, span, unit, style)));
            }
        }
    }
    let edges = |cells: &[Cell]| -> BTreeSet<usize> {
        cells.iter().flat_map(|cell| [cell.from, cell.to]).collect()
    };
    let (above, below, none) = (edges(&memory), edges(&compute), BTreeSet::new());
    let mut lines = vec![numbers(layout.memory_slices, unit)];
    lines.push(border(&none, &above, style));
    lines.extend(row("memory", &memory, style));
    lines.push(border(&above, &below, style));
    lines.extend(row("compute", &compute, style));
    lines.push(border(&below, &none, style));
    lines
}

/// Width of a memory slice in columns, with one edge: as wide as there is room for, and at least so wide that
/// every compute slice of an instance gets a column and an edge.
fn unit(layout: &GpuLayout, style: Style) -> usize {
    let room = style.width.saturating_sub(GUTTER + 1) / layout.memory_slices.max(1) as usize;
    let instances = layout.instances();
    let needed = instances.map(|gi| (2 * gi.compute_slices).div_ceil(gi.placement.size) as usize);
    needed.max().unwrap_or(0).max(room).max(2)
}

/// Columns of the left and right edge of memory slices.
fn columns(placement: Placement, unit: usize) -> (usize, usize) {
    let start = placement.start as usize * unit;
    (start, start + placement.size as usize * unit)
}

/// Line with the numbers of the memory slices, each above the middle of its slice.
fn numbers(memory_slices: u32, unit: usize) -> String {
    let mut line = format!("{:GUTTER$}", "slice");
    for number in 0..memory_slices as usize {
        let column = GUTTER + number * unit + unit / 2;
        let text = number.to_string();
        // A number that would touch the one before it is omitted.
        if line.chars().count() < column + usize::from(number == 0) || unit > text.len() {
            line = format!("{line:column$}{text}");
        }
    }
    line
}

fn memory_cell(region: &Region, unit: usize, style: Style) -> Cell {
    let (from, to) = columns(region.placement(), unit);
    let room = Cell::room(from, to);
    let lines = match region {
        Region::Free(_) => fitting(&["free"], room),
        Region::Instance(gi) => {
            let star = if gi.is_in_use() { "*" } else { "" };
            let key = format!("{}{star}", gi.key);
            let profile = style.plain(&gi.profile);
            let one_line = format!("{key} {profile}");
            // `1g.10gb+me` and `1g.12gb-me`: the attributes of a profile may go to a line of their own.
            let attributes = profile.find(['+', '-']).unwrap_or(profile.len());
            let (base, attributes) = profile.split_at(attributes);
            match one_line.chars().count() < room {
                true => vec![one_line],
                false if profile.chars().count() <= room => vec![key, profile],
                false => fitting(&[&key, base, attributes], room),
            }
        }
    };
    Cell { from, to, lines }
}

fn compute_cell(gi: &InstanceView, span: &ComputeSpan, unit: usize, style: Style) -> Cell {
    let (start, end) = columns(gi.placement, unit);
    let slices = gi.compute_slices.max(1) as usize;
    // Compute slices share the width of the instance evenly: 3 of them go with 4 memory slices in a 3g.40gb.
    let edge = |slice: u32| start + (slice as usize * (end - start) + slices / 2) / slices;
    let Placement { start: first, size } = span.placement;
    let (from, to) = (edge(first), edge(first + size));
    let room = Cell::room(from, to);
    let lines = match &span.device {
        None => vec![style.idle_slice().to_owned()],
        Some(device) => {
            let symbols = style.used_slice().repeat(size as usize);
            let star = if device.holders.is_empty() { "" } else { "*" };
            let one_line = format!("{}{star} {symbols}", device.key);
            match one_line.chars().count() <= room {
                true => vec![one_line],
                false => {
                    let mut lines = fitting(&[&format!("{}{star}", device.key)], room);
                    lines.push(symbols);
                    lines
                }
            }
        }
    };
    Cell { from, to, lines }
}

/// Returns the texts that are neither empty nor too wide.
fn fitting(texts: &[&str], room: usize) -> Vec<String> {
    let fit = texts.iter().filter(|text| !text.is_empty() && text.chars().count() <= room);
    fit.map(|text| (*text).to_owned()).collect()
}

/// Formats the lines of a row of cells. A text has a space before it where there is room.
fn row(label: &str, cells: &[Cell], style: Style) -> Vec<String> {
    let edge = if style.utf8 { '│' } else { '|' };
    let height = cells.iter().map(|cell| cell.lines.len()).max().unwrap_or(0).max(1);
    let line = |number: usize| {
        let label = if number == 0 { label } else { "" };
        let mut line = format!("{label:GUTTER$}{edge}");
        for cell in cells {
            let room = Cell::room(cell.from, cell.to);
            let text = cell.lines.get(number).map_or("", String::as_str);
            let space = if text.chars().count() < room { " " } else { "" };
            line += &format!("{:room$}{edge}", format!("{space}{text}"));
        }
        line
    };
    (0..height).map(line).collect()
}

/// Formats a border between two rows, or at the top or bottom, from the edges of the cells above and below it.
fn border(above: &BTreeSet<usize>, below: &BTreeSet<usize>, style: Style) -> String {
    let last = above.iter().chain(below).copied().max().unwrap_or(0);
    let corner = |column: usize| {
        let (up, down) = (above.contains(&column), below.contains(&column));
        if !style.utf8 {
            return if up || down { '+' } else { '-' };
        }
        match (up, down, column == 0, column == last) {
            (false, true, true, _) => '┌',
            (false, true, _, true) => '┐',
            (false, true, ..) => '┬',
            (true, false, true, _) => '└',
            (true, false, _, true) => '┘',
            (true, false, ..) => '┴',
            (true, true, true, _) => '├',
            (true, true, _, true) => '┤',
            (true, true, ..) => '┼',
            (false, false, ..) => '─',
        }
    };
    let corners: String = (0..=last).map(corner).collect();
    format!("{:GUTTER$}{corners}", "")
}
