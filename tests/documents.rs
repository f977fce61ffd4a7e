//! What the documents say about the code is what the code says: the programs that they show are those under `clients/`, the
//! table of keys is the code's, the bytes of an example are a record, and every link leads somewhere.
#![cfg(feature = "server")]

use std::path::{Path, PathBuf};
use std::process::Command;

use corelay::config::keys;
use corelay::wire::native::{self, kind};
use corelay::wire::token::{Algorithm, Verifier};
use zerocopy::IntoBytes;

#[test]
fn programs_are_shown_as_they_are() {
    for (document, language, program) in [
        ("README.md", "javascript", "javascript/reconnects.mjs"),
        ("clients/README.md", "javascript", "javascript/first-game.mjs"),
        ("clients/README.md", "javascript", "javascript/phoenix-room.mjs"),
        ("clients/README.md", "javascript", "javascript/reconnects.mjs"),
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
fn the_configuration_is_what_the_code_generates() {
    let file = root().join("docs/CONFIGURATION.md");
    let generated = keys::document();
    if std::env::var_os("WRITE_DOCUMENTS").is_some() {
        std::fs::write(&file, &generated).expect("the folder is writable");
    }
    for key in keys::names() {
        let written = key.strip_prefix("game.").or_else(|| key.strip_prefix("key.")).unwrap_or(key);
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
        let row = name.trim_end_matches("_total").trim_end_matches("_bucket");
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

/// An example of a record: what it is called, and its fields with their bytes and what they are said to be.
struct Example {
    name: String,
    fields: Vec<(Vec<u8>, String)>,
}

impl Example {
    fn bytes(&self) -> Vec<u8> {
        self.fields.iter().flat_map(|(bytes, _)| bytes.clone()).collect()
    }
}

/// The fences of PROTOCOL.md whose language is `hex`: a line with name and length, then one for each field.
fn examples() -> Vec<Example> {
    let protocol = read(&root().join("docs/PROTOCOL.md"));
    let fences = protocol.split("```hex\n").skip(1);
    fences.map(|rest| example(rest.split_once("```").expect("a fence has an end").0)).collect()
}

fn example(fence: &str) -> Example {
    let (title, lines) = fence.split_once('\n').expect("a title stands first");
    let (name, length) = title.split_once(", ").expect("a name and a length");
    let fields = lines.lines().map(|line| {
        let (hex, field) = line.split_once("  ").expect("bytes, then a field");
        let byte = |digits| u8::from_str_radix(digits, 16).expect("two hex digits");
        (hex.split(' ').map(byte).collect(), field.trim().to_owned())
    });
    let example = Example { name: name.to_owned(), fields: fields.collect() };
    assert!(length.starts_with(&format!("{} bytes", example.bytes().len())), "{title}");
    example
}

#[test]
fn the_values_of_the_examples_are_what_their_bytes_say() {
    for example in examples() {
        for (bytes, field) in &example.fields {
            let (_, value) = field.split_once(": ").expect("a field has a value");
            let value = value.split_once(" (").map_or(value, |(value, _)| value);
            let float = |number: f32| number.to_be_bytes().to_vec();
            let whole = |number: u64| number.to_be_bytes()[8 - bytes.len()..].to_vec();
            let said = match value {
                "infinity" => float(f32::INFINITY),
                "largest" => float(f32::MAX),
                "smallest" => float(f32::MIN),
                "16 bytes" => bytes.clone(),
                text if text.starts_with('"') => text.trim_matches('"').as_bytes().to_vec(),
                hex if hex.starts_with("0x") => whole(u64::from_str_radix(&hex[2..], 16).expect(hex)),
                number if number.contains('.') => float(number.parse().expect(number)),
                number => whole(number.parse().expect(number)),
            };
            assert_eq!(*bytes, said, "{}: {field}", example.name);
        }
    }
}

#[test]
fn the_examples_are_laid_out_as_the_records_are() {
    let position = |player_id: u32, x: f32, y: f32| native::Position {
        player_id: player_id.into(),
        x: x.into(),
        y: y.into(),
    };
    let object = native::Object {
        object_id: 9.into(),
        kind: 2.into(),
        x: 4.0.into(),
        y: 0.5.into(),
        ..Default::default()
    };
    let mut joined = Vec::new();
    native::write_joined(&mut joined, 3, "guest-1", "Ann");
    let now = 1_798_761_600_000_000;
    let records: Vec<(&str, Vec<u8>)> = vec![
        (
            "Move",
            native::Move {
                kind: kind::MOVE,
                input_seq: 7.into(),
                x: 1.5.into(),
                y: (-2.0).into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
        (
            "PutObject",
            native::PutObject { kind: kind::PUT_OBJECT, object, ..Default::default() }.as_bytes().into(),
        ),
        (
            "RemoveObject",
            native::RemoveObject { kind: kind::REMOVE_OBJECT, object_id: 9.into(), ..Default::default() }
                .as_bytes()
                .into(),
        ),
        (
            "Event",
            [
                native::EventHeader { kind: kind::EVENT, scope: 2, code: 7.into(), target: 65_541.into() }
                    .as_bytes(),
                b"hi",
            ]
            .concat(),
        ),
        (
            "Ping",
            native::Ping {
                kind: kind::PING,
                nonce: 1.into(),
                client_time_us: 1_500_000.into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
        (
            "HostMoves",
            [
                native::HostMovesHeader { kind: kind::HOST_MOVES, count: 1.into(), ..Default::default() }
                    .as_bytes(),
                position(3, 1.5, -2.0).as_bytes(),
            ]
            .concat(),
        ),
        (
            "Who",
            [
                native::WhoHeader { kind: kind::WHO, count: 2.into(), ..Default::default() }.as_bytes(),
                &3_u32.to_be_bytes(),
                &65_541_u32.to_be_bytes(),
            ]
            .concat(),
        ),
        (
            "Welcome",
            native::Welcome {
                kind: kind::WELCOME,
                flags: native::Welcome::DEVELOPMENT,
                tick_hz: 20.into(),
                player_id: 65_541.into(),
                epoch: 1.into(),
                seq: 12.into(),
                tick: 400.into(),
                server_time_us: now.into(),
                resume_token: std::array::from_fn(|index| index as u8),
                min_x: f32::MIN.into(),
                min_y: f32::MIN.into(),
                max_x: f32::MAX.into(),
                max_y: f32::MAX.into(),
                max_speed: f32::INFINITY.into(),
            }
            .as_bytes()
            .into(),
        ),
        (
            "Keyframe",
            [
                native::KeyframeHeader {
                    kind: kind::KEYFRAME,
                    tick: 400.into(),
                    position_count: 1.into(),
                    objects_count: 1.into(),
                    ..Default::default()
                }
                .as_bytes(),
                position(3, 1.5, -2.0).as_bytes(),
                object.as_bytes(),
            ]
            .concat(),
        ),
        (
            "Delta",
            [
                native::DeltaHeader {
                    kind: kind::DELTA,
                    gone_players: 1.into(),
                    tick: 401.into(),
                    position_count: 1.into(),
                    gone_objects: 1.into(),
                    ..Default::default()
                }
                .as_bytes(),
                position(3, 2.0, -2.0).as_bytes(),
                &65_541_u32.to_be_bytes(),
                &9_u32.to_be_bytes(),
            ]
            .concat(),
        ),
        (
            "Event (from the relay)",
            [
                native::EventOutHeader {
                    kind: kind::EVENT_OUT,
                    scope: 0,
                    code: 7.into(),
                    sender: 3.into(),
                    seq: 13.into(),
                }
                .as_bytes(),
                b"hi",
            ]
            .concat(),
        ),
        (
            "Pong",
            native::Pong {
                kind: kind::PONG,
                nonce: 1.into(),
                client_time_us: 1_500_000.into(),
                server_time_us: now.into(),
                tick: 400.into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
        (
            "Roster",
            [
                native::RosterHeader {
                    kind: kind::ROSTER,
                    flags: native::RosterHeader::WHOLE,
                    joined: 1.into(),
                    left: 1.into(),
                }
                .as_bytes(),
                &joined,
                native::RosterLeft { player_id: 65_541.into(), reason: 1 }.as_bytes(),
            ]
            .concat(),
        ),
        (
            "RateLimited",
            native::RateLimited {
                kind: kind::RATE_LIMITED,
                class: 1,
                retry_after_ms: 17.into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
        (
            "Correction",
            native::Correction {
                kind: kind::CORRECTION,
                reason: 2,
                input_seq: 7.into(),
                x: 1.5.into(),
                y: (-2.0).into(),
            }
            .as_bytes()
            .into(),
        ),
        (
            "Notice",
            native::Notice {
                kind: kind::NOTICE,
                reason: native::Notice::DRAIN,
                timeout_ms: 30_000.into(),
                retry_after_ms: 1_000.into(),
                jitter_ms: 5_000.into(),
                ..Default::default()
            }
            .as_bytes()
            .into(),
        ),
        (
            "Error",
            [
                native::ErrorHeader { kind: kind::ERROR, code: 5, ..Default::default() }.as_bytes(),
                b"no such player",
            ]
            .concat(),
        ),
    ];
    let shown: Vec<(String, Vec<u8>)> =
        examples().into_iter().map(|example| (example.name.clone(), example.bytes())).collect();
    assert_eq!(shown.len(), records.len());
    for ((name, bytes), (record, laid_out)) in shown.iter().zip(&records) {
        assert_eq!((name.as_str(), bytes), (*record, laid_out));
        let from_client = bytes[0] < kind::WELCOME;
        assert_eq!(native::decode(bytes).is_ok(), from_client, "{name}: {:?}", native::decode(bytes));
    }
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
