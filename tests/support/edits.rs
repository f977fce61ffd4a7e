//! Edits of a text, and how they pass each other, written from the protocol: nothing of the relay is used, so that its
//! transformation is checked by another one.
#![allow(dead_code, reason = "each test binary uses its part")]

use serde_json::{Value, json};

use super::random::Random;

/// What becomes of a part of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Keep(usize),
    Insert(String),
    Delete(usize),
}

/// Its parts, from the begin of the text to its end. What is inserted where something is deleted stands before that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit(Vec<Part>);

impl Edit {
    pub fn insertion(at: usize, text: &str) -> Self {
        let mut edit = Self::default();
        edit.keep(at);
        edit.insert(text);
        edit
    }

    pub fn deletion(at: usize, count: usize) -> Self {
        let mut edit = Self::default();
        edit.keep(at);
        edit.delete(count);
        edit
    }

    /// Some edit of a text of so many characters. `size`: how often what is inserted is repeated at most.
    pub fn draw(random: &mut Random, length: usize, size: usize) -> Self {
        // Several clients meet at the same places.
        let places = [0, length / 2, length, random.below(length + 1)];
        let at = random.one_of(&places);
        let longest = 8 + length / 20;
        match random.below(100) {
            0..50 => Self::insertion(at, &letters(random, size)),
            50..75 => Self::deletion(at, (1 + random.below(longest)).min(length - at)),
            kind => {
                let mut edit = Self::default();
                let mut left = length;
                for _ in 0..if kind == 99 { 300 } else { 1 + random.below(8) } {
                    let [kept, deleted] = [(); 2].map(|()| random.below(5).min(left / 2));
                    left -= kept + deleted;
                    edit.keep(kept);
                    match random.below(3) {
                        0 => edit.insert(&letters(random, 1)),
                        1 => edit.delete(deleted),
                        _ => {
                            edit.delete(deleted);
                            edit.insert(&letters(random, 1));
                        }
                    }
                }
                edit
            }
        }
    }

    fn keep(&mut self, count: usize) {
        match self.0.last_mut() {
            _ if count == 0 => {}
            Some(Part::Keep(kept)) => *kept += count,
            _ => self.0.push(Part::Keep(count)),
        }
    }

    fn delete(&mut self, count: usize) {
        match self.0.last_mut() {
            _ if count == 0 => {}
            Some(Part::Delete(deleted)) => *deleted += count,
            _ => self.0.push(Part::Delete(count)),
        }
    }

    fn insert(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let deletion = self.0.pop_if(|part| matches!(part, Part::Delete(_)));
        match self.0.last_mut() {
            Some(Part::Insert(before)) => before.push_str(text),
            _ => self.0.push(Part::Insert(text.to_owned())),
        }
        self.0.extend(deletion);
    }

    /// Without the end that is kept, which means nothing.
    fn changes(&self) -> &[Part] {
        match self.0.split_last() {
            Some((Part::Keep(_), changes)) => changes,
            _ => &self.0,
        }
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.changes() == other.changes()
    }

    /// As a list of components.
    pub fn to_json(&self) -> Value {
        let component = |part: &Part| match part {
            Part::Keep(count) => json!(count),
            Part::Insert(text) => json!(text),
            Part::Delete(count) => json!(-(*count as i64)),
        };
        self.changes().iter().map(component).collect()
    }

    /// As the one insertion or deletion that it is; `None`: it is more than that.
    pub fn to_reference_form(&self) -> Option<Value> {
        let (position, change) = match self.changes() {
            [change] => (0, change),
            [Part::Keep(position), change] => (*position, change),
            _ => return None,
        };
        match change {
            Part::Insert(text) => Some(json!({"type": "insert", "position": position, "content": text})),
            Part::Delete(count) => Some(json!({"type": "delete", "position": position, "length": count})),
            Part::Keep(_) => None,
        }
    }

    /// What the relay tells, which is as the relay keeps it.
    pub fn read(json: &Value) -> Self {
        let mut edit = Self::default();
        for component in json.as_array().expect("a list of components") {
            match component {
                Value::String(text) => edit.insert(text),
                _ => match component.as_i64().expect("a number") {
                    kept @ 1.. => edit.keep(kept as usize),
                    deleted => edit.delete(deleted.unsigned_abs() as usize),
                },
            }
        }
        assert_eq!(edit.to_json(), *json, "it is told in normal form");
        edit
    }

    pub fn apply(&self, text: &str) -> String {
        let mut made = String::new();
        let mut rest = text.chars();
        for part in &self.0 {
            match part {
                Part::Insert(inserted) => made.push_str(inserted),
                Part::Keep(count) | Part::Delete(count) => {
                    let passed = (0..*count).map(|_| rest.next().expect("it fits the text"));
                    let kept = passed.filter(|_| matches!(part, Part::Keep(_)));
                    made.extend(kept);
                }
            }
        }
        made + rest.as_str()
    }

    /// What it is behind `other`, which was made for the same text. `is_left`: where both insert, its own text stands left.
    pub fn behind(&self, other: &Self, is_left: bool) -> Self {
        let (mut ours, mut theirs) = (Rest::of(self), Rest::of(other));
        let mut edit = Self::default();
        loop {
            let (own, others) = (ours.insertion(), theirs.insertion().chars().count());
            let (before, after) = if is_left { (0, others) } else { (others, 0) };
            edit.keep(before);
            edit.insert(own);
            edit.keep(after);
            let Some(count) = [ours.run(), theirs.run()].into_iter().flatten().min() else { return edit };
            match (ours.pass(count), theirs.pass(count)) {
                (_, true) => {}
                (true, false) => edit.delete(count),
                (false, false) => edit.keep(count),
            }
        }
    }

    /// Where a cursor is behind it. `is_own`: its user has made the edit.
    pub fn moves(&self, position: usize, is_own: bool) -> usize {
        let (mut at, mut moved) = (0, position);
        for part in &self.0 {
            match part {
                Part::Keep(count) => at += count,
                Part::Insert(text) if at < position || at == position && is_own => {
                    moved += text.chars().count();
                }
                Part::Insert(_) => {}
                Part::Delete(count) => {
                    moved -= position.saturating_sub(at).min(*count);
                    at += count;
                }
            }
        }
        moved
    }
}

/// What is left of an edit.
struct Rest<'a> {
    parts: &'a [Part],
    /// Characters of the first part that are passed.
    passed: usize,
}

impl<'a> Rest<'a> {
    fn of(edit: &'a Edit) -> Self {
        Self { parts: &edit.0, passed: 0 }
    }

    /// What is inserted here.
    fn insertion(&mut self) -> &'a str {
        let [Part::Insert(text), rest @ ..] = self.parts else { return "" };
        self.parts = rest;
        text
    }

    /// For how many characters the same goes on; `None`: up to the end.
    fn run(&self) -> Option<usize> {
        match self.parts.first()? {
            Part::Keep(count) | Part::Delete(count) => Some(count - self.passed),
            Part::Insert(_) => panic!("insertions are passed first"),
        }
    }

    /// Passes characters; whether they are deleted.
    fn pass(&mut self, count: usize) -> bool {
        let [Part::Keep(all) | Part::Delete(all), rest @ ..] = self.parts else { return false };
        let is_deleted = matches!(self.parts[0], Part::Delete(_));
        self.passed += count;
        if self.passed == *all {
            (self.parts, self.passed) = (rest, 0);
        }
        is_deleted
    }
}

/// Letters of one and more code units and bytes, some of which combine, and some that JSON escapes.
fn letters(random: &mut Random, size: usize) -> String {
    const LETTERS: [&str; 12] =
        ["a", "b", "c", " ", "ü", "漢", "🦀", "e\u{301}", "👩\u{200D}🚀", "\"", "\n", "\u{1}"];
    let count = 1 + random.below(3);
    let drawn: String = (0..count).map(|_| random.one_of(&LETTERS)).collect();
    let longest = drawn.len().max(6 * drawn.chars().count());
    let most = size.min(INSERTION_JSON_BYTES_MAX / longest);
    drawn.repeat(most - random.below(most.div_ceil(2)))
}

/// One operation takes no more than that, and a little for the rest of it.
const INSERTION_JSON_BYTES_MAX: usize = 40_000;
