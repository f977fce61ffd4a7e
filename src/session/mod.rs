//! One client: its lifecycle, its limits, and what waits to be sent to it.

pub mod liveness;
pub mod rate_limit;
