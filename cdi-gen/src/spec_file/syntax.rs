//! Text of spec files as engines read it: the first document, in JSON or in YAML 1.1.

use mig_cdi_model::one_line;
use serde::de::{DeserializeOwned, Error};
use serde_json::error::Category;
use serde_saphyr::{UserMessageFormatter, options::NonFiniteFloatPolicy};
use std::borrow::Cow;

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
    let text = in_utf8(bytes)?;
    let text = &*first_document(&text)?;
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
    match character_refusal(text).or_else(|| yaml_refusal(json, rest)) {
        Some(reason) => Err(serde_json::Error::custom(reason)),
        None => Ok(value),
    }
}

/// Returns the text in UTF-8. Engines read UTF-16 too, by its byte order mark (go-yaml `readerc.go`, `yaml_parser_determine_encoding`).
fn in_utf8(bytes: &[u8]) -> Result<Cow<'_, [u8]>, ParseError> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return Ok(Cow::Borrowed(bytes)),
    };
    let (pairs, rest) = bytes[2..].as_chunks();
    let units = pairs.iter().copied().map(unit);
    let text: Result<String, _> = char::decode_utf16(units).collect();
    let text = text.ok().filter(|_| rest.is_empty());
    text.map(|text| Cow::Owned(text.into_bytes()))
        .ok_or_else(|| ParseError::new("not valid UTF-16"))
}

/// Reason why go-yaml refuses the characters of a text, at any place (`readerc.go`, `yaml_parser_update_buffer`). Our parser of YAML does
/// the same; that of JSON takes more.
fn character_refusal(text: &[u8]) -> Option<&'static str> {
    let Ok(text) = str::from_utf8(text) else { return Some("it is not valid UTF-8") };
    let is_allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    (!text.chars().all(is_allowed)).then_some("it has control characters, which engines refuse")
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
fn first_document(bytes: &[u8]) -> Result<Cow<'_, [u8]>, ParseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut has_begun, mut end) = (false, 0);
    let mut comment = None;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let is = |marker: &[u8]| {
            let rest = line.strip_prefix(marker);
            rest.is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
        };
        if has_begun && (is(b"---") || is(b"...")) {
            break;
        }
        if !has_begun {
            // A second %YAML is refused.
            comment = comment.or(check_directive(line)?.map(|at| end + at));
        }
        has_begun |= !matches!(line.trim_ascii_start().first(), None | Some(b'#' | b'%'));
        end += line.len();
    }
    let mut text = Cow::Borrowed(&bytes[..end]);
    if let Some(at) = comment {
        // go-yaml needs no blank before the comment of a directive, and our parser does.
        text.to_mut().insert(at, b' ');
    }
    Ok(text)
}

/// Refuses directives that go-yaml refuses (`scannerc.go`, `yaml_parser_scan_directive`): `%YAML` of another version than 1.1, and all
/// but this and `%TAG`. Returns the start of a comment in the line.
fn check_directive(line: &[u8]) -> Result<Option<usize>, ParseError> {
    let Some(rest) = line.strip_prefix(b"%") else { return Ok(None) };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    let length = rest.iter().take_while(|byte| is_name(byte)).count();
    match rest.split_at(length) {
        (b"YAML", value) => {
            let comment = value.iter().position(|byte| *byte == b'#');
            let version = &value[..comment.unwrap_or(value.len())];
            let is_separate = version.first().is_some_and(u8::is_ascii_whitespace);
            if !is_separate || !is_version_1_1(version.trim_ascii()) {
                return Err(ParseError::new("engines read only YAML 1.1, and %YAML is another"));
            }
            Ok(comment.map(|at| line.len() - value.len() + at))
        }
        // Its prefix may contain a `#`. Our parser knows that without a name it is no directive.
        (b"TAG" | b"", _) => Ok(None),
        _ => Err(ParseError::new("engines know only the directives %YAML and %TAG")),
    }
}

/// True for `1.1` and, as each number may have two digits, `01.01`.
fn is_version_1_1(text: &[u8]) -> bool {
    let mut numbers = text.split(|byte| *byte == b'.');
    let mut is_one = || matches!(numbers.next(), Some(b"1" | b"01"));
    is_one() && is_one() && numbers.next().is_none()
}
