//! The payloads of `presence_state` and `presence_diff`, written entry by entry and cut before they grow too long.

use std::fmt;
use std::mem;
use std::sync::Arc;

use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::limits::PRESENCE_TEXT_BYTES_MAX;
use crate::wire::json::{object_of, write_object, write_string};

/// What a diff has besides its two lists.
const DIFF_FRAME_BYTES: usize = r#"{"joins":,"leaves":}"#.len();
/// What an entry of a list has besides its user and metas.
const ENTRY_FRAME_BYTES: usize = r#","":{"metas":[]}"#.len();

/// `{user: {"metas": […]}, …}`, user by user.
#[derive(Debug, Default)]
pub(super) struct List {
    text: String,
    /// Whose metas are being written.
    user: Option<Arc<str>>,
}

impl List {
    /// Adds a meta. All metas of a user must come one after the other.
    pub(super) fn push(&mut self, user: &Arc<str>, meta: &str) {
        if self.user.as_ref() == Some(user) {
            self.text.push(',');
        } else {
            self.text.push_str(if self.user.is_none() { "{" } else { "]}," });
            write_string(&mut self.text, user);
            self.text.push_str(r#":{"metas":["#);
            self.user = Some(user.clone());
        }
        self.text.push_str(meta);
    }

    /// Whether the list stays within the bound with one more meta.
    pub(super) fn has_room_for(&self, user: &str, meta: &str) -> bool {
        self.bytes() + entry_bytes_max(user, meta) <= PRESENCE_TEXT_BYTES_MAX
    }

    /// The whole list, which is empty again then.
    pub(super) fn take(&mut self) -> String {
        let mut text = mem::take(&mut self.text);
        text.push_str(if self.user.take().is_none() { "{}" } else { "]}}" });
        text
    }

    fn is_empty(&self) -> bool {
        self.user.is_none()
    }

    /// Length that it has when it ends here.
    fn bytes(&self) -> usize {
        self.text.len() + 3
    }
}

/// Joins and leaves, as one diff or several.
#[derive(Debug, Default)]
pub(super) struct Diffs {
    joins: List,
    leaves: List,
    full: Vec<String>,
}

impl Diffs {
    pub(super) fn join(&mut self, user: &Arc<str>, meta: &str) {
        self.make_room(user, meta);
        self.joins.push(user, meta);
    }

    pub(super) fn leave(&mut self, user: &Arc<str>, meta: &str) {
        self.make_room(user, meta);
        self.leaves.push(user, meta);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.joins.is_empty() && self.leaves.is_empty()
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        self.cut();
        self.full
    }

    fn make_room(&mut self, user: &str, meta: &str) {
        let bytes = DIFF_FRAME_BYTES + self.joins.bytes() + self.leaves.bytes();
        if bytes + entry_bytes_max(user, meta) > PRESENCE_TEXT_BYTES_MAX {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if !self.joins.is_empty() || !self.leaves.is_empty() {
            let (joins, leaves) = (self.joins.take(), self.leaves.take());
            self.full.push(object_of(DIFF_FRAME_BYTES + joins.len() + leaves.len(), |diff| {
                diff.raw("joins", &joins).raw("leaves", &leaves);
            }));
        }
    }
}

/// Every byte of the user may become an escape of six.
fn entry_bytes_max(user: &str, meta: &str) -> usize {
    ENTRY_FRAME_BYTES + 6 * user.len() + meta.len()
}

/// One meta of a user.
#[derive(Clone, Copy, Debug)]
pub(super) struct MetaText<'a> {
    pub(super) epoch: u64,
    pub(super) reference: u64,
    /// 0: there is none.
    pub(super) previous: u64,
    pub(super) joined_at_s: u64,
    pub(super) status: &'a str,
    pub(super) name: &'a str,
    /// A JSON object with at least one field.
    pub(super) fields: Option<&'a str>,
}

impl MetaText<'_> {
    /// The meta as a JSON object, over whatever was in `buffer`.
    pub(super) fn write(&self, buffer: &mut String) {
        buffer.clear();
        write_object(buffer, |meta| {
            meta.plain("phx_ref", Reference(self.epoch, self.reference));
            if self.previous != 0 {
                meta.plain("phx_ref_prev", Reference(self.epoch, self.previous));
            }
            meta.number("joined_at", self.joined_at_s).text("status", self.status).text("name", self.name);
            if let Some(fields) = self.fields {
                meta.fields_of(fields);
            }
        });
    }
}

/// Epoch and number in base64. Leading zero bytes of the number are left out: another length is another number.
struct Reference(u64, u64);

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(epoch, number) = self;
        let mut bytes = [0; 16];
        let significant = &number.to_be_bytes()[number.leading_zeros() as usize / 8..];
        let end = 8 + significant.len();
        bytes[..8].copy_from_slice(&epoch.to_be_bytes());
        bytes[8..end].copy_from_slice(significant);
        Base64Display::new(&bytes[..end], &URL_SAFE_NO_PAD).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: MetaText<'_> = MetaText {
        epoch: 0x0102_0304_0506_0708,
        reference: 1,
        previous: 0,
        joined_at_s: 1_800_000_000,
        status: "online",
        name: "A\"nn",
        fields: None,
    };

    fn written(meta: MetaText<'_>) -> String {
        let mut buffer = String::from("old");
        meta.write(&mut buffer);
        buffer
    }

    #[test]
    fn a_meta_has_its_keys_in_order() {
        assert_eq!(
            written(META),
            r#"{"phx_ref":"AQIDBAUGBwgB","joined_at":1800000000,"status":"online","name":"A\"nn"}"#
        );
        assert_eq!(
            written(MetaText { reference: 256, previous: 1, fields: Some(r#"{"a":1}"#), ..META }),
            r#"{"phx_ref":"AQIDBAUGBwgBAA","phx_ref_prev":"AQIDBAUGBwgB","joined_at":1800000000,"status":"online","name":"A\"nn","a":1}"#
        );
    }

    #[test]
    fn references_differ() {
        let mut texts: Vec<String> = Vec::new();
        for epoch in [0, 1, 256, u64::MAX] {
            for reference in [1, 2, 255, 256, 257, 65_536, u64::MAX] {
                texts.push(written(MetaText { epoch, reference, ..META }));
            }
        }
        let count = texts.len();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), count);
    }

    #[test]
    fn a_diff_names_each_user_once_and_always_has_both_lists() {
        let (ann, bob) = (Arc::from("ann"), Arc::from("b\"ob"));
        let mut diffs = Diffs::default();
        assert!(diffs.is_empty());
        diffs.join(&ann, "1");
        diffs.join(&ann, "2");
        diffs.join(&bob, "3");
        assert!(!diffs.is_empty());
        assert_eq!(
            diffs.finish(),
            [r#"{"joins":{"ann":{"metas":[1,2]},"b\"ob":{"metas":[3]}},"leaves":{}}"#]
        );
        assert_eq!(Diffs::default().finish(), Vec::<String>::new());
    }

    #[test]
    fn what_is_too_long_for_one_diff_becomes_several_below_the_bound() {
        let mut diffs = Diffs::default();
        let meta = "1".repeat(1000);
        for index in 0..100 {
            let user = Arc::from(format!("{index:\u{1}>9}"));
            diffs.join(&user, &meta);
            diffs.leave(&user, &meta);
        }
        let texts = diffs.finish();
        assert_eq!(texts.len(), 4);
        assert!(texts.iter().all(|text| text.len() <= PRESENCE_TEXT_BYTES_MAX));
        assert!(texts[0].len() > PRESENCE_TEXT_BYTES_MAX - 1200);
    }
}
