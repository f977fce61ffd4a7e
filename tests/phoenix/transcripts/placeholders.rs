//! What differs from run to run: placeholders in a transcript, values on the wire.

use std::collections::BTreeMap;

use super::transcript::Content;
use Part::{Literal, Placeholder};

/// Kinds of which each value has a number.
const NUMBERED: [&str; 6] = ["epoch", "resume_token", "phx_ref", "player_id", "user_id", "id"];
/// Times: any value will do.
const TIMES: [&str; 3] = ["joined_at", "timestamp", "inserted_at"];

/// The values that placeholders have had so far.
#[derive(Debug, Default)]
pub struct Bindings(BTreeMap<String, String>);

/// A stretch of a recorded message.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Literal(&'a str),
    /// The name of a placeholder, without brackets.
    Placeholder(&'a str),
}

/// Takes a value off the front of a message: as it stands in JSON, and what follows it.
type Take = fn(&str) -> Option<(String, &str)>;

impl Bindings {
    /// Whether `actual` is what was recorded, letter by letter but for placeholders: those seen for the first time get their
    /// value here. Two of one kind never have the same value.
    pub fn check(&mut self, recorded: &Content, actual: &Content) -> Result<(), String> {
        let (text, actual, take): (_, _, Take) = match (recorded, actual) {
            (Content::Text(recorded), Content::Text(actual)) => (recorded, actual, take_json),
            (Content::Binary(recorded), Content::Binary(actual)) => (recorded, actual, take_player),
            _ => return Err("one is text, the other binary".into()),
        };
        let mut rest = &actual[..];
        for part in parts(text, quote(recorded)) {
            match part {
                Literal(literal) => {
                    rest = rest.strip_prefix(literal).ok_or_else(|| difference(literal, rest))?;
                }
                Placeholder(name) => {
                    let (value, behind) =
                        take(rest).ok_or_else(|| format!("<{name}> is no value at {rest:?}"))?;
                    self.bind(name, value)?;
                    rest = behind;
                }
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(difference("", rest)) }
    }

    /// A client's message with the values of this run.
    pub fn fill(&self, recorded: &Content) -> Result<Content, String> {
        let value = |name: &str| self.0.get(name).ok_or_else(|| format!("<{name}> has no value yet"));
        let mut filled = String::new();
        match recorded {
            Content::Text(text) => {
                for part in parts(text, quote(recorded)) {
                    filled.push_str(match part {
                        Literal(literal) => literal,
                        Placeholder(name) => value(name)?,
                    });
                }
                Ok(Content::Text(filled))
            }
            Content::Binary(hex) => {
                for part in parts(hex, quote(recorded)) {
                    match part {
                        Literal(literal) => filled.push_str(literal),
                        Placeholder(name) => {
                            let player: u32 = value(name)?.parse().expect("the id of a player is a number");
                            filled.push_str(&format!("{player:08x}"));
                        }
                    }
                }
                Ok(Content::Binary(filled))
            }
        }
    }

    fn bind(&mut self, name: &str, value: String) -> Result<(), String> {
        if TIMES.contains(&name) {
            return Ok(());
        }
        if let Some(bound) = self.0.get(name) {
            return if *bound == value {
                Ok(())
            } else {
                Err(format!("<{name}> was {bound}, now it is {value}"))
            };
        }
        let same = |(other, bound): (&String, &String)| kind(other) == kind(name) && *bound == value;
        if self.0.iter().any(same) {
            return Err(format!("<{name}> is {value}, like another of its kind"));
        }
        self.0.insert(name.to_owned(), value);
        Ok(())
    }
}

/// What stands around placeholders in a message.
fn quote(content: &Content) -> &'static str {
    match content {
        Content::Text(_) => "\"",
        Content::Binary(_) => "",
    }
}

fn parts<'a>(text: &'a str, quote: &str) -> Vec<Part<'a>> {
    let (open, close) = (format!("{quote}<"), format!(">{quote}"));
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, _) in text.match_indices(&open) {
        let inside = &text[at + open.len()..];
        let Some(name) = inside.find(&close).map(|end| &inside[..end]).filter(|name| is_placeholder(name))
        else {
            continue;
        };
        parts.extend([Literal(&text[begin..at]), Placeholder(name)]);
        begin = at + open.len() + name.len() + close.len();
    }
    parts.push(Literal(&text[begin..]));
    parts
}

fn is_placeholder(name: &str) -> bool {
    TIMES.contains(&name) || name != kind(name) && NUMBERED.contains(&kind(name))
}

/// A placeholder's name without its number.
fn kind(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((kind, number)) if number.parse::<u32>().is_ok() => kind,
        _ => name,
    }
}

/// Takes a number, or a text with its quotes, off the front.
fn take_json(text: &str) -> Option<(String, &str)> {
    let end = match text.strip_prefix('"') {
        Some(inside) => inside.find('"')? + 2,
        None => text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len()),
    };
    let (value, rest) = text.split_at(end);
    (!value.is_empty()).then(|| (value.to_owned(), rest))
}

/// Takes the id of a player off the front, as it stands in JSON.
fn take_player(hex: &str) -> Option<(String, &str)> {
    let (digits, rest) = hex.split_at_checked(8)?;
    let player = u32::from_str_radix(digits, 16).ok()?;
    Some((player.to_string(), rest))
}

/// Where two texts part.
fn difference(recorded: &str, actual: &str) -> String {
    let same = recorded.chars().zip(actual.chars()).take_while(|(one, other)| one == other);
    let at = same.map(|(letter, _)| letter.len_utf8()).sum();
    let near = |text: &str| text[at..].chars().take(40).collect::<String>();
    format!("they part at {:?} and {:?}", near(recorded), near(actual))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Content {
        Content::Text(text.into())
    }

    #[test]
    fn a_placeholder_is_a_known_word_in_quotes() {
        assert_eq!(
            parts(r#"{"id":"<id-12>","at":"<timestamp>"}"#, "\""),
            [
                Literal(r#"{"id":"#),
                Placeholder("id-12"),
                Literal(r#","at":"#),
                Placeholder("timestamp"),
                Literal("}")
            ]
        );
        for literal in [r#"["<b>"]"#, r#"["<id>"]"#, r#"["<timestamp-1>"]"#, "[<id-1>]"] {
            assert_eq!(parts(literal, "\""), [Literal(literal)]);
        }
        let expected = [Literal("00"), Placeholder("player_id-1"), Literal("ff")];
        assert_eq!(parts("00<player_id-1>ff", ""), expected);
    }

    #[test]
    fn a_value_stays_and_is_nobody_elses() {
        let mut bindings = Bindings::default();
        let mut check = |recorded: &str, actual: &str| bindings.check(&text(recorded), &text(actual));
        assert_eq!(check(r#"["<player_id-1>","<joined_at>"]"#, "[70,1.5]"), Ok(()));
        assert_eq!(check(r#"["<player_id-1>","<joined_at>"]"#, "[70,2.5]"), Ok(()));
        assert_eq!(check(r#"["<player_id-1>"]"#, "[71]"), Err("<player_id-1> was 70, now it is 71".into()));
        let taken = "<player_id-2> is 70, like another of its kind";
        assert_eq!(check(r#"["<player_id-2>"]"#, "[70]"), Err(taken.into()));
        assert_eq!(check(r#"["<player_id-2>"]"#, "[7]x"), Err(r#"they part at "" and "x""#.into()));
        assert_eq!(check(r#"["<epoch-1>"]"#, r#"["70"]"#), Ok(()));
    }

    #[test]
    fn text_and_binary_share_the_ids_of_players() {
        let mut bindings = Bindings::default();
        let binary = |hex: &str| Content::Binary(hex.into());
        assert_eq!(bindings.check(&binary("01<player_id-1>02"), &binary("010000004602")), Ok(()));
        assert_eq!(bindings.fill(&text(r#"{"to":"<player_id-1>"}"#)), Ok(text(r#"{"to":70}"#)));
        assert_eq!(bindings.fill(&binary("<player_id-1>ff")), Ok(binary("00000046ff")));
        assert_eq!(bindings.fill(&text(r#""<id-1>""#)), Err("<id-1> has no value yet".into()));
    }
}
