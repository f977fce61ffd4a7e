//! What the documents say about the code is what the code says: the README's programs are those under `clients/`, and its
//! table has every key.
#![cfg(feature = "server")]

use corelay::config::keys;

const README: &str = include_str!("../README.md");

#[test]
fn the_readme_shows_the_first_games_as_they_are() {
    for (language, program) in [
        ("javascript", include_str!("../clients/javascript/first-game.mjs")),
        ("javascript", include_str!("../clients/javascript/phoenix-room.mjs")),
        ("python", include_str!("../clients/python/first_game.py")),
    ] {
        let shown = format!("```{language}\n{program}```\n");
        assert!(README.contains(&shown), "README.md shows another {language} program than clients/ has");
    }
}

#[test]
fn the_readme_lists_every_key() {
    for key in keys::names() {
        let written = key.strip_prefix("game.").unwrap_or(key);
        assert!(README.contains(&format!("`{written}`")), "README.md does not list `{written}`");
    }
}
