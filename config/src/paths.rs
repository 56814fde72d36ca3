//! Paths that settings and flags may name.

use mig_cdi_model::is_unprintable;
use std::path::PathBuf;

/// Checks a path on the host: absolute, without `..` and without characters that a terminal would not print.
///
/// # Errors
/// When it is not such a path, with the cause.
pub fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let cause = match text {
        "" => "an empty path".to_owned(),
        _ if !text.starts_with('/') => format!("{text:?} is not an absolute path"),
        // Engines clean such a path by its text, and the kernel follows links first: they would not agree on it.
        _ if text.split('/').any(|part| part == "..") => format!("{text:?} contains '..'"),
        _ if text.contains(is_unprintable) => format!("{text:?} contains a control character"),
        _ => return Ok(text.into()),
    };
    Err(cause)
}

/// Checks a directory of a container: a path without `.`, `..` or empty parts, so that no mount ends outside the
/// container's root.
///
/// # Errors
/// When it is not such a path, with the cause.
pub fn library_dir(text: &str) -> Result<String, String> {
    absolute_path(text)?;
    match text[1..].split('/').all(|part| !part.is_empty() && part != ".") {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not a directory below the container's root")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_plain() {
        for path in ["/", "/etc/cdi", "/etc/cdi/", "/a..b", "//a"] {
            assert!(absolute_path(path).is_ok(), "{path:?}");
        }
        for path in ["", "a", "./a", "..", "/..", "/a/../b", "~/a", "/a\nb", "/\u{1b}[2J"] {
            assert!(absolute_path(path).is_err() && library_dir(path).is_err(), "{path:?}");
        }
        for path in ["/", "/a/", "//a", "/a/./b"] {
            assert!(library_dir(path).is_err(), "{path:?}");
        }
        assert_eq!(library_dir("/usr/lib64").as_deref(), Ok("/usr/lib64"));
    }
}
