//! The page of `config.toml`, from the commented file that is shipped.

use super::{
    links::prose,
    roff::{Page, bold},
};
use mig_cdi_config::SHIPPED;

/// The page: each key with its default, and what the file says of it.
pub(super) fn page() -> Page {
    let mut page = Page::new("mig-cdi.toml", 5, "settings of mig-cdi and mig-cdi-hook");
    let mut parts = SHIPPED.split("\n\n").map(Part::parse);
    let first = parts.next().expect("the file says what it is");
    page.section("Description");
    page.paragraph(&prose(&first.comment, &[]));
    page.section("Keys");
    for part in parts {
        match part.line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(table) => {
                page.section(&format!("Table [{table}]"));
                page.paragraph(&prose(&part.comment, &[]));
            }
            None => page.term(&bold(&part.line), &[prose(&part.comment, &[])]),
        }
    }
    page.see_also(&["mig-cdi(1)", "mig-cdi-hook(8)", "mig-cdi-spec(5)"]);
    page
}

/// A comment, and the line that it is about: a key or the head of a table. Or nothing.
struct Part {
    comment: String,
    line: String,
}

impl Part {
    fn parse(text: &str) -> Part {
        let (comment, lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("# "));
        let comment: Vec<&str> = comment.iter().map(|line| line[2..].trim()).collect();
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_start_matches('#')).collect();
        Part { comment: comment.join(" "), line: lines.join(", ") }
    }
}
