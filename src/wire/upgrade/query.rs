//! The query of a request target: `key=value` pairs, percent-encoded.

use std::borrow::Cow;
use std::str;

/// Pairs in their order, not decoded: a parameter that nobody asks for may be anything.
#[derive(Debug)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// What is behind the `?`.
    pub fn new(query: &'a str) -> Self {
        Self(query)
    }

    /// The first value of `key`, decoded. One that is empty counts as absent. Fails with a sentence for the client.
    pub fn first(&self, key: &str) -> Result<Option<String>, &'static str> {
        let pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let named = |(candidate, _): &(&str, &str)| form_decode(candidate).is_ok_and(|name| name == key);
        let Some((_, value)) = pairs.clone().find(named) else { return Ok(None) };
        let value = form_decode(value)?;
        Ok((!value.is_empty()).then_some(value))
    }
}

/// As forms are: `%XX`, and `+` is a space.
fn form_decode(text: &str) -> Result<String, &'static str> {
    let text = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    percent_decode(&text)
}

/// Resolves `%XX`. Fails with a sentence for the client.
pub(super) fn percent_decode(text: &str) -> Result<String, &'static str> {
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let Some((digits, rest)) = part.as_bytes().split_first_chunk::<2>() else { return Err(BAD_ESCAPE) };
        let [Some(high), Some(low)] = digits.map(|digit| char::from(digit).to_digit(16)) else {
            return Err(BAD_ESCAPE);
        };
        decoded.push((high << 4 | low) as u8);
        decoded.extend_from_slice(rest);
    }
    String::from_utf8(decoded).map_err(|_| "a percent-encoded part of the request target is not UTF-8")
}

const BAD_ESCAPE: &str = "a `%` in the request target is not followed by two hex digits";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(percent_decode("J%C3%b6rg%25%2B+"), Ok("Jörg%++".to_owned()));
        for bad in ["%", "%4", "%4g", "%%41", "a%C3"] {
            assert!(percent_decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_value_wins_and_an_empty_one_is_none() {
        let query = Query::new("n%61me=a+b%2B&&name=c&seq=&flag&bad=%zz");
        assert_eq!(query.first("name"), Ok(Some("a b+".to_owned())));
        assert_eq!(
            [query.first("seq"), query.first("flag"), query.first("token")],
            [Ok(None), Ok(None), Ok(None)]
        );
        assert_eq!(query.first("bad"), Err(BAD_ESCAPE));
    }
}
