//! Payload of `phx_join` (PROTOCOL 4): `{token?, name?, meta?, resume?, last_seen?, resume_token?, binary?, layout?, ack?}`.

use std::borrow::Cow;

use super::meta::{Meta, MetaError};
use super::phoenix::fields::{boolean, named, string, whole};
use super::seen::Seen;
use crate::ids::ResumeToken;
use crate::limits::NAME_BYTES_MAX;

/// What a client says when it joins. Keys that the relay does not know are the client's own business.
#[derive(Debug)]
pub struct JoinPayload {
    /// Grants the topic, and says who joins it.
    pub token: Option<String>,
    /// Display name.
    pub name: Option<String>,
    /// `meta`: status and fields of the member's own.
    pub meta: Option<Meta>,
    /// How far it has followed the topic: `resume`, else `last_seen`.
    pub seen: Option<Seen>,
    /// The seat to take again.
    pub resume_token: Option<ResumeToken>,
    /// Whether it reads binary messages.
    pub binary: bool,
    /// `layout: 1`: it understands layouts other than the plain one.
    pub layout: bool,
    /// It wants to be told which of its inputs were used.
    pub ack: bool,
}

/// What is wrong with the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A key has the wrong type.
    #[error(
        "the payload of phx_join is an object {{token?, name?, meta?, resume?, last_seen?, resume_token?, binary?, layout?, ack?}}, and one of these has the wrong type"
    )]
    Shape,
    /// A name that cannot be shown.
    #[error("name must be a text of at most {NAME_BYTES_MAX} bytes without control characters")]
    Name,
    /// `resume_token` is no resume token.
    #[error("resume_token must be the 32 lower-case hex digits of a resume token")]
    ResumeToken,
    /// The meta is refused.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// `resume` or `last_seen` is neither a position nor a time.
    #[error("resume is {{epoch: \"…\", seq: number}}; last_seen may be a time in unix milliseconds")]
    Seen,
}

impl JoinPayload {
    /// Reads valid JSON. A value that is no object counts as an empty one: Phoenix clients may join with any value.
    ///
    /// # Errors
    /// A key of the protocol has a value that it cannot have.
    pub fn parse(json: &str) -> Result<Self, Malformed> {
        let keys =
            ["token", "name", "meta", "resume", "last_seen", "resume_token", "binary", "layout", "ack"];
        let [token, name, meta, resume, last_seen, resume_token, binary, layout, ack] = named(json, keys);
        let name = text(name)?;
        if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX || name.contains(char::is_control)) {
            return Err(Malformed::Name);
        }
        let resume_token = text(resume_token)?;
        let resume_token =
            resume_token.map(|token| ResumeToken::from_hex(&token).ok_or(Malformed::ResumeToken));
        let seen = resume.or(last_seen).map(|seen| Seen::read(seen).ok_or(Malformed::Seen));
        Ok(Self {
            token: text(token)?,
            name,
            meta: meta.map(Meta::parse).transpose()?,
            seen: seen.transpose()?,
            resume_token: resume_token.transpose()?,
            binary: binary.map_or(Some(true), boolean).ok_or(Malformed::Shape)?,
            layout: layout.is_some_and(|layout| whole::<u32>(layout) == Some(1)),
            ack: ack.map_or(Some(false), boolean).ok_or(Malformed::Shape)?,
        })
    }
}

/// A string; an empty one counts as absent.
fn text(json: Option<&str>) -> Result<Option<String>, Malformed> {
    let text = json.map(|json| string(json).ok_or(Malformed::Shape)).transpose()?;
    Ok(text.filter(|text| !text.is_empty()).map(Cow::into_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamPosition;

    #[test]
    fn what_is_said_is_read() {
        let json = r#"{"token":"t","name":"Ann","meta":{"a": 1},"resume":{"epoch":"7","seq":3.0},"last_seen":5,
            "resume_token":"00112233445566778899aabbccddeeff","binary":false,"user":"x"}"#;
        let payload = JoinPayload::parse(json).unwrap();
        assert_eq!((payload.token.as_deref(), payload.name.as_deref()), (Some("t"), Some("Ann")));
        assert_eq!(payload.meta.unwrap().merged_into(None), Ok(Some(r#"{"a":1}"#.into())));
        assert_eq!(payload.seen, Some(Seen::Position(StreamPosition { epoch: 7, seq: 3 })));
        assert!(payload.resume_token.is_some() && !payload.binary);
        for nothing in ["{}", "null", "7", "[]", r#"{"token":null,"name":"","meta":null}"#] {
            let payload = JoinPayload::parse(nothing).unwrap();
            assert!(payload.token.is_none() && payload.name.is_none() && payload.meta.is_none(), "{nothing}");
            assert!(payload.binary, "{nothing}");
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(65));
        for (json, malformed) in [
            (r#"{"token":7}"#, Malformed::Shape),
            (r#"{"binary":0}"#, Malformed::Shape),
            (r#"{"name":"a\u0007"}"#, Malformed::Name),
            (&*long, Malformed::Name),
            (r#"{"resume_token":"ff"}"#, Malformed::ResumeToken),
            (r#"{"meta":7}"#, Malformed::Meta(MetaError::NotAnObject)),
            (r#"{"resume":"soon"}"#, Malformed::Seen),
        ] {
            assert_eq!(JoinPayload::parse(json).unwrap_err(), malformed, "{json}");
        }
    }
}
