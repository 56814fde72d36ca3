//! Text tables and the formatting of values in them.

use mig_cdi_model::one_line;

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

/// Columns between two cells.
const GAP: usize = 2;
/// Width below which a column is not narrowed: a name of a slice fits.
const LEAST: usize = 12;

/// Formats rows as [`table`] does, in lines of at most `limit` characters: longer cells continue on the next line.
pub(crate) fn wrapped_table<const N: usize>(
    limit: usize,
    header: [&str; N],
    rows: &[[String; N]],
) -> String {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| one_line(cell))).collect();
    let widths = narrowed(limit, header, &rows);
    let lines = rows.iter().flat_map(|row| {
        let mut cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| wrapped(cell, width).into_iter()).collect();
        let height = cells.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
        (0..height)
            .map(move |_| std::array::from_fn(|column| cells[column].next().unwrap_or_default()))
            .collect::<Vec<[String; N]>>()
    });
    table(header, &lines.collect::<Vec<_>>())
}

/// Widths of columns that fit into `limit`: the widest are narrowed first.
fn narrowed<const N: usize>(limit: usize, header: [&str; N], rows: &[[String; N]]) -> [usize; N] {
    let mut widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    });
    let limit = limit.saturating_sub(GAP * N.saturating_sub(1));
    while widths.iter().sum::<usize>() > limit {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > LEAST) else { break };
        *widest -= 1;
    }
    widths
}

/// Breaks a cell into lines of at most `width` characters: after a space where there is one, else after a slash or a
/// comma, else anywhere.
fn wrapped(cell: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: &[char] = &cell.chars().collect::<Vec<_>>();
    while rest.len() > width {
        let fits = &rest[..width];
        let after =
            |breaks: &[char]| fits.iter().rposition(|c| breaks.contains(c)).map(|at| at + 1);
        // A space may also be the first character that does not fit.
        let space = if rest[width] == ' ' { Some(width) } else { after(&[' ']) };
        let end = space.or_else(|| after(&['/', ','])).unwrap_or(width);
        lines.push(rest[..end].iter().collect::<String>().trim_end().to_owned());
        let start = rest[end..].iter().position(|c| *c != ' ').map_or(rest.len(), |at| end + at);
        rest = &rest[start..];
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest.iter().collect());
    }
    lines
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
    fn a_wrapped_table_fits_and_loses_nothing() {
        let long = "a/b,c d-e".repeat(40);
        let names =
            ["x", "", "0:2g.20gb:0", &long, "GPU-00000000-0000-0000-0000-000000000000 ä\n\u{1b}"];
        for limit in [60, 80, 100, 2000] {
            for (first, second) in names.iter().flat_map(|a| names.map(|b| (*a, b))) {
                let row = [first, "theirs", second, &long].map(str::to_owned);
                let text = wrapped_table(limit, ["DEVICE", "IN", "WHAT", "REASON"], &[row]);
                assert!(text.lines().all(|line| line.chars().count() <= limit), "{limit}\n{text}");
                let letters = |text: &str, c| text.chars().filter(|found| *found == c).count();
                let all = format!("{first}{second}{long}");
                assert_eq!(letters(&text, '/'), letters(&all, '/'), "{text}");
                assert!(!text.contains('\u{1b}'));
            }
        }
        let row = ["a b".to_owned(), "/usr/lib/libx.so".to_owned()];
        assert_eq!(wrapped_table(100, ["A", "B"], &[row]), "A    B\na b  /usr/lib/libx.so\n");
        assert_eq!(wrapped("of class graphics", 8), ["of class", "graphics"]);
        assert_eq!(wrapped("/usr/lib/x86_64", 10), ["/usr/lib/", "x86_64"]);
    }

    #[test]
    fn memory_is_printed_as_nvidia_smi_prints_it() {
        assert_eq!(gib(9728), "9.5 GiB");
        assert_eq!(gib(40192), "39.25 GiB");
        assert_eq!(gib(81920), "80 GiB");
        assert_eq!(gib(102_400), "100 GiB");
    }
}
