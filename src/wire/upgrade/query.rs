//! The query of a request target: `key=value` pairs, percent-encoded.

use std::str;

/// Pairs in the order they came, decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Fails with a sentence for the client.
    pub(super) fn parse(query: &str) -> Result<Self, &'static str> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((percent_decode(&key.replace('+', " "))?, percent_decode(&value.replace('+', " "))?))
        });
        Ok(Self(pairs.collect::<Result<_, &'static str>>()?))
    }

    /// The first value of `key`. One that is empty counts as absent.
    pub(super) fn first(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(candidate, _)| candidate == key)?;
        (!value.is_empty()).then_some(value)
    }
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
        let query = Query::parse("name=a+b%2B&&name=c&seq=&flag").expect("valid");
        assert_eq!(query.first("name"), Some("a b+"));
        assert_eq!((query.first("seq"), query.first("flag"), query.first("token")), (None, None, None));
    }
}
