//! Conversion of Markdown into sections of a page. It knows the Markdown that `docs/` is written in, and fails at any
//! other, so that no text is lost unnoticed.

use super::{
    links,
    roff::{ManPage, bold, plain},
};
use crate::{Error, Result};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Writes a document. The text before its first section becomes DESCRIPTION; the page has a title of its own.
pub(super) fn write(page: &mut ManPage, source: &'static str, markdown: &str) -> Result<()> {
    page.section("Description");
    write_part(page, source, markdown)
}

/// Writes a part of a document below the last heading of the page.
pub(super) fn write_part(page: &mut ManPage, source: &'static str, markdown: &str) -> Result<()> {
    let own = page.reference();
    let writer = Writer {
        page,
        source,
        own,
        text: String::new(),
        level: None,
        is_strong: false,
        link: None,
        lists: Vec::new(),
        mark: None,
        rows: Vec::new(),
        code: None,
    };
    writer.run(markdown)
}

struct Writer<'a> {
    page: &'a mut ManPage,
    /// File that is converted, for errors.
    source: &'static str,
    /// Reference to this page, as links name it.
    own: String,
    /// Escaped text that is collected and not written yet.
    text: String,
    /// Level of the heading that is being read.
    level: Option<HeadingLevel>,
    is_strong: bool,
    /// Link that is being read: the offset of its text, and its target.
    link: Option<(usize, String)>,
    /// Open lists, outermost first, with the next number of each.
    lists: Vec<Option<u64>>,
    /// Mark of an item whose text is not written yet.
    mark: Option<Option<u64>>,
    /// Rows of a table, its head first.
    rows: Vec<Vec<String>>,
    /// Lines of a code block.
    code: Option<String>,
}

impl Writer<'_> {
    fn run(mut self, markdown: &str) -> Result<()> {
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            match event {
                Event::Start(tag) => self.start(tag)?,
                Event::End(tag) => self.end(tag),
                Event::Text(text) => match &mut self.code {
                    Some(code) => code.push_str(&text),
                    // Titles of sections are in capitals (man-pages(7)), those of subsections are not.
                    None if self.level == Some(HeadingLevel::H2) => {
                        self.text.push_str(&plain(&text.to_uppercase()));
                    }
                    None => self.text.push_str(&plain(&text)),
                },
                // Bold already, and `\fR` would end that.
                Event::Code(code) if self.is_strong || self.level.is_some() => {
                    self.text.push_str(&plain(&code));
                }
                Event::Code(code) => self.text.push_str(&bold(&code)),
                Event::SoftBreak => self.text.push(' '),
                other => return Err(self.unknown(&other)),
            }
        }
        self.flush();
        Ok(())
    }

    fn unknown(&self, markdown: &impl std::fmt::Debug) -> Error {
        Error { source: self.source, part: format!("unknown Markdown {markdown:?}") }
    }

    fn start(&mut self, tag: Tag) -> Result<()> {
        match tag {
            Tag::Paragraph | Tag::Table(_) | Tag::TableCell => {}
            Tag::Heading { level, .. } => self.level = Some(level),
            Tag::Strong => {
                self.is_strong = true;
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
                    self.page.indent();
                }
                self.lists.push(first);
            }
            Tag::Item => {
                if let Some(list) = self.lists.last_mut() {
                    self.mark = Some(*list);
                    *list = list.map(|number| number + 1);
                }
            }
            Tag::TableHead | Tag::TableRow => self.rows.push(Vec::new()),
            other => return Err(self.unknown(&other)),
        }
        Ok(())
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Strong => {
                self.is_strong = false;
                self.text.push_str("\\fR");
            }
            TagEnd::Link => {
                if let Some((start, to)) = self.link.take() {
                    let text = self.text.split_off(start);
                    self.text.push_str(&links::link(&self.own, &text, &to));
                }
            }
            TagEnd::CodeBlock => {
                let code = self.code.take().unwrap_or_default();
                self.page.example(&code, !self.lists.is_empty());
            }
            TagEnd::List(_) => {
                self.lists.pop();
                if !self.lists.is_empty() {
                    self.page.outdent();
                }
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.text);
                self.rows.last_mut().into_iter().for_each(|row| row.push(cell.clone()));
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

    /// Writes the collected text.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() {
            return;
        }
        match self.mark.take() {
            Some(mark) => self.page.item(mark, &text),
            None if self.lists.is_empty() => self.page.paragraph(&text),
            None => self.page.continuation(&text),
        }
    }

    /// Writes a table as terms, with its first column as the terms and the others as their meanings: no terminal is wide
    /// enough for our tables.
    fn table(&mut self) {
        let mut rows = std::mem::take(&mut self.rows).into_iter();
        let head = rows.next().unwrap_or_default();
        if head.first().is_some_and(|title| !title.is_empty()) {
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
