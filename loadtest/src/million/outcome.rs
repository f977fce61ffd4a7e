//! What a run measured, as figures, and as the numbers that runs of different sizes are compared by.

use anyhow::anyhow;

use super::figures::FIGURES;
use super::kernel::{Kernel, Sockstat};
use super::layout::Layout;
use super::watch::Seen;
use crate::figures::{Figure, Value, difference, fill, share, value_of};
use crate::measurement::Measurement;
use crate::players::{Tallies, figures_of_views};

#[derive(Debug)]
pub struct Outcome {
    pub layout: Layout,
    pub tallies: Tallies,
    pub seen: Seen,
    /// The relay runs on this machine: its ends of the connections are in the kernel's figures.
    pub local: bool,
}

impl Outcome {
    /// Its figures; what was not measured says why.
    pub fn figures(&self) -> Vec<Figure> {
        let Self { layout, tallies, seen, .. } = self;
        let count = |number: u64| -> Value { Ok(number as f64) };
        let joined = tallies.joined;
        let [rss_start, rss_top, rss_after] = &seen.rss_bytes;
        let user = difference(rss_top, rss_start);
        let left = rss_after.clone().and_then(|after| Ok(after / rss_start.clone()?));
        let per_s = seen.ramp_s.clone().map(|ramp_s| f64::from(joined) / ramp_s.max(1e-9));
        let values = [
            ("joined", count(joined.into())),
            ("refused", count(tallies.endings.failures.total())),
            ("dropped", count(tallies.endings.closes.total())),
            ("ramp_s", seen.ramp_s.clone()),
            ("ramp_per_s", per_s),
            ("rss_start_bytes", rss_start.clone()),
            ("rss_top_bytes", rss_top.clone()),
            ("rss_after_bytes", rss_after.clone()),
            ("rss_left", left),
            ("user_bytes_per_player", user.and_then(|bytes| self.per_player(bytes))),
            ("kernel_bytes_per_connection", self.kernel_bytes_per_connection()),
            ("client_kernel_bytes", self.client_kernel_bytes_per_connection()),
            ("sockstat_mem_bytes", self.sockstat(1).map(|stat| stat.buffer_bytes)),
            ("idle_cpu_cores", seen.relay_cores[0].clone()),
            ("hold_cpu_cores", seen.relay_cores[1].clone()),
            ("client_rss_bytes", seen.client_rss_bytes.clone()),
            ("client_idle_cpu_cores", seen.client_cores[0].clone()),
            ("client_cpu_cores", seen.client_cores[1].clone()),
            ("active_players", count(layout.active_players().into())),
            ("frames", self.frames().map(|frames| frames as f64)),
            ("cpu_us_per_frame", self.cpu_us_per_frame()),
            ("moves", count(tallies.sends.moves)),
            ("late_share", share(tallies.sends.late, tallies.sends.moves)),
            ("lateness_p99", Ok(tallies.sends.lateness_us.value_at_percentile(99.0) as f64)),
            ("pings", count(tallies.total.pings)),
            ("malformed", count(tallies.total.malformed)),
            ("slab_kept_bytes", self.seen.kernel_growth(2).map(|growth| growth.bytes)),
            ("slab_left_bytes", seen.left.clone().map(|growth| growth.bytes)),
            ("time_wait", self.sockstat(2).map(|stat| stat.time_wait)),
        ];
        let views_expected = tallies.moves_planned * u64::from(layout.players - 1);
        fill(FIGURES, values.into_iter().chain(figures_of_views(&tallies.tally, views_expected)))
    }

    /// As numbers only; an error names what was not measured. After a failure during the goodbyes NaN stands for what came later.
    pub fn measurement(&self) -> anyhow::Result<Measurement> {
        let figures = self.figures();
        let value =
            |name: &str| value_of(&figures, name).map_err(|why| anyhow!("{name} was not measured: {why}"));
        let after = |name: &str| match &self.seen.failure {
            Some(_) => Ok(value(name).unwrap_or(f64::NAN)),
            None => value(name),
        };
        Ok(Measurement {
            connections: self.layout.connections(),
            joined: self.tallies.joined,
            refused: self.tallies.endings.failures.total(),
            dropped: self.tallies.endings.closes.total(),
            shards: self.seen.shards,
            ramp_per_s: value("ramp_per_s")?,
            rss_start_bytes: value("rss_start_bytes")?,
            rss_top_bytes: value("rss_top_bytes")?,
            rss_after_bytes: after("rss_after_bytes")?,
            user_bytes_per_player: value("user_bytes_per_player")?,
            kernel_bytes_per_connection: value("kernel_bytes_per_connection")?,
            kernel_by_cache: self
                .seen
                .kernel_growth(1)
                .map_err(|why| anyhow!("slab caches: {why}"))?
                .by_cache,
            sockstat_mem_bytes: value("sockstat_mem_bytes")?,
            idle_cpu_cores: value("idle_cpu_cores")?,
            hold_cpu_cores: value("hold_cpu_cores")?,
            client_cpu_cores: value("client_cpu_cores")?,
            active_players: self.layout.active_players(),
            frames: self.frames().map_err(|why| anyhow!("frames were not counted: {why}"))?,
            cpu_us_per_frame: value("cpu_us_per_frame")?,
            reach: value("reach")?,
            p50_us: value("p50")?,
            p90_us: value("p90")?,
            p99_us: value("p99")?,
            max_us: value("max")?,
            slab_left_bytes: after("slab_left_bytes")?,
        })
    }

    fn frames(&self) -> Result<u64, String> {
        self.seen.window_s.clone().map(|_| self.tallies.window.tick_frames)
    }

    /// Divides by the players that were there when memory was read: one that had ended by then takes none.
    fn per_player(&self, bytes: f64) -> Value {
        match self.seen.open_at_top {
            0 => Err("nobody was there when memory was read".to_owned()),
            open => Ok(bytes / f64::from(open)),
        }
    }

    fn kernel_bytes_per_connection(&self) -> Value {
        let ends = if self.local { 2.0 } else { 1.0 };
        let growth = self.seen.kernel_growth(1)?;
        self.per_player((growth.bytes - growth.client_bytes.unwrap_or(0.0)) / ends)
    }

    fn client_kernel_bytes_per_connection(&self) -> Value {
        let bytes = self.seen.kernel_growth(1)?.client_bytes;
        self.per_player(bytes.ok_or("only root is told each slab cache")?)
    }

    fn sockstat(&self, moment: usize) -> Result<Sockstat, String> {
        let kernel: &Result<Kernel, String> = &self.seen.kernel[moment];
        kernel.as_ref().map_err(Clone::clone)?.sockstat.clone()
    }

    /// What moving costs beyond being idle.
    fn cpu_us_per_frame(&self) -> Value {
        let cores = difference(&self.seen.relay_cores[1], &self.seen.relay_cores[0])?;
        match self.frames()? {
            0 => Err("no frame was received".to_owned()),
            frames => Ok(cores * self.seen.window_s.clone()? * 1e6 / frames as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::ActiveGames;
    use super::*;

    fn outcome() -> Outcome {
        let layout = Layout::new(1_000, 50, ActiveGames::Games(2), 20_000).unwrap();
        let mut tallies = Tallies { joined: 1_000, moves_planned: 100, ..Tallies::default() };
        tallies.window.tick_frames = 20_000;
        tallies.tally.fresh = 4_851;
        let seen = Seen {
            ramp_s: Ok(0.5),
            rss_bytes: [Ok(10e6), Ok(10.225e6), Err("interrupted".into())],
            open_at_top: 750,
            client_rss_bytes: Ok(1e6),
            left: Err("interrupted".into()),
            kernel: std::array::from_fn(|_| Err("no slab".into())),
            relay_cores: [Ok(0.01), Ok(0.05)],
            client_cores: [Ok(0.0), Ok(0.1)],
            window_s: Ok(10.0),
            shards: Some(2),
            complete: false,
            failure: None,
        };
        Outcome { layout, tallies, seen, local: true }
    }

    #[test]
    fn figures_are_put_together_from_both_sides() {
        let figures = outcome().figures();
        let value = |name| value_of(&figures, name);
        assert_eq!((value("ramp_per_s"), value("user_bytes_per_player")), (Ok(2_000.0), Ok(300.0)));
        // (0.05 − 0.01) cores × 10 s / 20,000
        assert!((value("cpu_us_per_frame").unwrap() - 20.0).abs() < 1e-9);
        assert_eq!((value("views_expected"), value("reach")), (Ok(4_900.0), Ok(0.99)));
        assert_eq!(value("rss_after_bytes"), Err("interrupted".into()));
        assert_eq!(value("p99"), Err("no view arrived".into()));
    }

    #[test]
    fn memory_is_that_of_those_who_were_there_when_it_was_read() {
        let mut outcome = outcome();
        assert_eq!((outcome.tallies.joined, outcome.per_player(225_000.0)), (1_000, Ok(300.0)));
        outcome.seen.open_at_top = 0;
        assert_eq!(outcome.per_player(225_000.0), Err("nobody was there when memory was read".into()));
    }

    #[test]
    fn a_failure_in_the_goodbyes_leaves_what_was_measured_before() {
        let mut outcome = outcome();
        outcome.seen.rss_bytes[2] = Ok(11e6);
        outcome.seen.fail(&anyhow!("the relay ended"));
        outcome.seen.fail(&anyhow!("a thread, too"));
        assert_eq!(outcome.seen.failure.as_deref(), Some("the relay ended"));
        let figures = outcome.figures();
        let value = |name| value_of(&figures, name);
        assert_eq!((value("rss_top_bytes"), value("reach")), (Ok(10.225e6), Ok(0.99)));
        for after in ["rss_after_bytes", "rss_left", "slab_kept_bytes", "slab_left_bytes", "time_wait"] {
            assert!(value(after).unwrap_err().starts_with("not measured: "), "{after}");
        }
    }

    #[test]
    fn a_run_that_was_not_complete_is_no_measurement() {
        let error = outcome().measurement().unwrap_err().to_string();
        assert_eq!(error, "rss_after_bytes was not measured: interrupted");
    }
}
