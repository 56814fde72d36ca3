//! Pictures for documents: one self-contained SVG, without scripts, fonts or links.

use super::{
    contents::{GpuState, GpuView, Picture},
    gpu_layout::{ComputeSpan, GpuLayout, InstanceView, Region},
    legend::{legend, notes},
    style::Style,
};
use mig_cdi_model::Placement;
use std::fmt::Write as _;

/// Width of the picture, its margin, and the boxes in between, in pixels.
const WIDTH: usize = 880;
const MARGIN: usize = 20;
const BOXES: usize = WIDTH - 2 * MARGIN;
/// Height of a line of text and of the rows of boxes, in pixels.
const LINE: usize = 18;
const MEMORY: usize = 46;
const COMPUTE: usize = 34;
/// Width in which text is wrapped: 104 characters of 13 pixels in height are as wide as the boxes.
const STYLE: Style = Style { utf8: true, width: 104 };
/// Width of a character of a monospaced font in relation to its height.
const CHARACTER: f64 = 0.62;

/// Colours for light and for dark pages. The light ones come first: a viewer that does not know `@media` uses them.
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

/// Draws the picture as an XML document.
pub(crate) fn svg(picture: &Picture) -> String {
    let mut page = Page { y: MARGIN, body: String::new() };
    for gpu in &picture.gpus {
        page.gpu(gpu);
    }
    if picture.gpus.is_empty() {
        page.lines(&["no GPU".to_owned()], "heading");
    }
    page.legend(picture);
    let height = page.y + MARGIN - LINE / 2;
    let descriptions: Vec<_> = picture.gpus.iter().map(description).collect();
    let body = page.body;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
         <title id=\"title\">Partitioning of the GPUs of this node</title>\n\
         <desc id=\"desc\">{}</desc>\n<style>{COLOURS}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n",
        escape(&descriptions.join(" ")),
    )
}

/// Describes a GPU in text, for a reader who does not see the picture.
fn description(gpu: &GpuView) -> String {
    let state = match &gpu.state {
        GpuState::Whole(reason) => reason.clone(),
        GpuState::Unknown { reason, devices } => format!("{reason} {}", devices.join(", ")),
        GpuState::Partitioned(layout) => {
            let regions: Vec<_> = layout.regions.iter().map(tooltip).collect();
            regions.join("; ")
        }
    };
    format!("{}: {state}.", gpu.heading)
}

/// Describes a region of a GPU in text.
fn tooltip(region: &Region) -> String {
    let Placement { start, size } = region.placement();
    let last = start.saturating_add(size).saturating_sub(1);
    let slices = match size {
        1 => format!("memory slice {start}"),
        _ => format!("memory slices {start} to {last}"),
    };
    let Region::Instance(gi) = region else { return format!("{slices} free") };
    let names = gi.spans.iter().filter_map(|span| span.device.as_ref()?.name.clone());
    let names: Vec<_> = names.collect();
    let names = if names.is_empty() { String::new() } else { format!(" as {}", names.join(", ")) };
    let used = if gi.is_in_use() { ", in use" } else { "" };
    format!("{slices} are a {}{names}{used}", gi.profile)
}

/// The elements that are drawn so far.
struct Page {
    /// Vertical position of the next element in pixels.
    y: usize,
    body: String,
}

impl Page {
    fn put(&mut self, element: &str) {
        self.body += element;
        self.body.push('\n');
    }

    /// Draws text with its baseline at `y`.
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

    fn gpu(&mut self, gpu: &GpuView) {
        self.lines(&STYLE.wrap(&gpu.heading, 2), "heading");
        self.y += 4;
        match &gpu.state {
            GpuState::Whole(reason) => {
                let y = self.y;
                let area = Area { x: MARGIN, y, width: BOXES, height: MEMORY };
                self.area(&area, "free", reason);
                self.text(MARGIN + 10, y + MEMORY / 2 + 5, "", reason);
                self.y += MEMORY + 4;
            }
            GpuState::Partitioned(layout) => self.layout(layout),
            GpuState::Unknown { reason, devices } => {
                self.lines(&STYLE.wrap(reason, 2), "dim");
                self.lines(devices, "mono");
            }
        }
        for holder in &gpu.holders {
            self.lines(&STYLE.wrap(&format!("* in use as a whole by {holder}"), 2), "mono");
        }
        if let GpuState::Partitioned(layout) = &gpu.state {
            self.lines(&notes(layout, STYLE), "mono");
        }
        self.y += LINE;
    }

    /// Draws a box with a tooltip: viewers show the `title` of an element when it is pointed at (SVG 2, 5.7).
    fn area(&mut self, area: &Area, class: &str, tooltip: &str) {
        let Area { x, y, width, height } = area;
        let tooltip = escape(tooltip);
        self.put(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"3\" class=\"{class}\">\
             <title>{tooltip}</title></rect>"
        ));
    }

    fn layout(&mut self, layout: &GpuLayout) {
        let slices = layout.memory_slices.max(1) as usize;
        let edge = |slice: u32| MARGIN + slice as usize * BOXES / slices;
        self.y += LINE;
        for number in 0..layout.memory_slices {
            let middle = (edge(number) + edge(number + 1)) / 2;
            let y = self.y - 5;
            self.put(&format!(
                "<text x=\"{middle}\" y=\"{y}\" class=\"dim\" text-anchor=\"middle\">{number}</text>"
            ));
        }
        for region in &layout.regions {
            let Placement { start, size } = region.placement();
            let (from, to) = (edge(start), edge(start + size));
            // A gap of two pixels keeps neighbours apart.
            let (x, y, width) = (from + 1, self.y, to - from - 2);
            let area = Area { x, y, width, height: MEMORY + COMPUTE };
            match region {
                Region::Free(_) => {
                    self.area(&area, "free", &tooltip(region));
                    self.text(x + 8, y + 18, "dim", "free");
                }
                Region::Instance(gi) => {
                    let class = if gi.is_in_use() { "used" } else { "taken" };
                    self.area(&area, class, &tooltip(region));
                    let star = if gi.is_in_use() { " *" } else { "" };
                    self.text(x + 8, y + 18, "heading", &format!("{}{star}", gi.key));
                    // SVG text neither wraps nor clips: one that is too wide would run into the next box.
                    if fits(&gi.profile, width - 10) {
                        self.text(x + 8, y + 36, "", &gi.profile);
                    }
                    let (x, y, width) = (x + 4, y + MEMORY, width - 8);
                    self.compute(gi, &Area { x, y, width, height: COMPUTE - 6 });
                }
            }
        }
        self.y += MEMORY + COMPUTE + 6;
    }

    /// Draws the compute slices of a GPU instance side by side.
    fn compute(&mut self, gi: &InstanceView, area: &Area) {
        let slices = gi.compute_slices.max(1) as usize;
        let edge = |slice: u32| area.x + slice as usize * area.width / slices;
        let (y, height) = (area.y, area.height);
        for ComputeSpan { placement, device } in &gi.spans {
            let class = match device {
                None => "slice",
                Some(device) if device.holders.is_empty() => "device",
                Some(_) => "busy",
            };
            for slice in placement.start..placement.start.saturating_add(placement.size) {
                let (x, to) = (edge(slice), edge(slice + 1));
                let name = device.as_ref().and_then(|device| device.name.as_deref());
                let device = name.unwrap_or(if device.is_some() {
                    "unconfirmed"
                } else {
                    "no compute instance"
                });
                let area = Area { x, y, width: to - x, height };
                self.area(&area, class, &format!("compute slice {slice}: {device}"));
            }
            if let Some(device) = device {
                let star = if device.holders.is_empty() { "" } else { " *" };
                let key = format!("{}{star}", device.key);
                self.text(edge(placement.start) + 6, y + 19, "in", &key);
            }
        }
    }

    fn legend(&mut self, picture: &Picture) {
        if picture.layouts().next().is_none() {
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
            let area = Area { x, y: self.y, width: 18, height: 14 };
            self.area(&area, class, text);
            let y = self.y + 12;
            self.text(x + 24, y, "dim", text);
            x += 24 + text.len() * 7 + 16;
        }
        self.y += LINE;
        self.lines(&legend(picture, STYLE), "dim");
    }
}

/// A rectangle in pixels.
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// True when a text of 13 pixels in height is no wider than this.
fn fits(text: &str, width: usize) -> bool {
    text.chars().count() as f64 * 13.0 * CHARACTER <= width as f64
}

/// Escapes text for XML. It contains names from the driver and command lines of processes.
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
