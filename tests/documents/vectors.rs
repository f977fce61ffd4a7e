//! `clients/vectors/`: what clients in every language test themselves with, written by the relay's own code.

use corelay::room::ot::{self, Tie};
use corelay::wire::operation::Operation;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use ropey::Rope;
use serde_json::{Value, json};

use super::records::examples;
use super::{read, root};

/// Letters of one to four bytes, a combining accent, a letter that others join, what JSON escapes.
const LETTERS: &[char] =
    &['a', '7', '-', 'é', '€', '🦀', '𝄞', '\u{301}', '\u{200d}', '👩', '\n', '"', '\\', '\u{1}'];

/// Operations whose outcome a reader can check, for a text of six characters.
const CHOSEN: &[(&str, &str)] = &[
    (r#"[3,"A"]"#, r#"[3,"B"]"#),
    (r#"["12"]"#, r#"["-3",-1]"#),
    (r#"[3,"A"]"#, "[1,-4]"),
    ("[1,-4]", r#"[3,"B"]"#),
    ("[1,-3]", "[2,-3]"),
    (r#"["A",-6]"#, r#"[6,"B"]"#),
    (r#"[6,"A"]"#, r#"["B",-6]"#),
    ("[]", r#"[2,"🦀",-2]"#),
    (r#"[2,"🦀",-2]"#, r#"[2,"é",-1,1,-1]"#),
];
const CHOSEN_TEXT: &str = "ab🦀é\u{301}\n";
const ROUNDS: u32 = 60;

struct Random(ChaCha12Rng);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0.next_u32() % end
    }

    fn text(&mut self, characters_max: u32) -> String {
        (0..self.below(characters_max + 1))
            .map(|_| LETTERS[self.below(LETTERS.len() as u32) as usize])
            .collect()
    }

    fn operation(&mut self, text: &str) -> Operation {
        let (mut operation, mut left) = (Operation::default(), length(text));
        while left > 0 || self.below(3) == 0 {
            let some = (1 + self.below(3)).min(left);
            if self.below(3) == 0 {
                let text = self.text(3);
                operation.insert(&text, length(&text));
            } else if self.below(2) == 0 {
                operation.delete(some);
                left -= some;
            } else {
                operation.keep(some);
                left -= some;
            }
        }
        operation.end()
    }
}

fn length(text: &str) -> u32 {
    text.chars().count() as u32
}

fn applied(text: &str, operation: &Operation) -> String {
    let mut rope = Rope::from_str(text);
    ot::apply(operation, &mut rope);
    rope.to_string()
}

fn list(operation: &Operation) -> Value {
    serde_json::from_str(&operation.to_json()).expect("it is JSON")
}

/// Every function of operations, with what goes in and what comes out.
fn operations() -> Value {
    let mut random = Random(ChaCha12Rng::seed_from_u64(1));
    let chosen = CHOSEN.iter().map(|(earlier, later)| {
        let read = |json: &str| Operation::parse(json).expect("an operation");
        (CHOSEN_TEXT.to_owned(), read(earlier), read(later))
    });
    let mut pairs: Vec<_> = chosen.collect();
    for _ in 0..ROUNDS {
        let text = random.text(8);
        let (earlier, later) = (random.operation(&text), random.operation(&text));
        pairs.push((text, earlier, later));
    }
    let (mut apply, mut transform, mut compose, mut invert) = (vec![], vec![], vec![], vec![]);
    let mut cursor = Vec::new();
    for (text, earlier, later) in pairs {
        let behind =
            (ot::transform(&earlier, &later, Tie::Left), ot::transform(&later, &earlier, Tie::Right));
        let between = applied(&text, &earlier);
        apply.push(json!({"text": text, "operation": list(&earlier), "result": between}));
        transform.push(json!({
            "earlier": list(&earlier), "later": list(&later),
            "earlier_transformed": list(&behind.0), "later_transformed": list(&behind.1),
        }));
        let composed = ot::compose(&earlier, &behind.1);
        compose.push(json!({
            "first": list(&earlier), "second": list(&behind.1), "composed": list(&composed),
        }));
        let inverted = ot::invert(&earlier, &Rope::from_str(&text));
        invert.push(json!({"text": text, "operation": list(&earlier), "inverted": list(&inverted)}));
        let (position, own) = (random.below(length(&text) + 1), random.below(2) == 0);
        let moved = ot::move_cursor(position, &earlier, own);
        cursor.push(json!({"position": position, "operation": list(&earlier), "own": own, "moved": moved}));
    }
    json!({"apply": apply, "transform": transform, "compose": compose, "invert": invert, "cursor": cursor})
}

/// The examples of PROTOCOL.md, whose bytes `records.rs` compares with what the relay writes.
fn records() -> Value {
    let records = examples().into_iter().map(|example| {
        let fields = example.fields.iter().map(|(bytes, field)| {
            let (name, value) = field.split_once(": ").expect("a field has a value");
            json!({"name": name, "hex": hex(bytes), "value": value})
        });
        json!({"record": example.name, "hex": hex(&example.bytes()), "fields": fields.collect::<Vec<_>>()})
    });
    Value::Array(records.collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One example a line.
fn lines(examples: &Value) -> String {
    let rows = |list: &Value| {
        let rows = list.as_array().expect("a list").iter().map(Value::to_string);
        rows.collect::<Vec<_>>().join(",\n")
    };
    match examples.as_object() {
        Some(lists) => {
            let lists = lists.iter().map(|(name, list)| format!("\"{name}\": [\n{}\n]", rows(list)));
            format!("{{\n{}\n}}\n", lists.collect::<Vec<_>>().join(",\n"))
        }
        None => format!("[\n{}\n]\n", rows(examples)),
    }
}

#[test]
fn the_vectors_are_what_the_relay_does() {
    for (name, examples) in [("operations.json", operations()), ("records.json", records())] {
        let file = root().join("clients/vectors").join(name);
        let generated = lines(&examples);
        if std::env::var_os("WRITE_DOCUMENTS").is_some() {
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder can be made");
            std::fs::write(&file, &generated).expect("the folder is writable");
        }
        assert!(
            read(&file) == generated,
            "clients/vectors/{name} is not what the relay does; write it with: \
             WRITE_DOCUMENTS=1 cargo test --test documents"
        );
    }
}
