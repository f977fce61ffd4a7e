//! JSON text, written piece by piece: compact, keys in the order in which they are named, strings escaped.

use std::fmt::{Display, Write};

/// A JSON object as text, with what `write` puts into it.
pub fn object(write: impl FnOnce(&mut Object<'_>)) -> String {
    object_of(SHORT_BYTES, write)
}

/// A JSON object as text of about `bytes` bytes, which are allocated once.
pub fn object_of(bytes: usize, write: impl FnOnce(&mut Object<'_>)) -> String {
    let mut text = String::with_capacity(bytes);
    write_object(&mut text, write);
    text
}

/// A JSON array as text of about `bytes` bytes.
pub fn array_of(bytes: usize, write: impl FnOnce(&mut Array<'_>)) -> String {
    let mut text = String::with_capacity(bytes);
    write_array(&mut text, write);
    text
}

/// Appends a JSON object.
pub fn write_object(text: &mut String, write: impl FnOnce(&mut Object<'_>)) {
    text.push('{');
    write(&mut Object { text, is_empty: true });
    text.push('}');
}

/// Appends a JSON array.
pub fn write_array(text: &mut String, write: impl FnOnce(&mut Array<'_>)) {
    text.push('[');
    write(&mut Array { text, is_empty: true });
    text.push(']');
}

/// Most answers are shorter than this.
const SHORT_BYTES: usize = 96;

/// An object that is being written. Keys are the relay's own words, and are written as they are.
#[derive(Debug)]
pub struct Object<'a> {
    text: &'a mut String,
    is_empty: bool,
}

impl Object<'_> {
    /// A string.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        write_string(self.key(key), value);
        self
    }

    /// A string of `value` as it is displayed, without escapes: for numbers too large for JavaScript, and hex digits.
    pub fn plain(&mut self, key: &str, value: impl Display) -> &mut Self {
        write_plain(self.key(key), format_args!("\"{value}\""));
        self
    }

    /// A whole number.
    pub fn number(&mut self, key: &str, value: impl Into<u64>) -> &mut Self {
        write_plain(self.key(key), value.into());
        self
    }

    /// A number that may have a fraction; `null` where it is infinite, since JSON has no word for that.
    pub fn float(&mut self, key: &str, value: f32) -> &mut Self {
        write_float(self.key(key), value);
        self
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str, value: bool) -> &mut Self {
        write_plain(self.key(key), value);
        self
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        self.key(key).push_str(json);
        self
    }

    /// Appends the fields of `object`, the JSON text of an object that is not empty.
    pub fn fields_of(&mut self, object: &str) -> &mut Self {
        debug_assert!(object.starts_with('{') && object.ends_with('}') && object.len() > 2, "{object}");
        self.separate();
        self.text.push_str(&object[1..object.len() - 1]);
        self
    }

    /// An object within.
    pub fn object(&mut self, key: &str, write: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        write_object(self.key(key), write);
        self
    }

    /// An array within.
    pub fn array(&mut self, key: &str, write: impl FnOnce(&mut Array<'_>)) -> &mut Self {
        write_array(self.key(key), write);
        self
    }

    fn key(&mut self, key: &str) -> &mut String {
        self.separate();
        self.text.push('"');
        self.text.push_str(key);
        self.text.push_str("\":");
        self.text
    }

    fn separate(&mut self) {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.text.push(',');
        }
    }
}

/// An array that is being written.
#[derive(Debug)]
pub struct Array<'a> {
    text: &'a mut String,
    is_empty: bool,
}

impl Array<'_> {
    /// A string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        write_string(self.element(), value);
        self
    }

    /// A whole number.
    pub fn number(&mut self, value: impl Into<u64>) -> &mut Self {
        write_plain(self.element(), value.into());
        self
    }

    /// The negative of a whole number.
    pub fn negative(&mut self, value: impl Into<u64>) -> &mut Self {
        write_plain(self.element(), format_args!("-{}", value.into()));
        self
    }

    /// Whole numbers.
    pub fn numbers(&mut self, values: impl IntoIterator<Item = u32>) -> &mut Self {
        values.into_iter().fold(self, Self::number)
    }

    /// A number that may have a fraction; see `Object::float`.
    pub fn float(&mut self, value: f32) -> &mut Self {
        write_float(self.element(), value);
        self
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, json: &str) -> &mut Self {
        self.element().push_str(json);
        self
    }

    /// Values that are JSON already.
    pub fn raws<'json>(&mut self, values: impl IntoIterator<Item = &'json str>) -> &mut Self {
        values.into_iter().fold(self, Self::raw)
    }

    /// An object within.
    pub fn object(&mut self, write: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        write_object(self.element(), write);
        self
    }

    /// An array within.
    pub fn array(&mut self, write: impl FnOnce(&mut Array<'_>)) -> &mut Self {
        write_array(self.element(), write);
        self
    }

    /// Length of the whole text so far, what is before the array included.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    fn element(&mut self) -> &mut String {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.text.push(',');
        }
        self.text
    }
}

/// How long `text` is as a JSON string, quotes included.
pub fn string_bytes(text: &str) -> usize {
    2 + text.bytes().map(byte_bytes).sum::<usize>()
}

/// How long a byte of UTF-8 is in a JSON string.
fn byte_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0C => 2,
        0..=0x1F => 6,
        _ => 1,
    }
}

/// Parts of `text`, in order, each of which is a JSON string of at most `bytes_max`; one of an empty text.
pub fn parts_of(text: &str, bytes_max: usize) -> Vec<&str> {
    let (mut parts, mut begin, mut bytes) = (Vec::new(), 0, 2);
    for (index, letter) in text.char_indices() {
        let of_letter: usize = text[index..index + letter.len_utf8()].bytes().map(byte_bytes).sum();
        if bytes + of_letter > bytes_max {
            parts.push(&text[begin..index]);
            (begin, bytes) = (index, 2);
        }
        bytes += of_letter;
    }
    parts.push(&text[begin..]);
    parts
}

/// Appends `text` as a JSON string, quotes included (RFC 8259 section 7).
pub fn write_string(buffer: &mut String, text: &str) {
    buffer.push('"');
    let mut written = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0C => "\\f",
            0..=0x1F => "\\u00",
            _ => continue,
        };
        buffer.push_str(&text[written..index]);
        buffer.push_str(escape);
        if escape.len() > 2 {
            write_plain(buffer, format_args!("{byte:02x}"));
        }
        written = index + 1;
    }
    buffer.push_str(&text[written..]);
    buffer.push('"');
}

fn write_float(text: &mut String, value: f32) {
    if value.is_finite() {
        // Debug writes a point or an exponent, so that a typed reader takes it for a float.
        write_plain(text, format_args!("{value:?}"));
    } else {
        text.push_str("null");
    }
}

fn write_plain(text: &mut String, value: impl Display) {
    write!(text, "{value}").expect("memory takes it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_written_is_read_back() {
        for text in ["", "plain", "\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}", "ä€🦀\u{2028}"] {
            let mut buffer = String::new();
            write_string(&mut buffer, text);
            assert_eq!(serde_json::from_str::<String>(&buffer).unwrap(), text);
            assert_eq!(string_bytes(text), buffer.len());
        }
    }

    #[test]
    fn a_text_is_parted_between_letters() {
        for (text, bytes_max, parts) in [
            ("", 8, &[""][..]),
            ("abc", 5, &["abc"]),
            ("abcd", 5, &["abc", "d"]),
            ("a🦀b", 6, &["a", "🦀", "b"]),
            ("\u{1}\n\"", 8, &["\u{1}", "\n\""]),
        ] {
            assert_eq!(parts_of(text, bytes_max), parts, "{text:?}");
            assert!(parts.iter().all(|part| string_bytes(part) <= bytes_max));
        }
    }

    #[test]
    fn a_float_is_never_written_as_a_whole_number_and_is_read_back() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.5, "1.5"),
            (16_777_216.0, "16777216.0"),
            (1e20, "1e20"),
            (-1.2e-5, "-1.2e-5"),
            (f32::MAX, "3.4028235e38"),
            (f32::MIN_POSITIVE, "1.1754944e-38"),
        ] {
            let written = object(|number| {
                number.float("x", value);
            });
            assert_eq!(written, format!(r#"{{"x":{text}}}"#));
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&written).unwrap()["x"].as_f64(),
                Some(text.parse().unwrap())
            );
        }
    }

    #[test]
    fn objects_and_arrays_are_compact_and_in_order() {
        let json = object(|whole| {
            whole.text("a", "x\"y").number("b", 7u32).boolean("c", true).raw("d", "[null]");
            whole.plain("e", u64::MAX).object("f", |inner| {
                inner.float("g", 2.0).float("h", f32::INFINITY).fields_of(r#"{"i":1,"j":2}"#);
            });
            whole.array("k", |list| {
                list.number(1u8).text("two").raw("3").float(-0.5).numbers([4, 5]).raws(["{}", "[]"]);
                list.array(|_| {}).object(|inner| {
                    inner.number("l", 6u8);
                });
            });
        });
        assert_eq!(
            json,
            r#"{"a":"x\"y","b":7,"c":true,"d":[null],"e":"18446744073709551615","f":{"g":2.0,"h":null,"i":1,"j":2},"k":[1,"two",3,-0.5,4,5,{},[],[],{"l":6}]}"#
        );
        assert_eq!(object(|_| {}), "{}");
    }
}
