//! Writer of a manual page in the language of man(7).

/// Widest term, in columns, that is written as a tag. A longer one becomes a paragraph: a formatter does not break the line of a
/// tag.
const WIDEST_TERM: usize = 64;

/// Escapes text for roff. Quotes, hyphens, carets and tildes stay ASCII, so that a command copied from the page can be run:
/// groff_char(7) lists the characters that it would print as typographic ones.
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

/// Text in bold: text to type as it stands.
pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", plain(text))
}

/// Text in italics: a placeholder, or a path.
pub(super) fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", plain(text))
}

/// Formats a reference such as `mig-cdi(1)`, or a path.
pub(super) fn reference(text: &str) -> String {
    match text.split_once('(') {
        Some((name, section)) => bold(name) + "(" + &plain(section),
        None => italic(text),
    }
}

/// Number of columns that escaped text takes.
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

/// Manual page under construction. Its methods take escaped text, except for names and titles.
#[derive(Debug)]
pub(super) struct ManPage {
    name: String,
    section: u8,
    text: String,
    /// True after a heading, where a paragraph needs no request to begin.
    is_fresh: bool,
}

impl ManPage {
    /// Starts a page with its title and nothing else. The title has no date, so that the same source gives the same bytes.
    pub(super) fn with_title(name: &str, section: u8) -> ManPage {
        let version = env!("CARGO_PKG_VERSION");
        let name = name.to_owned();
        let mut page = ManPage { name, section, text: String::new(), is_fresh: true };
        let title = plain(&page.name.to_uppercase());
        page.line(".\\\" Made by `cargo xtask man`; do not edit.");
        page.line(&format!(".TH {title} {section} \"\" \"mig\\-cdi {version}\" \"mig\\-cdi\""));
        // Hyphenation would tear options and paths apart, and adjustment would stretch the lines around them.
        page.line(".nh");
        page.line(".ad l");
        page
    }

    /// Starts a page with its title and the section NAME.
    pub(super) fn new(name: &str, section: u8, about: &str) -> ManPage {
        let mut page = ManPage::with_title(name, section);
        page.section("Name");
        page.lines(&format!("{} \\- {}", plain(name), plain(about)));
        page
    }

    /// Appends whole sections that are roff already.
    pub(super) fn append(&mut self, roff: &str) {
        self.text.push_str(roff);
        self.is_fresh = false;
    }

    /// Name of the page in references: `mig-cdi(1)`.
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

    /// Writes text with one sentence per line, as man-pages(7) recommends: the formatter then puts the same space after each.
    fn lines(&mut self, text: &str) {
        let mut rest = text.trim();
        while !rest.is_empty() {
            let end = sentence(rest);
            let line = rest[..end].trim();
            // Either would make the line a request (groff(7)); `\&` has no width.
            let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
            self.line(&format!("{guard}{line}"));
            rest = rest[end..].trim_start();
        }
        self.is_fresh = false;
    }

    /// Writes the heading of a section, in capitals.
    pub(super) fn section(&mut self, title: &str) {
        self.heading(1, &plain(&title.to_uppercase()));
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.heading(2, &plain(title));
    }

    /// Writes a heading with escaped text: of a section at depth 1, of a subsection at any other.
    pub(super) fn heading(&mut self, depth: u8, title: &str) {
        self.line(&format!("{} {title}", if depth == 1 { ".SH" } else { ".SS" }));
        self.is_fresh = true;
    }

    /// Starts a paragraph with this request, unless a heading stands right before it.
    fn begin(&mut self, request: &str) {
        if !std::mem::take(&mut self.is_fresh) {
            self.line(request);
        }
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.begin(".PP");
        self.lines(text);
    }

    /// Writes another paragraph of a term or of an item.
    pub(super) fn continuation(&mut self, text: &str) {
        self.line(".IP");
        self.lines(text);
    }

    /// Writes text on a line of its own in the same paragraph.
    pub(super) fn next_line(&mut self, text: &str) {
        self.line(".br");
        self.lines(text);
    }

    /// Writes a term and its meanings, each on a line.
    pub(super) fn term(&mut self, term: &str, meanings: &[String]) {
        let is_wide = width(term) > WIDEST_TERM || meanings.is_empty();
        if is_wide {
            self.paragraph(term);
            if meanings.is_empty() {
                return;
            }
            // The indentation of `.TP` and `.IP` (man(7)).
            self.line(".RS 7");
            self.is_fresh = true;
        } else {
            self.line(".TP");
            self.line(term);
        }
        for (i, meaning) in meanings.iter().enumerate() {
            match i {
                0 => self.lines(meaning),
                _ => self.next_line(meaning),
            }
        }
        if is_wide {
            self.line(".RE");
        }
        self.is_fresh = false;
    }

    /// Indents the following text below a term or an item, until [`ManPage::outdent`].
    pub(super) fn indent(&mut self) {
        self.line(".RS 7");
        self.is_fresh = false;
    }

    pub(super) fn outdent(&mut self) {
        self.line(".RE");
    }

    /// Writes an item of a list. Its mark is a number, or a bullet without one.
    pub(super) fn item(&mut self, number: Option<u64>, text: &str) {
        let mark = number.map_or("\\(bu".to_owned(), |number| format!("{number}."));
        self.line(&format!(".IP {mark} 3"));
        self.lines(text);
    }

    /// Writes lines that keep their breaks and blanks. Below an item they are part of it.
    pub(super) fn example(&mut self, text: &str, is_below: bool) {
        self.begin(if is_below { ".IP" } else { ".PP" });
        // As man-pages(7) formats examples.
        self.line(".in +4n");
        self.line(".EX");
        for line in text.trim_end().lines() {
            let line = plain(line);
            let guard = if line.starts_with('.') { "\\&" } else { "" };
            self.line(&format!("{guard}{line}"));
        }
        self.line(".EE");
        self.line(".in");
        self.is_fresh = false;
    }

    /// Writes SEE ALSO: references such as `mig-cdi(1)`, or paths. A reference to the page itself is omitted.
    pub(super) fn see_also(&mut self, references: &[&str]) {
        self.section("See also");
        let own = self.reference();
        let others = references.iter().filter(|reference| **reference != own);
        let others: Vec<String> = others.map(|text| reference(text)).collect();
        self.lines(&others.join(", "));
    }
}

/// Returns the end of the first sentence in escaped text.
fn sentence(text: &str) -> usize {
    let mut from = 0;
    while let Some(found) = text[from..].find(' ') {
        let space = from + found;
        let (before, after) = (text[..space].trim_end_matches("\\fR"), &text[space + 1..]);
        let before = before.trim_end_matches([')', '"']).trim_end_matches("\\fR");
        let after = after.trim_start_matches("\\fB").trim_start_matches("\\fI");
        // No abbreviation is followed by a capital in our texts.
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
    fn text_cannot_become_a_request() {
        assert_eq!(plain("a\\b --x 'y' …"), "a\\eb \\-\\-x \\(aqy\\(aq ...");
        let mut page = ManPage::new("x", 1, "y");
        page.paragraph(".so /etc/passwd");
        page.example(".so /etc/passwd\n'x", false);
        let text = page.finish();
        assert!(text.contains("\n\\&.so /etc/passwd\n.in") || text.contains("\n\\&.so"), "{text}");
        assert!(!text.contains("\n.so") && !text.contains("\n'"), "{text}");
    }

    #[test]
    fn a_sentence_ends_at_its_full_stop() {
        let first = |text: &'static str| &text[..sentence(text)];
        assert_eq!(first("One. Two."), "One.");
        assert_eq!(first("Of \\fBa.b\\fR. \\fBTwo\\fR."), "Of \\fBa.b\\fR.");
        assert_eq!(first("(One.) Two"), "(One.)");
        assert_eq!(first("as 1. 2. or A... B"), "as 1. 2. or A... B");
    }
}
