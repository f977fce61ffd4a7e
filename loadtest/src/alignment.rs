//! When to send so that a move is fresh when its tick comes: what a client library does with the slack that Acks tell, once.

use crate::schedule::Schedule;

/// Acks of a player that say where its tick is.
const ACKS_MAX: usize = 64;
const ACKS_MIN: usize = 4;
/// How long before its tick a move should be there: twice the jitter of its way, and this.
const MARGIN_NS: u64 = 3_000_000;
const JITTERS: u64 = 2;

/// What the players of a thread have learned about their ticks.
#[derive(Debug)]
pub struct Alignment {
    /// By player: moments of sending that would have arrived just at a tick, within an interval.
    deadlines_ns: Vec<Vec<u64>>,
    interval_ns: u64,
}

impl Alignment {
    pub fn new(players: usize, interval_ns: u64) -> Self {
        Self { deadlines_ns: vec![Vec::new(); players], interval_ns }
    }

    /// The move of `player` that was meant for `intended_ns` after the start has come `slack_ns` before its tick.
    pub fn handle_ack(&mut self, player: u32, intended_ns: u64, slack_ns: u64) {
        let Some(deadlines) = self.deadlines_ns.get_mut(player as usize) else { return };
        if deadlines.len() < ACKS_MAX {
            deadlines.push((intended_ns + slack_ns) % self.interval_ns);
        }
    }

    /// From now on each player sends so early before its tick as it needs to; those who know too little, as they did.
    pub fn align(&self, schedule: &mut Schedule, now_ns: u64) {
        let interval_ns = schedule.interval_ns();
        let phase =
            |(&before, deadlines): (&u64, &Vec<u64>)| phase_ns(deadlines, interval_ns).unwrap_or(before);
        let phases = schedule.phases_ns().iter().zip(&self.deadlines_ns).map(phase).collect();
        schedule.set_phases(phases, now_ns);
    }
}

/// When to send within an interval.
fn phase_ns(deadlines_ns: &[u64], interval_ns: u64) -> Option<u64> {
    if deadlines_ns.len() < ACKS_MIN {
        return None;
    }
    // Of ticks only their phase counts, so all are brought within half an interval of the first.
    let half = interval_ns / 2;
    let around = |deadline: &u64| (deadline + interval_ns + half - deadlines_ns[0]) % interval_ns;
    let mut around: Vec<u64> = deadlines_ns.iter().map(around).collect();
    around.sort_unstable();
    let middle = around[around.len() / 2];
    let jitter = around.iter().map(|phase| phase.abs_diff(middle)).sum::<u64>() / around.len() as u64;
    let early = (JITTERS * jitter + MARGIN_NS) % interval_ns;
    Some((deadlines_ns[0] + middle + 2 * interval_ns - half - early) % interval_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 50_000_000;

    #[test]
    fn a_player_sends_its_jitter_and_a_margin_before_its_tick() {
        for tick in [0, 1_000_000, 24_999_999, 25_000_000, 49_000_000] {
            let at = |offset: u64| (tick + INTERVAL + offset - 1_000_000) % INTERVAL;
            let even: Vec<u64> = [1_000_000; 5].map(at).to_vec();
            assert_eq!(phase_ns(&even, INTERVAL), Some((tick + INTERVAL - 3_000_000) % INTERVAL));
            // 1 ms before, 1 ms behind, by turns: the jitter is 0.8 ms.
            let uneven: Vec<u64> = [0, 2_000_000, 1_000_000, 0, 2_000_000].map(at).to_vec();
            assert_eq!(phase_ns(&uneven, INTERVAL), Some((tick + INTERVAL - 4_600_000) % INTERVAL));
        }
        assert_eq!(phase_ns(&[1; ACKS_MIN - 1], INTERVAL), None);
    }

    #[test]
    fn acks_move_the_schedule_and_no_move_is_left_out_or_sent_twice() {
        let mut schedule = Schedule::new(0..40, 20.0, 1);
        let mut alignment = Alignment::new(40, INTERVAL);
        let mut sent = [0; 40];
        let mut now_ns = 0;
        for aligned in [false, true] {
            let end_ns = now_ns + 10 * INTERVAL;
            while let Some(due) = schedule.take_due(end_ns) {
                if due.sequence <= sent[due.player as usize] {
                    continue;
                }
                assert_eq!(due.sequence, sent[due.player as usize] + 1, "of player {}", due.player);
                sent[due.player as usize] = due.sequence;
                // The tick is 11 ms into each interval.
                let slack_ns = (11_000_000 + INTERVAL - due.intended_ns % INTERVAL) % INTERVAL;
                if aligned {
                    assert_eq!(slack_ns, if due.player == 3 { slack_ns } else { MARGIN_NS });
                } else if due.player != 3 {
                    alignment.handle_ack(due.player, due.intended_ns, slack_ns);
                }
            }
            now_ns = end_ns;
            alignment.align(&mut schedule, now_ns);
        }
        assert!(sent.iter().all(|sent| (19..=21).contains(sent)), "{sent:?}");
    }
}
