//! How the admin pages read the store, which they do not see.

use std::sync::Arc;

use crate::admin::export::{BeginExport, Parts};
use crate::store::export::StoreReader;

pub(super) fn begin(reader: StoreReader) -> BeginExport {
    Arc::new(move |topic| {
        if let Some(topic) = topic
            && !reader.has(topic).map_err(|error| error.to_string())?
        {
            return Ok(None);
        }
        let parts = reader.export(topic).map(|part| part.map_err(|error| error.to_string()));
        Ok(Some(Box::new(parts) as Parts))
    })
}
