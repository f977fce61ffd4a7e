//! Patterns of topics as they are typed: a token that grants nothing is refused before it is minted.

use crate::ids::{Topic, TopicName};

/// The patterns, without blanks around them. `Err`: one of them covers no topic; the text says what was probably meant.
pub(super) fn patterns(typed: &[String]) -> Result<Vec<String>, String> {
    let trimmed = typed.iter().map(|pattern| pattern.trim());
    trimmed
        .map(|pattern| if covers_some_topic(pattern) { Ok(pattern.to_owned()) } else { Err(hint(pattern)) })
        .collect()
}

fn kinds() -> impl Iterator<Item = &'static str> {
    Topic::KINDS.into_iter().map(|(kind, _)| kind)
}

fn covers_some_topic(pattern: &str) -> bool {
    // `doc:notes:read` lets somebody read `doc:notes`.
    let reading = pattern.strip_suffix(":read").is_some_and(|document| covers_one_of(document, "doc:"));
    reading || kinds().any(|kind| covers_one_of(pattern, &format!("{kind}:")))
}

/// Whether a topic that begins with `kind` can match the pattern. The pattern is read once. At each place of it, a set says how
/// many bytes of the topic may have been matched: from none to all of `kind`, and one more for a name of any length behind it.
fn covers_one_of(pattern: &str, kind: &str) -> bool {
    let kind = kind.as_bytes();
    let name = kind.len() + 1;
    let mut written = vec![false; name + 1];
    written[0] = true;
    for letter in pattern.chars() {
        if letter == '*' {
            let first = written.iter().position(|may| *may).unwrap_or(name + 1);
            written.iter_mut().skip(first).for_each(|may| *may = true);
            continue;
        }
        let in_name = TopicName::parse(letter.encode_utf8(&mut [0; 4])).is_some();
        let mut next = vec![false; name + 1];
        for at in (0..written.len()).filter(|at| written[*at]) {
            match kind.get(at) {
                Some(byte) if char::from(*byte) == letter => next[at + 1] = true,
                None if in_name => next[name] = true,
                Some(_) | None => {}
            }
        }
        written = next;
    }
    written[name]
}

fn hint(pattern: &str) -> String {
    let meant = match pattern.split_once(':') {
        Some((kind, name)) => {
            let distance = |known: &&str| strsim::damerau_levenshtein(known, &kind.to_lowercase());
            let near = kinds().filter(|known| distance(known) <= 2).min_by_key(distance);
            near.map(|known| format!("{known}:{name}"))
        }
        None if kinds().any(|kind| kind == pattern) => Some(format!("{pattern}:*")),
        None => kinds().next().map(|kind| format!("{kind}:{pattern}")),
    };
    let topics = || {
        let kinds: Vec<String> = kinds().map(|kind| format!("{kind}:*")).collect();
        let (last, others) = kinds.split_last().map_or(("", &[][..]), |(last, others)| (last, others));
        format!("topics are {} and {last}", others.join(", "))
    };
    let hint = meant.filter(|meant| covers_some_topic(meant)).map(|meant| format!("did you mean {meant}?"));
    format!("--topics {pattern:?} covers no topic; {}", hint.unwrap_or_else(topics))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(texts: &[&str]) -> Result<Vec<String>, String> {
        patterns(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_can_be_joined_is_taken_without_blanks_around_it() {
        for good in [
            "*",
            "game:*",
            "room:lobby",
            "doc:notes",
            "doc:notes:read",
            "doc:*:read",
            "game:arena-*",
            "g*",
            "*:lobby",
            "*a*",
            "ga*e:x",
            "game*",
            "*m:a_b",
            "***",
        ] {
            assert_eq!(typed(&[good]), Ok(vec![good.to_owned()]));
        }
        assert_eq!(typed(&["game:*", " room:*\t"]), Ok(vec!["game:*".into(), "room:*".into()]));
    }

    #[test]
    fn what_covers_no_topic_is_refused_with_what_was_meant() {
        for (bad, said) in [
            ("games:*", "did you mean game:*?"),
            ("Game:arena", "did you mean game:arena?"),
            ("rom:lobby", "did you mean room:lobby?"),
            ("foo", "did you mean game:foo?"),
            ("room", "did you mean room:*?"),
            ("game", "did you mean game:*?"),
            ("game:", "topics are game:*, room:* and doc:*"),
            ("game:a b", "topics are game:*, room:* and doc:*"),
            ("room:lobby:read", "topics are game:*, room:* and doc:*"),
            ("chat:*", "topics are game:*, room:* and doc:*"),
            ("*?", "topics are game:*, room:* and doc:*"),
            ("", "topics are game:*, room:* and doc:*"),
        ] {
            assert_eq!(typed(&["game:*", bad]), Err(format!("--topics {bad:?} covers no topic; {said}")));
        }
    }
}
