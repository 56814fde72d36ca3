//! The picture for documents: one SVG that needs nothing else.

use super::{
    Card, Picture, State, Strip, Style,
    legend::{legend, notes},
    strip::{Cell, Part, Taken},
};
use std::fmt::Write as _;

/// Pixels: the width of the picture, its margin, and the boxes in between.
const WIDTH: usize = 880;
const MARGIN: usize = 20;
const BOXES: usize = WIDTH - 2 * MARGIN;
/// A line of text, and a row of boxes.
const LINE: usize = 18;
const MEMORY: usize = 46;
const COMPUTE: usize = 34;
/// Texts are broken as for a terminal of so many columns: in 13 pixels that is what the boxes are wide.
const STYLE: Style = Style { utf8: true, width: 104 };
/// So much of a pixel is a character of a monospaced font.
const CHARACTER: f64 = 0.62;

/// Colours for light and for dark; a viewer that does not know `@media` shows the light ones.
const COLOURS: &str = "\
.page{fill:#ffffff}text{fill:#1f2328;font-family:sans-serif;font-size:13px}.heading{font-size:15px;\
font-weight:bold}.mono{font-family:monospace}.dim{fill:#57606a}.free{fill:#f6f8fa;stroke:#8c959f;\
stroke-dasharray:4 3}.taken{fill:#cfe3fb;stroke:#0969da}.used{fill:#fbdcb4;stroke:#9a5b00}.slice{\
fill:#ffffff;stroke:#57606a}.device{fill:#0969da;stroke:#ffffff}.busy{fill:#9a5b00;stroke:#ffffff}\
.in{fill:#ffffff}
@media (prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#e6edf3}.dim{fill:#9198a1}.free{fill:#161b22;\
stroke:#656c76}.taken{fill:#12335c;stroke:#4493f8}.used{fill:#4d2d00;stroke:#d29922}.slice{fill:#0d1117;\
stroke:#9198a1}.device{fill:#4493f8;stroke:#0d1117}.busy{fill:#d29922;stroke:#0d1117}.in{fill:#0d1117}}
";

/// The whole picture, as a document of XML.
pub(crate) fn svg(picture: &Picture) -> String {
    let mut page = Page { y: MARGIN, body: String::new() };
    for card in &picture.cards {
        page.card(card);
    }
    if picture.cards.is_empty() {
        page.lines(&["no GPU".to_owned()], "heading");
    }
    page.legend(picture);
    let height = page.y + MARGIN - LINE / 2;
    let described: Vec<_> = picture.cards.iter().map(described).collect();
    let body = page.body;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">How the GPUs of this node are divided</title>\n\
         <desc id=\"desc\">{}</desc>\n<style>{COLOURS}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n",
        escape(&described.join(" ")),
    )
}

/// A GPU in words, for who does not see the picture.
fn described(card: &Card) -> String {
    let what = match &card.state {
        State::Whole(why) => why.clone(),
        State::Untold(why, devices) => format!("{why} {}", devices.join(", ")),
        State::Divided(strip) => {
            let parts: Vec<_> = strip.parts.iter().map(hint).collect();
            parts.join("; ")
        }
    };
    format!("{}: {what}.", card.heading)
}

/// A part of a GPU in words.
fn hint(part: &Part) -> String {
    let at = part.at();
    let last = at.start.saturating_add(at.size).saturating_sub(1);
    let slices = match at.size {
        1 => format!("memory slice {}", at.start),
        _ => format!("memory slices {} to {last}", at.start),
    };
    let Part::Taken(taken) = part else { return format!("{slices} free") };
    let names = taken.cells.iter().filter_map(|cell| cell.device.as_ref()?.name.clone());
    let names: Vec<_> = names.collect();
    let names = if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
    let used = if taken.is_in_use() { ", in use" } else { "" };
    format!("{slices} are a {}{names}{used}", taken.profile)
}

/// What is drawn so far, and how far down.
struct Page {
    y: usize,
    body: String,
}

impl Page {
    fn put(&mut self, element: &str) {
        self.body += element;
        self.body.push('\n');
    }

    /// Text whose baseline is at `y`.
    fn text(&mut self, x: usize, y: usize, class: &str, text: &str) {
        let text = escape(text);
        self.put(&format!(
            "<text x=\"{x}\" y=\"{y}\" class=\"{class}\" xml:space=\"preserve\">{text}</text>"
        ));
    }

    fn lines(&mut self, lines: &[String], class: &str) {
        for line in lines {
            self.y += LINE;
            let y = self.y - 4;
            self.text(MARGIN, y, class, line);
        }
    }

    fn card(&mut self, card: &Card) {
        self.lines(&STYLE.wrap(&card.heading, 2), "heading");
        self.y += 4;
        match &card.state {
            State::Whole(why) => {
                let y = self.y;
                let area = Area { x: MARGIN, y, wide: BOXES, high: MEMORY };
                self.area(&area, "free", why);
                self.text(MARGIN + 10, y + MEMORY / 2 + 5, "", why);
                self.y += MEMORY + 4;
            }
            State::Divided(strip) => self.strip(strip),
            State::Untold(why, devices) => {
                self.lines(&STYLE.wrap(why, 2), "dim");
                self.lines(devices, "mono");
            }
        }
        for holder in &card.holders {
            self.lines(&STYLE.wrap(&format!("* in use as a whole by {holder}"), 2), "mono");
        }
        if let State::Divided(strip) = &card.state {
            self.lines(&notes(strip, STYLE), "mono");
        }
        self.y += LINE;
    }

    /// A box, and what it says when it is pointed at.
    fn area(&mut self, area: &Area, class: &str, hint: &str) {
        let Area { x, y, wide, high } = area;
        let hint = escape(hint);
        self.put(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{wide}\" height=\"{high}\" rx=\"3\" class=\"{class}\">\
             <title>{hint}</title></rect>"
        ));
    }

    fn strip(&mut self, strip: &Strip) {
        let edge = |slice: u32| MARGIN + slice as usize * BOXES / strip.memory.max(1) as usize;
        self.y += LINE;
        for number in 0..strip.memory {
            let middle = (edge(number) + edge(number + 1)) / 2;
            let y = self.y - 5;
            self.put(&format!(
                "<text x=\"{middle}\" y=\"{y}\" class=\"dim\" text-anchor=\"middle\">{number}</text>"
            ));
        }
        for part in &strip.parts {
            let at = part.at();
            let (from, to) = (edge(at.start), edge(at.start + at.size));
            let (x, y, wide) = (from + 1, self.y, to - from - 2);
            match part {
                Part::Free(_) => {
                    let high = MEMORY + COMPUTE;
                    self.area(&Area { x, y, wide, high }, "free", &hint(part));
                    self.text(x + 8, y + 18, "dim", "free");
                }
                Part::Taken(taken) => {
                    let high = MEMORY + COMPUTE;
                    let class = if taken.is_in_use() { "used" } else { "taken" };
                    self.area(&Area { x, y, wide, high }, class, &hint(part));
                    let star = if taken.is_in_use() { " *" } else { "" };
                    self.text(x + 8, y + 18, "heading", &format!("{}{star}", taken.key));
                    if fits(&taken.profile, wide - 10) {
                        self.text(x + 8, y + 36, "", &taken.profile);
                    }
                    self.compute(taken, &Area { x: x + 4, y: y + MEMORY, wide: wide - 8, high: 0 });
                }
            }
        }
        self.y += MEMORY + COMPUTE + 6;
    }

    /// The compute slices of a GPU instance, side by side.
    fn compute(&mut self, taken: &Taken, within: &Area) {
        let slices = taken.slices.max(1) as usize;
        let edge = |slice: u32| within.x + slice as usize * within.wide / slices;
        for Cell { at, device } in &taken.cells {
            let class = match device {
                None => "slice",
                Some(device) if device.holders.is_empty() => "device",
                Some(_) => "busy",
            };
            for slice in at.start..at.start.saturating_add(at.size) {
                let (from, to) = (edge(slice), edge(slice + 1));
                let area = Area { x: from, y: within.y, wide: to - from, high: COMPUTE - 6 };
                let name = device.as_ref().and_then(|device| device.name.as_deref());
                let what = name.unwrap_or(if device.is_some() {
                    "not certain"
                } else {
                    "no compute instance"
                });
                self.area(&area, class, &format!("compute slice {slice}: {what}"));
            }
            if let Some(device) = device {
                let star = if device.holders.is_empty() { "" } else { " *" };
                let key = format!("{}{star}", device.key);
                self.text(edge(at.start) + 6, within.y + 19, "in", &key);
            }
        }
    }

    fn legend(&mut self, picture: &Picture) {
        if picture.strips().next().is_none() {
            return;
        }
        let mut x = MARGIN;
        self.y += LINE / 2;
        let samples = [
            ("taken", "GPU instance"),
            ("used", "in use"),
            ("free", "free memory"),
            ("device", "compute slice of a device"),
            ("slice", "compute slice without a compute instance"),
        ];
        for (class, text) in samples {
            let area = Area { x, y: self.y, wide: 18, high: 14 };
            self.area(&area, class, text);
            let y = self.y + 12;
            self.text(x + 24, y, "dim", text);
            x += 24 + text.len() * 7 + 16;
        }
        self.y += LINE;
        self.lines(&legend(picture, STYLE), "dim");
    }
}

/// Where something is, in pixels.
struct Area {
    x: usize,
    y: usize,
    wide: usize,
    high: usize,
}

/// Whether a text of 13 pixels finds room.
fn fits(text: &str, wide: usize) -> bool {
    text.chars().count() as f64 * 13.0 * CHARACTER <= wide as f64
}

/// Text as text of XML: the driver and programs have named what is drawn.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in STYLE.plain(text).chars() {
        match c {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&quot;",
            c => {
                let _ = write!(escaped, "{c}");
            }
        }
    }
    escaped
}
