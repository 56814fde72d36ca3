//! The picture for a terminal.

use super::{
    Card, Picture, State, Strip, Style,
    legend::{legend, notes},
    strip::{Cell, Part, Taken},
};
use std::collections::BTreeSet;

/// What stands left of the boxes.
const GUTTER: usize = 7;

/// The whole picture. Lines are no wider than the style says, as long as a slice can be seen at all.
pub(crate) fn text(picture: &Picture, style: Style) -> String {
    if picture.cards.is_empty() {
        return "no GPU\n".to_owned();
    }
    let mut blocks: Vec<_> = picture.cards.iter().map(|card| card_lines(card, style)).collect();
    let legend = legend(picture, style);
    if !legend.is_empty() {
        blocks.push(legend);
    }
    let block = |lines: &Vec<String>| -> String {
        lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
    };
    blocks.iter().map(block).collect::<Vec<_>>().join("\n")
}

fn card_lines(card: &Card, style: Style) -> Vec<String> {
    let mut lines = style.wrap(&card.heading, 2);
    match &card.state {
        State::Whole(why) => lines.extend(whole(why, style)),
        State::Divided(strip) => lines.extend(boxes(strip, style)),
        State::Untold(why, devices) => {
            lines.extend(style.wrap(why, 2));
            lines.extend(devices.iter().map(|name| style.plain(&format!("  {name}"))));
        }
    }
    for holder in &card.holders {
        lines.extend(style.wrap(&format!("* in use as a whole by {holder}"), 2));
    }
    if let State::Divided(strip) = &card.state {
        lines.extend(notes(strip, style));
    }
    lines
}

/// One box that is all of the GPU.
fn whole(why: &str, style: Style) -> Vec<String> {
    let wide = style.width.saturating_sub(GUTTER + 1).max(4);
    let ends = BTreeSet::from([0, wide]);
    let inner = Style { width: wide - 3, ..style };
    let text = inner.wrap(why, 0);
    let mut lines = vec![border(&BTreeSet::new(), &ends, style)];
    lines.extend(row("", &[Drawn { from: 0, to: wide, lines: text }], style));
    lines.push(border(&ends, &BTreeSet::new(), style));
    lines
}

/// A cell of a row: columns from its left edge to its right one, and what is in it.
struct Drawn {
    from: usize,
    to: usize,
    lines: Vec<String>,
}

impl Drawn {
    /// Columns between the edges.
    fn room(from: usize, to: usize) -> usize {
        to - from - 1
    }
}

fn boxes(strip: &Strip, style: Style) -> Vec<String> {
    let unit = unit(strip, style);
    let memory: Vec<_> = strip.parts.iter().map(|part| of_part(part, unit, style)).collect();
    let mut compute = Vec::new();
    for part in &strip.parts {
        match part {
            Part::Free(at) => {
                let (from, to) = columns(at.start, at.size, unit);
                // Neighbours are one blank.
                match compute.last_mut() {
                    Some(Drawn { to: end, lines, .. }) if lines.is_empty() => *end = to,
                    _ => compute.push(Drawn { from, to, lines: Vec::new() }),
                }
            }
            Part::Taken(taken) => {
                compute.extend(taken.cells.iter().map(|cell| of_cell(taken, cell, unit, style)));
            }
        }
    }
    let edges = |cells: &[Drawn]| -> BTreeSet<usize> {
        cells.iter().flat_map(|cell| [cell.from, cell.to]).collect()
    };
    let (above, below, none) = (edges(&memory), edges(&compute), BTreeSet::new());
    let mut lines = vec![numbers(strip.memory, unit)];
    lines.push(border(&none, &above, style));
    lines.extend(row("memory", &memory, style));
    lines.push(border(&above, &below, style));
    lines.extend(row("compute", &compute, style));
    lines.push(border(&below, &none, style));
    lines
}

/// Columns of a memory slice, with one edge: as many as there is room for, but every compute slice is to be
/// seen.
fn unit(strip: &Strip, style: Style) -> usize {
    let room = style.width.saturating_sub(GUTTER + 1) / strip.memory.max(1) as usize;
    let needed = strip.taken().map(|taken| (2 * taken.slices).div_ceil(taken.at.size) as usize);
    needed.max().unwrap_or(0).max(room).max(2)
}

fn columns(start: u32, size: u32, unit: usize) -> (usize, usize) {
    let start = start as usize * unit;
    (start, start + size as usize * unit)
}

/// The numbers of the memory slices, each above the middle of its own.
fn numbers(memory: u32, unit: usize) -> String {
    let mut line = format!("{:GUTTER$}", "slice");
    for number in 0..memory as usize {
        let column = GUTTER + number * unit + unit / 2;
        let text = number.to_string();
        // Of narrow slices some have no number.
        if line.chars().count() < column + usize::from(number == 0) || unit > text.len() {
            line = format!("{line:column$}{text}");
        }
    }
    line
}

fn of_part(part: &Part, unit: usize, style: Style) -> Drawn {
    let at = part.at();
    let (from, to) = columns(at.start, at.size, unit);
    let room = Drawn::room(from, to);
    let lines = match part {
        Part::Free(_) => fitting(&["free"], room),
        Part::Taken(taken) => {
            let star = if taken.is_in_use() { "*" } else { "" };
            let key = format!("{}{star}", taken.key);
            let profile = style.plain(&taken.profile);
            let together = format!("{key} {profile}");
            let (base, more) = profile.split_at(profile.find(['+', '-']).unwrap_or(profile.len()));
            match together.chars().count() < room {
                true => vec![together],
                false if profile.chars().count() <= room => vec![key, profile],
                false => fitting(&[&key, base, more], room),
            }
        }
    };
    Drawn { from, to, lines }
}

fn of_cell(taken: &Taken, cell: &Cell, unit: usize, style: Style) -> Drawn {
    let (start, end) = columns(taken.at.start, taken.at.size, unit);
    let slices = taken.slices.max(1) as usize;
    let edge = |slice: u32| start + (slice as usize * (end - start) + slices / 2) / slices;
    let (from, to) = (edge(cell.at.start), edge(cell.at.start + cell.at.size));
    let room = Drawn::room(from, to);
    let lines = match &cell.device {
        None => vec![style.spare().to_owned()],
        Some(device) => {
            let pips = style.slice().repeat(cell.at.size as usize);
            let star = if device.holders.is_empty() { "" } else { "*" };
            let together = format!("{}{star} {pips}", device.key);
            match together.chars().count() <= room {
                true => vec![together],
                false => {
                    let mut lines = fitting(&[&format!("{}{star}", device.key)], room);
                    lines.push(pips);
                    lines
                }
            }
        }
    };
    Drawn { from, to, lines }
}

/// Those that are not too wide.
fn fitting(words: &[&str], room: usize) -> Vec<String> {
    let fit = words.iter().filter(|word| !word.is_empty() && word.chars().count() <= room);
    fit.map(|word| (*word).to_owned()).collect()
}

/// The lines of a row of cells. A text has a space before it where there is room.
fn row(label: &str, cells: &[Drawn], style: Style) -> Vec<String> {
    let edge = if style.utf8 { '│' } else { '|' };
    let height = cells.iter().map(|cell| cell.lines.len()).max().unwrap_or(0).max(1);
    let line = |number: usize| {
        let label = if number == 0 { label } else { "" };
        let mut line = format!("{label:GUTTER$}{edge}");
        for cell in cells {
            let room = Drawn::room(cell.from, cell.to);
            let text = cell.lines.get(number).map_or("", String::as_str);
            let space = if text.chars().count() < room { " " } else { "" };
            line += &format!("{:room$}{edge}", format!("{space}{text}"));
        }
        line
    };
    (0..height).map(line).collect()
}

/// A line between rows, or at the top or bottom: where cells above and below have their edges.
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
