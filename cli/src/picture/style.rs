//! What a terminal can show, and texts of others made fit for it.

/// What a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    /// If not, ASCII alone.
    pub utf8: bool,
    /// Columns.
    pub width: usize,
}

impl Style {
    /// A compute slice of a compute instance.
    pub(super) fn slice(self) -> &'static str {
        if self.utf8 { "■" } else { "#" }
    }

    /// One that no compute instance has.
    pub(super) fn spare(self) -> &'static str {
        if self.utf8 { "□" } else { "." }
    }

    /// Texts of the driver and of programs are here: no control character reaches a terminal, and nothing
    /// that it cannot show.
    pub(super) fn plain(self, text: &str) -> String {
        let fit = |c: char| match c {
            // No document of XML can have the last two (XML 1.0, production 2).
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
            c => c,
        };
        let shown = |c: char| if self.utf8 || c.is_ascii() { c } else { '?' };
        text.chars().map(fit).map(shown).collect()
    }

    /// Breaks a text between words; a word that is wider than a line is cut. Lines after the first begin
    /// with `indent` spaces.
    pub(super) fn wrap(self, text: &str, indent: usize) -> Vec<String> {
        let text = self.plain(text);
        let first = text.len() - text.trim_start().len();
        let mut lines = vec![" ".repeat(first)];
        let (mut used, mut fresh) = (first, true);
        for word in text.split_whitespace() {
            let mut word: Vec<char> = word.chars().collect();
            while !word.is_empty() {
                let gap = usize::from(!fresh);
                let room = self.width.saturating_sub(used + gap);
                let rest = self.width.saturating_sub(indent).max(1);
                if word.len() > room && (!fresh || room == 0) && lines.len() < 1000 {
                    lines.push(" ".repeat(indent));
                    (used, fresh) = (indent, true);
                    continue;
                }
                let cut = if word.len() > rest { room.max(1) } else { word.len() };
                let piece: String = word.drain(..cut.min(word.len())).collect();
                let line = lines.last_mut().expect("there is a first line");
                *line += if fresh { "" } else { " " };
                *line += &piece;
                used += gap + piece.chars().count();
                fresh = false;
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_made_fit() {
        let utf8 = Style { utf8: true, width: 80 };
        let ascii = Style { utf8: false, width: 80 };
        assert_eq!(utf8.plain("a\x1b[2Jé\u{ffff}"), "a\u{fffd}[2Jé\u{fffd}");
        assert_eq!(ascii.plain("a\x1b[2Jé"), "a?[2J?");
    }

    #[test]
    fn lines_break_between_words_and_long_words_are_cut() {
        let style = Style { utf8: true, width: 12 };
        assert_eq!(style.wrap("in use by pid 17", 2), ["in use by", "  pid 17"]);
        assert_eq!(
            style.wrap("  a 0123456789abcdef z", 4),
            ["  a", "    01234567", "    89abcdef", "    z"]
        );
        assert_eq!(style.wrap("", 4), [""]);
    }
}
