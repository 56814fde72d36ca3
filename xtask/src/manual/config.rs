//! Page of `config.toml`, made from the commented file that is shipped.

use super::{
    links::prose,
    roff::{ManPage, bold},
};
use crate::{OrMissing, Result};
use mig_cdi_config::SHIPPED;

/// Returns the page: each key with its default, and the comment of the file on it.
pub(super) fn page() -> Result<ManPage> {
    let mut page = ManPage::new("mig-cdi.toml", 5, "settings of mig-cdi and mig-cdi-hook");
    // The file has a blank line between its keys and none within the comment of one.
    let mut lines = SHIPPED.split("\n\n").map(CommentedLine::parse);
    let first = lines.next().or_missing("config/config.toml", "comment at the start")?;
    page.section("Description");
    page.paragraph(&prose(&first.comment, &[]));
    page.section("Keys");
    for line in lines {
        match line.line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(table) => {
                page.section(&format!("Table [{table}]"));
                page.paragraph(&prose(&line.comment, &[]));
            }
            None => page.term(&bold(&line.line), &[prose(&line.comment, &[])]),
        }
    }
    page.see_also(&["mig-cdi(1)", "mig-cdi-hook(8)", "mig-cdi-spec(5)"]);
    Ok(page)
}

/// Part of the file: a comment, and the line below it, which is a key, the head of a table, or empty.
struct CommentedLine {
    comment: String,
    line: String,
}

impl CommentedLine {
    fn parse(text: &str) -> CommentedLine {
        let (comment, lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("# "));
        let comment: Vec<&str> = comment.iter().map(|line| line[2..].trim()).collect();
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_start_matches('#')).collect();
        CommentedLine { comment: comment.join(" "), line: lines.join(", ") }
    }
}
