//! A document in Markdown becomes sections of a page. It knows the Markdown that `docs/` is written in, and
//! stops at any other.

use super::{
    links,
    roff::{Page, bold, plain},
};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Writes a document: what stands before its first section is the description. The title is the page's.
pub(super) fn write(page: &mut Page, markdown: &str) {
    page.section("Description");
    go(page, markdown);
}

/// Writes a part of a document, below whatever heading it is to have.
pub(super) fn go(page: &mut Page, markdown: &str) {
    let own = page.reference();
    let writer = Writer {
        page,
        own,
        text: String::new(),
        level: None,
        strong: false,
        link: None,
        lists: Vec::new(),
        mark: None,
        rows: Vec::new(),
        code: None,
    };
    writer.run(markdown);
}

struct Writer<'a> {
    page: &'a mut Page,
    /// How links name this page.
    own: String,
    /// Escaped text that is not written yet.
    text: String,
    /// Of the heading that is being read.
    level: Option<HeadingLevel>,
    strong: bool,
    /// Where the text of a link began, and its target.
    link: Option<(usize, String)>,
    /// The lists around this place, with the next number of each.
    lists: Vec<Option<u64>>,
    /// The mark of an item that has not begun yet.
    mark: Option<Option<u64>>,
    /// The rows of a table, its head first.
    rows: Vec<Vec<String>>,
    /// The lines of a block of code.
    code: Option<String>,
}

impl Writer<'_> {
    fn run(mut self, markdown: &str) {
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(tag) => self.start(tag),
                Event::End(tag) => self.end(tag),
                Event::Text(text) => match &mut self.code {
                    Some(code) => code.push_str(&text),
                    None if self.level == Some(HeadingLevel::H2) => {
                        self.text.push_str(&plain(&text.to_uppercase()));
                    }
                    None => self.text.push_str(&plain(&text)),
                },
                Event::Code(code) if self.strong || self.level.is_some() => {
                    self.text.push_str(&plain(&code));
                }
                Event::Code(code) => self.text.push_str(&bold(&code)),
                Event::SoftBreak => self.text.push(' '),
                other => panic!("the manual knows no such Markdown: {other:?}"),
            }
        }
        self.flush();
    }

    fn start(&mut self, tag: Tag) {
        match tag {
            Tag::Paragraph | Tag::Table(_) | Tag::TableCell => {}
            Tag::Heading { level, .. } => self.level = Some(level),
            Tag::Strong => {
                self.strong = true;
                self.text.push_str("\\fB");
            }
            Tag::Link { dest_url, .. } => self.link = Some((self.text.len(), dest_url.to_string())),
            Tag::CodeBlock(_) => {
                self.flush();
                self.code = Some(String::new());
            }
            Tag::List(first) => {
                self.flush();
                if !self.lists.is_empty() {
                    self.page.descend();
                }
                self.lists.push(first);
            }
            Tag::Item => {
                let list = self.lists.last_mut().expect("an item is in a list");
                self.mark = Some(*list);
                *list = list.map(|number| number + 1);
            }
            Tag::TableHead | Tag::TableRow => self.rows.push(Vec::new()),
            other => panic!("the manual knows no such Markdown: {other:?}"),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Strong => {
                self.strong = false;
                self.text.push_str("\\fR");
            }
            TagEnd::Link => {
                let (start, to) = self.link.take().expect("a link ends where one began");
                let text = self.text.split_off(start);
                self.text.push_str(&links::link(&self.own, &text, &to));
            }
            TagEnd::CodeBlock => {
                let code = self.code.take().expect("code ends where it began");
                self.page.example(&code, !self.lists.is_empty());
            }
            TagEnd::List(_) => {
                self.lists.pop();
                if !self.lists.is_empty() {
                    self.page.ascend();
                }
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.text);
                self.rows.last_mut().expect("a cell is in a row").push(cell);
            }
            TagEnd::Table => self.table(),
            _ => {}
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        let title = std::mem::take(&mut self.text);
        self.level = None;
        match level {
            HeadingLevel::H1 => {}
            HeadingLevel::H2 => self.page.heading(1, &title),
            _ => self.page.heading(2, &title),
        }
    }

    /// Writes the text that has come together.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() {
            return;
        }
        match self.mark.take() {
            Some(mark) => self.page.item(mark, &text),
            None if self.lists.is_empty() => self.page.paragraph(&text),
            None => self.page.more(&text),
        }
    }

    /// A table becomes terms: what stands in its first column, and below that the others. No terminal is wide
    /// enough for our tables.
    fn table(&mut self) {
        let mut rows = std::mem::take(&mut self.rows).into_iter();
        let head = rows.next().expect("a table has a head");
        if !head[0].is_empty() {
            let others = if head.len() == 2 { format!(": {}", head[1]) } else { String::new() };
            self.page.paragraph(&format!("\\fI{}{others}\\fR", head[0].replace("\\fR", "\\fI")));
        }
        for row in rows {
            let cells = head.iter().zip(&row).skip(1).filter(|(_, cell)| !cell.is_empty());
            let meanings: Vec<String> = cells
                .map(|(title, cell)| match head.len() {
                    2 => cell.clone(),
                    _ => format!("\\fI{}:\\fR {cell}", title.replace("\\fR", "\\fI")),
                })
                .collect();
            self.page.term(&row[0], &meanings);
        }
    }
}
