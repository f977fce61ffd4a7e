//! Values as they are written, and what each kind of key makes of them.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::secrets::Secret;
use crate::ids::TopicName;
use crate::limits::KEY_ID_BYTES_MAX;
use crate::wire::upgrade::{Misspelt, OriginPattern};

/// What a value must be.
pub(super) type Expected = String;

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `4`
    Integer(i64),
    /// `4.0`
    Float(f64),
    /// `"4"`
    Text(String),
    /// `true`
    Boolean(bool),
    /// `[1, 2]`
    List(Vec<Value>),
    /// `{ a = 1 }`
    Table(Vec<(String, Value)>),
    /// A TOML value that no key takes (a date, a number that is too large).
    Other(String),
    /// Text of a variable or a flag, whose type the key decides.
    Untyped(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(value) | Self::Untyped(value) => write!(f, "{value:?}"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::List(values) => {
                let values: Vec<String> = values.iter().map(Self::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
            Self::Table(_) => write!(f, "a table"),
            Self::Other(kind) => write!(f, "{kind}"),
        }
    }
}

pub(super) fn number<T>(value: &Value, range: RangeInclusive<T>) -> Result<T, Expected>
where
    T: Copy + TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    let number = match value {
        Value::Integer(number) => Some(*number),
        Value::Untyped(text) => text.replace('_', "").parse().ok(),
        Value::Float(_)
        | Value::Text(_)
        | Value::Boolean(_)
        | Value::List(_)
        | Value::Table(_)
        | Value::Other(_) => None,
    };
    number
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

/// The entries of a table `{ … }`, of which `set` knows each by name (`None`: it does not). `shape`: what it looks like.
pub(super) fn table(
    value: &Value,
    shape: &str,
    mut set: impl FnMut(&str, &Value) -> Option<Result<(), Expected>>,
) -> Result<(), Expected> {
    let Value::Table(entries) = value else { return Err(format!("a table: {shape}")) };
    for (name, value) in entries {
        match set(name, value) {
            Some(set) => {
                set.map_err(|expected| format!("a table in which `{name}` is {expected}, not {value}"))?;
            }
            None => return Err(format!("a table: {shape}; there is no `{name}` in it")),
        }
    }
    Ok(())
}

pub(super) fn milliseconds(value: &Value, range: RangeInclusive<u32>) -> Result<Duration, Expected> {
    number(value, range).map(|ms| Duration::from_millis(ms.into()))
}

pub(super) fn seconds(value: &Value, range: RangeInclusive<u32>) -> Result<Duration, Expected> {
    number(value, range).map(|s| Duration::from_secs(s.into()))
}

fn float(value: &Value) -> Option<f32> {
    match value {
        Value::Integer(number) => Some(*number as f32),
        Value::Float(number) => Some(*number as f32),
        Value::Text(_)
        | Value::Boolean(_)
        | Value::List(_)
        | Value::Table(_)
        | Value::Other(_)
        | Value::Untyped(_) => None,
    }
}

pub(super) fn coordinate(value: &Value) -> Result<f32, Expected> {
    let expected = || format!("a number from {:e} to {:e}", f32::MIN, f32::MAX);
    float(value).filter(|number| number.is_finite()).ok_or_else(expected)
}

pub(super) fn speed(value: &Value) -> Result<f32, Expected> {
    float(value)
        .filter(|speed| *speed > 0.0)
        .ok_or_else(|| "a number above 0, in units of distance per second (inf: not checked)".into())
}

pub(super) fn boolean(value: &Value) -> Result<bool, Expected> {
    let expected = || "true or false".to_owned();
    match value {
        Value::Boolean(boolean) => Ok(*boolean),
        Value::Untyped(text) => match text.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(expected()),
        },
        Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Table(_)
        | Value::Other(_) => Err(expected()),
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) | Value::Untyped(text) => Some(text),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::List(_)
        | Value::Table(_)
        | Value::Other(_) => None,
    }
}

pub(super) fn address(value: &Value) -> Result<SocketAddr, Expected> {
    let expected = || "an IP address and a port, such as 127.0.0.1:4000 or [::]:4000".to_owned();
    text(value).and_then(|text| text.parse().ok()).ok_or_else(expected)
}

pub(super) fn path(value: &Value) -> Result<PathBuf, Expected> {
    text(value).filter(|text| !text.is_empty()).map(PathBuf::from).ok_or_else(|| "the path of a file".into())
}

pub(super) fn secret(value: &Value) -> Result<Secret, Expected> {
    text(value)
        .filter(|text| !text.is_empty())
        .map(Secret::new)
        .ok_or_else(|| "a text that is not empty".into())
}

/// What the name of a key must be.
pub(super) const KEY_ID_EXPECTED: &str = "1 to 64 bytes without control characters";
const _: () = assert!(KEY_ID_BYTES_MAX == 64, "the text above says so");

pub(super) fn key_id(value: &Value) -> Result<Box<str>, Expected> {
    let fits = |text: &&str| (1..=KEY_ID_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
    text(value).filter(fits).map(Box::from).ok_or_else(|| KEY_ID_EXPECTED.into())
}

pub(super) fn variable(value: &Value) -> Result<String, Expected> {
    let fits = |text: &&str| !text.is_empty() && !text.contains(['=', '\0']);
    text(value).filter(fits).map(Into::into).ok_or_else(|| "the name of an environment variable".into())
}

pub(super) fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, Expected> {
    let found = text(value).and_then(|text| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        format!("one of {}", words.join(", "))
    })
}

pub(super) fn origins(value: &Value) -> Result<Vec<OriginPattern>, Expected> {
    let expected = || {
        "a list of origins: \"https://example.com\", \"//example.com\", \"//*.example.com\", \"*\"".to_owned()
    };
    let texts: Option<Vec<&str>> = match value {
        Value::List(values) => values.iter().map(text).collect(),
        Value::Untyped(list) => Some(list.split(',').map(str::trim).collect()),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Boolean(_)
        | Value::Table(_)
        | Value::Other(_) => None,
    };
    let parse = |text: &str| {
        OriginPattern::parse(text).map_err(|Misspelt { why, instead }| {
            let instead = instead.map(|instead| format!("; write {instead:?}")).unwrap_or_default();
            format!("{}; not {text:?}: {why}{instead}", expected())
        })
    };
    texts.ok_or_else(expected)?.into_iter().map(parse).collect()
}

/// What a pattern must be.
pub(super) const PATTERN_EXPECTED: &str = "1 to 64 characters of `A-Z a-z 0-9 _ - . *`";

pub(super) fn pattern(value: &Value) -> Result<Box<str>, Expected> {
    // A pattern is a game name in which any letter may be a star.
    text(value)
        .filter(|text| TopicName::parse(&text.replace('*', "-")).is_some())
        .map(Box::from)
        .ok_or_else(|| PATTERN_EXPECTED.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts in double quotes, or behind "such as".
    fn examples(expected: &str) -> Vec<String> {
        let quoted = expected.split('"').skip(1).step_by(2).map(str::to_owned);
        let named = expected.split_once("such as ").map_or("", |(_, named)| named);
        quoted.chain(named.split(" or ").filter(|name| !name.is_empty()).map(str::to_owned)).collect()
    }

    #[test]
    fn what_a_refusal_names_as_right_is_taken() {
        let wrong = Value::Boolean(true);
        let origins_named = examples(&origins(&wrong).unwrap_err());
        assert_eq!(origins_named.len(), 4);
        assert!(origins(&Value::Untyped(origins_named.join(","))).is_ok());
        let addresses = examples(&address(&wrong).unwrap_err());
        assert_eq!(addresses.len(), 2);
        let words = &[("auto", 1), ("pretty", 2)];
        let named = examples(&word(&wrong, words).unwrap_err());
        assert_eq!(named.len(), 2);
        for text in addresses {
            assert!(address(&Value::Text(text.clone())).is_ok(), "{text}");
        }
        for text in named {
            assert!(word(&Value::Text(text.clone()), words).is_ok(), "{text}");
        }
    }
}
