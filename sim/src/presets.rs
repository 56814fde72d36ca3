//! Built-in node descriptions, for `--node NAME` without a file.

/// Presets: name and text of each.
pub const PRESETS: [(&str, &str); 6] = [
    ("a100-80gb", include_str!("../nodes/a100-80gb.toml")),
    ("dgx-a100", include_str!("../nodes/dgx-a100.toml")),
    ("hgx-h100", include_str!("../nodes/hgx-h100.toml")),
    ("b200", include_str!("../nodes/b200.toml")),
    ("a30", include_str!("../nodes/a30.toml")),
    ("rtx-pro-6000", include_str!("../nodes/rtx-pro-6000.toml")),
];

/// Returns the text of a preset.
#[must_use]
pub fn preset(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, text)| *text)
}
