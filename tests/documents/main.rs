//! What the documents say about the code is what the code says: the programs that they show are those under `clients/`, the
//! table of keys is the code's, the bytes of an example are a record, and every link leads somewhere.
#![cfg(feature = "server")]

mod records;
mod vectors;

use std::path::{Path, PathBuf};
use std::process::Command;

use corelay::config::keys;
use corelay::wire::token::{Algorithm, Verifier};

#[test]
fn programs_are_shown_as_they_are() {
    for (document, language, program) in [
        ("README.md", "javascript", "javascript/reconnects.mjs"),
        ("clients/README.md", "javascript", "javascript/first-game.mjs"),
        ("clients/README.md", "javascript", "javascript/phoenix-room.mjs"),
        ("clients/README.md", "javascript", "javascript/shared-text.mjs"),
        ("clients/README.md", "javascript", "javascript/reconnects.mjs"),
        ("clients/README.md", "javascript", "javascript/smooth-game.mjs"),
        ("clients/README.md", "python", "python/first_game.py"),
        ("docs/OPERATIONS.md", "javascript", "tokens/sign.mjs"),
        ("docs/OPERATIONS.md", "python", "tokens/sign.py"),
        ("docs/OPERATIONS.md", "go", "tokens/sign.go"),
    ] {
        let shown = format!("```{language}\n{}```\n", read(&root().join("clients").join(program)));
        let shows = read(&root().join(document)).contains(&shown);
        assert!(shows, "{document} does not show clients/{program} as it is");
    }
}

/// People read it to its end only if it has one.
#[test]
fn the_readme_is_short() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines < 200, "README.md has {lines} lines: move what is not for newcomers to docs/");
}

/// Each program runs where its language is installed.
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
fn the_configuration_is_what_the_code_generates() {
    let file = root().join("docs/CONFIGURATION.md");
    let generated = keys::document();
    if std::env::var_os("WRITE_DOCUMENTS").is_some() {
        std::fs::write(&file, &generated).expect("the folder is writable");
    }
    for key in keys::names() {
        let tables = ["game.", "room.", "doc.", "key.", "certificate."];
        let written = tables.into_iter().find_map(|table| key.strip_prefix(table)).unwrap_or(key);
        assert!(generated.contains(&format!("\n| `{written}` | ")), "the document does not list `{written}`");
    }
    assert!(
        read(&file) == generated,
        "docs/CONFIGURATION.md is not what src/config/keys.rs says; write it with: \
         WRITE_DOCUMENTS=1 cargo test --test documents"
    );
}

#[test]
fn metrics_that_are_named_exist() {
    let source = read(&root().join("src/admin/metrics.rs"));
    let document = read(&root().join("docs/OPERATIONS.md"));
    let is_part_of_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let mut named = 0;
    for rest in document.split("corelay_").skip(1) {
        let name = &rest[..rest.find(|letter| !is_part_of_name(letter)).unwrap_or(rest.len())];
        let row = ["_total", "_bucket", "_info"].iter().fold(name, |name, end| name.trim_end_matches(end));
        assert!(source.contains(&format!("\"corelay_{row}\"")), "there is no metric corelay_{name}");
        named += 1;
    }
    assert!(named > 10, "docs/OPERATIONS.md names only {named} metrics");
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for document in documents() {
        let folder = document.parent().expect("a file is in a folder");
        for target in link_targets(&read(&document)).filter(|target| !target.contains("://")) {
            followed += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() { document.clone() } else { folder.join(path) };
            let has_anchor =
                || anchor.is_empty() || anchors(&read(&file)).iter().any(|known| known == anchor);
            if !(file.exists() && has_anchor()) {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(followed > 50, "the documents have more links than {followed}");
}

#[test]
fn links_and_anchors_are_read_as_a_browser_does() {
    let text = "# One `two`: three\n[a](b.md#c) `[no](no)` ![d](e.svg)\n## One `two`: three\n```\n# none\n[no](no)\n```\n\
                ## 9 Writing a client\n    [no](no)\n## io_uring, and seccomp\n";
    assert_eq!(link_targets(text).collect::<Vec<_>>(), ["b.md#c", "e.svg"]);
    assert_eq!(
        anchors(text),
        ["one-two-three", "one-two-three-1", "9-writing-a-client", "io_uring-and-seccomp"]
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// All Markdown files of the project, but what builds and package managers put there.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the project can be read") {
            let path = entry.expect("the project can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// Lines of a document that are neither in a fence nor indented as code, without what stands in backquotes.
fn prose(text: &str) -> impl Iterator<Item = String> {
    let mut fenced = false;
    let outside = move |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced && !line.starts_with("    ")
    };
    text.lines().filter(outside).map(|line| line.split('`').step_by(2).collect())
}

fn link_targets(text: &str) -> impl Iterator<Item = String> {
    let ends = |line: String| -> Vec<String> {
        let links = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        links.map(|(target, _)| target.to_owned()).collect()
    };
    prose(text).flat_map(ends)
}

/// What GitHub calls the headings: letters, digits, `-` and `_` in lower case; a space is a `-`; one that comes again is numbered.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let heading =
            line.split_once("# ").filter(|(hashes, _)| !fenced && hashes.trim_matches('#').is_empty());
        let Some((_, heading)) = heading else { continue };
        let letters = heading.trim().to_lowercase();
        let letters = letters.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        let anchor = letters.collect::<String>().replace(' ', "-");
        let before = anchors.iter().filter(|known| **known == anchor).count();
        anchors.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
    }
    anchors
}
