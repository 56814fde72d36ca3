//! Numbers and text of a spec as engines read them. sigs.k8s.io/yaml reads JSON and YAML through go-yaml 2, which gives an unquoted
//! scalar a type by its form (`resolve.go`); it turns a number or a boolean into text where Go's struct has text (`yaml.go`,
//! `convertToJSONableObject`), and `encoding/json` refuses every other mixture.

use serde::de::{Error, Unexpected, Visitor};
use std::fmt;

/// Range of a number in the Go types (container-device-interface `specs-go/config.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// Numbers of device nodes, and the seconds of a hook. One that is no number of a Linux device becomes one that no driver has.
    Int64,
    Uint32,
}

/// Visits a number.
pub(super) struct Number<V> {
    pub visitor: V,
    pub range: Range,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Number<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.range {
            Range::Int64 => "a number",
            Range::Uint32 => "a number from 0 to 4294967295",
        })
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<V::Value, E> {
        match (u32::try_from(number), self.range) {
            (Ok(number), _) => self.visitor.visit_u32(number),
            (Err(_), Range::Int64) => self.visitor.visit_u32(u32::MAX),
            (Err(_), Range::Uint32) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<V::Value, E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    // `encoding/json` writes a float without a fraction as Go's integers are written, up to 1e21, and so reads 1e2 as 100.
    fn visit_f64<E: Error>(self, number: f64) -> Result<V::Value, E> {
        let whole = (number.fract() == 0.0).then(|| format!("{number:.0}").parse::<i64>().ok());
        match whole.flatten() {
            Some(whole) => self.visit_i64(whole),
            None => Err(E::invalid_value(Unexpected::Float(number), &self)),
        }
    }
}

/// Visits text.
pub(super) struct Text<V>(pub V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Text<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        self.0.visit_str(text)
    }

    fn visit_bool<E: Error>(self, is_true: bool) -> Result<V::Value, E> {
        self.0.visit_string(is_true.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<V::Value, E> {
        self.0.visit_string(number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<V::Value, E> {
        self.0.visit_string(number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<V::Value, E> {
        self.0.visit_string(float_text(number))
    }

    // null leaves Go's empty string as it is.
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_str("")
    }
}

/// Text of a float as Go's `strconv.FormatFloat(number, 'g', -1, 32)` writes it: the fewest digits, and an exponent of two digits
/// below -4 and from 6 on (`strconv/ftoa.go`, `formatDigits`).
fn float_text(number: f64) -> String {
    let number = number as f32;
    let scientific = format!("{number:e}");
    let parts = scientific.split_once('e').and_then(|(digits, exponent)| {
        let exponent: i32 = exponent.parse().ok()?;
        Some((digits, exponent)).filter(|_| !(-4..6).contains(&exponent))
    });
    match parts {
        Some((digits, exponent)) => format!("{digits}e{exponent:+03}"),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::float_text;

    #[test]
    fn a_float_is_written_as_go_writes_it() {
        // Measured with Go 1.19 and sigs.k8s.io/yaml 1.3.0.
        for (number, text) in [
            (0.5, "0.5"),
            (1.50, "1.5"),
            (1e3, "1000"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (999_999.0, "999999"),
            (1e7, "1e+07"),
            (123_456_789.0, "1.2345679e+08"),
            (-1e22, "-1e+22"),
        ] {
            assert_eq!(float_text(number), text);
        }
    }
}
