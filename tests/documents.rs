//! What the documents say about the code is what the code says: the README's programs are those under `clients/`, they do what
//! it says, and its table has every key.
#![cfg(feature = "server")]

use std::process::Command;

use corelay::config::keys;
use corelay::wire::token::{Algorithm, Verifier};

const README: &str = include_str!("../README.md");

#[test]
fn the_readme_shows_the_first_games_as_they_are() {
    for (language, program) in [
        ("javascript", include_str!("../clients/javascript/first-game.mjs")),
        ("javascript", include_str!("../clients/javascript/phoenix-room.mjs")),
        ("python", include_str!("../clients/python/first_game.py")),
        ("javascript", include_str!("../clients/tokens/sign.mjs")),
        ("python", include_str!("../clients/tokens/sign.py")),
        ("go", include_str!("../clients/tokens/sign.go")),
    ] {
        let shown = format!("```{language}\n{program}```\n");
        assert!(README.contains(&shown), "README.md shows another {language} program than clients/ has");
    }
}

/// Each where its language is installed.
#[test]
fn the_signing_programs_sign_what_the_relay_takes_whatever_stands_around_the_key() {
    let key = "0123456789abcdef0123456789abcdef";
    let file = std::env::temp_dir().join(format!("corelay-documents-{}.key", std::process::id()));
    for content in [key.to_owned(), format!("{key}\n"), format!("\u{FEFF}{key}\r\n\n")] {
        std::fs::write(&file, &content).expect("the folder is writable");
        let relay = Verifier::new(Algorithm::Hs256, content.as_bytes()).expect("a good key");
        for (program, arguments) in
            [("node", &["sign.mjs"][..]), ("python3", &["sign.py"]), ("go", &["run", "sign.go"])]
        {
            let mut command = Command::new(program);
            command.args(arguments).arg(&file).arg("ann");
            command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/tokens"));
            let Ok(output) = command.output() else {
                println!("{program} is not installed here");
                continue;
            };
            let token = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
            let claims = relay.verify(token.trim(), 0);
            assert_eq!(claims.map(|claims| claims.user), Ok("ann".into()), "{program} with {content:?}");
        }
    }
    std::fs::remove_file(&file).expect("it was written");
}

#[test]
fn the_readme_lists_every_key() {
    for key in keys::names() {
        let written = key.strip_prefix("game.").unwrap_or(key);
        assert!(README.contains(&format!("`{written}`")), "README.md does not list `{written}`");
    }
}
