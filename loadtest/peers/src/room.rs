//! Rooms: the newest record of every member since the last tick, as one frame that all members share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

/// A record is opaque here: whose it is, is known from the connection.
pub const RECORD_BYTES: usize = 12;

/// Rooms by path. A room exists as long as it has members.
#[derive(Debug)]
pub struct Rooms {
    tick_interval: Duration,
    rooms: Mutex<HashMap<String, Weak<Room>>>,
}

/// One room. What was sent in it since the last tick is its next frame; the frame of the last tick is in a `watch` channel, so
/// that encoding, waking and skipping cost no more than they must: a client that is slow finds the newest frame, not a queue.
#[derive(Debug)]
struct Room {
    frame: watch::Sender<Bytes>,
    next: Mutex<Next>,
}

/// The frame to come. Invariant: each of `places` is `None` or the index in `records` of that member's newest record.
#[derive(Debug, Default)]
struct Next {
    records: Vec<[u8; RECORD_BYTES]>,
    places: Vec<Option<u32>>,
    free_numbers: Vec<usize>,
}

/// A member's seat. It leaves the room by being dropped.
#[derive(Debug)]
pub struct Member {
    room: Arc<Room>,
    number: usize,
}

impl Rooms {
    /// No rooms yet; those to come tick at this pace, each from its first member on.
    pub fn new(tick_interval: Duration) -> Self {
        Self { tick_interval, rooms: Mutex::default() }
    }

    /// Takes a seat in the room of `path`. Within a tokio runtime: a new room starts a task that ticks.
    pub fn join(&self, path: &str) -> Member {
        let mut rooms = locked(&self.rooms);
        let room = rooms.get(path).and_then(Weak::upgrade).unwrap_or_else(|| {
            rooms.retain(|_, room| room.strong_count() > 0);
            let room = Arc::new(Room { frame: watch::Sender::new(Bytes::new()), next: Mutex::default() });
            rooms.insert(path.to_owned(), Arc::downgrade(&room));
            tokio::spawn(run_ticks(Arc::downgrade(&room), self.tick_interval));
            room
        });
        let number = locked(&room.next).seat();
        Member { room, number }
    }
}

async fn run_ticks(room: Weak<Room>, tick_interval: Duration) {
    let mut ticks = interval(tick_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Some(room) = room.upgrade() else { return };
        room.tick();
    }
}

impl Room {
    fn tick(&self) {
        let frame = locked(&self.next).take_frame();
        if !frame.is_empty() {
            self.frame.send_replace(frame);
        }
    }
}

impl Next {
    fn seat(&mut self) -> usize {
        self.free_numbers.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        })
    }

    fn put(&mut self, number: usize, record: [u8; RECORD_BYTES]) {
        match self.places[number] {
            Some(place) => self.records[place as usize] = record,
            None => {
                self.places[number] = Some(self.records.len() as u32);
                self.records.push(record);
            }
        }
    }

    fn take_frame(&mut self) -> Bytes {
        let frame = Bytes::copy_from_slice(self.records.as_flattened());
        self.records.clear();
        self.places.fill(None);
        frame
    }
}

impl Member {
    /// Takes a binary message: one record, or several of which the last is the newest. Anything else is left out.
    pub fn handle_message(&self, message: &[u8]) {
        if let (true, Some(record)) = (message.len().is_multiple_of(RECORD_BYTES), message.last_chunk()) {
            locked(&self.room.next).put(self.number, *record);
        }
    }

    /// The frames of the room from now on; always the newest one.
    pub fn frames(&self) -> watch::Receiver<Bytes> {
        self.room.frame.subscribe()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut next = locked(&self.room.next);
        // The record that it has sent stays in the frame; whoever takes the seat within this tick replaces it.
        next.free_numbers.push(self.number);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_room_ends_with_its_last_member_and_seats_are_used_again() {
        let rooms = Rooms::new(Duration::from_secs(3600));
        let (a, b) = (rooms.join("/room/1"), rooms.join("/room/1"));
        drop(a);
        assert_eq!(rooms.join("/room/1").number, 0);
        let room = Arc::downgrade(&b.room);
        drop(b);
        assert!(room.upgrade().is_none());
        assert_eq!(rooms.join("/room/1").number, 0);
    }
}
