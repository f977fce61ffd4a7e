//! The figures of `idle`.

use crate::figures::Unit::{Bytes, Count, Number};
use crate::figures::{Spec, headline, spec};

/// Figures of `idle`.
pub static FIGURES: &[Spec] = &[
    headline("joined", Count, "members that are in their game or topic"),
    spec("not_joined", Count, "members that are not"),
    headline("closed", Count, "members whose connection ended"),
    spec("stateless", Count, "members that joined and got no presence_state"),
    spec("rss_first_bytes", Bytes, "resident memory of the relay at the first step"),
    spec("rss_last_bytes", Bytes, "resident memory of the relay at the last step"),
    headline("slope", Number, "bytes per member between the first and the last step"),
];
