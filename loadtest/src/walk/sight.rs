//! What clients are shown: the world that the game tells of, and for some clients where they see whom.

use corelay::wire::native::{DeltaHeader, KeyframeHeader, LayoutRecord, Welcome, kind};
use zerocopy::FromBytes;

use super::world::{World, seat_of};
use crate::crowd::Listener;
use crate::dialect::Event;

/// Ticks in which everybody in a view is told at least once, however crowded it is.
pub const PERIOD_TICKS_MAX: u32 = 16;
/// A seat that is none of this load test's.
const STRANGER: u32 = u32::MAX;

/// What one client sees.
#[derive(Clone, Debug)]
pub struct Sight {
    /// By player.
    shown: Vec<Option<[f32; 2]>>,
    /// How crowded its view is, and how crowded it was until lately.
    level: u8,
    level_before: u8,
    level_before_until_ns: u64,
    /// Of the last frame, and when that came.
    tick: u32,
    pub frame_ns: u64,
}

/// See the module documentation. It is told what arrives. Of all clients, those whose number is a multiple of `every` are followed.
pub struct Sights {
    pub world: World,
    every: u32,
    /// The latest of which anybody who is followed has a frame.
    tick: u32,
    /// When frames of tick 0 came, as far as frames tell that came soonest after their tick.
    tick0_ns: u64,
    sights: Vec<Sight>,
    player_of_seat: Vec<u32>,
    /// Frames that are not as long as they say.
    pub malformed: u64,
}

impl Sight {
    fn new(players: u32) -> Self {
        Self {
            shown: vec![None; players as usize],
            level: 0,
            level_before: 0,
            level_before_until_ns: 0,
            tick: 0,
            frame_ns: 0,
        }
    }

    /// Where the client sees `player`, if it does.
    pub fn of(&self, player: u32) -> Option<[f32; 2]> {
        self.shown[player as usize]
    }

    /// The highest level by which what is shown may have been chosen.
    pub fn level(&self, now_ns: u64) -> u8 {
        if now_ns < self.level_before_until_ns { self.level.max(self.level_before) } else { self.level }
    }

    fn handle_level(&mut self, level: u8, tick_ns: u64, now_ns: u64) {
        if level < self.level {
            self.level_before = self.level(now_ns);
            self.level_before_until_ns = now_ns + u64::from(PERIOD_TICKS_MAX) * tick_ns;
        }
        self.level = level;
    }

    /// `None`: it is not as long as it says.
    fn handle_frame(&mut self, frame: &[u8], world: &World, player_of_seat: &[u32]) -> Option<()> {
        let (positions, gone) = if frame[0] == kind::KEYFRAME {
            let (header, rest) = KeyframeHeader::ref_from_prefix(frame).ok()?;
            self.shown.fill(None);
            (rest.get(..header.position_count.get() as usize * world.layout.position_bytes())?, &[][..])
        } else {
            let (header, rest) = DeltaHeader::ref_from_prefix(frame).ok()?;
            let count = header.position_count.get() as usize * world.layout.position_bytes();
            let objects_bytes = header.objects_count.get() as usize * world.layout.object_bytes();
            let (positions, rest) = rest.split_at_checked(count)?;
            let gone_bytes = usize::from(header.gone_players.get()) * world.layout.gone_player_bytes();
            (positions, rest.get(objects_bytes..)?.get(..gone_bytes)?)
        };
        for gone in gone.chunks_exact(world.layout.gone_player_bytes()) {
            self.set(player_of_seat[usize::from(world.seat(gone))], None);
        }
        for position in positions.chunks_exact(world.layout.position_bytes()) {
            let (seat, place) = world.position(position);
            self.set(player_of_seat[usize::from(seat)], Some(place));
        }
        Some(())
    }

    fn set(&mut self, player: u32, place: Option<[f32; 2]>) {
        if player != STRANGER {
            self.shown[player as usize] = place;
        }
    }
}

impl Sights {
    pub fn new(players: u32, every: u32) -> Self {
        Self {
            world: World::default(),
            every,
            tick: 0,
            tick0_ns: u64::MAX,
            sights: vec![Sight::new(players); players.div_ceil(every) as usize],
            player_of_seat: vec![STRANGER; usize::from(u16::MAX) + 1],
            malformed: 0,
        }
    }

    /// How many clients are followed.
    pub fn count(&self) -> u32 {
        self.sights.len() as u32
    }

    /// The client that is followed as number `nth`, and what it sees.
    pub fn nth(&self, nth: u32) -> (u32, &Sight) {
        (nth * self.every, &self.sights[nth as usize])
    }

    /// As of when a client sees what it sees: its last frame would have come then if it had come as soon as the soonest.
    pub fn as_of_ns(&self, sight: &Sight) -> u64 {
        self.tick0_ns.saturating_add(u64::from(sight.tick) * 1_000_000_000 / u64::from(self.world.tick_hz))
    }

    /// Whether the last frame of a client is of this tick, or of one of the two before.
    pub fn is_current(&self, client: u32) -> bool {
        self.sights[(client / self.every) as usize].tick + 2 >= self.tick
    }

    fn handle_record(&mut self, client: u32, record: &[u8], now_ns: u64) -> Option<()> {
        match *record.first()? {
            kind::WELCOME => {
                let welcome = Welcome::ref_from_bytes(record).ok()?;
                self.world.handle_welcome(welcome);
                self.player_of_seat[usize::from(seat_of(welcome.player_id.get()))] = client;
            }
            kind::LAYOUT => self.world.handle_layout(LayoutRecord::ref_from_bytes(record).ok()?),
            _ if client.is_multiple_of(self.every) => {
                let (header, _) = KeyframeHeader::ref_from_prefix(record).ok()?;
                let sight = &mut self.sights[(client / self.every) as usize];
                let tick_ns = 1_000_000_000 / u64::from(self.world.tick_hz);
                sight.handle_level(record[1], tick_ns, now_ns);
                (sight.tick, sight.frame_ns) = (header.tick.get(), now_ns);
                self.tick = self.tick.max(sight.tick);
                self.tick0_ns = self.tick0_ns.min(now_ns.saturating_sub(u64::from(sight.tick) * tick_ns));
                sight.handle_frame(record, &self.world, &self.player_of_seat)?;
            }
            _ => {}
        }
        Some(())
    }
}

impl Listener for Sights {
    fn handle_event(&mut self, slot: u32, event: Event<'_>, now_ns: u64) {
        if let Event::Record(record) = event {
            self.malformed += u64::from(self.handle_record(slot, record, now_ns).is_none());
        }
    }
}
