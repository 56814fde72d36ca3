//! A manual page in the language of man(7), and the text in it.

/// Terms up to this many columns stand in the margin; longer ones are a paragraph, since a margin is not filled.
const WIDEST_TERM: usize = 64;

/// Escapes text: what is read is what is meant, and what is copied from a terminal can be typed.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            '…' => out.push_str("..."),
            c if c.is_ascii() => out.push(c),
            c => out.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    out
}

/// What is typed as it stands here.
pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", plain(text))
}

/// What stands for something else.
pub(super) fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", plain(text))
}

/// The columns that escaped text takes.
fn width(text: &str) -> usize {
    let mut text = text.to_owned();
    for font in ["\\fB", "\\fI", "\\fR"] {
        text = text.replace(font, "");
    }
    for (escape, character) in [("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ti", "~")] {
        text = text.replace(escape, character);
    }
    text.chars().count()
}

/// A page that is being written. All text that it takes is escaped already, but for names and titles.
#[derive(Debug)]
pub(super) struct Page {
    name: String,
    section: u8,
    text: String,
    /// True after a heading: a paragraph begins there by itself.
    fresh: bool,
}

impl Page {
    /// A page up to its NAME. It has no date: the same source gives the same bytes.
    pub(super) fn new(name: &str, section: u8, about: &str) -> Page {
        let version = env!("CARGO_PKG_VERSION");
        let title = plain(&name.to_uppercase());
        let mut page = Page { name: name.to_owned(), section, text: String::new(), fresh: false };
        page.line(".\\\" Made by UPDATE_GOLDEN=1 cargo test -p mig-cdi-tests --test manual; not to be edited.");
        page.line(&format!(".TH {title} {section} \"\" \"mig\\-cdi {version}\" \"mig\\-cdi\""));
        // Options and paths are not to be torn apart, nor lines to be stretched around them.
        page.line(".nh");
        page.line(".ad l");
        page.section("Name");
        page.lines(&format!("{} \\- {}", plain(name), plain(about)));
        page
    }

    /// The name by which other pages speak of it: `mig-cdi(1)`.
    pub(super) fn reference(&self) -> String {
        format!("{}({})", self.name, self.section)
    }

    pub(super) fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Text, a sentence on each line: the formatter then sets them all apart in the same way.
    fn lines(&mut self, text: &str) {
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = sentence(rest);
            let line = rest[..end].trim();
            let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
            self.line(&format!("{guard}{line}"));
            rest = rest[end..].trim_start();
        }
        self.fresh = false;
    }

    /// A heading, in capitals as usual.
    pub(super) fn section(&mut self, title: &str) {
        self.heading(1, &plain(&title.to_uppercase()));
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.heading(2, &plain(title));
    }

    /// A heading whose text is escaped already: of a section, or deeper.
    pub(super) fn heading(&mut self, depth: u8, title: &str) {
        self.line(&format!("{} {title}", if depth == 1 { ".SH" } else { ".SS" }));
        self.fresh = true;
    }

    /// Ends what stands before, unless a heading did.
    fn begin(&mut self, request: &str) {
        if !std::mem::take(&mut self.fresh) {
            self.line(request);
        }
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.begin(".PP");
        self.lines(text);
    }

    /// Another paragraph of a term or of an item.
    pub(super) fn more(&mut self, text: &str) {
        self.line(".IP");
        self.lines(text);
    }

    /// A line of its own in the same paragraph.
    pub(super) fn then(&mut self, text: &str) {
        self.line(".br");
        self.lines(text);
    }

    /// A term and what it means; what it means may have several lines.
    pub(super) fn term(&mut self, term: &str, meanings: &[String]) {
        let is_wide = width(term) > WIDEST_TERM || meanings.is_empty();
        if is_wide {
            self.paragraph(term);
            if meanings.is_empty() {
                return;
            }
            self.line(".RS 7");
            self.fresh = true;
        } else {
            self.line(".TP");
            self.line(term);
        }
        for (i, meaning) in meanings.iter().enumerate() {
            match i {
                0 => self.lines(meaning),
                _ => self.then(meaning),
            }
        }
        if is_wide {
            self.line(".RE");
        }
        self.fresh = false;
    }

    /// Goes below a term or an item, until [`Page::ascend`].
    pub(super) fn descend(&mut self) {
        self.line(".RS 7");
        self.fresh = false;
    }

    pub(super) fn ascend(&mut self) {
        self.line(".RE");
    }

    /// An item of a list, with its mark: a number, or a bullet.
    pub(super) fn item(&mut self, mark: Option<u64>, text: &str) {
        let mark = mark.map_or("\\(bu".to_owned(), |number| format!("{number}."));
        self.line(&format!(".IP {mark} 3"));
        self.lines(text);
    }

    /// Lines that are to stay as they are. Below an item they are part of it.
    pub(super) fn example(&mut self, text: &str, is_below: bool) {
        self.begin(if is_below { ".IP" } else { ".PP" });
        self.line(".in +4n");
        self.line(".EX");
        for line in text.trim_end().lines() {
            let line = plain(line);
            let guard = if line.starts_with('.') { "\\&" } else { "" };
            self.line(&format!("{guard}{line}"));
        }
        self.line(".EE");
        self.line(".in");
        self.fresh = false;
    }

    /// The last section; references such as `mig-cdi(1)`, or paths. It leaves out the page itself.
    pub(super) fn see_also(&mut self, references: &[&str]) {
        self.section("See also");
        let own = self.reference();
        let others = references.iter().filter(|reference| **reference != own);
        let others: Vec<String> =
            others.map(|reference| super::links::reference(reference)).collect();
        self.lines(&others.join(", "));
    }
}

/// Where the first sentence of escaped text ends.
fn sentence(text: &str) -> usize {
    let mut from = 0;
    while let Some(found) = text[from..].find(' ') {
        let space = from + found;
        let (before, after) = (text[..space].trim_end_matches("\\fR"), &text[space + 1..]);
        let before = before.trim_end_matches([')', '"']).trim_end_matches("\\fR");
        let after = after.trim_start_matches("\\fB").trim_start_matches("\\fI");
        let ends = before.ends_with(['.', '?', '!']) && !before.ends_with("...");
        if ends && after.starts_with(|c: char| c.is_ascii_uppercase() || c == '(') {
            return space;
        }
        from = space + 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_request() {
        assert_eq!(plain("a\\b --x 'y' …"), "a\\eb \\-\\-x \\(aqy\\(aq ...");
        let mut page = Page::new("x", 1, "y");
        page.paragraph(".so /etc/passwd");
        page.example(".so /etc/passwd\n'x", false);
        let text = page.finish();
        assert!(text.contains("\n\\&.so /etc/passwd\n.in") || text.contains("\n\\&.so"), "{text}");
        assert!(!text.contains("\n.so") && !text.contains("\n'"), "{text}");
    }

    #[test]
    fn sentences_end_lines() {
        let first = |text: &'static str| &text[..sentence(text)];
        assert_eq!(first("One. Two."), "One.");
        assert_eq!(first("Of \\fBa.b\\fR. \\fBTwo\\fR."), "Of \\fBa.b\\fR.");
        assert_eq!(first("(One.) Two"), "(One.)");
        assert_eq!(first("as 1. 2. or A... B"), "as 1. 2. or A... B");
    }
}
