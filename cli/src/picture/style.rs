//! Character set and width of the output, and text from elsewhere made safe for it.

use mig_cdi_model::one_line;

/// Character set and width of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// True for UTF-8; otherwise ASCII.
    pub utf8: bool,
    /// Width in columns.
    pub width: usize,
}

impl Style {
    /// Symbol of a compute slice of a compute instance.
    pub(super) fn used_slice(self) -> &'static str {
        if self.utf8 { "■" } else { "#" }
    }

    /// Symbol of a compute slice that no compute instance has.
    pub(super) fn idle_slice(self) -> &'static str {
        if self.utf8 { "□" } else { "." }
    }

    /// Replaces the characters that the output cannot show, and unprintable ones: command lines of processes are printed,
    /// which anyone can choose, and an escape sequence would drive the terminal.
    pub(super) fn plain(self, text: &str) -> String {
        let shown = |c: char| if self.utf8 || c.is_ascii() { c } else { '?' };
        one_line(text).chars().map(shown).collect()
    }

    /// Wraps a text between words. A word that is wider than a line is cut. Lines after the first start with
    /// `indent` spaces.
    pub(super) fn wrap(self, text: &str, indent: usize) -> Vec<String> {
        let text = self.plain(text);
        let mut lines = Vec::new();
        let mut used = text.len() - text.trim_start().len();
        let mut line = " ".repeat(used);
        let mut is_start = true;
        for word in text.split_whitespace() {
            let mut word: Vec<char> = word.chars().collect();
            while !word.is_empty() {
                let gap = usize::from(!is_start);
                let room = self.width.saturating_sub(used + gap);
                let rest = self.width.saturating_sub(indent).max(1);
                // The limit ends the loop for a width that has no room for one character after the indent.
                if word.len() > room && (!is_start || room == 0) && lines.len() < 1000 {
                    lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
                    (used, is_start) = (indent, true);
                    continue;
                }
                let cut = if word.len() > rest { room.max(1) } else { word.len() };
                let piece: String = word.drain(..cut.min(word.len())).collect();
                line += if is_start { "" } else { " " };
                line += &piece;
                used += gap + piece.chars().count();
                is_start = false;
            }
        }
        lines.push(line);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_characters_are_replaced() {
        let utf8 = Style { utf8: true, width: 80 };
        let ascii = Style { utf8: false, width: 80 };
        assert_eq!(utf8.plain("a\x1b[2Jé\u{ffff}"), "a\u{fffd}[2Jé\u{fffd}");
        assert_eq!(ascii.plain("a\x1b[2Jé"), "a?[2J?");
    }

    #[test]
    fn lines_are_wrapped_between_words_and_long_words_are_cut() {
        let style = Style { utf8: true, width: 12 };
        assert_eq!(style.wrap("in use by pid 17", 2), ["in use by", "  pid 17"]);
        assert_eq!(
            style.wrap("  a 0123456789abcdef z", 4),
            ["  a", "    01234567", "    89abcdef", "    z"]
        );
        assert_eq!(style.wrap("", 4), [""]);
    }
}
