//! The suite that every driver passes, run with this one.

use std::sync::Arc;
use std::time::Duration;

use super::{EpollDriver, EpollSettings, SocketBudget};
use crate::rim::conformance::{ROOM, Tested, suite};

impl Tested for EpollDriver {
    fn with_buffers(receive_buffers: u16) -> Self {
        Self::new(EpollSettings {
            descriptors: ROOM,
            sockets: Arc::new(SocketBudget::new(ROOM.into())),
            receive_buffers,
            gather_time: Duration::from_millis(1),
        })
        .unwrap()
    }
}

suite!(EpollDriver);
