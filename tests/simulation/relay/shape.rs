//! The bounds of a rim, which a run draws small.

use corelay::limits::PART_WORK_MAX;

use crate::faults::{Fault, Plan};
use crate::random::Random;

/// See the module documentation.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Letters in one inbox.
    pub letters_max: usize,
    /// Letters that wait behind it.
    pub overflow_max: usize,
    pub completions_per_turn: usize,
    pub letters_per_turn: usize,
    pub sends_per_turn: usize,
    /// What the core may do in each part of a turn.
    pub work_per_part: u32,
    /// What the kernel takes for a client that does not read.
    pub down_bytes_max: usize,
}

impl Shape {
    pub fn draw(plan: &Plan, random: &mut Random) -> Self {
        let roomy = Self::roomy();
        let full = plan.is_on(Fault::FullMailbox) || plan.is_on(Fault::RefusedForward);
        let short = plan.is_on(Fault::ShortTurn);
        let mut bound = |is_on: bool, choices: &[usize], otherwise: usize| match is_on {
            true => random.one_of(choices),
            false => otherwise,
        };
        Self {
            letters_max: bound(full, &[1, 2, 5], roomy.letters_max),
            overflow_max: bound(plan.is_on(Fault::RefusedForward), &[0, 1, 4], roomy.overflow_max),
            completions_per_turn: bound(short, &[1, 2, 5], roomy.completions_per_turn),
            letters_per_turn: bound(short, &[1, 2, 5], roomy.letters_per_turn),
            sends_per_turn: bound(short, &[1, 3, 10], roomy.sends_per_turn),
            work_per_part: bound(short, &[1, 5, 30], roomy.work_per_part as usize) as u32,
            down_bytes_max: bound(true, &[50, 500, 4096, 64 * 1024], 0),
        }
    }

    /// Nothing is ever full, but for a socket.
    pub fn roomy() -> Self {
        Self {
            letters_max: 1024,
            overflow_max: 16 * 1024,
            completions_per_turn: usize::MAX,
            letters_per_turn: usize::MAX,
            sends_per_turn: usize::MAX,
            work_per_part: PART_WORK_MAX,
            down_bytes_max: 4096,
        }
    }
}
