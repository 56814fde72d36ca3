//! References between pages: links of the documents, and names in help texts.

use super::{
    documents::PAGES,
    roff::{bold, italic, plain, reference},
};

/// Returns the page that a file of the project became, or the path at which the file is installed.
fn installed_place(path: &str) -> Option<String> {
    if path.ends_with("config/config.toml") {
        return Some("mig-cdi.toml(5)".to_owned());
    }
    let file = path.split('#').next()?.strip_suffix(".md")?;
    let file = file.strip_prefix("docs/").unwrap_or(file);
    // Packages install the documents at the top of `docs/` alone.
    if file.contains('/') {
        return None;
    }
    if file == "hook" {
        return Some("mig-cdi-hook(8)".to_owned());
    }
    let page = PAGES.iter().find(|page| page.file == format!("docs/{file}.md"));
    Some(match page {
        Some(page) => format!("{}(5)", page.name),
        None => format!("/usr/share/doc/mig-cdi/{file}.md"),
    })
}

/// Formats a link of a document for readers who cannot follow it. `own` is the page it stands in; `text` is escaped.
pub(super) fn link(own: &str, text: &str, to: &str) -> String {
    if to.starts_with("https://") {
        return format!("{text} <{}>", plain(to));
    }
    match installed_place(to) {
        Some(place) if place != own => match text.ends_with(".md") {
            true => reference(&place),
            false => format!("{text} ({})", reference(&place)),
        },
        // The target is in the same page, or is a file that no package installs.
        _ => text.to_owned(),
    }
}

/// Formats a help text: text to type is bold, and placeholders, which are in `names`, are italic.
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
        _ if core.starts_with("docs/") => {
            installed_place(core).map_or(plain(core), |to| reference(&to))
        }
        _ => plain(core),
    };
    plain(head) + &core + &plain(tail)
}

/// Replaces the names of documents in a help text, such as `docs/watch.md`, by the pages or installed files.
pub(super) fn with_installed_documents(text: &str) -> String {
    let word = |word: &str| {
        let core = word.trim_end_matches(['.', ',', ':', ';', ')']);
        let place = core.starts_with("docs/").then(|| installed_place(core)).flatten();
        place.map_or(word.to_owned(), |place| place + &word[core.len()..])
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_placeholders_and_documents_of_a_help_text_are_marked_up() {
        let text = prose("Read FILE (see --config), docs/watch.md or `a b`.", &["FILE"]);
        let expected = "Read \\fIFILE\\fR (see \\fB\\-\\-config\\fR), \
                        \\fI/usr/share/doc/mig\\-cdi/watch.md\\fR or \\fBa b\\fR.";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_help_text_names_installed_documents() {
        let text = with_installed_documents("for X; see docs/kubernetes.md, or docs/hook.md");
        assert_eq!(text, "for X; see /usr/share/doc/mig-cdi/kubernetes.md, or mig-cdi-hook(8)");
    }

    #[test]
    fn a_link_becomes_a_reference_to_a_page() {
        let own = "mig-cdi-spec(5)";
        assert_eq!(link(own, "hook.md", "hook.md"), "\\fBmig\\-cdi\\-hook\\fR(8)");
        assert_eq!(link(own, "lay", "layouts.md#syntax"), "lay (\\fBmig\\-cdi\\-layouts\\fR(5))");
        assert_eq!(link(own, "nodes", "#device-nodes"), "nodes");
        assert_eq!(link(own, "nodes", "spec.md#names"), "nodes");
        assert_eq!(link(own, "src", "../sim/nodes"), "src");
        assert_eq!(link(own, "it", "https://a.b/c"), "it <https://a.b/c>");
    }
}
