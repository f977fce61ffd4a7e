//! A transcript against the sans-I/O core: the client's side is played, the relay's is compared.

use std::collections::BTreeSet;
use std::sync::Arc;

use corelay::shard::Admission;
use corelay::shard::placement::Placement;
use corelay::shard::settings::Settings;
use corelay::wire::token::{Algorithm, Verifier};
use corelay::wire::upgrade::UpgradeRules;

use super::placeholders::Bindings;
use super::transcript::{Content, Line, Mode, Transcript};
use crate::world::World;
use crate::world::client::{ClientId, masked_frame, request};

/// As in `tests/phoenix_clients/relay.mjs`.
const SHARDS: u16 = 2;
/// As in `tests/phoenix_clients/token.mjs`.
const SECRET: &[u8] = b"the secret of corelay's tests with the Phoenix clients";

/// How long a message may let itself be waited for; nothing in a transcript took longer.
const PATIENCE_MS: u64 = 1_000;
const STEP_MS: u64 = 5;
/// How long nothing came before a recording ended, as in `tests/phoenix_clients/run.mjs`.
const QUIET_MS: u64 = 200;

/// What a client's library says of a close frame without a code.
const NO_CODE: u16 = 1005;
/// Codes that are a client's; the relay only repeats them.
const CLIENTS_CODES: [u16; 2] = [1000, NO_CODE];

/// The first message that differs: place, reason, and both texts. The shards on which the connections were accepted are not
/// recorded: every placement that could have been must lead to the same messages.
pub fn replay(transcript: &Transcript) -> Result<(), String> {
    let placements = placements(transcript);
    placements.into_iter().try_for_each(|placement| Replay::new(transcript, placement).run())
}

/// A relay's message.
enum Message {
    Content(Content),
    Close(u16, String),
}

struct Replay<'a> {
    transcript: &'a Transcript,
    /// Shard by socket.
    placement: Vec<usize>,
    world: World,
    /// Client by socket.
    clients: Vec<ClientId>,
    bindings: Bindings,
    /// Sockets whose client has sent its close.
    closed: BTreeSet<usize>,
}

impl<'a> Replay<'a> {
    fn new(transcript: &'a Transcript, placement: Vec<usize>) -> Self {
        let verifier = match transcript.mode {
            Mode::Open => None,
            Mode::Keyed => Some(Verifier::new(Algorithm::Hs256, SECRET).expect("a key")),
        };
        let upgrade = UpgradeRules { development: verifier.is_none(), ..UpgradeRules::default() };
        let verifier = verifier.map(Arc::new);
        Self {
            transcript,
            placement,
            world: World::new(Settings {
                placement: Placement::known(SHARDS),
                upgrade,
                verifier,
                ..Settings::default()
            }),
            clients: Vec::new(),
            bindings: Bindings::default(),
            closed: BTreeSet::new(),
        }
    }

    fn run(mut self) -> Result<(), String> {
        let place = |number: usize, fault: &str, placement: &[usize]| {
            format!("{}.jsonl:{number} (sockets on shards {placement:?}): {fault}", self.transcript.name)
        };
        for (index, (number, line)) in self.transcript.lines.iter().enumerate() {
            self.step(index, line).map_err(|fault| place(*number, &fault, &self.placement))?;
        }
        self.world.advance_ms(QUIET_MS);
        let end = self.transcript.lines.last().map_or(1, |(number, _)| number + 1);
        for socket in 0..self.clients.len() {
            if let Some(message) = self.take(socket) {
                let fault = format!("socket {socket} got more\n  recorded nothing\n  now      {message}");
                return Err(place(end, &fault, &self.placement));
            }
        }
        Ok(())
    }

    fn step(&mut self, index: usize, line: &Line) -> Result<(), String> {
        match line {
            Line::Relay { .. } => Err("the mode is said once".into()),
            Line::Open { socket, path, protocols } => self.open(*socket, path, protocols),
            Line::Said { socket, content } => {
                if !self.is_said_at_once(index) {
                    self.world.advance_ms(QUIET_MS);
                }
                let frame = match self.bindings.fill(content)? {
                    Content::Text(text) => masked_frame(0x81, text.as_bytes()),
                    Content::Binary(hex) => masked_frame(0x82, &bytes_of(&hex)),
                };
                self.world.send_raw(self.clients[*socket], &frame);
                Ok(())
            }
            Line::Told { socket, content } => {
                let recorded = Message::Content(content.clone());
                let fault = |fault: &str, now: &str| {
                    Err(format!("socket {socket}: {fault}\n  recorded {recorded}\n  now      {now}"))
                };
                match self.wait(index, *socket) {
                    None => fault("nothing came", "nothing"),
                    Some(now @ Message::Close(..)) => fault("a close came", &now.to_string()),
                    Some(Message::Content(now)) => match self.bindings.check(content, &now) {
                        Ok(()) => Ok(()),
                        Err(reason) => fault(&reason, &Message::Content(now).to_string()),
                    },
                }
            }
            Line::Close { socket, code, reason } => {
                if CLIENTS_CODES.contains(code) && !self.closed.contains(socket) {
                    self.close(*socket, *code);
                }
                let now = self.wait(index, *socket);
                let as_recorded =
                    matches!(&now, Some(Message::Close(now, text)) if (now, text) == (code, reason));
                if as_recorded {
                    let client = self.clients[*socket];
                    // After its own close the relay has already ended the connection.
                    if self.world.client(client).ended.is_none() {
                        self.world.hang_up(client);
                    }
                    return Ok(());
                }
                let recorded = Message::Close(*code, reason.clone());
                let now = now.map_or("nothing".into(), |now| now.to_string());
                Err(format!("socket {socket}: no such close\n  recorded {recorded}\n  now      {now}"))
            }
        }
    }

    /// Whether a client's message followed the one before it without anything between. Elsewhere the replay waits as long as
    /// a recording does to be sure that nothing more comes, so that a message too many shows.
    fn is_said_at_once(&self, index: usize) -> bool {
        let before = index.checked_sub(1).map(|before| &self.transcript.lines[before].1);
        matches!(before, Some(Line::Said { .. }))
    }

    fn open(&mut self, socket: usize, path: &str, protocols: &[String]) -> Result<(), String> {
        assert_eq!(socket, self.clients.len(), "sockets count from 0");
        let client = self.world.dial_shard(self.placement[socket], Admission::Admitted);
        self.clients.push(client);
        let mut head = request(path);
        if !protocols.is_empty() {
            let header = format!("Sec-WebSocket-Protocol: {}\r\n\r\n", protocols.join(", "));
            head.truncate(head.len() - 2);
            head.push_str(&header);
        }
        self.world.send_raw(client, head.as_bytes());
        let (status, response) = self.world.client(client).response();
        // Without it, browsers and `ws` give the connection up.
        let is_chosen = response.contains("\r\nSec-WebSocket-Protocol: phoenix\r\n");
        if status == 101 && is_chosen != protocols.is_empty() { Ok(()) } else { Err(response) }
    }

    /// The client's close, without a code or with one.
    fn close(&mut self, socket: usize, code: u16) {
        let payload = if code == NO_CODE { Vec::new() } else { code.to_be_bytes().to_vec() };
        self.closed.insert(socket);
        self.world.send_raw(self.clients[socket], &masked_frame(0x88, &payload));
    }

    /// The next message to `socket`, for which time passes. A client's close is recorded when it is complete, so what it
    /// made the relay tell others may stand before it: whoever waits in vain has the next one done.
    fn wait(&mut self, index: usize, socket: usize) -> Option<Message> {
        loop {
            for _ in 0..PATIENCE_MS / STEP_MS {
                if let Some(message) = self.take(socket) {
                    return Some(message);
                }
                self.world.advance_ms(STEP_MS);
            }
            let (closing, code) = self.next_close(index)?;
            self.close(closing, code);
        }
    }

    /// The first close of a client that is recorded below `index` as the next thing of its socket.
    fn next_close(&self, index: usize) -> Option<(usize, u16)> {
        let mut busy: BTreeSet<usize> = self.closed.clone();
        for (_, line) in &self.transcript.lines[index..] {
            match line {
                Line::Close { socket, code, .. }
                    if CLIENTS_CODES.contains(code) && !busy.contains(socket) =>
                {
                    return Some((*socket, *code));
                }
                other => busy.extend(other.socket()),
            }
        }
        None
    }

    /// Takes the next message to `socket`, if one is there. Bytes are read here and not by `Client::next`, which takes
    /// binary messages for records of the native protocol.
    fn take(&mut self, socket: usize) -> Option<Message> {
        let inbox = &mut self.world.client(self.clients[socket]).inbox;
        let [first, second, ..] = inbox[..] else { return None };
        let (header, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(inbox.get(2..4)?.try_into().ok()?))),
            short @ 0..=125 => (2, usize::from(short)),
            long => {
                panic!("length byte {long}: no transcript has a message over 64 KiB, nor does a server mask")
            }
        };
        let payload = inbox.get(header..header + length)?.to_vec();
        inbox.drain(..header + length);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Some(match first {
            0x81 => Message::Content(Content::Text(text(&payload))),
            0x82 => Message::Content(Content::Binary(hex_of(&payload))),
            0x88 => match payload.split_first_chunk() {
                Some((code, reason)) => Message::Close(u16::from_be_bytes(*code), text(reason)),
                None => Message::Close(NO_CODE, String::new()),
            },
            other => panic!("frame starts with {other:#x}"),
        })
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Content(Content::Text(text)) => write!(f, "{text}"),
            Self::Content(Content::Binary(hex)) => write!(f, "binary {hex}"),
            Self::Close(code, reason) => write!(f, "close {code} {reason:?}"),
        }
    }
}

/// Shards by socket. Presence lists are sorted by user, so the names of guests, which the shards number, must sort as
/// they did in the recording: the second guest before the first only if it has shard 0 (guest-1) and the first has
/// shard 1 (guest-2).
fn placements(transcript: &Transcript) -> Vec<Vec<usize>> {
    let sockets = transcript.sockets();
    assert!(sockets <= 2, "{}: the names of three guests must be sorted, too", transcript.name);
    let all = (0..1_usize << sockets).map(|bits| (0..sockets).map(|socket| bits >> socket & 1).collect());
    let second_first = transcript.lines.iter().any(|(_, line)| is_second_guest_first(line));
    let fits = |placement: &Vec<usize>| (placement[..] == [1, 0]) == second_first;
    let guests = transcript.mode == Mode::Open;
    all.filter(|placement| !guests || fits(placement)).collect()
}

fn is_second_guest_first(line: &Line) -> bool {
    let Line::Told { content: Content::Text(text), .. } = line else { return false };
    let at = |guest: u8| text.find(&format!(r#""<user_id-{guest}>":{{"metas":"#));
    text.contains(r#""presence_state""#)
        && matches!((at(1), at(2)), (Some(first), Some(second)) if second < first)
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}
