use std::iter;

use operational_transform::{Operation as OracleComponent, OperationSeq};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

/// Letters of one to four bytes, a combining accent, a letter that others join, controls.
const LETTERS: &[char] = &[
    'a', 'b', 'é', 'ß', '€', '中', '🦀', '𝄞', '\u{301}', '\u{200d}', '👩', '\n', '"', '\\', '\u{1}',
    '\u{ffff}',
];

struct Random(ChaCha12Rng);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0.next_u32() % end
    }

    fn text(&mut self, characters_max: u32) -> String {
        let characters = self.below(characters_max + 1);
        (0..characters).map(|_| LETTERS[self.below(LETTERS.len() as u32) as usize]).collect()
    }

    /// Any operation for a text of so many characters: often none, often at the edges.
    fn operation(&mut self, characters: u32) -> Operation {
        let mut operation = Operation::default();
        let mut left = characters;
        while left > 0 || self.below(3) == 0 {
            let some = 1 + self.below(left.clamp(1, 4));
            match self.below(4) {
                0 => {
                    let text = self.text(3);
                    operation.insert(&text, text.chars().count() as u32);
                }
                1 if some <= left => {
                    operation.delete(some);
                    left -= some;
                }
                2 if self.below(4) == 0 => break,
                _ if some <= left => {
                    operation.keep(some);
                    left -= some;
                }
                _ => {}
            }
        }
        operation.end()
    }
}

fn random(seed: u64) -> Random {
    Random(ChaCha12Rng::seed_from_u64(seed))
}

fn length(text: &str) -> u32 {
    text.chars().count() as u32
}

fn applied(text: &str, operations: &[&Operation]) -> String {
    let mut rope = Rope::from_str(text);
    operations.iter().for_each(|operation| apply(operation, &mut rope));
    rope.to_string()
}

fn of(json: &str) -> Operation {
    let operation = Operation::parse(json).unwrap();
    assert_eq!(operation.to_json(), json, "in normal form");
    operation
}

fn is_normal(operation: &Operation) -> bool {
    Operation::read(&operation.to_json()).as_ref() == Some(operation)
}

#[test]
fn a_million_pairs_converge() {
    let mut random = random(1);
    for round in 0..1_000_000 {
        let text = random.text(10);
        let (earlier, later) = (random.operation(length(&text)), random.operation(length(&text)));
        let earlier_behind = transform(&earlier, &later, Tie::Left);
        let later_behind = transform(&later, &earlier, Tie::Right);
        let (one, other) =
            (applied(&text, &[&earlier, &later_behind]), applied(&text, &[&later, &earlier_behind]));
        assert_eq!(one, other, "round {round}: {text:?} {} {}", earlier.to_json(), later.to_json());
        assert!(is_normal(&earlier_behind) && is_normal(&later_behind));
    }
}

#[test]
fn what_is_composed_does_the_same_and_what_is_inverted_takes_it_back() {
    let mut random = random(2);
    for _ in 0..200_000 {
        let text = random.text(10);
        let first = random.operation(length(&text));
        let between = applied(&text, &[&first]);
        let second = random.operation(length(&between));
        let composed = compose(&first, &second);
        assert_eq!(applied(&text, &[&composed]), applied(&between, &[&second]));
        assert!(is_normal(&composed));
        let inverse = invert(&first, &Rope::from_str(&text));
        assert_eq!(applied(&between, &[&inverse]), text);
        assert!(is_normal(&inverse));
    }
}

#[test]
fn transforms_and_compositions_go_together() {
    let mut random = random(3);
    for _ in 0..100_000 {
        let text = random.text(8);
        let first = random.operation(length(&text));
        let second = random.operation(length(&applied(&text, &[&first])));
        let other = random.operation(length(&text));
        let at_once = transform(&other, &compose(&first, &second), Tie::Right);
        let one_by_one = transform(&transform(&other, &first, Tie::Right), &second, Tie::Right);
        let by_both = applied(&text, &[&first, &second]);
        // They may place an insert differently where text was deleted around it; both reach as far.
        assert!(at_once.reach() <= length(&by_both).into() && one_by_one.reach() <= length(&by_both).into());
        assert_eq!(at_once.changes(), one_by_one.changes());
    }
}

/// The crate `operational-transform` wants every character of the text mentioned.
fn oracle(operation: &Operation, characters: u32) -> OperationSeq {
    let mut sequence = OperationSeq::default();
    for component in operation.components() {
        match component {
            Component::Keep(characters) => sequence.retain((*characters).into()),
            Component::Insert { text, .. } => sequence.insert(text),
            Component::Delete(characters) => sequence.delete((*characters).into()),
        }
    }
    sequence.retain(u64::from(characters) - operation.reach());
    sequence
}

fn from_oracle(sequence: &OperationSeq) -> Operation {
    let mut operation = Operation::default();
    for component in sequence.ops() {
        match component {
            OracleComponent::Retain(characters) => operation.keep(*characters as u32),
            OracleComponent::Insert(text) => operation.insert(text, length(text)),
            OracleComponent::Delete(characters) => operation.delete(*characters as u32),
        };
    }
    operation.end()
}

#[test]
fn another_implementation_says_the_same() {
    let mut random = random(4);
    for _ in 0..200_000 {
        let text = random.text(10);
        let characters = length(&text);
        let (earlier, later) = (random.operation(characters), random.operation(characters));
        let (oracle_earlier, oracle_later) = (oracle(&earlier, characters), oracle(&later, characters));
        assert_eq!(oracle_earlier.apply(&text).unwrap(), applied(&text, &[&earlier]));
        let (earlier_behind, later_behind) = oracle_earlier.transform(&oracle_later).unwrap();
        assert_eq!(transform(&earlier, &later, Tie::Left), from_oracle(&earlier_behind));
        assert_eq!(transform(&later, &earlier, Tie::Right), from_oracle(&later_behind));

        let between = applied(&text, &[&earlier]);
        let second = random.operation(length(&between));
        let composed = oracle_earlier.compose(&oracle(&second, length(&between))).unwrap();
        assert_eq!(compose(&earlier, &second), from_oracle(&composed));
        assert_eq!(invert(&earlier, &Rope::from_str(&text)), from_oracle(&oracle_earlier.invert(&text)));
    }
}

#[test]
fn of_two_inserts_at_one_place_the_earlier_stands_left() {
    let (earlier, later) = (of(r#"[2,"A"]"#), of(r#"[2,"B"]"#));
    let behind = transform(&later, &earlier, Tie::Right);
    assert_eq!(applied("xxyy", &[&earlier, &behind]), "xxAByy");
    assert_eq!(transform(&earlier, &later, Tie::Left), earlier);
}

#[test]
fn a_delete_that_straddles_an_insert_leaves_it() {
    let behind = transform(&of("[1,-4]"), &of(r#"[3,"new"]"#), Tie::Right);
    assert_eq!(behind, of("[1,-2,3,-2]"));
    assert_eq!(applied("abcnewdef", &[&behind]), "anewf");
    assert_eq!(transform(&of("[1,-4]"), &of("[2,-2]"), Tie::Right), of("[1,-2]"), "nothing is deleted twice");
    assert_eq!(transform(&of("[1,-2]"), &of("[-9]"), Tie::Right), of("[]"));
}

#[test]
fn a_cursor_stays_at_its_letter() {
    for (position, operation, is_own, moved) in [
        (3, r#"["ab"]"#, false, 5),
        (3, r#"[3,"ab"]"#, false, 3),
        (3, r#"[3,"ab"]"#, true, 5),
        (3, r#"[4,"ab"]"#, true, 3),
        (3, "[1,-1]", false, 2),
        (3, "[1,-9]", false, 1),
        (3, "[3,-2]", false, 3),
        (3, r#"[1,"🦀",-2,"b",3,"c"]"#, false, 3),
        (0, "[]", false, 0),
    ] {
        let operation = Operation::parse(operation).unwrap();
        assert_eq!(move_cursor(position, &operation, is_own), moved, "{position} {}", operation.to_json());
    }
}

#[test]
fn a_cursor_that_moves_back_and_forth_with_others_inserts_is_where_it_was() {
    let mut random = random(5);
    for _ in 0..50_000 {
        let text = random.text(10);
        let operation = random.operation(length(&text));
        let position = random.below(length(&text) + 1);
        for is_own in [false, true] {
            let moved = move_cursor(position, &operation, is_own);
            // A letter that is inserted at the cursor, by another or by its user, is where the cursor is then.
            let mark = Operation::default().keep(position).insert("|", 1).end();
            let tie = if is_own { Tie::Right } else { Tie::Left };
            let marked = transform(&mark, &operation, tie);
            let expected = marked.components().iter().find_map(|component| match component {
                Component::Keep(characters) => Some(*characters),
                Component::Insert { .. } => Some(0),
                Component::Delete(_) => None,
            });
            assert_eq!(Some(moved), expected, "{position} {}", operation.to_json());
        }
    }
}

#[test]
fn a_long_text_is_edited_anywhere() {
    let text: String = iter::repeat_n("0123456789🦀\n", 20_000).collect();
    let operation = of(r#"[100000,"here",-50000,30000,"there"]"#);
    let expected: String = text
        .chars()
        .take(100_000)
        .chain("here".chars())
        .chain(text.chars().skip(150_000).take(30_000))
        .chain("there".chars())
        .chain(text.chars().skip(180_000))
        .collect();
    assert_eq!(applied(&text, &[&operation]), expected);
}
