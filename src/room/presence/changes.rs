//! What has changed since everybody was told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::texts::Diffs;
use super::{Member, MemberNumber, Members};
use crate::memory::Allocated;

/// What is told of the members.
#[derive(Debug)]
pub(super) enum Listing {
    /// Who they are, and each change.
    On(Changes),
    /// How many users they are; `told` is the number that was told last.
    Off { told: Option<u32> },
    /// The next flush tells who they are, as a whole.
    Returning,
}

/// What has changed since the last flush.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Members by their reference, which is new.
    joins: BTreeMap<u64, MemberNumber>,
    /// Metas that everybody was told of and that are over, by their reference.
    leaves: BTreeMap<u64, (Arc<str>, String)>,
}

impl Listing {
    /// A member has a new meta.
    pub(super) fn joined(&mut self, reference: u64, member: MemberNumber) {
        if let Self::On(changes) = self {
            changes.joins.insert(reference, member);
        }
    }

    /// The meta of `member` is over. That is news if everybody was `told` of it; else it is as if it had never been.
    pub(super) fn ended(&mut self, member: &Member, told: bool, epoch: u64) {
        let Self::On(changes) = self else { return };
        if told {
            changes.leaves.insert(member.reference, (member.user.clone(), member.encode(epoch)));
        } else {
            changes.joins.remove(&member.reference);
        }
    }
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }

    /// Metas that are over and that everybody still has: user, reference, text.
    pub(super) fn ended(&self) -> impl Iterator<Item = (&Arc<str>, u64, String)> {
        self.leaves.iter().map(|(reference, (user, meta))| (user, *reference, meta.clone()))
    }

    /// Bytes that it has allocated; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        let metas = self.leaves.values().map(|(_, meta)| meta.allocated_bytes());
        self.joins.allocated_bytes() + self.leaves.allocated_bytes() + metas.sum::<usize>()
    }

    /// The payloads of `presence_diff` that tell them. `members` are as the changes left them.
    pub(super) fn encode(self, members: &Members, epoch: u64) -> Vec<String> {
        let joins = self.joins.values().map(|member| &*members[member]);
        let joins = joins.map(|member| (member.user.clone(), member.reference, Change::Join(member)));
        let leaves = self.leaves.into_iter();
        let leaves = leaves.map(|(reference, (user, meta))| (user, reference, Change::Leave(meta)));
        let mut changes: Vec<(Arc<str>, u64, Change<'_>)> = joins.chain(leaves).collect();
        // What belongs to one user stands together, so that it is told in one diff where it can.
        changes.sort_unstable_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));

        let mut diffs = Diffs::default();
        let mut meta = String::new();
        for (user, _, change) in &changes {
            match change {
                Change::Join(member) => {
                    member.text(epoch).write(&mut meta);
                    diffs.join(user, &meta);
                }
                Change::Leave(meta) => diffs.leave(user, meta),
            }
        }
        diffs.finish()
    }
}

/// One entry of a diff.
enum Change<'a> {
    Join(&'a Member),
    Leave(String),
}
