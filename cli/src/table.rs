//! Text tables and the formatting of values in them.

/// Formats rows under a header, columns two spaces apart, without trailing spaces.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            // Formatting pads to a number of characters, not bytes.
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    std::iter::once(line(&header.map(str::to_owned))).chain(rows.iter().map(line)).collect()
}

/// Formats the value, or a dash where there is none.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Formats MiB as GiB with up to two decimals: `9.5 GiB`.
pub(crate) fn gib(mib: u64) -> String {
    // Half of the divisor is added, so that the division rounds to the nearest.
    let hundredths = (mib * 100 + 512) / 1024;
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    format!("{} GiB", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_printed_as_nvidia_smi_prints_it() {
        assert_eq!(gib(9728), "9.5 GiB");
        assert_eq!(gib(40192), "39.25 GiB");
        assert_eq!(gib(81920), "80 GiB");
        assert_eq!(gib(102_400), "100 GiB");
    }
}
