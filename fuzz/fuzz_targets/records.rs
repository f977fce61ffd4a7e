//! Records of native clients, in a game of any layout: never a panic, and no number that is not finite.
#![no_main]

use corelay::limits::POSE_BYTES_MAX;
use corelay::wire::layout::{Layout, Number};
use corelay::wire::native::{self, Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, u8, u8, u8, &[u8])| {
    let (has_three_axes, pose_bytes, keys, key_bytes_max, bytes) = input;
    let layout = Layout {
        number: Number::U16,
        axes: if has_three_axes { 3 } else { 2 },
        pose_bytes: pose_bytes % (POSE_BYTES_MAX + 1),
        keys,
        key_bytes_max,
    };
    match native::decode(bytes, &layout) {
        Ok(Record::Step { state, .. }) => {
            assert!(layout.is_finite(state) && state.len() == layout.state_bytes());
        }
        Ok(Record::PutObject(object)) => {
            assert!(object.place().iter().all(|coordinate| coordinate.is_finite()));
        }
        Ok(Record::HostSteps(steps)) => {
            assert!(steps.iter().all(|step| layout.is_finite(step.state)));
        }
        Ok(Record::SetState { key, value }) => {
            assert!((1..=keys).contains(&key) && value.len() <= key_bytes_max.into());
        }
        Ok(
            Record::RemoveObject { .. }
            | Record::SetView { .. }
            | Record::Event { .. }
            | Record::Who(_)
            | Record::Ping(_),
        )
        | Err(_) => {}
    }
});
