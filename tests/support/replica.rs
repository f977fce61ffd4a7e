//! A document as one of its clients keeps it: the text as far as it was told, its own edits that were not answered yet, and where
//! the others' cursors are. Whatever it is told is checked against what it knows (PROTOCOL 4, Documents).
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::time::Duration;

use corelay::time::Instant;
use serde_json::{Value, json};

use super::edits::Edit;
use super::histories::{History, Told};
use super::random::Random;

/// An edit of its own that was not answered yet.
#[derive(Clone, Debug)]
struct Pending {
    op_id: String,
    /// As it is behind everything that was told.
    edit: Edit,
    /// It is sent, and an answer is to come.
    is_asked: bool,
    /// It was made in a membership before, and may be done for that one, whatever was answered: it may have been sent twice.
    is_of_before: bool,
    /// When it is sent again, if it must be.
    again_at: Instant,
}

/// An operation that was sent, and of whose answer nothing is known: the text that it was made for is put away.
#[derive(Clone, Debug)]
struct Lost {
    op_id: String,
    payload: Value,
}

/// Where a cursor is in the text of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub version: u64,
    pub position: usize,
    pub selection_end: Option<usize>,
}

/// A `doc_state` of which parts are to come.
#[derive(Debug)]
struct Parts {
    version: u64,
    next: u64,
    content: String,
}

/// Whether operations are missing behind the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// None is.
    Complete,
    /// They are to be asked for.
    Wanted {
        from: Instant,
    },
    Asked,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Replica {
    /// Of its present membership.
    pub user: String,
    pub epoch: String,
    pub version: u64,
    /// The text of that version, without what is pending.
    pub text: String,
    /// It has been told the text.
    pub is_known: bool,
    /// What was told of versions behind one that is missing; `None`: its own operation made it.
    ahead: BTreeMap<u64, (String, Option<Told>)>,
    parts: Option<Parts>,
    page: Page,
    /// It has joined, and was told what it missed, or the text.
    is_greeted: bool,
    /// Made without each other, each for the text of `version`; the order is that in which they were sent first.
    pending: Vec<Pending>,
    /// Made behind the only one that is pending.
    buffered: Option<Edit>,
    lost: Vec<Lost>,
    /// By user.
    pub cursors: BTreeMap<String, Cursor>,
    /// Begins each `op_id`.
    author: String,
    next_id: u64,
}

impl Replica {
    /// Nothing is known. `author` is nobody else's.
    pub fn new(author: String) -> Self {
        Self {
            user: String::new(),
            epoch: String::new(),
            version: 0,
            text: String::new(),
            is_known: false,
            ahead: BTreeMap::new(),
            parts: None,
            page: Page::Complete,
            is_greeted: false,
            pending: Vec::new(),
            buffered: None,
            lost: Vec::new(),
            cursors: BTreeMap::new(),
            author,
            next_id: 0,
        }
    }

    /// Whether it has everything that it was to be told, and nothing of its own is open.
    pub fn is_at_rest(&self) -> bool {
        self.is_current() && self.pending.is_empty() && self.buffered.is_none()
    }

    /// Whether it has the text as it is at the relay.
    pub fn is_current(&self) -> bool {
        self.is_known && self.parts.is_none() && self.page == Page::Complete
    }

    /// Whether an edit waits until it is sent again.
    pub fn is_refused_an_edit(&self) -> bool {
        self.pending.iter().any(|pending| !pending.is_asked && pending.again_at > Instant::default())
    }

    // ── What it does ────────────────────────────────────────────────────────────────────────────────────────────────

    /// Edits the text, as long as it has a place for the edit.
    pub fn edit(&mut self, random: &mut Random, size: usize) {
        let mut draw = |text: &str| {
            let length = text.chars().count();
            match text.len() > TEXT_BYTES_MAX {
                true => Edit::deletion(random.below(length / 2), length / 2),
                false => Edit::draw(random, length, size),
            }
        };
        match &self.pending[..] {
            [] => {
                let edit = draw(&self.text);
                self.add(edit);
            }
            [only] if self.buffered.is_none() => self.buffered = Some(draw(&only.edit.apply(&self.text))),
            _ => {}
        }
    }

    /// Makes several small edits at once, none behind another.
    pub fn edit_at_once(&mut self, random: &mut Random, count: usize) {
        if self.buffered.is_some() {
            return;
        }
        let length = self.text.chars().count();
        for _ in 0..count {
            let at = random.below(length.min(20) + 1);
            let edit = match random.chance(500) && at < length {
                true => Edit::deletion(at, 1),
                false => Edit::insertion(at, "x"),
            };
            self.add(edit);
        }
    }

    fn add(&mut self, edit: Edit) {
        self.next_id += 1;
        let op_id = format!("{}-{}", self.author, self.next_id);
        self.pending.push(Pending {
            op_id,
            edit,
            is_asked: false,
            is_of_before: false,
            again_at: Instant::default(),
        });
    }

    /// The operations that are to be sent now: `op_id` and payload.
    pub fn operations_due(
        &mut self,
        now: Instant,
        random: &mut Random,
        history: &mut History,
    ) -> Vec<(String, Value)> {
        let mut due = Vec::new();
        if !self.can_speak() {
            return due;
        }
        for pending in self.pending.iter_mut().filter(|pending| !pending.is_asked && pending.again_at <= now)
        {
            pending.is_asked = true;
            let form = pending.edit.to_reference_form().filter(|_| random.chance(300));
            let op = form.unwrap_or_else(|| pending.edit.to_json());
            let payload = json!({"op": op, "version": self.version, "op_id": pending.op_id});
            history.send(&pending.op_id);
            due.push((pending.op_id.clone(), payload));
        }
        due
    }

    /// An operation that it sends though it may have been done: one that it waits for, or has put away.
    pub fn operation_again(&mut self, random: &mut Random, history: &mut History) -> Option<(String, Value)> {
        if !self.can_speak() {
            return None;
        }
        let again = match self.lost.is_empty() || random.chance(300) {
            false => self.lost.swap_remove(random.below(self.lost.len())),
            true => {
                let pending = self.pending.iter().find(|pending| pending.is_asked)?;
                self.lost_of(pending)
            }
        };
        history.send(&again.op_id);
        Some((again.op_id, again.payload))
    }

    fn lost_of(&self, Pending { op_id, edit, .. }: &Pending) -> Lost {
        let payload = json!({"op": edit.to_json(), "version": self.version, "op_id": op_id});
        Lost { op_id: op_id.clone(), payload }
    }

    /// Whether it has a text that it can speak of.
    fn can_speak(&self) -> bool {
        self.is_known && self.is_greeted && self.parts.is_none()
    }

    /// The version behind which operations are to be asked for now.
    pub fn page_due(&mut self, now: Instant) -> Option<u64> {
        let is_due = self.can_speak() && matches!(self.page, Page::Wanted { from } if from <= now);
        is_due.then(|| {
            self.page = Page::Asked;
            self.version
        })
    }

    /// A version behind which it asks for operations once more.
    pub fn page_again(&mut self, random: &mut Random) -> Option<u64> {
        let is_idle = self.can_speak() && self.page == Page::Complete;
        is_idle.then(|| {
            self.page = Page::Asked;
            random.below(self.version as usize + 1) as u64 / 4
        })
    }

    /// Some place for its own cursor; `None`: it cannot say.
    pub fn cursor(&self, random: &mut Random) -> Option<Value> {
        if !self.can_speak() {
            return None;
        }
        let length = self.text.chars().count();
        let [position, end] = [(); 2].map(|()| random.below(length + 1));
        Some(match random.below(6) {
            0 => json!({"position": null, "version": self.version}),
            1..3 => json!({"position": position, "selection_end": end, "version": self.version}),
            _ => json!({"position": random.one_of(&[0, length, position]), "version": self.version}),
        })
    }

    // ── Joining ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Its membership has ended, or there is another: what was asked in it is not waited for.
    pub fn ends(&mut self) {
        for pending in &mut self.pending {
            (pending.is_asked, pending.is_of_before) = (false, true);
        }
        self.page = Page::Complete;
        self.parts = None;
        self.is_greeted = false;
    }

    /// It has joined. `resumes`: it has said what it has.
    pub fn joined(&mut self, user: &str, version: u64, resumes: bool) {
        self.ends();
        user.clone_into(&mut self.user);
        self.cursors.clear();
        assert!(version >= self.version || self.epoch.is_empty(), "{version} after {}", self.version);
        // It knows no more than that something may be missing.
        self.page = Page::Asked;
        self.is_known &= resumes;
    }

    // ── What it is told ─────────────────────────────────────────────────────────────────────────────────────────────

    /// An event of the document.
    pub fn hear(&mut self, event: &str, payload: &Value, now: Instant, history: &mut History) {
        assert!(
            event == "doc_state" || self.parts.is_none(),
            "between the parts of a doc_state: {event} {payload}"
        );
        let greets = matches!(event, "doc_state" | "operations");
        assert!(self.is_greeted || greets, "it overtakes what was missed: {event} {payload}");
        match event {
            "doc_state" => self.hear_part(payload, history),
            "operations" => self.hear_page(payload, now, history),
            "operation" => self.hear_operation(Told::read(payload), history),
            "cursor" => self.hear_cursor(payload),
            other => panic!("{other} {payload}"),
        }
    }

    fn hear_part(&mut self, payload: &Value, history: &mut History) {
        let number = |key: &str| payload[key].as_u64().expect("a number");
        let (version, part, epoch) = (number("version"), number("part"), payload["epoch"].as_str());
        let epoch = epoch.expect("a text");
        let parts = self.parts.get_or_insert(Parts { version, next: 1, content: String::new() });
        assert_eq!((parts.version, parts.next), (version, part), "parts of {epoch}");
        parts.next += 1;
        parts.content.push_str(payload["content"].as_str().expect("a text"));
        if part < number("parts") {
            return;
        }
        let text = self.parts.take().expect("it was just there").content;
        assert!(self.epoch != epoch || version >= self.version, "{version} after {}", self.version);
        for pending in std::mem::take(&mut self.pending) {
            let lost = self.lost_of(&pending);
            self.lost.push(lost);
        }
        (self.buffered, self.is_greeted) = (None, true);
        epoch.clone_into(&mut self.epoch);
        (self.version, self.text, self.is_known, self.page) = (version, text, true, Page::Complete);
        self.cursors.clear();
        assert!(self.ahead.keys().all(|told| *told <= version), "{version}, and {:?}", self.ahead);
        self.ahead.clear();
        history.read(&self.epoch, version, &self.text);
    }

    /// Operations that it has asked for, or that it is greeted with.
    pub fn hear_page(&mut self, payload: &Value, now: Instant, history: &mut History) {
        assert!(self.is_known && self.parts.is_none(), "of what text? {payload}");
        let told = payload["operations"].as_array().expect("an array").iter().map(Told::read);
        let told: Vec<Told> = told.collect();
        let versions: Vec<u64> = told.iter().map(|told| told.version).collect();
        assert!(versions.windows(2).all(|pair| pair[0] + 1 == pair[1]), "in order: {versions:?}");
        assert!(versions.first().is_none_or(|first| *first <= self.version + 1), "{versions:?} is not all");
        for told in told {
            history.tell(&self.epoch, &told);
            if told.version > self.version {
                self.ahead.insert(told.version, (told.op_id.clone(), Some(told)));
            }
        }
        self.is_greeted = true;
        self.go_on(history);
        let more = payload["more"].as_bool().expect("a boolean");
        let is_all = versions.last().is_none_or(|last| *last >= self.version);
        assert!(more || is_all, "{versions:?} is said to be all, and {} was told", self.version);
        self.page = if more { Page::Wanted { from: now } } else { Page::Complete };
        assert!(more || self.ahead.is_empty(), "that was all, and yet {:?}", self.ahead);
    }

    /// The page was refused.
    pub fn page_refused(&mut self, again_at: Instant) {
        if self.page == Page::Asked {
            self.page = Page::Wanted { from: again_at };
        }
    }

    fn hear_operation(&mut self, told: Told, history: &mut History) {
        assert!(self.is_known, "of what text? {told:?}");
        history.tell(&self.epoch, &told);
        if told.version <= self.version {
            // What it has sent in a membership before may have been answered there.
            return assert_eq!(told.user, self.user, "each version once: {told:?} at {}", self.version);
        }
        let own = self.pending.iter().find(|pending| pending.op_id == told.op_id);
        assert!(own.is_none_or(|own| own.is_of_before), "it is answered, not told: {told:?}");
        let is_next = told.version == self.version + 1 || self.page != Page::Complete;
        assert!(is_next, "{} is missing: {told:?}", self.version + 1);
        self.ahead.insert(told.version, (told.op_id.clone(), Some(told)));
        self.go_on(history);
    }

    /// Its operation has made a version, of which it perhaps knew; returns whether it did not. `is_followed`: it was told
    /// everything before.
    pub fn acknowledged(
        &mut self,
        op_id: &str,
        version: u64,
        (is_followed, now): (bool, Instant),
        history: &mut History,
    ) -> bool {
        assert!(self.parts.is_none(), "between the parts of a doc_state: {op_id} made {version}");
        history.acknowledge(&self.epoch, op_id, version);
        self.lost.retain(|lost| lost.op_id != op_id);
        let is_pending = self.pending.iter().any(|pending| pending.op_id == op_id);
        if version <= self.version {
            assert!(!is_pending, "{op_id} made {version}, and {} did not tell", self.version);
            return false;
        }
        self.ahead.entry(version).or_insert_with(|| (op_id.to_owned(), None));
        if is_followed && self.page == Page::Complete {
            assert!(
                !is_pending || version == self.version + 1,
                "{} is missing, not {version}",
                self.version + 1
            );
            if !is_pending {
                // It was given up here, and done there.
                self.page = Page::Wanted { from: now };
            }
        }
        self.go_on(history);
        true
    }

    /// Applies what is next.
    fn go_on(&mut self, history: &mut History) {
        while let Some((op_id, told)) = self.ahead.remove(&(self.version + 1)) {
            let own = self.pending.iter().position(|pending| pending.op_id == op_id);
            let own = own.map(|index| self.pending.remove(index).edit);
            if let (Some(own), Some(told)) = (&own, &told) {
                assert!(own.is_same(&told.edit), "{told:?} would be {own:?} here");
            }
            let is_own = own.is_some();
            let (edit, user) = match (told, own) {
                (Some(told), _) => (told.edit, told.user),
                (None, Some(own)) => (own, self.user.clone()),
                (None, None) => {
                    // It was given up here: what it has become is to be asked for.
                    self.ahead.insert(self.version + 1, (op_id, None));
                    return;
                }
            };
            self.apply(&edit, &user, is_own, history);
        }
    }

    fn apply(&mut self, edit: &Edit, author: &str, is_own: bool, history: &mut History) {
        self.version += 1;
        self.text = edit.apply(&self.text);
        history.read(&self.epoch, self.version, &self.text);
        if is_own && let Some(buffered) = self.buffered.take() {
            // Nothing else was pending: it was made for the text as it is now.
            self.add(buffered);
        } else {
            let mut theirs = edit.clone();
            for pending in &mut self.pending {
                let behind = pending.edit.behind(&theirs, false);
                if self.buffered.is_some() {
                    theirs = theirs.behind(&pending.edit, true);
                }
                pending.edit = behind;
            }
            self.buffered = self.buffered.take().map(|buffered| buffered.behind(&theirs, false));
        }
        for (user, cursor) in self.cursors.iter_mut().filter(|(_, cursor)| cursor.version < self.version) {
            let moved = |position| edit.moves(position, user == author);
            (cursor.position, cursor.version) = (moved(cursor.position), self.version);
            cursor.selection_end = cursor.selection_end.map(moved);
        }
    }

    fn hear_cursor(&mut self, payload: &Value) {
        let user = payload["user_id"].as_str().expect("a text").to_owned();
        let version = payload["version"].as_u64().expect("a number");
        let Some(position) = payload["position"].as_u64() else {
            assert!(payload["position"].is_null(), "{payload}");
            self.cursors.remove(&user);
            return;
        };
        let is_in_time = version == self.version || self.page != Page::Complete && version > self.version;
        assert!(is_in_time, "a cursor in the text of {version}, not {}: {payload}", self.version);
        let selection_end = payload["selection_end"].as_u64().map(|end| end as usize);
        let cursor = Cursor { version, position: position as usize, selection_end };
        self.cursors.insert(user, cursor);
    }

    /// Its operation was refused. Returns whether it is not tried again.
    pub fn refused(
        &mut self,
        op_id: &str,
        response: &Value,
        gives_up: bool,
        now: Instant,
        history: &mut History,
    ) -> bool {
        history.refuse(op_id);
        let Some(index) = self.pending.iter().position(|pending| pending.op_id == op_id) else { return true };
        let reason = response["reason"].as_str().unwrap_or_default();
        let retries = ["overload", "rate_limited", "storage_full", "unavailable", "unmatched topic"];
        if gives_up || !retries.contains(&reason) {
            self.pending.remove(index);
            self.buffered = None;
            return true;
        }
        let wait = response["retry_after"].as_u64().unwrap_or(100);
        let pending = &mut self.pending[index];
        pending.is_asked = false;
        pending.again_at = now + Duration::from_millis(wait);
        false
    }

    // ── At rest ─────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Where the cursors of all but these users are.
    pub fn cursors_without(&self, users: [&str; 2]) -> BTreeMap<&str, Cursor> {
        let others = self.cursors.iter().filter(|(user, _)| !users.contains(&user.as_str()));
        others.map(|(user, cursor)| (user.as_str(), *cursor)).collect()
    }

    pub fn check_cursors(&self) {
        let length = self.text.chars().count();
        for (user, Cursor { version, position, selection_end }) in &self.cursors {
            assert_eq!(*version, self.version, "of {user}");
            let is_within = *position <= length && selection_end.is_none_or(|end| end <= length);
            assert!(is_within, "the cursor of {user} is at {position}, {selection_end:?} of {length}");
        }
    }
}

/// When a text is longer, a client deletes half of it.
const TEXT_BYTES_MAX: usize = 120_000;
