//! How the admin pages read documents from the store, which they do not see, and what they need to make one.

use std::sync::Arc;

use super::random;
use crate::admin::documents::{Beginning, Documents, ShownDocument};
use crate::rim::Clock;
use crate::store::document::StoredDocument;
use crate::store::export::StoreReader;

pub(super) fn of(reader: StoreReader, clock: Clock) -> Documents {
    let read = move |topic: &_| {
        let document = reader.document(topic).map_err(|error| error.to_string())?;
        let shown =
            |StoredDocument { epoch, version, length, text }| ShownDocument { epoch, version, length, text };
        Ok(document.map(shown))
    };
    let begin = move || {
        let epoch = random().map(u64::from_ne_bytes).map_err(|error| error.to_string())?;
        Ok(Beginning { epoch, at_ms: clock.now().unix_us / 1000 })
    };
    Documents::new(Arc::new(read), Arc::new(begin))
}
