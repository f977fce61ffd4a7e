//! Pushes of Phoenix clients to the topics they are in: parsed where they arrive, so that topics see values.

mod document;
mod game;
mod room;

use super::layout::Layout;
use super::meta::Meta;
use super::phoenix::answers::reason;
use super::phoenix::fields::named;
use super::phoenix::{Message, Payload};
use super::seen::Seen;
use crate::ids::Topic;
use crate::impossible;
pub use document::{CursorPlace, DocumentPush, Edit};
pub use game::{EventPayload, GamePush};
pub use room::{RoomPush, errors};

/// An event that a client pushed to a topic it is in.
#[derive(Clone, Debug)]
pub struct Push {
    /// Raw JSON token that the answer carries; `None`: no answer is wanted.
    pub reference: Option<Box<str>>,
    /// The event and its payload.
    pub event: PushEvent,
}

impl Push {
    /// Bytes of the text that it brings.
    pub fn bytes(&self) -> usize {
        match &self.event {
            PushEvent::Room(RoomPush::NewMessage { body, .. } | RoomPush::EditMessage { body, .. }) => {
                body.len()
            }
            PushEvent::Document(DocumentPush::Operation(edit)) => edit.operation.heap_bytes(),
            PushEvent::Common(_) | PushEvent::Room(_) | PushEvent::Game(_) | PushEvent::Document(_) => 0,
        }
    }
}

/// The event of a push, with its payload.
#[derive(Clone, Debug)]
pub enum PushEvent {
    /// Events that every topic understands.
    Common(CommonPush),
    /// Events that rooms understand.
    Room(RoomPush),
    /// Events that games understand.
    Game(GamePush),
    /// Events that documents understand.
    Document(DocumentPush),
}

/// Events that every topic understands.
#[derive(Clone, Debug)]
pub enum CommonPush {
    /// `heartbeat`.
    Heartbeat,
    /// `presence_update`.
    PresenceUpdate(Meta),
    /// `reconnect`: asks for what was missed since then.
    Reconnect(Seen),
    /// A push that is refused, with the answer, a JSON object. It goes to the topic like every other push, so that the answers
    /// keep the order of the messages.
    Refused(String),
}

/// The budgets that a push takes from (PROTOCOL 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum PushClass {
    Move,
    /// A `game_state`: a move if it has positions, and so many objects.
    State {
        /// Whether it has positions.
        moves: bool,
        objects: u32,
    },
    /// A `who`, which takes so many events.
    Who {
        /// One for each 16 ids, or a part of them.
        tokens: u32,
    },
    /// A `presence_update`.
    Presence,
    /// An event whose answer is as long as a message may be.
    Page,
    /// An `operation` on a document.
    Operation,
    /// A `cursor` in a document.
    Cursor,
    /// Everything else.
    Event,
}

impl PushEvent {
    /// Reads an event that was pushed to `topic`, of that layout if it is a game. Returns also which budgets it takes from, even if it
    /// is refused.
    pub fn parse(topic: &Topic, layout: &Layout, message: &Message<'_>) -> (PushClass, Self) {
        let json = match message.payload {
            Payload::Json(text) => text,
            Payload::Binary(_) => "null",
        };
        match (&*message.event, topic) {
            ("heartbeat", _) => (PushClass::Event, Self::Common(CommonPush::Heartbeat)),
            ("presence_update", _) => {
                let meta = Meta::parse(json).map_err(|error| reason(&error.to_string()));
                (PushClass::Presence, Self::or_refused(meta.map(CommonPush::PresenceUpdate), Self::Common))
            }
            ("reconnect", _) => {
                (PushClass::Page, Self::or_refused(reconnect(json).map(CommonPush::Reconnect), Self::Common))
            }
            (event, Topic::Room(_)) => {
                let class = if event == "history" { PushClass::Page } else { PushClass::Event };
                (class, Self::or_refused(RoomPush::parse(event, json), Self::Room))
            }
            (event, Topic::Game(_)) => {
                let (class, push) = GamePush::parse(event, &message.payload, layout);
                (class, Self::or_refused(push, Self::Game))
            }
            (event, Topic::Document(_)) => {
                let (class, push) = DocumentPush::parse(event, json);
                (class, Self::or_refused(push, Self::Document))
            }
        }
    }

    /// An event for games; `Err`: one that every topic understands.
    pub fn of_game(self) -> Result<GamePush, CommonPush> {
        match self {
            Self::Game(push) => Ok(push),
            Self::Common(push) => Err(push),
            Self::Room(_) | Self::Document(_) => Err(Self::of_another_kind()),
        }
    }

    /// An event for rooms; `Err`: one that every topic understands.
    pub fn of_room(self) -> Result<RoomPush, CommonPush> {
        match self {
            Self::Room(push) => Ok(push),
            Self::Common(push) => Err(push),
            Self::Game(_) | Self::Document(_) => Err(Self::of_another_kind()),
        }
    }

    /// An event for documents; `Err`: one that every topic understands.
    pub fn of_document(self) -> Result<DocumentPush, CommonPush> {
        match self {
            Self::Document(push) => Ok(push),
            Self::Common(push) => Err(push),
            Self::Game(_) | Self::Room(_) => Err(Self::of_another_kind()),
        }
    }

    fn of_another_kind() -> CommonPush {
        impossible!("pushes are parsed by the kind of their topic");
        CommonPush::Refused(reason("this event is of another kind of topic"))
    }

    fn or_refused<T>(parsed: Result<T, String>, event: impl FnOnce(T) -> Self) -> Self {
        parsed.map_or_else(|refusal| Self::Common(CommonPush::Refused(refusal)), event)
    }
}

fn reconnect(json: &str) -> Result<Seen, String> {
    let [last_seen] = named(json, ["last_seen"]);
    let seen = last_seen.and_then(Seen::read);
    seen.ok_or_else(|| reason("last_seen must be {epoch, seq}, or, in rooms, a time in unix milliseconds"))
}

/// The refusal of an event that a topic does not know.
fn unknown_event(event: &str, known: &str) -> String {
    let shown: String = event.chars().take(EVENT_CHARS_SHOWN).collect();
    reason(&format!(
        "unknown event {shown}; this topic knows {known}, presence_update, heartbeat and reconnect"
    ))
}

/// An unknown event is named in its refusal up to this many characters.
const EVENT_CHARS_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StreamPosition;
    use crate::wire::native::{Object, Position, Scope};
    use crate::wire::phoenix::Serializer;

    fn text(topic: &str, event: &str, payload: &str) -> (PushClass, PushEvent) {
        let text = format!(r#"["1","2","{topic}","{event}",{payload}]"#);
        let message = Serializer::V2.decode_text(&text).unwrap();
        PushEvent::parse(&Topic::parse(topic).unwrap(), &Layout::PLAIN, &message)
    }

    fn refusal((class, event): (PushClass, PushEvent)) -> (PushClass, String) {
        let PushEvent::Common(CommonPush::Refused(refusal)) = event else { panic!("{event:?}") };
        (class, refusal)
    }

    #[test]
    fn pushes_become_values() {
        let room = |event, payload| match text("room:a", event, payload) {
            (PushClass::Event | PushClass::Page, PushEvent::Room(push)) => push,
            other => panic!("{other:?}"),
        };
        let message = RoomPush::NewMessage { body: "hi".into(), client_id: Some("c".into()) };
        assert_eq!(room("new_message", r#"{"body":"hi","client_id":"c"}"#), message);
        assert_eq!(room("typing", r#"{"typing":true}"#), RoomPush::Typing(true));
        assert_eq!(room("history", r#"{"before":7}"#), RoomPush::History { before: Some(7), limit: 50 });

        let game = |event: &str, payload: &str| match text("game:a", event, payload) {
            (class, PushEvent::Game(push)) => (class, push),
            other => panic!("{other:?}"),
        };
        let state = Layout::PLAIN.state_at([1.0, -2.5, 0.0]).into();
        let step = GamePush::Step { input_seq: 9, state };
        assert_eq!(game("move", r#"{"x":1,"y":-2.5,"input_seq":9}"#), (PushClass::Move, step));
        for (to, scope) in [
            ("", Scope::Others),
            (r#","to":"others""#, Scope::Others),
            (r#","to":"all""#, Scope::All),
            (r#","to":65537"#, Scope::Only(65_537)),
        ] {
            let event = GamePush::Event { code: 3, scope, payload: EventPayload::Json("[1]".into()) };
            let json = format!(r#"{{"code":3,"payload":[1]{to}}}"#);
            assert_eq!(game("game_event", &json), (PushClass::Event, event), "{to}");
        }
    }

    #[test]
    fn what_every_topic_understands_is_read_alike() {
        for topic in ["room:a", "game:a"] {
            let common = |event, payload| match text(topic, event, payload) {
                (class, PushEvent::Common(push)) => (class, push),
                other => panic!("{other:?}"),
            };
            assert!(matches!(common("heartbeat", "null"), (PushClass::Event, CommonPush::Heartbeat)));
            let (class, update) = common("presence_update", r#"{"status":"busy"}"#);
            assert!(matches!(update, CommonPush::PresenceUpdate(meta) if meta.status() == Some("busy")));
            assert_eq!(class, PushClass::Presence);
            let (_, reconnect) = common("reconnect", r#"{"last_seen":{"epoch":"7","seq":3}}"#);
            let seen = Seen::Position(StreamPosition { epoch: 7, seq: 3 });
            assert!(matches!(reconnect, CommonPush::Reconnect(read) if read == seen));
        }
    }

    #[test]
    fn what_is_refused_takes_from_its_budget_as_well() {
        for (topic, event, payload, class, says) in [
            ("room:a", "new_message", "{}", PushClass::Event, "can't be blank"),
            ("room:a", "typing", "{}", PushClass::Event, "true or false"),
            ("room:a", "history", r#"{"limit":101}"#, PushClass::Page, "1 to 100"),
            ("room:a", "history", r#"{"limit":0.0}"#, PushClass::Page, "1 to 100"),
            ("room:a", "move", "{}", PushClass::Event, "unmute, ban, unban, presence_update"),
            (
                "game:a",
                "typing",
                "{}",
                PushClass::Event,
                "game_state, move, set_state, set_view, who, game_event, presence_update",
            ),
            ("game:a", "move", r#"{"x":1}"#, PushClass::Move, "y: number"),
            ("game:a", "move", "[1,2]", PushClass::Move, "y: number"),
            ("game:a", "move", r#"{"x":1,"y":1e39}"#, PushClass::Move, "y: number"),
            ("game:a", "set_state", r#"{"key":1}"#, PushClass::State { moves: false, objects: 1 }, "no keys"),
            ("game:a", "game_state", "{}", PushClass::Move, "binary"),
            ("game:a", "game_event", r#"{"code":65536}"#, PushClass::Event, "0 to 65535"),
            ("game:a", "presence_update", "[]", PushClass::Presence, "JSON object"),
            ("game:a", "reconnect", "{}", PushClass::Page, "last_seen"),
        ] {
            let (charged, refusal) = refusal(text(topic, event, payload));
            assert_eq!(charged, class, "{event}");
            assert!(refusal.contains(says), "{refusal}");
        }
    }

    #[test]
    fn a_state_is_charged_by_what_it_holds() {
        let topic = Topic::parse("game:a").unwrap();
        let state = |positions: u32, objects: u32, bytes: usize| {
            let head = b"\0\0\0\x06\x0agame:agame_state";
            let counts = [positions.to_be_bytes(), objects.to_be_bytes()].concat();
            let message = [&head[..], &counts, &vec![0; bytes]].concat();
            PushEvent::parse(&topic, &Layout::PLAIN, &Serializer::V2.decode_binary(&message).unwrap())
        };
        for (positions, objects) in [(0, 0), (1, 0), (0, 2), (3, 4)] {
            let bytes = positions * size_of::<Position>() + objects * size_of::<Object>();
            let (class, event) = state(positions as u32, objects as u32, bytes);
            assert_eq!(class, PushClass::State { moves: positions > 0, objects: objects as u32 });
            let PushEvent::Game(GamePush::State { positions: read, objects: put }) = event else { panic!() };
            assert_eq!((read.steps().count(), put.len()), (positions, objects));
        }
        assert_eq!(refusal(state(1, 0, 11)).0, PushClass::Move);
    }
}
