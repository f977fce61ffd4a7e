//! The words that the relay itself says: names of events, and how a reply ends.

/// Events that a member is told. Replies and the end of its channel are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Who is here.
    PresenceState,
    /// Who came, went and changed.
    PresenceDiff,
    /// How many are here.
    PresenceCount,
    /// A member came.
    UserJoined,
    /// A member went.
    UserDisconnected,
    /// A member of a room types, or has stopped.
    UserTyping,
    /// A message of a room.
    NewMessage,
    /// A message reads otherwise now.
    MessageEdited,
    /// A message is no more.
    MessageDeleted,
    /// The state of a room.
    RoomState,
    /// The text of a document, or a part of it.
    DocState,
    /// An edit of a document.
    Operation,
    /// Edits of a document that were missed.
    Operations,
    /// A member's cursor in a document.
    Cursor,
    /// What was missed.
    CatchUp,
    /// An event of a game.
    GameEvent,
    /// The state of a game, or what changed of it.
    GameUpdate,
    /// Values that players of a game have set.
    PlayerStates,
    /// Which input of the member was used.
    Ack,
    /// All that a member of a game sees: what is not in it is to be forgotten.
    GameSnapshot,
    /// Where the players of a game are, roughly.
    Overview,
    /// An event of a game for those who see its sender.
    NearEvent,
    /// Players whose position is gone.
    PlayersRemoved,
    /// Objects that are gone.
    ObjectsRemoved,
    /// A move was refused.
    Correction,
    /// A message over a rate limit was dropped.
    RateLimited,
    /// The client was silent for long.
    DisconnectWarning,
    /// The relay shuts down.
    ServerDraining,
}

impl Event {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PresenceState => "presence_state",
            Self::PresenceDiff => "presence_diff",
            Self::PresenceCount => "presence_count",
            Self::UserJoined => "user_joined",
            Self::UserDisconnected => "user_disconnected",
            Self::UserTyping => "user_typing",
            Self::NewMessage => "new_message",
            Self::MessageEdited => "message_edited",
            Self::MessageDeleted => "message_deleted",
            Self::RoomState => "room_state",
            Self::DocState => "doc_state",
            Self::Operation => "operation",
            Self::Operations => "operations",
            Self::Cursor => "cursor",
            Self::CatchUp => "catch_up",
            Self::GameEvent => "game_event",
            Self::GameUpdate => "game_update",
            Self::PlayerStates => "player_states",
            Self::Ack => "ack",
            Self::GameSnapshot => "game_snapshot",
            Self::Overview => "overview",
            Self::NearEvent => "near_event",
            Self::PlayersRemoved => "players_removed",
            Self::ObjectsRemoved => "objects_removed",
            Self::Correction => "correction",
            Self::RateLimited => "rate_limited",
            Self::DisconnectWarning => "disconnect_warning",
            Self::ServerDraining => "server_draining",
        }
    }
}

/// How a message is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is done.
    Ok,
    /// It is refused, and had no effect.
    Error,
}

impl Status {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}
