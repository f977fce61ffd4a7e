//! The fields of a payload, by name, and their values. The payload is valid JSON: its message was scanned.

use std::borrow::Cow;

use super::scanner::Scanner;

/// The values of `keys` in the object `json`, as they were written. If a key comes twice, the last one counts. `None`: the key
/// is missing or `null`, or `json` is no object.
pub(in crate::wire) fn named<'a, const N: usize>(json: &'a str, keys: [&str; N]) -> [Option<&'a str>; N] {
    let mut values = [None; N];
    let read = Scanner::new(json).entries(|key, value| {
        if let Some(index) = keys.iter().position(|wanted| *wanted == key) {
            values[index] = (value != "null").then_some(value);
        }
    });
    debug_assert!(read.is_ok() || !json.starts_with('{'), "{json}");
    values
}

/// Calls `read` with each key of the object `json` and its value, as they were written.
pub(in crate::wire) fn entries<'a>(json: &'a str, read: impl FnMut(&str, &'a str)) {
    let all = Scanner::new(json).entries(read);
    debug_assert!(all.is_ok(), "{json}");
}

/// The elements of the array `json`, as they were written; `None`: it is none.
pub(in crate::wire) fn elements(json: &str) -> Option<Vec<&str>> {
    let mut elements = Vec::new();
    Scanner::new(json).elements(|element| elements.push(element)).ok()?;
    Some(elements)
}

/// The text that a JSON string stands for; `None` for every other value. Half of a surrogate pair becomes U+FFFD; only messages
/// that are refused have one.
pub(in crate::wire) fn string(json: &str) -> Option<Cow<'_, str>> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    if !text.as_bytes().contains(&b'\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            '\\' => match letters.next()? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    units.push(u16::from_str_radix(letters.as_str().get(..4)?, 16).ok()?);
                    letters = letters.as_str()[4..].chars();
                    continue;
                }
                itself => itself,
            },
            itself => itself,
        };
        units.extend_from_slice(letter.encode_utf16(&mut [0; 2]));
    }
    Some(Cow::Owned(String::from_utf16_lossy(&units)))
}

/// The whole number that a JSON number is, however it is written: `7`, `7.0`, `70e-1`. Many write every number as a float.
pub(in crate::wire) fn whole<T: TryFrom<u64>>(json: &str) -> Option<T> {
    let magnitude = json.strip_prefix('-').unwrap_or(json);
    if !magnitude.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let (digits, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let (before_point, after_point) = digits.split_once('.').unwrap_or((digits, ""));
    // An exponent that no i64 holds makes the number 0 or far too large, depending on its sign.
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    let whole_digits = (before_point.len() as i64).saturating_add(exponent);
    let mut value: u64 = 0;
    let mut read: i64 = 0;
    for digit in before_point.bytes().chain(after_point.bytes()).map(|byte| u64::from(byte - b'0')) {
        if read < whole_digits {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else if digit != 0 {
            return None;
        }
        read += 1;
    }
    while value != 0 && read < whole_digits {
        value = value.checked_mul(10)?;
        read += 1;
    }
    if magnitude.len() < json.len() && value != 0 {
        return None;
    }
    T::try_from(value).ok()
}

/// The finite number that a JSON number is.
pub(in crate::wire) fn float(json: &str) -> Option<f32> {
    let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    json.parse().ok().filter(|number: &f32| is_number && number.is_finite())
}

/// The value of `true` or `false`; `None` for all other JSON.
pub(in crate::wire) fn boolean(json: &str) -> Option<bool> {
    json.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_found_by_name_and_the_last_of_each_counts() {
        let json = r#"{"a":1,"b":null,"\u0063":[{"a":2}],"a": "x" }"#;
        assert_eq!(named(json, ["a", "b", "c", "d"]), [Some("\"x\""), None, Some(r#"[{"a":2}]"#), None]);
        for nothing in ["[1]", "null", "7", "\"a\"", "{}"] {
            assert_eq!(named(nothing, ["a"]), [None], "{nothing}");
        }
    }

    #[test]
    fn a_string_is_the_text_that_it_stands_for() {
        for (json, text) in [
            (r#""plain ä""#, Some("plain ä")),
            (r#""\"\\\/\b\f\n\r\t\u0041\ud83e\udd80🦀""#, Some("\"\\/\u{8}\u{c}\n\r\tA🦀🦀")),
            (r#""\ud83e\ud83e\udd80\udd80""#, Some("\u{fffd}🦀\u{fffd}")),
            ("\"\"", Some("")),
            ("7", None),
            ("null", None),
        ] {
            assert_eq!(string(json).as_deref(), text, "{json}");
        }
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (json, expected) in [
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("7.000", Some(7)),
            ("7e0", Some(7)),
            ("0.7E+1", Some(7)),
            ("700e-2", Some(7)),
            ("0.00", Some(0)),
            ("-0.0", Some(0)),
            ("0e99999999999999999999999", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551615.0", Some(u64::MAX)),
            ("1.8446744073709551615e19", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("1e20", None),
            ("1e99999999999999999999999", None),
            ("1e-99999999999999999999999", None),
            ("7.5", None),
            ("75e-1", None),
            ("-7", None),
            ("-7.0", None),
            ("\"7\"", None),
            ("true", None),
            ("[7]", None),
        ] {
            assert_eq!(whole::<u64>(json), expected, "{json}");
        }
        assert_eq!((whole::<u16>("65535.0"), whole::<u16>("65536.0")), (Some(65_535), None));
    }

    #[test]
    fn other_values_are_what_they_are() {
        assert_eq!(
            [float("1"), float("-2.5e1"), float("1e39"), float("\"1\"")],
            [Some(1.0), Some(-25.0), None, None]
        );
        assert_eq!([boolean("true"), boolean("false"), boolean("1")], [Some(true), Some(false), None]);
    }

    proptest! {
        #[test]
        fn every_number_is_itself_in_every_way_of_writing(number: u64, zeros in 0_usize..30, shift in 0_usize..25) {
            let digits = number.to_string();
            let padded = format!("{}{digits}", "0".repeat(25));
            let (before, after) = padded.split_at(padded.len() - shift);
            let before = before.trim_start_matches('0');
            let before = if before.is_empty() { "0" } else { before };
            let pointed = if shift == 0 { format!("{before}.0e0") } else { format!("{before}.{after}e{shift}") };
            for json in [
                format!("{digits}.0{}", "0".repeat(zeros)),
                format!("{digits}{}e-{zeros}", "0".repeat(zeros)),
                pointed,
            ] {
                prop_assert_eq!(whole::<u64>(&json), Some(number), "{}", json);
            }
            prop_assert_eq!(whole::<u64>(&format!("{digits}.{}1", "0".repeat(zeros))), None);
        }
    }
}
