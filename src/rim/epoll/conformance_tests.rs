//! The suite that every driver passes, run with this one.

use std::time::Duration;

use super::{EpollDriver, EpollSettings};
use crate::rim::conformance::{Tested, suite};

impl Tested for EpollDriver {
    fn with_buffers(receive_buffers: u16) -> Self {
        let gather_time = Duration::from_millis(1);
        Self::new(EpollSettings { descriptors: 16, receive_buffers, gather_time }).unwrap()
    }
}

suite!(EpollDriver);
