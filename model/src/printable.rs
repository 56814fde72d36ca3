//! Text from elsewhere made safe to print. A process, an image or a file chooses what its text contains, and a
//! terminal, a log viewer or a web page acts on some characters instead of showing them.

use std::ops::RangeInclusive;

/// Characters of the general categories Cf, Zl and Zp of Unicode 16.0 (`DerivedGeneralCategory.txt`): format
/// characters, which reorder, join or hide what is beside them, and the separators of lines and paragraphs. The
/// unassigned characters between the tags, and before the directional isolates, count as well.
const FORMAT: [RangeInclusive<char>; 20] = [
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e007f}',
    // Noncharacters that XML forbids (XML 1.0, production 2).
    '\u{fffe}'..='\u{ffff}',
];

/// True for a character that is acted on and not shown: a control or format character, or a separator of lines.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || (!c.is_ascii() && FORMAT.iter().any(|range| range.contains(&c)))
}

/// Replaces each unprintable character, line ends included, by U+FFFD: the result is one line.
///
/// ```
/// use mig_cdi_model::one_line;
///
/// assert_eq!(one_line("a\nb \u{1b}[2J \u{202e}c é"), "a\u{fffd}b \u{fffd}[2J \u{fffd}c é");
/// ```
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// Replaces each unprintable character except tabs and line ends.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        // A carriage return elsewhere would print the rest of a line over its beginning.
        let end = if line.ends_with("\r\n") { "\r\n" } else { "\n" };
        let (line, end) = line.strip_suffix(end).map_or((line, ""), |line| (line, end));
        printable.extend(line.chars().map(|c| if c == '\t' { c } else { shown(c) }));
        printable += end;
    }
    printable
}

fn shown(c: char) -> char {
    if is_unprintable(c) { '\u{fffd}' } else { c }
}

/// Writes each unprintable character of a JSON text, except those that format it, as `\uXXXX`: the value stays the same.
///
/// They can stand only in strings there. RFC 8259, section 7, has the escapes, and two for a character beyond U+FFFF.
#[must_use]
pub fn printable_json(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Of control characters JSON allows only DEL and those above it in a string.
            '\n' | '\t' | '\r' => printable.push(c),
            c if is_unprintable(c) => {
                let units = &mut [0; 2];
                for unit in c.encode_utf16(units) {
                    printable += &format!("\\u{unit:04x}");
                }
            }
            c => printable.push(c),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    /// std prints in `Debug` what can be shown, and escapes Cc, Cf, Zl and Zp, among others.
    #[test]
    fn what_is_replaced_cannot_be_shown() {
        let replaced: Vec<char> = ('\0'..=char::MAX).filter(|c| is_unprintable(*c)).collect();
        for c in &replaced {
            assert!(c.escape_debug().count() > 1, "{c:?}");
        }
        let known =
            ['\u{7f}', '\u{85}', '\u{200d}', '\u{2028}', '\u{202e}', '\u{2066}', '\u{e0041}'];
        assert!(known.iter().all(|c| replaced.contains(c)));
        assert_eq!(one_line("Grüße, 世界 ■ \u{301}"), "Grüße, 世界 ■ \u{301}");
    }

    #[test]
    fn json_keeps_its_value() {
        assert_eq!(
            printable_json("{\n\t\"a\u{202e}\": \"\u{7f}\u{e0041}é\"}"),
            "{\n\t\"a\\u202e\": \"\\u007f\\udb40\\udc41é\"}"
        );
        assert_eq!(printable_lines("a\tb\r\nc\rd\n\n\u{2066}"), "a\tb\r\nc\u{fffd}d\n\n\u{fffd}");
    }
}
