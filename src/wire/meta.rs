//! What a member says about itself: its status and fields of its own.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::limits::{META_BYTES_MAX, META_NESTING_MAX, STATUS_BYTES_MAX};

/// Keys that the relay writes itself; what a client says there is ignored.
const OWN_KEYS: [&str; 5] = ["phx_ref", "phx_ref_prev", "joined_at", "name", PLAYER_ID];
/// In games: the member's player id.
const PLAYER_ID: &str = "player_id";
/// Bytes that `player_id` may add to the client's fields.
const PLAYER_ID_BYTES: usize = r#","player_id":4294967295"#.len();

/// The fields of a meta that are the client's, by name. Their values stay as the client wrote them.
type Fields = BTreeMap<String, Box<RawValue>>;

/// What a member says about itself, checked: the `meta` of a `phx_join`, or the payload of a `presence_update`.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    status: Option<Box<str>>,
    fields: Fields,
}

/// Why a meta is refused, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// It is no JSON, or another JSON value.
    #[error("meta must be a JSON object")]
    NotAnObject,
    /// It is too long by itself, or together with the fields that the member has already.
    #[error("meta would be {bytes} bytes long, at most {META_BYTES_MAX} are allowed")]
    TooLong {
        /// Length that it would have.
        bytes: usize,
    },
    /// Its objects and arrays are nested deeper than `META_NESTING_MAX`.
    #[error("meta is nested too deeply, at most {META_NESTING_MAX} levels are allowed")]
    TooDeep,
    /// Its `status` is no text of the right length without control characters.
    #[error("status must be a string of 1 to {STATUS_BYTES_MAX} bytes without control characters")]
    BadStatus,
}

impl Meta {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// It is too long, too deep or not an object, or its `status` is refused.
    pub fn parse(json: &str) -> Result<Self, MetaError> {
        if json.len() > META_BYTES_MAX {
            return Err(MetaError::TooLong { bytes: json.len() });
        }
        // A raw value is only scanned. This finds lone surrogates and numbers out of range, at which every other member's
        // parser would fail.
        let object: Value = serde_json::from_str(json).map_err(|_| MetaError::NotAnObject)?;
        if nesting(&object) > META_NESTING_MAX {
            return Err(MetaError::TooDeep);
        }
        let mut fields: Fields = serde_json::from_str(json).map_err(|_| MetaError::NotAnObject)?;
        fields.remove("status");
        OWN_KEYS.iter().for_each(|key| drop(fields.remove(*key)));
        let status = object.get("status").map(|status| {
            let status = status.as_str().filter(|status| is_status(status));
            status.map(Box::from).ok_or(MetaError::BadStatus)
        });
        Ok(Self { status: status.transpose()?, fields })
    }

    /// This meta, with the id of a player of a game.
    pub fn of_player(mut self, player_id: u32) -> Self {
        let number = RawValue::from_string(player_id.to_string()).expect("a number is JSON");
        self.fields.insert(PLAYER_ID.into(), number);
        self
    }

    /// The status, if the meta has one.
    pub fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Merges the fields of this meta into `old`, an object that this function made. A field that is null is removed (RFC
    /// 7396), so that a member can make room again. `None`: no field at all.
    ///
    /// # Errors
    /// All fields together would be too long.
    pub fn merged_into(&self, old: Option<&str>) -> Result<Option<Box<str>>, MetaError> {
        let mut fields: Fields =
            old.map_or_else(Fields::new, |old| serde_json::from_str(old).expect("it was written here"));
        for (key, value) in &self.fields {
            if value.get() == "null" {
                fields.remove(key);
            } else {
                fields.insert(key.clone(), value.clone());
            }
        }
        if fields.is_empty() {
            return Ok(None);
        }
        let merged = serde_json::to_string(&fields).expect("texts and raw values can be written");
        let own = if fields.contains_key(PLAYER_ID) { PLAYER_ID_BYTES } else { 0 };
        if merged.len() > META_BYTES_MAX + own {
            return Err(MetaError::TooLong { bytes: merged.len() });
        }
        Ok(Some(merged.into()))
    }
}

fn is_status(text: &str) -> bool {
    (1..=STATUS_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// How deep objects and arrays are nested, `value` included.
fn nesting(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nesting).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(nesting).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(old: Option<&str>, json: &str) -> Option<String> {
        Meta::parse(json).unwrap().merged_into(old).unwrap().map(String::from)
    }

    #[test]
    fn own_fields_stay_as_they_were_written_and_the_relays_are_ignored() {
        let json = r#" {"z": 1.10, "phx_ref":"x", "phx\u005fref_prev":1, "joined_at":0, "name":[], "a":"\u00e4", "status":"busy"} "#;
        assert_eq!(Meta::parse(json).unwrap().status(), Some("busy"));
        assert_eq!(merged(None, json).unwrap(), r#"{"a":"\u00e4","z":1.10}"#);
        assert_eq!(merged(None, "{}"), None);
        assert_eq!(Meta::parse("{}").unwrap().status(), None);
    }

    #[test]
    fn fields_are_merged_and_null_takes_one_away() {
        let old = merged(None, r#"{"a":1,"b":2,"c":null}"#).unwrap();
        assert_eq!(old, r#"{"a":1,"b":2}"#);
        let new = merged(Some(&old), r#"{"a":null,"b":{"x":null},"d":[]}"#).unwrap();
        assert_eq!(new, r#"{"b":{"x":null},"d":[]}"#);
        assert_eq!(merged(Some(&new), r#"{"b":null,"d":null}"#), None);
    }

    #[test]
    fn what_adds_up_beyond_the_bound_is_refused() {
        let half = |key: &str| format!(r#"{{"{key}":"{}"}}"#, "x".repeat(600));
        let old = merged(None, &half("a")).unwrap();
        let error = Meta::parse(&half("b")).unwrap().merged_into(Some(&old)).unwrap_err();
        assert_eq!(error, MetaError::TooLong { bytes: 2 * 608 - 1 });
        assert_eq!(merged(Some(&old), &half("a")), Some(half("a")));
    }

    #[test]
    fn what_is_no_meta_is_refused_with_the_reason() {
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(META_BYTES_MAX));
        let deep = |levels| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        for (json, error) in [
            ("", MetaError::NotAnObject),
            ("[]", MetaError::NotAnObject),
            ("null", MetaError::NotAnObject),
            ("{\"a\":1}{", MetaError::NotAnObject),
            (r#"{"a":"\ud800"}"#, MetaError::NotAnObject),
            (r#"{"a":1e999}"#, MetaError::NotAnObject),
            (&long, MetaError::TooLong { bytes: META_BYTES_MAX + 8 }),
            (&deep(META_NESTING_MAX), MetaError::TooDeep),
            (&deep(500), MetaError::NotAnObject),
            (r#"{"status":""}"#, MetaError::BadStatus),
            (r#"{"status":null}"#, MetaError::BadStatus),
            (r#"{"status":"a\nb"}"#, MetaError::BadStatus),
            (r#"{"status":"0123456789012345678901234567890123"}"#, MetaError::BadStatus),
        ] {
            assert_eq!(Meta::parse(json).unwrap_err(), error, "{json}");
        }
        assert!(Meta::parse(&deep(META_NESTING_MAX - 1)).is_ok());
        let longest = format!(r#"{{"a":"{}"}}"#, "x".repeat(META_BYTES_MAX - 8));
        assert_eq!(merged(None, &longest), Some(longest));
    }
}
