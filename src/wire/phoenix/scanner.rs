//! Passes over JSON values without building them, and checks every byte on the way (RFC 8259).
//!
//! Beyond the grammar it refuses half of a surrogate pair, as Phoenix does, because everyone must be able to read what is
//! passed on. It does not recurse, and how deep values nest is bounded. After such a fault, and after some common mistakes of
//! JSON writers, it goes on: the message is refused, but its head can still be read, which says where the refusal goes.

use super::Malformed;
use super::fields::string;
use crate::limits::JSON_DEPTH_MAX;

/// A place in a JSON text.
pub(super) struct Scanner<'a> {
    text: &'a str,
    /// Invariant: at most `text.len()`.
    at: usize,
    /// The first fault of a value whose end could be found nevertheless.
    fault: Option<Malformed>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, fault: None }
    }

    /// Whether `byte` comes next, after whitespace.
    pub(super) fn is_at(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        self.peek() == Some(byte)
    }

    /// Passes `byte` if it comes next, after whitespace.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_there = self.is_at(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// Checks that only whitespace follows. `Some`: the fault of one of the values.
    pub(super) fn end(&mut self) -> Result<Option<Malformed>, Malformed> {
        self.skip_blanks();
        if self.at == self.text.len() { Ok(self.fault) } else { Err(Malformed::Json) }
    }

    /// What is wrong with the next value.
    pub(super) fn fault_of_value(mut self) -> Option<Malformed> {
        self.value().err().or(self.fault)
    }

    /// Passes one value, after whitespace, and returns it as it was written.
    pub(super) fn value(&mut self) -> Result<&'a str, Malformed> {
        self.skip_blanks();
        let start = self.at;
        let mut open = Open::default();
        'values: loop {
            match self.next()? {
                b'"' => self.rest_of_string()?,
                b'{' | b'[' if open.is_full() => {
                    self.flag(Malformed::TooDeep);
                    self.rest_of_nested()?;
                }
                b'{' => {
                    open.push(true);
                    if !self.take(b'}') {
                        self.key()?;
                        continue;
                    }
                    open.pop();
                }
                b'[' => {
                    open.push(false);
                    if !self.take(b']') {
                        continue;
                    }
                    open.pop();
                }
                b'N' => {
                    self.flag(Malformed::NotANumber);
                    self.rest_of_word("aN")?;
                }
                b'I' => {
                    self.flag(Malformed::NotANumber);
                    self.rest_of_word("nfinity")?;
                }
                b't' => self.rest_of_word("rue")?,
                b'f' => self.rest_of_word("alse")?,
                b'n' => self.rest_of_word("ull")?,
                first @ (b'-' | b'0'..=b'9') => self.rest_of_number(first)?,
                _ => return Err(Malformed::Json),
            }
            // A value has ended, and so may those around it.
            while let Some(is_object) = open.innermost_is_object() {
                if self.take(b',') {
                    if is_object {
                        self.key()?;
                    }
                    self.skip_blanks();
                    continue 'values;
                }
                if !self.take(if is_object { b'}' } else { b']' }) {
                    return Err(Malformed::Json);
                }
                open.pop();
            }
            return Ok(&self.text[start..self.at]);
        }
    }

    /// Passes an object and calls `each` with every key, decoded, and its value as it was written.
    pub(super) fn entries(&mut self, mut each: impl FnMut(&str, &'a str)) -> Result<(), Malformed> {
        if !self.take(b'{') {
            return Err(Malformed::NotAnObject);
        }
        let mut is_first = true;
        while !self.take(b'}') {
            if !is_first && !self.take(b',') {
                return Err(Malformed::Json);
            }
            is_first = false;
            let key = string(self.value()?).ok_or(Malformed::Json)?;
            if !self.take(b':') {
                return Err(Malformed::Json);
            }
            each(&key, self.value()?);
        }
        Ok(())
    }

    /// Passes an array and calls `each` with every element as it was written.
    pub(super) fn elements(&mut self, mut each: impl FnMut(&'a str)) -> Result<(), Malformed> {
        if !self.take(b'[') {
            return Err(Malformed::NotAnArray);
        }
        let mut is_first = true;
        while !self.take(b']') {
            if !is_first && !self.take(b',') {
                return Err(Malformed::Json);
            }
            is_first = false;
            each(self.value()?);
        }
        Ok(())
    }

    /// Passes a key, its colon and the whitespace after it.
    fn key(&mut self) -> Result<(), Malformed> {
        if !self.take(b'"') {
            return Err(Malformed::Json);
        }
        self.rest_of_string()?;
        if !self.take(b':') {
            return Err(Malformed::Json);
        }
        self.skip_blanks();
        Ok(())
    }

    fn rest_of_string(&mut self) -> Result<(), Malformed> {
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = rest.iter().position(|byte| IS_SPECIAL_IN_STRING[usize::from(*byte)]);
            let plain = plain.ok_or(Malformed::Json)?;
            self.at += plain + 1;
            match rest[plain] {
                b'"' => return Ok(()),
                b'\\' => self.rest_of_escape()?,
                _ => self.flag(Malformed::ControlCharacter),
            }
        }
    }

    /// Passes what is nested too deep to be checked, up to the bracket that ends it.
    fn rest_of_nested(&mut self) -> Result<(), Malformed> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next()? {
                b'"' => self.rest_of_string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn rest_of_escape(&mut self) -> Result<(), Malformed> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => return Ok(()),
            b'u' => {}
            _ => return Err(Malformed::Json),
        }
        match self.code_unit()? {
            HIGH_SURROGATE_MIN..LOW_SURROGATE_MIN => {
                if !self.text[self.at..].starts_with("\\u") {
                    self.flag(Malformed::LoneSurrogate);
                    return Ok(());
                }
                self.at += 2;
                if !(LOW_SURROGATE_MIN..=LOW_SURROGATE_MAX).contains(&self.code_unit()?) {
                    self.flag(Malformed::LoneSurrogate);
                }
            }
            LOW_SURROGATE_MIN..=LOW_SURROGATE_MAX => self.flag(Malformed::LoneSurrogate),
            _ => {}
        }
        Ok(())
    }

    /// Passes four hexadecimal digits.
    fn code_unit(&mut self) -> Result<u32, Malformed> {
        let mut unit = 0;
        for _ in 0..4 {
            unit = unit << 4 | char::from(self.next()?).to_digit(16).ok_or(Malformed::Json)?;
        }
        Ok(unit)
    }

    fn rest_of_number(&mut self, first: u8) -> Result<(), Malformed> {
        if first == b'-' && self.peek() == Some(b'I') {
            self.flag(Malformed::NotANumber);
            return self.rest_of_word("Infinity");
        }
        match if first == b'-' { self.next()? } else { first } {
            b'0' => {}
            b'1'..=b'9' => self.skip_digits(),
            _ => return Err(Malformed::Json),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// Passes at least one digit.
    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        self.skip_digits();
        if self.at > start { Ok(()) } else { Err(Malformed::Json) }
    }

    fn rest_of_word(&mut self, rest: &str) -> Result<(), Malformed> {
        if !self.text.as_bytes()[self.at..].starts_with(rest.as_bytes()) {
            return Err(Malformed::Json);
        }
        self.at += rest.len();
        Ok(())
    }

    fn flag(&mut self, fault: Malformed) {
        self.fault.get_or_insert(fault);
    }

    fn skip_digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek().ok_or(Malformed::Json)?;
        self.at += 1;
        Ok(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

/// The arrays and objects around a place: one bit each, the innermost lowest.
#[derive(Default)]
struct Open {
    are_objects: u64,
    depth: u32,
}

const _: () = assert!(JSON_DEPTH_MAX <= u64::BITS, "there is a bit for each");

impl Open {
    fn is_full(&self) -> bool {
        self.depth == JSON_DEPTH_MAX
    }

    fn push(&mut self, is_object: bool) {
        debug_assert!(!self.is_full());
        self.are_objects = self.are_objects << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.are_objects >>= 1;
        self.depth -= 1;
    }

    fn innermost_is_object(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.are_objects & 1 == 1)
    }
}

/// The bytes of a string that end it, begin an escape, or are not allowed.
const IS_SPECIAL_IN_STRING: [bool; 256] = {
    let mut table = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = true;
        control += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

const HIGH_SURROGATE_MIN: u32 = 0xD800;
const LOW_SURROGATE_MIN: u32 = 0xDC00;
const LOW_SURROGATE_MAX: u32 = 0xDFFF;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first value, when something may follow it.
    fn value(text: &str) -> Result<&str, Malformed> {
        let mut scanner = Scanner::new(text);
        let value = scanner.value()?;
        scanner.fault.map_or(Ok(value), Err)
    }

    #[test]
    fn values_are_returned_as_written() {
        for text in [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "10",
            "-1.5e+10",
            "0E-1",
            "1.0",
            "\"\"",
            "\"ä🦀\u{7f}\"",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[1 , 2]",
            "[[],[{}],{\"a\" : [null]}]",
            "{\"\":{\"\":1},\"b\" :\"}\"}",
            r#""\"\\\/\b\f\n\r\t\u0000\uD83E\udd80\ue000\ud7ff""#,
        ] {
            assert_eq!(value(text), Ok(text));
            assert_eq!(value(&format!(" \t\r\n{text} ,")), Ok(text));
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            " ",
            "nul",
            "nulL",
            "True",
            "-",
            "+1",
            ".5",
            "1.",
            "1.e1",
            "1e",
            "1e+",
            "--1",
            "-a",
            "\"",
            "\"\\\"",
            r#""\a""#,
            r#""\u00g0""#,
            r#""\u+123""#,
            r#""\u123""#,
            r#""\u12"#,
            r#""\"#,
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{",
            "{1:2}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "{\"a\":1]",
            "{,}",
            "[}",
            "{]",
            "'a'",
            "\u{feff}1",
            "\u{a0}1",
        ] {
            assert_eq!(value(text), Err(Malformed::Json), "{text}");
        }
        // A value ends where it is complete: what follows is not its own.
        assert_eq!(value("01"), Ok("0"));
        assert_eq!(value("nullx"), Ok("null"));
    }

    #[test]
    fn what_json_writers_get_wrong_is_passed_and_named() {
        for (text, fault) in [
            ("NaN", Malformed::NotANumber),
            ("[-Infinity,Infinity]", Malformed::NotANumber),
            ("\"\u{1f}\"", Malformed::ControlCharacter),
            ("{\"\n\":1}", Malformed::ControlCharacter),
        ] {
            assert_eq!(value(text), Err(fault), "{text}");
            assert_eq!(Scanner::new(text).value(), Ok(text));
        }
        for text in ["Nan", "Infinit", "-I", "NaNa]"] {
            assert!(Scanner::new(&format!("[{text}]")).value().is_err(), "{text}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        for text in [
            r#""\ud83e""#,
            r#""\udd80""#,
            r#""\ud83ex""#,
            r#""\ud83e\n""#,
            r#""\ud83e\ud83e""#,
            r#""\ud83e\u0041""#,
            r#""\udbff\ue000""#,
        ] {
            assert_eq!(value(text), Err(Malformed::LoneSurrogate), "{text}");
            assert_eq!(Scanner::new(text).value(), Ok(text), "it has an end all the same");
        }
    }

    #[test]
    fn values_nest_as_deep_as_allowed_and_no_deeper() {
        let nested = |opening: &str, closing: &str, depth: usize| {
            format!("{}{}", opening.repeat(depth), closing.repeat(depth))
        };
        let deepest = JSON_DEPTH_MAX as usize;
        for (opening, closing) in [("[", "]"), ("{\"a\":[", "]}")] {
            let levels = opening.matches(['[', '{']).count();
            let text = nested(opening, closing, deepest / levels);
            assert_eq!(value(&text), Ok(&*text));
            let deeper = format!("[{text}]");
            assert_eq!(value(&deeper), Err(Malformed::TooDeep));
            assert_eq!(Scanner::new(&deeper).value(), Ok(&*deeper));
        }
        assert_eq!(value(&nested("[", "]", 100_000)), Err(Malformed::TooDeep));
        let wide = format!("[{}[]]", "[],".repeat(10_000));
        assert_eq!(value(&wide), Ok(&*wide));
    }
}
