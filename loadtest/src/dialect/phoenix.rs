//! The Phoenix dialect: each connection joins one topic on `/socket/websocket`; games are moved in by binary pushes.

mod memory;
mod message;

use corelay::wire::frame::Opcode;
use corelay::wire::native::{Object, Position};
use corelay::wire::operation::Operation;
use zerocopy::FromBytes;

use super::conversation::{Dialect, Effects, Event, Presence, Stream, handle_positions};
use super::members::Members;
use crate::counters::Counters;
use crate::frames::{Message, write_masked};
use crate::schedule::random;
use memory::Memory;
use message::{
    Binary, CatchUp, DocState, Draining, Edited, Numbered, Operations, Reply, Response, Said, Text,
};

/// `join_ref` and `ref` of every join; a connection joins once.
const JOIN_REF: &str = "1";
/// Moves and messages have the refs from here on.
const PUSH_REF_FIRST: u32 = 2;
const MOVE_EVENT: &[u8] = b"game_state";
const UPDATE_EVENT: &[u8] = b"game_update";
/// `n`, `m`, one position, no object.
const MOVE_DATA_BYTES: usize = 8 + size_of::<Position>();
/// Longest reason of a refusal that is kept.
const REASON_CHARS_MAX: usize = 120;

pub struct Phoenix {
    members: Members,
    /// Ids under which the members of games move, from their join replies.
    player_ids: Vec<u32>,
    memories: Vec<Memory>,
}

impl Phoenix {
    pub fn new(members: Members) -> Self {
        let count = members.len();
        Self { members, player_ids: vec![0; count], memories: vec![Memory::default(); count] }
    }

    fn handle_binary(
        &self,
        slot: u32,
        bytes: &[u8],
        counters: &mut Counters,
        emit: &mut dyn FnMut(Event<'_>),
    ) {
        let update = Binary::parse(bytes)
            .filter(|binary| binary.topic == self.members.topic(slot).as_bytes())
            .filter(|binary| binary.event == UPDATE_EVENT)
            .and_then(|binary| positions(binary.data));
        let Some(positions) = update else {
            counters.malformed += 1;
            return;
        };
        handle_positions(positions, counters, emit);
    }

    fn handle_text(
        &mut self,
        slot: u32,
        text: &[u8],
        counters: &mut Counters,
        effects: &mut Effects,
        emit: &mut dyn FnMut(Event<'_>),
    ) {
        let Some(Text(join_ref, reference, topic, event, payload)) = Text::parse(text) else {
            counters.malformed += 1;
            return;
        };
        let of_own_join = topic == self.members.topic(slot) && join_ref.is_none_or(|own| own == JOIN_REF);
        if !of_own_join {
            // Answers to heartbeats.
            counters.malformed += u64::from(topic != "phoenix");
            return;
        }
        match event {
            "presence_state" => emit(Event::Presence(Presence::State)),
            "presence_diff" => emit(Event::Presence(Presence::Diff)),
            "presence_count" => emit(Event::Presence(Presence::Count)),
            "phx_reply" => match serde_json::from_str::<Reply<'_>>(payload.get()) {
                Err(_) => counters.malformed += 1,
                Ok(reply) if reference == Some(JOIN_REF) => {
                    self.handle_join_reply(slot, &reply, effects, emit);
                }
                Ok(reply) => self.handle_reply(slot, reference, &reply, counters, effects, emit),
            },
            "new_message" | "message_edited" | "message_deleted" | "game_event" | "catch_up" => {
                let understood = handle_stream(&mut self.memories[slot as usize], event, payload.get(), emit);
                counters.malformed += u64::from(understood.is_err());
            }
            "doc_state" | "operation" | "operations" => {
                let understood = handle_document(event, payload.get(), emit);
                counters.malformed += u64::from(understood.is_none());
            }
            "phx_close" | "phx_error" => effects.refusal = Some(format!("{event} {}", reason(payload.get()))),
            "rate_limited" => counters.rate_limited += 1,
            "correction" => counters.corrections += 1,
            "server_draining" => {
                counters.notices += 1;
                if let Ok(Draining { retry_after, jitter }) = serde_json::from_str(payload.get()) {
                    emit(Event::Stream(Stream::Draining { retry_after_ms: retry_after, jitter_ms: jitter }));
                }
            }
            "disconnect_warning" => counters.notices += 1,
            _ => {}
        }
    }

    fn handle_join_reply(
        &mut self,
        slot: u32,
        reply: &Reply<'_>,
        effects: &mut Effects,
        emit: &mut dyn FnMut(Event<'_>),
    ) {
        if reply.status != "ok" {
            effects.refusal = Some(format!("join refused: {}", reason(reply.response.get())));
            return;
        }
        let response: Response = serde_json::from_str(reply.response.get()).unwrap_or_default();
        let is_game = self.members.topic(slot).starts_with("game:");
        match response.player_id {
            Some(player_id) => self.player_ids[slot as usize] = player_id,
            None if is_game => {
                effects.refusal = Some("the join reply has no player_id".to_owned());
                return;
            }
            None => {}
        }
        self.memories[slot as usize].handle_join_reply(&response);
        let (seq, resumed) = (response.seq.unwrap_or_default(), response.resumed);
        emit(Event::Stream(Stream::Opened { seq, resumed }));
        emit(Event::Joined);
    }

    /// Takes the answer to a move, which only a refused one has, or to a message or an operation.
    fn handle_reply(
        &self,
        slot: u32,
        reference: Option<&str>,
        reply: &Reply<'_>,
        counters: &mut Counters,
        effects: &mut Effects,
        emit: &mut dyn FnMut(Event<'_>),
    ) {
        let number =
            reference.and_then(|reference| reference.parse::<u32>().ok()?.checked_sub(PUSH_REF_FIRST));
        let number = number.filter(|_| !self.members.topic(slot).starts_with("game:"));
        if reply.status != "ok" {
            let reason = reason(reply.response.get());
            if let Some(number) = number {
                emit(Event::Stream(Stream::Refused { number, reason: &reason }));
            }
            counters.errors += 1;
            effects.errors.push(reason);
            return;
        }
        let Some(number) = number else { return };
        let response: Response = serde_json::from_str(reply.response.get()).unwrap_or_default();
        match response.seq.or(response.version) {
            Some(seq) => emit(Event::Stream(Stream::Acknowledged { number, seq })),
            None => counters.malformed += 1,
        }
    }
}

impl Dialect for Phoenix {
    fn path(&self, slot: u32) -> String {
        self.members.with_token(slot, "/socket/websocket?vsn=2.0.0&")
    }

    fn sign_of_join(&self) -> &'static str {
        "join reply"
    }

    fn handle_upgrade(&mut self, slot: u32, effects: &mut Effects, _emit: &mut dyn FnMut(Event<'_>)) {
        let topic = self.members.topic(slot);
        let payload = self.memories[slot as usize].join_payload();
        let join = format!(r#"["{JOIN_REF}","{JOIN_REF}","{topic}","phx_join",{payload}]"#);
        effects.answers.extend(text_frame(&join, slot));
    }

    fn heartbeat(&self, slot: u32) -> Option<Vec<u8>> {
        Some(text_frame(r#"[null,"0","phoenix","heartbeat",{}]"#, slot))
    }

    fn write_move(&self, slot: u32, number_in_room: u32, sequence: u32, frames: &mut Vec<u8>) {
        let topic = self.members.topic(slot).as_bytes();
        let reference = sequence.saturating_add(PUSH_REF_FIRST - 1).to_string();
        let lengths =
            [JOIN_REF.len(), reference.len(), topic.len(), MOVE_EVENT.len()].map(|bytes| bytes as u8);
        let mut data = [0; MOVE_DATA_BYTES];
        data[..4].copy_from_slice(&1_u32.to_be_bytes());
        data[8..12].copy_from_slice(&self.player_ids[slot as usize].to_be_bytes());
        data[12..16].copy_from_slice(&(number_in_room as f32).to_be_bytes());
        data[16..].copy_from_slice(&(sequence as f32).to_be_bytes());
        let mask = random(u64::from(sequence), slot) as u32;
        let parts = [&[0], &lengths[..], JOIN_REF.as_bytes(), reference.as_bytes(), topic, MOVE_EVENT, &data];
        write_masked(frames, Opcode::Binary, mask, &parts);
    }

    fn write_push(&self, slot: u32, number: u32, event: &str, payload: &str, frames: &mut Vec<u8>) {
        let (topic, reference) = (self.members.topic(slot), number.saturating_add(PUSH_REF_FIRST));
        let text = format!(r#"["{JOIN_REF}","{reference}","{topic}","{event}",{payload}]"#);
        let mask = random(u64::from(number), slot) as u32;
        write_masked(frames, Opcode::Text, mask, &[text.as_bytes()]);
    }

    fn come_back(&mut self, slot: u32, gone: u32) {
        self.members.take_over(slot, gone);
        self.memories[slot as usize] = self.memories[gone as usize].of_return();
    }

    fn handle_message(
        &mut self,
        slot: u32,
        message: &Message<'_>,
        counters: &mut Counters,
        effects: &mut Effects,
        emit: &mut dyn FnMut(Event<'_>),
    ) {
        match message {
            Message::Binary(bytes) => self.handle_binary(slot, bytes, counters, emit),
            Message::Text(text) => self.handle_text(slot, text, counters, effects, emit),
            // The connection deals with these itself.
            Message::Ping(_) | Message::Pong | Message::Close(..) => {}
        }
    }
}

fn text_frame(text: &str, slot: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    write_masked(&mut frame, Opcode::Text, random(0, slot) as u32, &[text.as_bytes()]);
    frame
}

/// `<<n u32, m u32, n × position, m × object>>`, exactly.
fn positions(data: &[u8]) -> Option<&[Position]> {
    let (head, rest) = data.split_at_checked(8)?;
    let count = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (positions, objects) = <[Position]>::ref_from_prefix_with_elems(rest, count(0)).ok()?;
    (objects.len() == count(4) * size_of::<Object>()).then_some(positions)
}

/// Takes an event of the topic's stream, or those that were missed. An error: it is none of the protocol.
fn handle_stream(
    memory: &mut Memory,
    event: &str,
    payload: &str,
    emit: &mut dyn FnMut(Event<'_>),
) -> serde_json::Result<()> {
    match event {
        "new_message" => {
            let Said { seq, body } = serde_json::from_str(payload)?;
            memory.handle_event(seq);
            emit(Event::Stream(Stream::Heard { seq, body: &body }));
        }
        // Nothing is edited or deleted here, but others in a room may, and it takes a number.
        "message_edited" | "message_deleted" => {
            let Numbered { seq } = serde_json::from_str(payload)?;
            memory.handle_event(seq);
            emit(Event::Stream(Stream::Heard { seq, body: "" }));
        }
        "game_event" => memory.handle_event(serde_json::from_str::<Numbered>(payload)?.seq),
        "catch_up" => {
            let CatchUp { events, recovered, reason, epoch, seq } = serde_json::from_str(payload)?;
            for missed in events.iter().filter(|missed| missed.event != "game_event") {
                let Said { seq, body } = serde_json::from_str(missed.payload.get())?;
                let body = if missed.event == "new_message" { &*body } else { "" };
                emit(Event::Stream(Stream::Heard { seq, body }));
            }
            memory.handle_catch_up(epoch, seq);
            let missed = if recovered { Ok(()) } else { Err(reason.unwrap_or("no reason")) };
            emit(Event::Stream(Stream::CaughtUp { seq, missed }));
        }
        _ => {}
    }
    Ok(())
}

/// Takes what a document tells of its text. `None`: it is none of the protocol.
fn handle_document(event: &str, payload: &str, emit: &mut dyn FnMut(Event<'_>)) -> Option<()> {
    let edited = match event {
        "doc_state" => {
            let DocState { version, content, part, parts } = serde_json::from_str(payload).ok()?;
            emit(Event::Stream(Stream::Text { seq: version, content: &content, part, parts }));
            return Some(());
        }
        "operation" => vec![serde_json::from_str(payload).ok()?],
        _ => serde_json::from_str::<Operations<'_>>(payload).ok()?.operations,
    };
    for Edited { op, version, op_id } in edited {
        let operation = Operation::read(op.get())?;
        emit(Event::Stream(Stream::Edited { seq: version, operation: &operation, op_id: op_id.as_deref() }));
    }
    Some(())
}

/// The `reason` of a payload, or the payload.
fn reason(payload: &str) -> String {
    let response: Response = serde_json::from_str(payload).unwrap_or_default();
    response.reason.unwrap_or_else(|| payload.to_owned()).chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
