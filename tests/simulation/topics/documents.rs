//! Documents of a client: what it does to them, and what it is told.

use corelay::time::Instant;
use serde_json::{Value, json};

use super::{Hearing, Kind, Topic, Topics, What};
use crate::faults::Branch;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::replica::Replica;

impl Topic {
    pub fn document(&self) -> Option<&Replica> {
        match &self.kind {
            Kind::Document(document) => Some(document),
            Kind::Room | Kind::Game(_) => None,
        }
    }

    pub fn document_mut(&mut self) -> Option<&mut Replica> {
        match &mut self.kind {
            Kind::Document(document) => Some(document),
            Kind::Room | Kind::Game(_) => None,
        }
    }

    /// Whether it has an edit that the relay could not do when it was sent last.
    pub fn is_refused_an_edit(&self) -> bool {
        self.document().is_some_and(Replica::is_refused_an_edit)
    }

    /// What it may resume from is what it has.
    pub(super) fn has_text(&mut self) {
        let Kind::Document(document) = &self.kind else { return };
        self.epoch.clear();
        if document.is_known {
            self.epoch.push_str(&document.epoch);
        }
        self.seq = document.version;
    }

    pub(super) fn hear_of_document(&mut self, event: &str, payload: &Value, hearing: &mut Hearing<'_>) {
        let Kind::Document(document) = &mut self.kind else { return };
        match event {
            "doc_state" if payload["parts"] != 1 => hearing.counts.branch(Branch::StateInParts),
            "operations" if payload["more"] == true => hearing.counts.branch(Branch::OperationsPaged),
            "operations" if payload["operations"] != json!([]) => {
                hearing.counts.branch(Branch::OperationsCaughtUp);
            }
            "cursor" => hearing.counts.branch(Branch::CursorMoved),
            "doc_state" | "operations" | "operation" => {}
            _ => return,
        }
        document.hear(event, payload, hearing.now, hearing.ledger.documents.of(self.name));
        self.has_text();
    }

    /// The answer to an operation. `is_followed`: the document was told everything before it.
    pub(super) fn hear_of_operation(
        &mut self,
        op_id: &str,
        is_followed: bool,
        (ok, response): (bool, &Value),
        hearing: &mut Hearing<'_>,
    ) {
        let Kind::Document(document) = &mut self.kind else { panic!("{op_id} is of a document") };
        let (history, now) = (hearing.ledger.documents.of(self.name), hearing.now);
        let branch = if ok {
            let version = response["version"].as_u64().expect("a number");
            let is_new = document.acknowledged(op_id, version, (is_followed, now), history);
            if is_new { Branch::OperationMade } else { Branch::OperationAgain }
        } else if document.refused(op_id, response, hearing.random.chance(100), now, history) {
            Branch::OperationGivenUp
        } else {
            return;
        };
        hearing.counts.branch(branch);
        self.has_text();
    }

    pub(super) fn hear_page(&mut self, (ok, response): (bool, &Value), hearing: &mut Hearing<'_>) {
        let again_at = hearing.soon();
        let Kind::Document(document) = &mut self.kind else { panic!("a page of no document: {response}") };
        if ok {
            if response["more"] == true {
                hearing.counts.branch(Branch::OperationsPaged);
            }
            document.hear_page(response, hearing.now, hearing.ledger.documents.of(self.name));
            self.has_text();
        } else {
            document.page_refused(again_at);
        }
    }
}

impl Topics {
    /// What is to be said of its documents: edits that are not sent, operations that are missing.
    pub fn say_of_documents(&mut self, now: Instant, random: &mut Random, ledger: &mut Ledger) -> Vec<u8> {
        let mut bytes = Vec::new();
        for index in 0..self.all.len() {
            if !self.all[index].is_joined() {
                continue;
            }
            let topic = &mut self.all[index];
            let name = topic.name;
            let Some(document) = topic.document_mut() else { continue };
            let history = ledger.documents.of(name);
            let (due, page) = (document.operations_due(now, random, history), document.page_due(now));
            for (op_id, payload) in due {
                bytes.extend(self.push_asking(index, "operation", &payload, What::Operation { op_id }));
            }
            if let Some(after) = page {
                let payload = json!({"after": after});
                bytes.extend(self.push_asking(index, "operations", &payload, What::Operations));
            }
        }
        bytes
    }

    /// Says something of a document that is not said by itself.
    pub fn meddle(&mut self, index: usize, random: &mut Random, ledger: &mut Ledger) -> Vec<u8> {
        let topic = &mut self.all[index];
        let name = topic.name;
        let Some(document) = topic.document_mut() else { return Vec::new() };
        let history = ledger.documents.of(name);
        if random.chance(300)
            && let Some(after) = document.page_again(random)
        {
            return self.push_asking(index, "operations", &json!({"after": after}), What::Operations);
        }
        if random.chance(400) {
            let Some((op_id, payload)) = document.operation_again(random, history) else { return Vec::new() };
            return self.push_asking(index, "operation", &payload, What::Operation { op_id });
        }
        self.move_cursor(index, random)
    }

    pub fn move_cursor(&mut self, index: usize, random: &mut Random) -> Vec<u8> {
        let cursor = self.all[index].document().and_then(|document| document.cursor(random));
        cursor.map(|cursor| self.push(index, "cursor", &cursor)).unwrap_or_default()
    }
}
