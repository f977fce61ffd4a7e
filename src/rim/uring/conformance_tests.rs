//! The suite that every driver passes, run with this one.

use std::time::Duration;

use super::{RingDriver, RingSettings};
use crate::rim::conformance::{ROOM, Tested, suite};

impl Tested for RingDriver {
    fn with_buffers(receive_buffers: u16) -> Self {
        let settings = RingSettings {
            descriptors: ROOM,
            submissions: 64,
            completions: 256,
            receive_buffers,
            gather_time: Duration::from_millis(1),
        };
        Self::new(settings).unwrap()
    }
}

suite!(RingDriver);
