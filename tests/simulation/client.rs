//! One client: a connection, what it is told on it, and what it does when it is lost.

use std::time::Duration;

use corelay::time::Instant;

use super::faults::{Branch, Counts};
use super::ledger::Ledger;
use super::phoenix::Message;
use super::player::Player;
use super::random::Random;
use super::records::{Frame, GameUpdate, close, masked_frame, request, take_frame, take_response};
use super::relay::Relay;
use super::socket::{Reading, SocketId};
use super::topics::{Hearing, Topics};
use super::wire::Serializer;

/// How often a client says that it lives.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(900);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Away {
        until: Instant,
    },
    /// The request is sent.
    Upgrading(SocketId),
    Open(SocketId),
    /// It does not come back.
    Gone,
}

#[derive(Debug)]
pub struct Client {
    pub link: Link,
    inbox: Vec<u8>,
    /// `None`: it speaks Phoenix Channels only.
    pub player: Option<Player>,
    pub topics: Topics,
    heard_at: Instant,
    pub frozen_until: Instant,
    /// When it was last in trouble of its own: it may have been given up before it knows.
    pub troubled_until: Instant,
    /// From then on the relay may have forgotten its seats, whatever it reads of what was said before.
    doubted_at: Instant,
    /// Its connection was reset, and what it had sent before is still to be read: its seats are held until then, for sure.
    reset_until: Option<Instant>,
    /// There was no room for it when it came last.
    pub is_refused: bool,
    /// There was no room for it at some time.
    pub was_refused: bool,
    /// Connections that it has left without closing them, and what was sent on them since.
    old: Vec<(SocketId, Vec<u8>)>,
}

/// What the clients of a run share.
pub struct Around<'a> {
    pub relay: &'a mut Relay,
    pub ledger: &'a mut Ledger,
    pub counts: &'a mut Counts,
    pub random: &'a mut Random,
}

impl Around<'_> {
    fn now(&self) -> Instant {
        self.relay.now.instant
    }
}

impl Client {
    pub fn new(player: Option<Player>, topics: Topics) -> Self {
        Self {
            link: Link::Away { until: Instant::default() },
            inbox: Vec::new(),
            player,
            topics,
            heard_at: Instant::default(),
            frozen_until: Instant::default(),
            troubled_until: Instant::default(),
            doubted_at: Instant::default(),
            reset_until: None,
            is_refused: false,
            was_refused: false,
            old: Vec::new(),
        }
    }

    pub fn socket(&self) -> Option<SocketId> {
        match self.link {
            Link::Upgrading(socket) | Link::Open(socket) => Some(socket),
            Link::Away { .. } | Link::Gone => None,
        }
    }

    /// Its connection, once it may speak: a player that resumes says nothing before it is welcome.
    pub fn open(&self) -> Option<SocketId> {
        match self.link {
            Link::Open(socket) if self.player.as_ref().is_none_or(|player| player.is_welcome) => Some(socket),
            Link::Open(_) | Link::Upgrading(_) | Link::Away { .. } | Link::Gone => None,
        }
    }

    /// Until when a seat that is lost now is held, as far as that is sure.
    pub fn sure_until(&self, relay: &Relay) -> Instant {
        let now = relay.now.instant;
        let calm_for = Duration::from_secs(5);
        let troubles = [self.troubled_until, self.doubted_at, relay.stood_still_until];
        let is_calm = troubles.into_iter().all(|trouble| trouble + calm_for < now);
        let is_held = relay.settings.games[0].seat_hold >= Duration::from_secs(3);
        if is_calm && is_held { now + Duration::from_secs(1) } else { Instant::default() }
    }

    /// Does what a client does without an order: it reads, answers, comes back.
    pub fn live(&mut self, around: &mut Around<'_>) {
        let now = around.now();
        if self.frozen_until > now {
            return;
        }
        self.read_old(around);
        match self.link {
            Link::Away { until } if until <= now => self.dial(around),
            Link::Away { .. } | Link::Gone => {}
            Link::Upgrading(socket) | Link::Open(socket) => self.read(socket, around),
        }
        let Some(socket) = self.open() else { return };
        let mut bytes = self.topics.join_wanted(now, around.random);
        bytes.extend(self.topics.say_of_documents(now, around.random, around.ledger));
        if now.since(self.heard_at) >= HEARTBEAT_INTERVAL {
            self.heard_at = now;
            match self.player {
                Some(_) => bytes.extend(masked_frame(0x8A, b"")),
                None => bytes.extend(self.topics.heartbeat()),
            }
        }
        if !bytes.is_empty() {
            around.relay.write(socket, &bytes);
        }
    }

    fn dial(&mut self, around: &mut Around<'_>) {
        let target = match &mut self.player {
            Some(player) => player.target(around.random.chance(800)),
            None => {
                let version = if self.topics.serializer == Serializer::V1 { "1.0.0" } else { "2.0.0" };
                let user = self.topics.user.iter().map(|user| format!("&user={user}")).collect::<String>();
                format!("/socket/websocket?vsn={version}{user}")
            }
        };
        let socket = around.relay.dial();
        let mut bytes = request(&target).into_bytes();
        // Whoever does not resume may speak before it is answered.
        if let Some(player) = self.player.as_mut().filter(|player| player.token.is_empty())
            && around.random.chance(300)
        {
            bytes.extend(player.ping());
        }
        around.relay.write(socket, &bytes);
        self.inbox.clear();
        self.reset_until = None;
        self.link = Link::Upgrading(socket);
    }

    /// The connection is gone; it comes back after a while. `sure_until`: its seats cannot be given up before.
    pub fn lose(&mut self, sure_until: Instant, around: &mut Around<'_>) {
        let Some(socket) = self.socket() else { return };
        if let Some(player) = &mut self.player {
            player.lost(around.relay.has_answered(socket), sure_until);
        }
        self.topics.lost(sure_until);
        let until = around.now() + Duration::from_millis(around.random.below(700) as u64);
        self.link = Link::Away { until };
    }

    /// Its connection breaks: it will see that when it has read what came before.
    pub fn resets(&mut self, sure_until: Instant) {
        self.reset_until = Some(sure_until);
    }

    /// The relay may have forgotten everything that it knew of this client.
    pub fn forgotten(&mut self, now: Instant) {
        self.doubted_at = now;
        self.topics.forgotten();
        self.reset_until = None;
        if let Some(player) = &mut self.player {
            player.sure_until = Instant::default();
        }
    }

    pub fn is_gone(&self) -> bool {
        self.link == Link::Gone
    }

    /// The user that its connection is known as, if it was told.
    pub fn user(&self) -> Option<String> {
        let of_topics = self.topics.all.iter().map(|topic| &topic.user).find(|user| !user.is_empty());
        self.plays_as().or(of_topics).cloned()
    }

    /// Who it is in the game that it plays in the native dialect.
    pub fn plays_as(&self) -> Option<&String> {
        self.player.as_ref().and_then(|player| player.users.get(&player.id))
    }

    /// Reads again when its trouble is over.
    pub fn recover(&mut self, around: &mut Around<'_>) {
        if self.troubled_until <= around.now()
            && let Some(socket) = self.socket()
        {
            around.relay.set_reading(socket, Reading::Everything);
        }
    }

    /// It goes on by another connection, and this one lives on: another device, or another tab.
    pub fn take_over(&mut self, sure_until: Instant, around: &mut Around<'_>) {
        let Some(socket) = self.socket() else { return };
        self.old.push((socket, std::mem::take(&mut self.inbox)));
        self.lose(sure_until, around);
    }

    /// What is said on connections that were left says why they end.
    fn read_old(&mut self, around: &mut Around<'_>) {
        for (socket, inbox) in &mut self.old {
            inbox.extend(around.relay.take(*socket));
        }
        self.old.retain_mut(|(socket, inbox)| {
            if !around.relay.is_over(*socket) {
                return true;
            }
            around.relay.finish(*socket);
            let says = |text: &[u8]| inbox.windows(text.len()).any(|bytes| bytes == text);
            if says(b"\"phx_close\"") {
                around.counts.branch(Branch::ReplacedChannel);
            }
            if says(b"replaced") {
                around.counts.branch(Branch::ReplacedClose);
            }
            false
        });
    }

    /// It says goodbye, and does not come back.
    pub fn say_goodbye(&mut self, around: &mut Around<'_>) {
        if let Some(socket) = self.socket() {
            around.counts.branch(Branch::ClientsClose);
            around.relay.write(socket, &close(1000, ""));
            around.relay.finish(socket);
            around.relay.set_reading(socket, Reading::Everything);
        }
        self.topics.lost(Instant::default());
        self.link = Link::Gone;
    }

    /// Takes in what it was sent, and says nothing by itself.
    pub fn listen(&mut self, around: &mut Around<'_>) {
        if let Some(socket) = self.socket() {
            self.read(socket, around);
        }
    }

    // ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    fn read(&mut self, socket: SocketId, around: &mut Around<'_>) {
        self.inbox.extend(around.relay.take(socket));
        if self.link == Link::Upgrading(socket) {
            self.read_answer(socket, around);
        }
        while self.link == Link::Open(socket)
            && let Some(frame) = take_frame(&mut self.inbox)
        {
            self.hear(socket, &frame, around);
        }
        if self.socket() == Some(socket) && around.relay.is_over(socket) {
            around.relay.finish(socket);
            // If the relay has ended it without a word, when is not known.
            self.lose(self.reset_until.unwrap_or_default(), around);
        }
    }

    fn read_answer(&mut self, socket: SocketId, around: &mut Around<'_>) {
        if !self.inbox.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            return;
        }
        match take_response(&mut self.inbox) {
            (101, _) => {
                self.link = Link::Open(socket);
                self.is_refused = false;
                self.heard_at = around.now();
            }
            (status, text) => {
                assert!(matches!(status, 408 | 503), "{text}");
                around.counts.branch(Branch::Refused);
                (self.is_refused, self.was_refused) = (true, true);
                around.relay.finish(socket);
                self.lose(Instant::NEVER, around);
            }
        }
    }

    fn hear(&mut self, socket: SocketId, frame: &Frame, around: &mut Around<'_>) {
        let sure_until = self.sure_until(around.relay);
        let now = around.now();
        around.relay.trace.note("told", || format!("{socket:?} {frame:?}"));
        let mut hearing =
            Hearing { ledger: around.ledger, counts: around.counts, random: around.random, now, sure_until };
        match frame {
            Frame::Record(record) => {
                let Some(player) = &mut self.player else { panic!("no player: {record:?}") };
                player.hear(record, &mut hearing);
            }
            Frame::Text(text) => {
                let message = self.topics.serializer.read(text);
                self.topics.hear(&message, &mut hearing);
            }
            Frame::Binary(bytes) => {
                assert_eq!(self.topics.serializer, Serializer::V2, "it reads text only");
                self.topics.hear(&Message::Update(GameUpdate::parse(bytes)), &mut hearing);
            }
            Frame::Ping(_) => {
                self.heard_at = now;
                around.relay.write(socket, &masked_frame(0x8A, b""));
            }
            Frame::Pong(_) => {}
            Frame::Close(reason) => self.closed(socket, reason.as_ref(), around),
        }
    }

    fn closed(&mut self, socket: SocketId, reason: Option<&(u16, String)>, around: &mut Around<'_>) {
        let Some((code, word)) = reason else { panic!("a close without a reason") };
        let branch = match (code, &**word) {
            (1001, "idle") => Branch::IdleClose,
            (1001, "replaced") => Branch::ReplacedClose,
            (1001, "kicked") => Branch::KickedClose,
            (1012, "drain") => Branch::DrainClose,
            (1013, "slow") => Branch::SlowClose,
            other => panic!("closed with {other:?}"),
        };
        around.counts.branch(branch);
        let (now, calm_for) = (around.now(), Duration::from_secs(12));
        let is_calm = self.troubled_until + calm_for < now && around.relay.stood_still_until + calm_for < now;
        assert!(branch != Branch::IdleClose || !is_calm, "it was heard, and is closed as idle: {self:?}");
        around.relay.write(socket, &close(*code, ""));
        around.relay.finish(socket);
        // When the relay has let go of the seats is not known: the client may have been slow to read of it.
        self.lose(Instant::default(), around);
        if branch == Branch::ReplacedClose {
            self.link = Link::Gone;
        }
    }
}
