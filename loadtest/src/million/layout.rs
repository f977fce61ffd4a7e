//! Which connection is where: whole games over rings that are as large as `RLIMIT_NOFILE` allows.

use std::ops::Range;

use anyhow::bail;

/// Connections of a ring even where there may be more, so that its completions fit and its thread has time for them.
const RING_CONNECTIONS_MAX: u64 = 32_768;

/// Games over rings, each with a thread of its own. Ring by ring and game by game: the active games are the first ones, so that
/// all other threads sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub players: u32,
    pub games: u32,
    pub active_games: u32,
    /// Games of each ring; the last one may have fewer.
    games_per_ring: u32,
}

/// How many games move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ActiveGames {
    /// A share of all, below 1; at least one game.
    Share(f64),
    /// So many, or all if there are fewer.
    Games(u32),
}

impl Layout {
    /// Places `connections` in games of `players`, over rings of at most `descriptors` connections.
    pub fn new(
        connections: u32,
        players: u32,
        active: ActiveGames,
        descriptors: u64,
    ) -> anyhow::Result<Self> {
        check_whole_games(connections, players)?;
        let games = connections / players;
        let fitting = descriptors.min(RING_CONNECTIONS_MAX) / u64::from(players);
        if fitting == 0 {
            bail!(
                "a game of --players {players} is on one ring, and RLIMIT_NOFILE is {descriptors}: it bounds a ring's descriptor \
                 table. Use smaller games or raise the limit (`ulimit -n`)."
            );
        }
        let active_games = match active {
            ActiveGames::Share(share) => ((f64::from(games) * share).round() as u32).max(1),
            ActiveGames::Games(games) => games,
        };
        let games_per_ring = u32::try_from(fitting).unwrap_or(u32::MAX).min(games);
        Ok(Self { players, games, active_games: active_games.min(games), games_per_ring })
    }

    pub fn connections(&self) -> u32 {
        self.games * self.players
    }

    pub fn active_players(&self) -> u32 {
        self.active_games * self.players
    }

    pub fn rings(&self) -> u32 {
        self.games.div_ceil(self.games_per_ring)
    }

    pub fn games_of(&self, ring: u32) -> Range<u32> {
        let first = ring * self.games_per_ring;
        first..(first + self.games_per_ring).min(self.games)
    }

    /// How many of them, the first ones, are active.
    pub fn active_of(&self, ring: u32) -> u32 {
        let games = self.games_of(ring);
        self.active_games.clamp(games.start, games.end) - games.start
    }
}

pub fn check_whole_games(connections: u32, players: u32) -> anyhow::Result<()> {
    if connections == 0 || !connections.is_multiple_of(players) {
        let below = (connections / players).max(1) * players;
        bail!("{connections} connections are no number of whole games of --players {players}: use {below}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_is_fifty_rings_of_which_one_is_active() {
        let layout = Layout::new(1_000_000, 50, ActiveGames::Share(0.005), 20_000).unwrap();
        assert_eq!((layout.rings(), layout.games, layout.active_games), (50, 20_000, 100));
        assert_eq!((layout.games_of(49), layout.active_players()), (19_600..20_000, 5_000));
        assert_eq!((layout.active_of(0), layout.active_of(1)), (100, 0));
    }

    #[test]
    fn active_games_go_on_with_the_next_ring() {
        let layout = Layout::new(1_000, 50, ActiveGames::Games(15), 520).unwrap();
        assert_eq!(layout.rings(), 2);
        assert_eq!((layout.active_of(0), layout.active_of(1)), (10, 5));
        let all = Layout::new(1_000, 50, ActiveGames::Games(99), 20_000).unwrap();
        assert_eq!((all.rings(), all.active_of(0), all.games_of(0)), (1, 20, 0..20));
        assert_eq!(Layout::new(100, 50, ActiveGames::Share(0.005), 20_000).unwrap().active_games, 1);
    }

    #[test]
    fn what_cannot_be_placed_says_what_can() {
        let error = |connections, players, descriptors| {
            let layout = Layout::new(connections, players, ActiveGames::Games(1), descriptors);
            layout.unwrap_err().to_string()
        };
        assert!(error(1_001, 50, 20_000).contains("use 1000"));
        assert!(error(10, 50, 20_000).contains("use 50"));
        assert!(error(2_000, 2_000, 1_024).contains("ulimit -n"));
    }
}
