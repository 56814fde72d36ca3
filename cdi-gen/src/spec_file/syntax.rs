//! Text of spec files as engines read it: the first document, in JSON or in YAML 1.1.

use mig_cdi_model::one_line;
use serde::de::{DeserializeOwned, Error};
use serde_json::error::Category;
use serde_saphyr::{UserMessageFormatter, options::NonFiniteFloatPolicy};

/// Upper bound for the values in a YAML file, those that aliases repeat included. 100,000 devices have two million.
const NODE_LIMIT: usize = 4 << 20;

/// Reason why text is no spec: the parser's, with the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cdi spec in json or yaml: {cause}")]
pub struct ParseError {
    pub(super) cause: String,
}

impl ParseError {
    fn new(cause: &str) -> ParseError {
        ParseError { cause: one_line(cause) }
    }
}

/// Reads the first document of a file.
pub(super) fn parse_as<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ParseError> {
    let text = first_document(bytes)?;
    let is_json = matches!(text.trim_ascii_start().first(), None | Some(b'{'));
    let json = match from_json(text) {
        Ok(value) => return Ok(value),
        // JSON with other content than a spec. A large file takes seconds as YAML, which would refuse it too. YAML may begin with a text
        // between quotes, which is a value of JSON as well.
        Err(error) if is_json && error.classify() == Category::Data => {
            return Err(ParseError::new(&error.to_string()));
        }
        Err(error) => error,
    };
    // serde-saphyr bounds depth, nodes and what aliases expand to: a spec may be any user's. By default it
    // refuses 20,000 devices, which engines read.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: NODE_LIMIT, max_events: 2 * NODE_LIMIT },
        legacy_octal_numbers: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    serde_saphyr::from_slice_with_options(text, options).map_err(|yaml| {
        // YAML includes JSON: the first character tells which of the two reasons the writer understands.
        let yaml = yaml.without_snippet().render_with_formatter(&UserMessageFormatter);
        ParseError::new(&if is_json { json.to_string() } else { yaml })
    })
}

/// Reads the JSON value that a text begins with.
fn from_json<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter();
    let value = values.next().unwrap_or_else(|| Err(serde_json::Error::custom("it is empty")))?;
    let (json, rest) = text.split_at(values.byte_offset());
    match yaml_refusal(json, rest) {
        Some(reason) => Err(serde_json::Error::custom(reason)),
        None => Ok(value),
    }
}

/// Reason why go-yaml refuses JSON. What follows a value only has to begin as a token of YAML does (`scannerc.go`,
/// `yaml_parser_fetch_next_token`): nothing else is read.
fn yaml_refusal(json: &[u8], rest: &[u8]) -> Option<&'static str> {
    if rest.trim_ascii_start().first().is_some_and(|first| b":?%@`'\"".contains(first)) {
        return Some("trailing characters");
    }
    // Every backslash is in a string. YAML 1.1 has no `\/`, and no halves of characters (`yaml_parser_scan_flow_scalar`).
    let mut escapes = json.iter().enumerate().filter(|(_, byte)| **byte == b'\\').map(|(at, _)| at);
    while let Some(at) = escapes.next() {
        match json.get(at + 1..at + 4) {
            Some([b'/', ..]) => return Some("engines do not know the escape \\/"),
            Some([b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F']) => {
                return Some("engines do not know escapes from \\ud800 to \\udfff");
            }
            Some([b'\\', ..]) => _ = escapes.next(),
            _ => {}
        }
    }
    None
}

/// Returns the first document. Engines read no other, whatever it is (go-yaml `yaml.go`, `unmarshal`). Markers of documents are
/// alone at the start of a line, in text between quotes too (YAML 1.1, section 7.4, `c-forbidden`).
fn first_document(bytes: &[u8]) -> Result<&[u8], ParseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut has_begun, mut end) = (false, 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let is = |marker: &[u8]| {
            let rest = line.strip_prefix(marker);
            rest.is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
        };
        if has_begun && (is(b"---") || is(b"...")) {
            break;
        }
        if !has_begun {
            check_version_directive(line)?;
        }
        has_begun |= !matches!(line.trim_ascii_start().first(), None | Some(b'#' | b'%'));
        end += line.len();
    }
    Ok(&bytes[..end])
}

/// Refuses a directive `%YAML` of another version than 1.1. A comment may be behind it (`scannerc.go`, `yaml_parser_scan_directive`).
fn check_version_directive(line: &[u8]) -> Result<(), ParseError> {
    let Some(rest) = line.strip_prefix(b"%YAML") else { return Ok(()) };
    let version = rest.split(|byte| *byte == b'#').next().unwrap_or_default();
    let is_1_1 =
        version.first().is_some_and(u8::is_ascii_whitespace) && version.trim_ascii() == b"1.1";
    let other = || ParseError::new("engines read only YAML 1.1, and %YAML is another");
    is_1_1.then_some(()).ok_or_else(other)
}
