//! What must be true at every moment, whatever goes wrong.

use corelay::limits::GREETINGS_BYTES_MAX;

use super::Relay;

impl Relay {
    /// What waits for anybody is within its bounds.
    pub fn check_bounds(&self) {
        for number in self.running() {
            let sizes = self.loops[number].shard.sizes();
            let over = [sizes.lanes_over_bound, sizes.lanes_miscounted, sizes.states_over_bound];
            assert_eq!(over, [0; 3], "shard {number}: {sizes:?}");
            let seats_held = self.metrics[number].seats_held.value();
            assert!(sizes.held_rates as u64 <= seats_held, "shard {number} of {seats_held} seats: {sizes:?}");
            assert!(sizes.exempt_bytes_max <= GREETINGS_BYTES_MAX, "shard {number}: {sizes:?}");
        }
    }
}
