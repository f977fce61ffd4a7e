//! Patterns for names: a `*` stands for any run of characters, also none; everything else stands for itself.

/// Whether all of `text` fits `pattern`. Takes time in the length of both together, whatever they are.
///
/// Between the first and the last star, each part is looked for from the left, behind the part before it: if the parts fit
/// anywhere in order, they fit at their first places, which leave the most to what follows.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(prefix) else { return false };
    let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(start) = text.find(part) else { return false };
        text = &text[start + part.len()..];
    }
    text.ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in exponential time.
    fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => {
                (0..=text.len()).any(|skipped| matches_by_definition(rest, &text[skipped..]))
            }
            Some((letter, rest)) => text.first() == Some(letter) && matches_by_definition(rest, &text[1..]),
        }
    }

    /// Every text over `alphabet` of up to `length_max` characters.
    fn texts(alphabet: &str, length_max: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut longest = texts.clone();
        for _ in 0..length_max {
            longest = longest
                .iter()
                .flat_map(|text| alphabet.chars().map(move |letter| format!("{text}{letter}")))
                .collect();
            texts.extend_from_slice(&longest);
        }
        texts
    }

    #[test]
    fn names_match_as_the_definition_says() {
        for pattern in texts("ab*", 5) {
            for text in texts("ab", 6) {
                let expected = matches_by_definition(pattern.as_bytes(), text.as_bytes());
                assert_eq!(glob_matches(&pattern, &text), expected, "{pattern:?} and {text:?}");
            }
        }
    }

    #[test]
    fn stars_stand_for_characters_not_bytes() {
        assert!(glob_matches("game:*ß*", "game:Größe"));
        assert!(!glob_matches("game:*", "Game:a"));
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_longer() {
        let pattern = "a*".repeat(4_000) + "b";
        assert!(!glob_matches(&pattern, &"a".repeat(8_000)));
    }
}
