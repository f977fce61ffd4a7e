//! What the peers of `corelay-loadtest compare` have in common: rooms of a latest-value relay, the command line, the runtime.
//!
//! The peers do the work that corelay does for a game, and nothing else of it: no roster, no limits, no liveness, no tokens,
//! no metrics. Whatever is the same for all of them is here; a peer's own file is what its library asks for.

mod arguments;
mod room;

pub use arguments::Arguments;
pub use room::{Member, RECORD_BYTES, Rooms};
