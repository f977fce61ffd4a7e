//! Records of native clients: never a panic, and no number that is not finite.
#![no_main]

use corelay::wire::native::{self, Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match native::decode(bytes) {
        Ok(Record::Move(record)) => assert!(record.x.get().is_finite() && record.y.get().is_finite()),
        Ok(Record::PutObject(object)) => assert!(object.x.get().is_finite() && object.y.get().is_finite()),
        Ok(Record::HostMoves(positions)) => {
            assert!(
                positions.iter().all(|position| position.x.get().is_finite() && position.y.get().is_finite())
            );
        }
        Ok(Record::RemoveObject { .. } | Record::Event { .. } | Record::Who(_) | Record::Ping(_))
        | Err(_) => {}
    }
});
