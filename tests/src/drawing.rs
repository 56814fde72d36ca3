//! Pictures of GPUs as `mig-cdi map` draws them in ASCII and as SVG.

use std::collections::BTreeMap;

/// GPU as drawn in ASCII.
#[derive(Debug)]
pub struct DrawnGpu<'a> {
    /// Left edges of the boxes, and the last right one.
    pub edges: Vec<usize>,
    /// Lines of the row of memory.
    pub memory: Vec<&'a str>,
    /// Lines of the row of compute slices.
    pub compute: Vec<&'a str>,
    /// Devices by their key.
    pub devices: BTreeMap<&'a str, &'a str>,
    /// The profiles that still fit, in one line.
    pub fits: String,
}

/// Width of the labels at the left.
pub const GUTTER: usize = 7;

/// Returns the columns of a character in a line, right of the labels.
#[must_use]
pub fn columns(line: &str, what: char) -> Vec<usize> {
    let found = line[GUTTER..].char_indices().filter(|(_, c)| *c == what);
    found.map(|(column, _)| column).collect()
}

/// Reads the drawing of a GPU.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn read<'a>(block: &'a str) -> DrawnGpu<'a> {
    let lines: Vec<_> = block.lines().collect();
    let borders: Vec<_> = (0..lines.len()).filter(|i| lines[*i].starts_with("       +")).collect();
    let [top, middle, bottom] = borders[..] else { panic!("three borders in {block}") };
    let below = &lines[bottom + 1..];
    let rows = below.iter().take_while(|line| !line.starts_with("taken: "));
    let row = |line: &&'a str| line.split_once(' ').map(|(key, rest)| (key, rest.trim_start()));
    let devices = rows.filter(|line| !line.starts_with(' ')).filter_map(row);
    let devices = devices.map(|(key, rest)| (key, rest.split("  ").next().expect("a first word")));
    let fits = below.iter().skip_while(|line| !line.starts_with("still fits: "));
    DrawnGpu {
        edges: columns(lines[top], '+'),
        memory: lines[top + 1..middle].to_vec(),
        compute: lines[middle + 1..bottom].to_vec(),
        devices: devices.collect(),
        fits: fits.map(|line| line.trim()).collect::<Vec<_>>().join(" "),
    }
}

/// Asserts that the document is XML, refers to nothing outside, shows the names of the text, and has no overlapping
/// boxes.
///
/// # Panics
/// When one of these is not so.
pub fn check_svg(svg: &str, map: &str) {
    let document = roxmltree::Document::parse(svg).unwrap_or_else(|e| panic!("{e}: {svg}"));
    let root = document.root_element();
    let text_of = |name: &str| {
        let mut found = root.children().filter(|node| node.has_tag_name(name));
        found.next().and_then(|node| node.text()).unwrap_or_default().to_owned()
    };
    // `has_tag_name` of a plain name matches any namespace.
    assert_eq!(root.tag_name().name(), "svg");
    assert!(!text_of("title").is_empty() && text_of("desc").contains("GPU 0: "), "{svg}");
    let described = text_of("desc");
    assert!(!svg.contains("href") && !svg.contains("url(") && !svg.contains("@import"));
    let texts: Vec<_> = document
        .descendants()
        .filter(|node| node.has_tag_name("text"))
        .map(|node| node.text().unwrap_or_default())
        .collect();
    for block in map.split("\n\n").filter(|b| b.starts_with("GPU ") && b.contains("DEVICE")) {
        for name in
            read(block).devices.values().filter(|name| name.contains(':') && !name.ends_with(':'))
        {
            assert!(texts.iter().any(|t| t.split_whitespace().any(|w| w == *name)), "{name}");
            assert!(described.contains(name), "{name} in {described}");
        }
    }
    let side = |node: roxmltree::Node<'_, '_>, name: &str| -> i64 {
        node.attribute(name).expect("an attribute").parse().expect("a number")
    };
    let boxes: Vec<_> = document
        .descendants()
        .filter(|node| ["free", "taken", "used"].contains(&node.attribute("class").unwrap_or("")))
        .filter(|node| node.has_tag_name("rect"))
        .map(|node| ["x", "y", "width", "height"].map(|name| side(node, name)))
        .collect();
    for (i, a) in boxes.iter().enumerate() {
        for b in &boxes[..i] {
            let apart = |at: usize| a[at] + a[at + 2] <= b[at] || b[at] + b[at + 2] <= a[at];
            assert!(apart(0) || apart(1), "{a:?} and {b:?}");
        }
    }
}
