//! Counts in messages.

/// Returns a count with its noun: `1 error`, `2 errors`, `0 processes`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let ending = match (count, noun.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_has_no_plural() {
        let texts = [0, 1, 2].map(|count| counted(count, "error"));
        assert_eq!(texts, ["0 errors", "1 error", "2 errors"]);
        assert_eq!([counted(1, "process"), counted(2, "process")], ["1 process", "2 processes"]);
    }
}
