//! The figures of `idle`.

use crate::figures::{Spec, Unit, headline, spec};

/// Figures of `idle`.
pub static FIGURES: &[Spec] = &[
    headline("joined", Unit::Count, "members that are in their game or topic"),
    spec("not_joined", Unit::Count, "members that are not"),
    headline("closed", Unit::Count, "members whose connection ended"),
    spec("stateless", Unit::Count, "members that joined and got no presence_state"),
    spec("rss_first_bytes", Unit::Bytes, "resident memory of the relay at the first step"),
    spec("rss_last_bytes", Unit::Bytes, "resident memory of the relay at the last step"),
    headline("slope", Unit::Number, "bytes per member between the first and the last step"),
];
