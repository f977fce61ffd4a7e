//! The reliable lane of an outbox: frames in order, and what they take of its bound.

use std::collections::VecDeque;

use crate::limits::{FRAMES_PER_SEND_MAX, OUTBOX_FRAME_BYTES};
use crate::memory::Allocated;
use crate::planted;
use crate::wire::encoded::Encoded;

/// What reliable frames take, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Bytes that count against the lane's bound.
    pub(super) counted: u32,
    /// Bytes of frames that the bound does not count.
    pub(super) exempt: u32,
}

impl Cost {
    fn of(frame: &Queued) -> Self {
        match frame.exempt && !planted!(CountsExempt) {
            true => Self { counted: 0, exempt: cost(&frame.frame) },
            false => Self { counted: cost(&frame.frame), exempt: 0 },
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { counted: self.counted + other.counted, exempt: self.exempt + other.exempt }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self { counted: self.counted - other.counted, exempt: self.exempt - other.exempt }
    }
}

/// A frame that waits.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) frame: Encoded,
    /// The lane's bound does not count it.
    pub(super) exempt: bool,
}

/// Frames that wait, oldest first. Most often there is none, or one: that takes no allocation.
#[derive(Debug, Default)]
pub(super) enum Lane {
    #[default]
    Empty,
    One(Queued),
    /// An idle outbox pays one word for the rare case.
    Many(Box<Queue>),
}

/// Invariant: `cost` is that of `frames`.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Queued>,
    cost: Cost,
}

impl Queue {
    fn of(frames: VecDeque<Queued>) -> Self {
        Self { cost: frames.iter().map(Cost::of).fold(Cost::default(), Cost::plus), frames }
    }
}

impl Lane {
    pub(super) fn push(&mut self, frame: Queued) {
        *self = match std::mem::take(self) {
            Self::Empty => Self::One(frame),
            Self::One(first) => Self::Many(Box::new(Queue::of([first, frame].into()))),
            Self::Many(mut queue) => {
                queue.cost = queue.cost.plus(Cost::of(&frame));
                queue.frames.push_back(frame);
                Self::Many(queue)
            }
        };
    }

    pub(super) fn cost(&self) -> Cost {
        match self {
            Self::Empty => Cost::default(),
            Self::One(frame) => Cost::of(frame),
            Self::Many(queue) => queue.cost,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The oldest frames, as many as one send takes.
    pub(super) fn take_first(&mut self) -> Vec<Encoded> {
        match std::mem::take(self) {
            Self::Empty => Vec::new(),
            Self::One(Queued { frame, .. }) => vec![frame],
            Self::Many(mut queue) if queue.frames.len() > FRAMES_PER_SEND_MAX => {
                let first = Queue::of(queue.frames.drain(..FRAMES_PER_SEND_MAX).collect());
                queue.cost = queue.cost.minus(first.cost);
                *self = Self::Many(queue);
                first.frames.into_iter().map(|queued| queued.frame).collect()
            }
            Self::Many(queue) => queue.frames.into_iter().map(|queued| queued.frame).collect(),
        }
    }

    /// Whether the counts are right, those of exempt frames apart from the others.
    pub(super) fn counts_right(&self) -> bool {
        let frames: Vec<&Queued> = match self {
            Self::Empty => Vec::new(),
            Self::One(frame) => vec![frame],
            Self::Many(queue) => queue.frames.iter().collect(),
        };
        let bytes = |exempt: bool| {
            let counted = frames.iter().filter(|queued| queued.exempt == exempt);
            counted.map(|queued| cost(&queued.frame)).sum::<u32>()
        };
        self.cost() == Cost { counted: bytes(false), exempt: bytes(true) }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(queued) => queued.frame.heap_bytes(),
            Self::Many(queue) => {
                let frames = queue.frames.iter().map(|queued| queued.frame.heap_bytes());
                queue.allocated_bytes() + queue.frames.allocated_bytes() + frames.sum::<usize>()
            }
        }
    }
}

/// What a frame takes of a lane's bound. A frame of two bytes costs memory as well: a client that pings and does not read
/// would be owed a hundred thousand pongs.
pub(super) fn cost(frame: &Encoded) -> u32 {
    (frame.bytes().len() + OUTBOX_FRAME_BYTES) as u32
}
