//! What pages say of other pages, and what becomes of links and of names in help texts.

use super::{
    DOCUMENTS,
    roff::{bold, italic, plain},
};

/// The page that a file of the project became, or where the file is installed.
fn place(path: &str) -> Option<String> {
    if path.ends_with("config/config.toml") {
        return Some("mig-cdi.toml(5)".to_owned());
    }
    let file = path.split('#').next()?.strip_suffix(".md")?;
    let file = file.strip_prefix("docs/").unwrap_or(file);
    if file.contains('/') {
        return None;
    }
    if file == "hook" {
        return Some("mig-cdi-hook(8)".to_owned());
    }
    let page = DOCUMENTS.iter().find(|(_, document, _)| *document == file);
    Some(match page {
        Some((name, ..)) => format!("{name}(5)"),
        None => format!("/usr/share/doc/mig-cdi/{file}.md"),
    })
}

/// A reference such as `mig-cdi(1)`, or a path.
pub(super) fn reference(text: &str) -> String {
    match text.split_once('(') {
        Some((name, section)) => bold(name) + "(" + &plain(section),
        None => italic(text),
    }
}

/// A link of a document in the page of this name, for readers who cannot follow it. `text` is escaped.
pub(super) fn link(own: &str, text: &str, to: &str) -> String {
    if to.starts_with("https://") {
        return format!("{text} <{}>", plain(to));
    }
    match place(to) {
        Some(place) if place != own => match text.ends_with(".md") {
            true => reference(&place),
            false => format!("{text} ({})", reference(&place)),
        },
        // A place in the same page, or a file of the source.
        _ => text.to_owned(),
    }
}

/// A help text: what is typed is bold, and what stands for something, one of `names`, is italic.
pub(super) fn prose(text: &str, names: &[&str]) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(i, part)| match i % 2 {
        0 => part.split(' ').map(|w| word(w, names)).collect::<Vec<_>>().join(" "),
        _ => bold(part),
    });
    parts.collect()
}

fn word(word: &str, names: &[&str]) -> String {
    let inner = word.trim_start_matches(['(', '[', '"']);
    let head = &word[..word.len() - inner.len()];
    let core = inner.trim_end_matches(['.', ',', ':', ';', ')', ']', '?', '"']);
    let tail = &inner[core.len()..];
    let core = match core {
        _ if names.contains(&core) => italic(core),
        _ if core.len() > 2 && core.starts_with("--") => bold(core),
        _ if core.starts_with("docs/") => place(core).map_or(plain(core), |to| reference(&to)),
        _ => plain(core),
    };
    plain(head) + &core + &plain(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_marked_up() {
        let text = prose("Read FILE (see --config), docs/watch.md or `a b`.", &["FILE"]);
        let expected = "Read \\fIFILE\\fR (see \\fB\\-\\-config\\fR), \
                        \\fI/usr/share/doc/mig\\-cdi/watch.md\\fR or \\fBa b\\fR.";
        assert_eq!(text, expected);
    }

    #[test]
    fn links_name_pages() {
        let own = "mig-cdi-spec(5)";
        assert_eq!(link(own, "hook.md", "hook.md"), "\\fBmig\\-cdi\\-hook\\fR(8)");
        assert_eq!(link(own, "lay", "layouts.md#wishes"), "lay (\\fBmig\\-cdi\\-layouts\\fR(5))");
        assert_eq!(link(own, "nodes", "#device-nodes"), "nodes");
        assert_eq!(link(own, "nodes", "spec.md#names"), "nodes");
        assert_eq!(link(own, "src", "../sim/nodes"), "src");
        assert_eq!(link(own, "it", "https://a.b/c"), "it <https://a.b/c>");
    }
}
