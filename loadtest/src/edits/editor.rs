//! One editor of a document: its text as the relay has told it, and its own operations that are not answered yet.
//!
//! At most one operation is on its way. What is edited meanwhile becomes one operation more, which follows the answer.

use std::collections::VecDeque;

use corelay::room::ot::{Tie, apply, compose, invert, transform};
use corelay::wire::operation::Operation;
use ropey::Rope;

/// Edits that become one operation: it must not have too many components.
const EDITS_PER_OPERATION_MAX: u32 = 200;

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Editor {
    standing: Standing,
    /// As it is in `version`, without what is pending.
    text: Rope,
    version: u64,
    /// The parts of a text that is being told.
    arriving: String,
    /// Each is for the text with those before it.
    pending: VecDeque<Pending>,
    /// The first of them is on its way.
    is_sent: bool,
}

/// An operation that is not answered yet.
#[derive(Debug)]
pub struct Pending {
    /// The first edit in it, of this editor's.
    pub round: u32,
    /// So many edits, one behind the other.
    pub edits: u32,
    pub operation: Operation,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// It has no text, or one that the relay has said is too old.
    #[default]
    Waiting,
    Following,
    /// It was told what does not follow on what it knows.
    Lost,
    Away,
}

impl Editor {
    pub fn is_following(&self) -> bool {
        self.standing == Standing::Following
    }

    /// It may be following, or know that it is not.
    pub fn has_a_say(&self) -> bool {
        matches!(self.standing, Standing::Following | Standing::Lost)
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn is_where(&self, other: &Self) -> bool {
        self.is_following() && self.version == other.version && self.text == other.text
    }

    /// Characters of the text as its user sees it, with what is pending.
    pub fn length(&self) -> usize {
        let changes = self.pending.iter().map(|pending| pending.operation.changes());
        changes.fold(self.text.len_chars(), |length, (inserted, deleted)| {
            length + inserted as usize - deleted as usize
        })
    }

    /// It is told the text. `Some`: this was the last part; so many edits are given up.
    pub fn handle_text(&mut self, version: u64, content: &str, part: u32, parts: u32) -> Option<u32> {
        if part == 1 {
            self.arriving.clear();
        }
        self.arriving.push_str(content);
        if part < parts || self.standing == Standing::Away {
            return None;
        }
        self.text = Rope::from_str(&std::mem::take(&mut self.arriving));
        (self.version, self.standing) = (version, Standing::Following);
        Some(self.give_up())
    }

    /// Its user edits the text as it sees it.
    pub fn edit(&mut self, round: u32, operation: Operation) {
        let unsent = self.pending.len() > usize::from(self.is_sent);
        let last = self.pending.back_mut().filter(|last| {
            unsent && last.edits < EDITS_PER_OPERATION_MAX && last.round + last.edits == round
        });
        match last {
            Some(last) => {
                last.operation = compose(&last.operation, &operation);
                last.edits += 1;
            }
            None => self.pending.push_back(Pending { round, edits: 1, operation }),
        }
    }

    /// What is to be sent now, and the version that it is made against.
    pub fn next_to_send(&self) -> Option<(&Pending, u64)> {
        let next = self.pending.front().filter(|_| !self.is_sent);
        next.map(|pending| (pending, self.version))
    }

    pub fn handle_sent(&mut self) {
        self.is_sent = true;
    }

    /// It is told of somebody else's operation. What it knows already is not done again.
    pub fn handle_edited(&mut self, version: u64, operation: &Operation) {
        if !self.is_following() || version <= self.version {
            return;
        }
        if self.apply_next(version, operation) {
            self.rebase(operation.clone());
        }
    }

    /// The operation that is on its way made `version`.
    pub fn handle_acknowledged(&mut self, round: u32, version: u64) {
        if let Some(pending) = self.take_sent(round) {
            self.apply_next(version, &pending.operation);
        }
    }

    /// The operation that is on its way was refused. How many edits behind it are given up.
    pub fn handle_refused(&mut self, round: u32, is_too_old: bool) -> u32 {
        let Some(refused) = self.take_sent(round) else { return 0 };
        if is_too_old {
            self.standing = Standing::Waiting;
            return self.give_up();
        }
        self.rebase(invert(&refused.operation, &self.text));
        0
    }

    /// Its connection has ended. How many edits stay unsent.
    pub fn leave(&mut self) -> u32 {
        self.standing = Standing::Away;
        if std::mem::take(&mut self.is_sent) {
            self.pending.pop_front();
        }
        self.give_up()
    }

    fn take_sent(&mut self, round: u32) -> Option<Pending> {
        self.pending.front().filter(|first| self.is_sent && first.round == round)?;
        self.is_sent = false;
        self.pending.pop_front()
    }

    /// Whether the operation could be done: it makes the next version, and its places are in the text.
    fn apply_next(&mut self, version: u64, operation: &Operation) -> bool {
        if version != self.version + 1 || operation.reach() > self.text.len_chars() as u64 {
            self.standing = Standing::Lost;
            self.give_up();
            return false;
        }
        apply(operation, &mut self.text);
        self.version = version;
        true
    }

    /// What is pending goes on behind `over`, which came before it.
    fn rebase(&mut self, mut over: Operation) {
        for pending in &mut self.pending {
            let behind = transform(&over, &pending.operation, Tie::Left);
            pending.operation = transform(&pending.operation, &over, Tie::Right);
            over = behind;
        }
    }

    fn give_up(&mut self) -> u32 {
        self.is_sent = false;
        self.pending.drain(..).map(|pending| pending.edits).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(json: &str) -> Operation {
        Operation::parse(json).unwrap()
    }

    /// One that knows version 3.
    fn editor(text: &str) -> Editor {
        let mut editor = Editor::default();
        assert_eq!(editor.handle_text(3, text, 1, 1), Some(0));
        editor
    }

    /// Round, edits and text of what is to be sent, and the version.
    fn next(editor: &Editor) -> Option<(u32, u32, String, u64)> {
        let (pending, version) = editor.next_to_send()?;
        Some((pending.round, pending.edits, pending.operation.to_json(), version))
    }

    #[test]
    fn what_is_edited_before_an_answer_follows_it_as_one_operation_behind_what_others_did() {
        let mut editor = editor("abc");
        editor.edit(0, operation(r#"["x"]"#));
        assert_eq!(next(&editor), Some((0, 1, r#"["x"]"#.into(), 3)));
        editor.handle_sent();
        editor.edit(1, operation(r#"[4,"y"]"#));
        editor.edit(2, operation("[1,-1]"));
        assert_eq!((next(&editor), editor.length()), (None, 4));
        // Of two texts at one place that of the lower version stands left.
        editor.handle_edited(4, &operation(r#"["Z"]"#));
        editor.handle_acknowledged(0, 5);
        assert_eq!(editor.text, "Zxabc");
        assert_eq!(next(&editor), Some((1, 2, r#"[2,-1,2,"y"]"#.into(), 5)));
    }

    #[test]
    fn edits_of_another_spell_are_another_operation() {
        let mut editor = editor("abc");
        [0, 1, 5].into_iter().for_each(|round| editor.edit(round, operation(r#"["x"]"#)));
        assert_eq!(editor.pending.iter().map(|pending| pending.edits).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn what_is_refused_was_never_done() {
        let mut refused = editor("abc");
        refused.edit(0, operation(r#"["x"]"#));
        refused.handle_sent();
        refused.edit(1, operation(r#"[2,"y"]"#));
        assert_eq!(refused.handle_refused(0, false), 0);
        assert_eq!(next(&refused), Some((1, 1, r#"[1,"y"]"#.into(), 3)));
        refused.handle_sent();
        refused.edit(2, operation("[1,-1]"));
        // Now it waits for the whole text, which comes in parts.
        assert_eq!(refused.handle_refused(1, true), 1);
        assert!(!refused.is_following() && !refused.has_a_say());
        assert_eq!(refused.handle_text(9, "ne", 1, 2), None);
        assert_eq!(refused.handle_text(9, "w", 2, 2), Some(0));
        let mut other = editor("new");
        assert!(!refused.is_where(&other), "the version is another one");
        other.version = 9;
        assert!(refused.is_where(&other));
    }

    #[test]
    fn who_is_told_what_does_not_follow_has_lost_its_way() {
        let lost = |version, json: &str| {
            let mut editor = editor("abc");
            editor.edit(0, operation(r#"["x"]"#));
            editor.handle_edited(version, &operation(json));
            (editor.is_following(), editor.has_a_say(), editor.has_pending())
        };
        assert_eq!(lost(4, "[3]"), (true, true, true));
        assert_eq!(lost(3, "[-1]"), (true, true, true), "it was told that before");
        assert_eq!(lost(5, "[3]"), (false, true, false));
        assert_eq!(lost(4, "[-4]"), (false, true, false));
    }

    #[test]
    fn what_is_on_its_way_when_the_connection_ends_is_not_unsent() {
        let mut editor = editor("");
        editor.edit(0, operation(r#"["x"]"#));
        editor.handle_sent();
        (1..4).for_each(|round| editor.edit(round, operation(r#"["x"]"#)));
        assert_eq!(editor.leave(), 3);
        assert!(!editor.has_a_say() && !editor.has_pending());
        assert_eq!(editor.handle_text(9, "what comes too late", 1, 1), None);
    }
}
