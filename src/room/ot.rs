//! Operational transformation: operations that were made at the same time, each without the other, become operations that can be
//! applied one behind the other.
//!
//! With `b2 = transform(b, a, Tie::Right)` and `a2 = transform(a, b, Tie::Left)`, `a` then `b2` makes the same text as `b` then `a2`
//! (TP1). That is enough where one relay puts all operations into one order. The component lists are those of ot.js and ShareJS.

use ropey::Rope;

use crate::wire::operation::{Component, Operation};

/// Which of two texts that are inserted at one place stands left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// That of the operation that is transformed.
    Left,
    /// That of the other one.
    Right,
}

/// Changes `text`, which has at least `operation.reach()` characters.
pub fn apply(operation: &Operation, text: &mut Rope) {
    let mut at = 0;
    for component in operation.components() {
        match component {
            Component::Keep(characters) => at += *characters as usize,
            Component::Insert { text: inserted, characters } => {
                text.insert(at, inserted);
                at += *characters as usize;
            }
            Component::Delete(characters) => text.remove(at..at + *characters as usize),
        }
    }
}

/// `operation` as it is behind `over`, which was made for the same text.
pub fn transform(operation: &Operation, over: &Operation, tie: Tie) -> Operation {
    let mut transformed = Operation::default();
    let (mut ours, mut theirs) = (Pieces::of(operation), Pieces::of(over));
    loop {
        match (ours.next, theirs.next) {
            (Piece::Insert { text, characters }, next) => {
                if let Piece::Insert { characters, .. } = next
                    && tie == Tie::Right
                {
                    transformed.keep(characters);
                    theirs.pass(characters);
                }
                transformed.insert(text, characters);
                ours.pass(characters);
            }
            (Piece::End, _) => return transformed.end(),
            (_, Piece::Insert { characters, .. }) => {
                transformed.keep(characters);
                theirs.pass(characters);
            }
            (our @ (Piece::Keep(_) | Piece::Delete(_)), their) => {
                let characters = our.characters().min(their.characters());
                match (our, their) {
                    // It is gone already.
                    (_, Piece::Delete(_)) => {}
                    (Piece::Delete(_), _) => {
                        transformed.delete(characters);
                    }
                    (_, _) => {
                        transformed.keep(characters);
                    }
                }
                ours.pass(characters);
                theirs.pass(characters);
            }
        }
    }
}

/// One operation that does what `first` and then `second` do.
pub fn compose(first: &Operation, second: &Operation) -> Operation {
    let mut composed = Operation::default();
    let (mut before, mut behind) = (Pieces::of(first), Pieces::of(second));
    loop {
        match (before.next, behind.next) {
            (Piece::Delete(characters), _) => {
                composed.delete(characters);
                before.pass(characters);
            }
            (_, Piece::Insert { text, characters }) => {
                composed.insert(text, characters);
                behind.pass(characters);
            }
            (Piece::End, Piece::End) => return composed.end(),
            (made, done) => {
                let characters = made.characters().min(done.characters());
                match (made, done) {
                    // What was just inserted goes again.
                    (Piece::Insert { .. }, Piece::Delete(_)) => {}
                    (Piece::Insert { text, .. }, _) => {
                        composed.insert(split(text, characters).0, characters);
                    }
                    (_, Piece::Delete(_)) => {
                        composed.delete(characters);
                    }
                    (_, _) => {
                        composed.keep(characters);
                    }
                }
                before.pass(characters);
                behind.pass(characters);
            }
        }
    }
}

/// The operation that takes `operation` back, which is still to be applied to `text`.
pub fn invert(operation: &Operation, text: &Rope) -> Operation {
    let mut inverse = Operation::default();
    let mut at = 0;
    for component in operation.components() {
        match component {
            Component::Keep(characters) => {
                inverse.keep(*characters);
                at += *characters as usize;
            }
            Component::Insert { characters, .. } => {
                inverse.delete(*characters);
            }
            Component::Delete(characters) => {
                let end = at + *characters as usize;
                inverse.insert(&String::from(text.slice(at..end)), *characters);
                at = end;
            }
        }
    }
    inverse.end()
}

/// Where a cursor is behind an operation: what its own user inserts at it comes before it, what others do behind it.
pub fn move_cursor(position: u32, operation: &Operation, is_own: bool) -> u32 {
    let (mut at, mut moved) = (0, position);
    for component in operation.components() {
        if at > position {
            break;
        }
        match component {
            Component::Keep(characters) => at += characters,
            Component::Insert { characters, .. } if at < position || is_own => moved += characters,
            Component::Insert { .. } => {}
            Component::Delete(characters) => {
                moved -= (position - at).min(*characters);
                at += characters;
            }
        }
    }
    moved
}

/// What is left of an operation on the way to its end.
struct Pieces<'a> {
    components: &'a [Component],
    /// The rest of the component before `components`.
    next: Piece<'a>,
}

#[derive(Clone, Copy)]
enum Piece<'a> {
    Keep(u32),
    Insert {
        text: &'a str,
        characters: u32,
    },
    Delete(u32),
    /// All that follows is kept.
    End,
}

impl Piece<'_> {
    fn characters(self) -> u32 {
        match self {
            Self::Keep(characters) | Self::Insert { characters, .. } | Self::Delete(characters) => characters,
            Self::End => u32::MAX,
        }
    }
}

impl<'a> Pieces<'a> {
    fn of(operation: &'a Operation) -> Self {
        let mut pieces = Self { components: operation.components(), next: Piece::End };
        pieces.begin_next();
        pieces
    }

    fn begin_next(&mut self) {
        let Some((first, rest)) = self.components.split_first() else {
            self.next = Piece::End;
            return;
        };
        self.components = rest;
        self.next = match first {
            Component::Keep(characters) => Piece::Keep(*characters),
            Component::Insert { text, characters } => Piece::Insert { text, characters: *characters },
            Component::Delete(characters) => Piece::Delete(*characters),
        };
    }

    /// Goes on behind so many characters of `next`.
    fn pass(&mut self, passed: u32) {
        self.next = match self.next {
            Piece::End => return,
            whole if whole.characters() == passed => return self.begin_next(),
            Piece::Keep(characters) => Piece::Keep(characters - passed),
            Piece::Insert { text, characters } => {
                Piece::Insert { text: split(text, passed).1, characters: characters - passed }
            }
            Piece::Delete(characters) => Piece::Delete(characters - passed),
        };
    }
}

/// The first characters of a text, and the others.
fn split(text: &str, characters: u32) -> (&str, &str) {
    let (before, _) = text.char_indices().nth(characters as usize).unwrap_or((text.len(), char::default()));
    text.split_at(before)
}

#[cfg(test)]
mod tests;
