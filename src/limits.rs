//! Every bound of the relay, in one place. A number that can be configured has its default here. Each comment says what the
//! number counts, and then what happens to more.

mod epoll;
mod operators;
mod tls;

use std::time::Duration;

pub use epoll::*;
pub use operators::*;
pub use tls::*;

// ── Requests ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Request head, request line included. Longer: 431.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header lines in a request. More: 431.
pub const REQUEST_HEADERS_MAX: usize = 64;
/// From accept to the complete request head. Longer: 408.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a 429 or 503 tells the client: come back after this.
pub const REFUSAL_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Display name of a player, in bytes of UTF-8; its length travels in one byte. Longer: 400.
pub const NAME_BYTES_MAX: usize = 64;
/// User id (`sub`), in bytes of UTF-8; its length travels in one byte. Longer: 403.
pub const USER_ID_BYTES_MAX: usize = 128;
/// Token, in bytes: longer than a request head it could not come with the connection. Longer: refused.
pub const TOKEN_BYTES_MAX: usize = REQUEST_HEAD_BYTES_MAX;
/// Secret that signs tokens with HS256: as long as its hash (RFC 7518 section 3.2). Shorter: not accepted at start.
pub const TOKEN_SECRET_BYTES_MIN: usize = 32;
/// Keys of tokens at once. A token that names none costs a signature check for each.
pub const TOKEN_KEYS_MAX: usize = 16;
/// `kid` of a key, in bytes of UTF-8. Longer: not accepted at start.
pub const KEY_ID_BYTES_MAX: usize = 64;
/// Token of the admin pages, in bytes. Shorter could be guessed: not accepted at start.
pub const ADMIN_TOKEN_BYTES_MIN: usize = 16;
/// How long a question to the shards (to kick a user, to list games) waits for their answers. Longer: the page says that not all
/// have answered.
pub const QUESTION_WAIT: Duration = Duration::from_secs(2);
/// Questions of one party that wait for answers: each is a walk over everything for each shard. More: 503.
pub const QUESTIONS_MAX: usize = 32;
/// How long a renewal of keys or certificates waits for every shard to use them. Longer: the log says that some may not.
pub const RENEWAL_WAIT: Duration = Duration::from_secs(5);
/// Orders and questions that wait until the service thread gives them to the shards. More: a question is answered 503, an order is
/// not given, and the log says so.
pub const ERRANDS_MAX: usize = 64;
/// Questions that a shard has not answered yet: four times as many as one party may wait for, because the shard does not know who
/// has stopped waiting. More: it answers at once that it is busy.
pub const INQUIRIES_MAX: usize = 4 * QUESTIONS_MAX;
/// Questions of one shard's topics that the store has not answered: a topic has at most an append and `ROOM_READS_MAX` reads there.
/// More: refused, with when to try again.
pub const STORE_QUESTIONS_MAX: usize = 16 * 1024;
/// Appends that the store's thread takes at once: they are one commit. More wait for the next.
pub const STORE_APPENDS_MAX: usize = 4 * 1024;
/// Rooms, documents and pages that the store's thread reads at once, of 1 to 3 MiB at most. More wait, and writes come in between.
pub const STORE_READS_MAX: usize = 64;
/// Records that one append removes at most because the room's rules keep them no longer.
pub const STORE_TRIM_MAX: usize = 128;
/// A stream is looked at for what is too old with every so many of its records: a look costs as much as a record.
pub const STORE_TRIM_EVERY: u64 = 8;
/// Default of `store.cache_bytes`.
pub const STORE_CACHE_BYTES: usize = 16 * 1024 * 1024;
/// The store is said to hang when it has worked on one batch for longer.
pub const STORE_HANG: Duration = Duration::from_secs(5);
/// A line of the log that strangers can cause comes at most this often, with the number of those that were left out.
pub const LOG_REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// Places of `impossible!` that are named in the log. More are counted only.
pub const IMPOSSIBLE_PLACES_MAX: usize = 64;
/// Lines about players that come and go, per second in development mode, of all shards together. More are counted only.
pub const NOTES_PER_SECOND_MAX: u32 = 20;
/// Signatures of tokens that turn out to be forged, per connection: per second, and at once. Over it, joins that bring a token
/// that is not known yet are refused with `rate_limited`.
pub const FORGED_TOKEN_RATE: (u32, u32) = (5, 10);
/// Forged tokens of a shard, in all requests and on all connections without a good token: per second, and at once. To check them
/// takes a fifth of its time, and less than 10 ms at once. Over it, tokens that are not known yet are refused with
/// `rate_limited`, in requests with 503.
pub const SHARD_FORGED_TOKEN_RATE: (u32, u32) = (2_000, 50);
/// Good tokens that joins bring, per connection: per second, and at once. The burst is as many as a connection may have topics,
/// since each may have a token of its own.
pub const GOOD_TOKEN_RATE: (u32, u32) = (10, 100);
/// Good tokens that a shard keeps, so that they are not checked twice. More: some are checked again.
pub const TOKENS_KEPT: usize = 256;
/// Longest token that a shard, or a channel that it grants, keeps. Longer: each join that brings it checks it again.
pub const TOKEN_KEPT_BYTES_MAX: usize = 2 * 1024;
/// A token is valid this long before its `nbf`: the issuer's clock may be ahead.
pub const TOKEN_NOT_BEFORE_LEEWAY_S: u64 = 5;

// ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Inbound message, all fragments together. Longer: close 1009.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Fragments of one inbound message. More: close 1008 `abuse`.
pub const MESSAGE_FRAGMENTS_MAX: u32 = 4096;
/// Outbound message; larger states are split. Godot's default inbound buffer is 65,535 bytes.
pub const OUTBOUND_MESSAGE_BYTES_MAX: usize = 60 * 1024;
/// Inbound message on `/echo`, for conformance suites.
pub const ECHO_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Fragments of one message on `/echo`.
pub const ECHO_MESSAGE_FRAGMENTS_MAX: u32 = 1024 * 1024;
/// Payload of a control frame (RFC 6455 section 5.5). Longer: close 1002.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// `ref` or `join_ref` of a Phoenix message, as JSON: it is kept as long as its channel, and written into every reply. Clients
/// count, so theirs are a dozen bytes. Longer: the message is malformed.
pub const REF_BYTES_MAX: usize = 128;
/// Arrays and objects within each other in one value of a Phoenix message; the message itself does not count. Below the 128
/// at which `serde_json` gives up, so a room can parse what was let in. Deeper: the message is malformed.
pub const JSON_DEPTH_MAX: u32 = 64;

// ── Outboxes ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Reliable lane of one connection: events, rosters, notices not yet taken by the kernel. More: close 1013 `slow`.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// A connection that has joined topics, up to a hundred, may have so many times `OUTBOX_BYTES_MAX`. A broadcast is in memory
/// once, however many connections wait for it.
pub const OUTBOX_CHANNELS_FACTOR: usize = 4;
/// If nothing else waits for a client, so many times `OUTBOX_BYTES_MAX` may be queued for it within one turn of the loop. While
/// these bytes are being sent, they do not count against what comes.
pub const OUTBOX_BURST: usize = 4;
/// Bytes of answers to joins that do not count against the lane, because a client that comes back joins up to 100 topics at once.
/// More counts.
pub const GREETINGS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What each frame in a lane counts beyond its bytes: its allocation and its handle.
pub const OUTBOX_FRAME_BYTES: usize = 96;
/// Reliable lane of a connection to `/echo`, where one message may be 16 MiB.
pub const ECHO_OUTBOX_BYTES_MAX: usize = 4 * ECHO_MESSAGE_BYTES_MAX;
/// Bytes that are still read from a closing connection and thrown away, in KiB, each receive rounded up. More, before the last
/// frame is sent: reading stops until then. So much again after it: the connection is ended at once, which its client may see as
/// a reset.
pub const CLOSING_KIB_MAX: u16 = 1024;
/// How long a shard that has panicked takes to tell its clients. Longer: the others go without a close frame.
pub const GOODBYE_TIME_MAX: Duration = Duration::from_millis(500);
/// Frames handed to the kernel in one `sendmsg`. More wait for its completion.
pub const FRAMES_PER_SEND_MAX: usize = 64;
/// A close that cannot be finished with the peer (its close frame, its end of stream) is finished without it.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Frames whose buffers a shard keeps for the next ticks. More are freed.
pub const FRAMES_POOLED_MAX: usize = 128;

// ── Games ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Tick rate of a game without settings, per second.
pub const TICK_HZ_DEFAULT: u16 = 20;
/// Highest tick rate that can be configured.
pub const TICK_HZ_MAX: u16 = 120;
/// Players of one game, held seats included, when not configured. More: 503.
pub const PLAYERS_MAX_DEFAULT: u32 = 1_000;
/// Highest `players_max` that can be configured.
pub const PLAYERS_MAX_MAX: u32 = 20_000;
/// How long a network may hold Moves back and then deliver them bunched, without any of them being corrected for its speed.
/// Longer: some are corrected.
pub const MOVE_DELAY_MAX: Duration = Duration::from_secs(1);
/// How far apart the Moves of a player may be whose network holds them back; at least a tick.
pub const MOVE_INTERVAL_MAX: Duration = Duration::from_millis(250);
/// How long a lost player's seat is held, when not configured.
pub const SEAT_HOLD_DEFAULT: Duration = Duration::from_secs(15);
/// Longest `seat_hold_s` that can be configured.
pub const SEAT_HOLD_MAX: Duration = Duration::from_secs(3_600);
/// Players that one Who may ask for: all their names fit into one message. More: Error `malformed`.
pub const WHO_PLAYERS_MAX: usize = 256;
/// Names of a Who that are charged as much as one Event.
pub const WHO_PLAYERS_PER_TOKEN: usize = 16;
/// Objects a player may own. More: Error `limit_reached`.
pub const OBJECTS_PER_PLAYER_MAX: usize = 64;
/// Bytes of a player's pose. More is no configuration.
pub const POSE_BYTES_MAX: u8 = 32;
/// Bytes of all values that a player may set: keys times bytes of each. More is no configuration.
pub const PLAYER_KEY_BYTES_MAX: usize = 256;
/// Seats that players may leave within one tick, or `players_max` if that is more. Then newcomers are refused, as in a full game,
/// until the tick: a seat is not given anew before it.
pub const SEATS_FREED_PER_TICK_MIN: usize = 256;
/// Ticks after which a client that missed frames is told all players' values again, not only what changed.
pub const KEYS_REMEMBERED_TICKS: u32 = 64;
/// Removed values that a game remembers for clients that missed frames. Beyond it they are forgotten, and these clients are told all
/// values.
pub const KEYS_REMOVED_MAX: usize = 4_096;
/// Payload of an Event. Longer: Error `malformed`.
pub const EVENT_PAYLOAD_BYTES_MAX: usize = 1024;
/// Events a game keeps for members that resume. Older ones cannot be caught up with.
pub const EVENTS_KEPT_MAX: usize = 300;
/// How long a game keeps its events at least, unless there are more than `EVENTS_KEPT_MAX`; as long as it holds seats, if that is
/// longer. Older ones cannot be caught up with.
pub const EVENTS_KEPT_FOR: Duration = Duration::from_secs(60);

// ── Interest ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Cells of a game's grid, occupied or not. More: the configuration is refused with the smallest `cell` that would do.
pub const GRID_CELLS_MAX: u32 = 1 << 20;
/// Cells along one side of a grid: row and column travel in 16 bits each. More: refused like `GRID_CELLS_MAX`.
pub const GRID_SIDE_CELLS_MAX: u32 = 65_535;
/// Radius of a view, in cells: 17 × 17 of them. Larger: the configuration is refused.
pub const VIEW_RADIUS_MAX: u8 = 8;
/// Default of `view.radius` and `view.radius_max`, in cells.
pub const VIEW_RADIUS_DEFAULT: u8 = 2;
/// Default of `view.budget`: positions that a frame is expected to hold. More: far ones are told less often, down to once in
/// `VIEW_PERIOD_TICKS_MAX`.
pub const VIEW_BUDGET_DEFAULT: u16 = 128;
/// Ids in a frame of a view that count as one unit of work.
pub const VIEW_IDS_PER_WORK: usize = 16;
/// Ticks after which a game gives back the memory of views that nobody looks from.
pub const VIEW_GIVE_BACK_TICKS: u32 = 64;
/// Rings of a view that are told at different rates; those farther out are told like the last.
pub const VIEW_RINGS: u8 = 3;
/// Ticks between two positions of one entity that moves all the time, at most, however crowded a view is.
pub const VIEW_PERIOD_TICKS_MAX: u32 = 16;
/// From one change of a member's view to the next. Earlier: it waits, unless the player is more than one cell away.
pub const VIEW_HOLD: Duration = Duration::from_millis(250);
/// Changes of a member's view that do not wait, in `VIEW_JUMPS_TIME`. More: they wait for `VIEW_HOLD`, too.
pub const VIEW_JUMPS_MAX: u8 = 4;
/// The time over which `VIEW_JUMPS_MAX` counts.
pub const VIEW_JUMPS_TIME: Duration = Duration::from_secs(1);
/// Places that overviews tell per second. More players: a round takes longer.
pub const OVERVIEW_PLACES_PER_S: u32 = 1_000;
/// Time for which one tick catches up with the overview. Longer: the round takes longer.
pub const OVERVIEW_TURN_MAX: Duration = Duration::from_millis(250);

// ── Topics ──────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Topics of one connection. One more: `too many channels joined`.
pub const CHANNELS_PER_CONNECTION_MAX: usize = 100;
/// Topics of one shard, games and rooms together. One more: its join is refused `full`, on `/play` with 503.
pub const TOPICS_PER_SHARD_MAX: usize = 64 * 1024;
/// Memory of the topics of one shard, by the last count. More: no topic begins; the join is refused `full`, on `/play` with 503.
pub const TOPICS_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Body of a chat message. Longer: `error`.
pub const CHAT_BODY_BYTES_MAX: usize = 4 * 1024;
/// `client_id` of a chat message. Longer: `error`.
pub const CLIENT_ID_BYTES_MAX: usize = 64;
/// Events (messages, edits, deletions) that a room in use has in memory, for members that come, come back, or send one again. Older
/// ones are read from the store.
pub const MESSAGES_CACHED_MAX: usize = 300;
/// Bytes of the events that a room has in memory. More: the oldest are read from the store.
pub const MESSAGES_CACHED_BYTES_MAX: usize = 1024 * 1024;
/// Messages that one write to the store takes; what comes meanwhile waits for the next.
pub const ROOM_APPEND_MESSAGES_MAX: usize = 64;
/// Bytes of the messages of one write.
pub const ROOM_APPEND_BYTES_MAX: usize = 256 * 1024;
/// Pushes of the members of one room that wait, as they came, while the store writes. More: refused, with when to try again.
pub const ROOM_WAITING_MAX: usize = 256;
/// Read markers among what waits: they do not take the place of messages. More: refused, with when to try again.
pub const ROOM_WAITING_MARKERS_MAX: usize = 64;
/// Waiting pushes of one user in one room, so that nobody takes the place of all. More: refused, with when to try again.
pub const ROOM_WAITING_USER_MAX: usize = 64;
/// Bytes of the messages' bodies that wait in one room. More: refused, with when to try again.
pub const ROOM_WAITING_BYTES_MAX: usize = 256 * 1024;
/// Pages of one room that are being read from the store. More: refused, with when to try again.
pub const ROOM_READS_MAX: usize = 8;
/// Joins, and what comes behind them, that wait for one room to be read from the store. More: refused, with when to try again.
pub const ROOM_ARRIVALS_MAX: usize = 4 * 1024;
/// Bytes of the pushes among them. More: refused, with when to try again.
pub const ROOM_ARRIVALS_BYTES_MAX: usize = 1024 * 1024;
/// Waiting joins that are let in at once when the room has been read: each is answered with as much as a message holds.
pub const ROOM_LET_IN: usize = 32;
/// How long a join waits for a room to be read from the store. Longer: refused, with when to try again.
pub const ROOM_LOAD_WAIT: Duration = Duration::from_secs(5);
/// Messages of a `room_state`, if they fit into one outbound message.
pub const ROOM_STATE_MESSAGES: usize = 50;
/// Messages of one `history` answer, if they fit into one outbound message.
pub const HISTORY_MESSAGES_MAX: usize = 100;
/// Default of `messages_per_minute`: chat messages of one user in one room within `CHAT_WINDOW`. More: refused.
pub const CHAT_MESSAGES_MAX: u32 = 10;
/// Users of one room that are muted or banned, together. More: `error`.
pub const RESTRICTIONS_MAX: usize = 1_000;
/// Seconds for which a user may be muted or banned: a year. More: `error`.
pub const RESTRICTION_S_MAX: u32 = 366 * 24 * 60 * 60;
/// Users of one room whose read marker is kept. More: the one that has read the least is forgotten.
pub const READ_MARKERS_MAX: usize = 1_000;
/// Default of `edit_s`: seconds within which a message may be edited by its author.
pub const EDIT_S_DEFAULT: u32 = 900;
/// Default of `messages_kept`.
pub const MESSAGES_KEPT_DEFAULT: u32 = 10_000;
/// Default of `days_kept`.
pub const DAYS_KEPT_DEFAULT: u32 = 30;
/// The time over which `CHAT_MESSAGES_MAX` counts.
pub const CHAT_WINDOW: Duration = Duration::from_secs(60);
/// `typing: true` ends by itself after this.
pub const TYPING_TIMEOUT: Duration = Duration::from_secs(3);
/// The others are told of a change of a member's `typing` once in this time, on average.
pub const TYPING_INTERVAL: Duration = Duration::from_secs(1);
/// Changes of a member's `typing` that the others are told of at once. More: they are told later, and then only the latest.
pub const TYPING_BURST: u32 = 4;
/// Text of a document, in bytes of UTF-8. An operation that would make it longer: `error`.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Components of one operation. More: `error`.
pub const OPERATION_COMPONENTS_MAX: usize = 1_000;
/// An operation, as the JSON of its list. Longer: `error`.
pub const OPERATION_JSON_BYTES_MAX: usize = 56 * 1024;
/// An operation that was transformed, as JSON: others' operations part what it deletes. Longer: `too_old`.
pub const OPERATION_TOLD_BYTES_MAX: usize = 57 * 1024;
const _: () = assert!(
    OPERATION_TOLD_BYTES_MAX + 6 * (USER_ID_BYTES_MAX + OP_ID_BYTES_MAX) + 128 <= PRESENCE_TEXT_BYTES_MAX,
    "members are told of it in one message, where one byte may become six"
);
/// `op_id` of an operation. Longer: `error`.
pub const OP_ID_BYTES_MAX: usize = 64;
/// Operations that a document keeps. One that was made before them is `too_old`.
pub const OPERATIONS_KEPT: usize = 1_000;
/// Bytes of the operations that a document keeps, on disk and in memory. More: the oldest are forgotten.
pub const OPERATIONS_KEPT_BYTES: usize = 2 * 1024 * 1024;
/// A document is written anew with the last of so many operations, …
pub const SNAPSHOT_OPERATIONS: u64 = 1_000;
/// … or of so many bytes of their records.
pub const SNAPSHOT_BYTES: usize = 1024 * 1024;
const _: () = assert!(
    SNAPSHOT_OPERATIONS as usize <= OPERATIONS_KEPT && SNAPSHOT_BYTES <= OPERATIONS_KEPT_BYTES,
    "what came since a document was written is kept"
);
/// Users of a document whose last operation is known, so that it can be sent again. More: the one that wrote longest ago is
/// forgotten.
pub const WRITERS_MAX: usize = 1_000;
/// A member whose operation is too old is told the text, once in this time. Sooner: `rate_limited`.
pub const OUTDATED_INTERVAL: Duration = Duration::from_secs(5);
/// Components that are looked at to transform an operation: its own, and those of another one, for each that came since. For the
/// position of a cursor those of the others. More: `too_old`.
pub const TRANSFORM_COMPONENTS_MAX: usize = 50_000;
/// Components that are looked at for one write, also for what is refused. What comes behind waits for the next.
pub const DOCUMENT_APPEND_COMPONENTS_MAX: usize = TRANSFORM_COMPONENTS_MAX;
/// What the head of an outbound message (topic, references, event) takes of `OUTBOUND_MESSAGE_BYTES_MAX` at most; a payload
/// that is filled up to a bound leaves it free.
pub const MESSAGE_HEAD_BYTES_MAX: usize = 1024;

// ── Presence (PROTOCOL section 4) ───────────────────────────────────────────────────────────────────────────────────

/// A member's meta, encoded, with all its updates merged. Longer: refused.
pub const META_BYTES_MAX: usize = 1024;
/// Objects and arrays within each other in a meta. Deeper: refused, because members' parsers may stop at 64 or 128.
pub const META_NESTING_MAX: usize = 16;
/// Status of a member, in bytes of UTF-8. Longer: refused.
pub const STATUS_BYTES_MAX: usize = 32;
/// Changes of presence are told together, this long after the first: at most 20 diffs per second.
pub const PRESENCE_WINDOW: Duration = Duration::from_millis(50);
/// Up to so many members of a topic, or players of a game, are told who else is there, when not configured. More: they are told
/// how many there are.
pub const PRESENCE_LIST_MAX: u32 = 256;
/// Highest `presence.list_max` that can be configured: a crowd's every join costs as many messages as it has members.
pub const PRESENCE_LIST_MAX_MAX: u32 = 10_000;
/// Least time between two counts that the members of a topic with more than `presence.list_max` members are told.
pub const PRESENCE_COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// Payload of a presence message, without its head. Longer: it is split.
pub const PRESENCE_TEXT_BYTES_MAX: usize = OUTBOUND_MESSAGE_BYTES_MAX - MESSAGE_HEAD_BYTES_MAX;

// ── Rates (PROTOCOL section 7) ──────────────────────────────────────────────────────────────────────────────────────

/// Moves: per second, and at once. Object records have the same rate, counted apart.
pub const MOVE_RATE: (u32, u32) = (60, 60);
/// Events: per second, and at once.
pub const EVENT_RATE: (u32, u32) = (20, 40);
/// Pings: per second, and at once.
pub const PING_RATE: (u32, u32) = (10, 20);
/// Bytes in: per second, and at once. Over it, reading stops.
pub const BYTES_RATE: (u32, u32) = (64 * 1024, 128 * 1024);
/// Longest stop of reading. Debt of bytes beyond it is forgiven, but the budget is then empty, so the next stop comes sooner.
pub const READING_STOP_MAX: Duration = Duration::from_secs(2);
/// Over a rate, the client is told at most this often per class.
pub const RATE_LIMITED_NOTICE_INTERVAL: Duration = Duration::from_secs(1);
/// Joins of topics: per second, and at once (a Phoenix client joins everything anew when it reconnects). Over it: `error`.
pub const JOIN_RATE: (u32, u32) = (20, 100);
/// `history`, `operations` and `reconnect`, whose answers are as much as one message holds: per second, and at once. Over it: `error`.
pub const PAGE_RATE: (u32, u32) = (2, 20);
/// `operation`s: per second, and at once.
pub const OPERATION_RATE: (u32, u32) = (50, 100);
/// `cursor`s: per second, and at once.
pub const CURSOR_RATE: (u32, u32) = (20, 40);
/// `presence_update`s: per second, and at once.
pub const PRESENCE_RATE: (u32, u32) = (10, 20);
/// Attempts over `ABUSE_WINDOW` beyond this many times the rate: close 1008 `abuse`.
pub const ABUSE_FACTOR: u32 = 20;
/// The time over which `ABUSE_FACTOR` counts.
pub const ABUSE_WINDOW: Duration = Duration::from_secs(10);
/// Malformed records within `MALFORMED_WINDOW` that close a connection with 1003.
pub const MALFORMED_MAX: u32 = 10;
/// The time over which `MALFORMED_MAX` counts.
pub const MALFORMED_WINDOW: Duration = Duration::from_secs(60);

// ── Liveness (PROTOCOL section 6) ───────────────────────────────────────────────────────────────────────────────────

/// `/play`: silence after which the relay pings.
pub const PLAY_PING_AFTER: Duration = Duration::from_secs(5);
/// `/play`: silence after which the connection is closed.
pub const PLAY_CLOSE_AFTER: Duration = Duration::from_secs(15);
/// `/socket`: silence after which every joined topic is warned.
pub const SOCKET_WARN_AFTER: Duration = Duration::from_secs(60);
/// `/socket`: silence after which the connection is closed.
pub const SOCKET_CLOSE_AFTER: Duration = Duration::from_secs(90);
/// If the relay looks at a silent client later than this, it also takes the next step as much later: a client that was pinged
/// late still has its whole time to answer.
pub const SILENCE_LATE_MAX: Duration = Duration::from_millis(500);
/// `/socket`, where tokens are needed: how long a connection that came without one may be without a topic, when not configured.
/// Longer: close 1008 `unauthorized`.
pub const SOCKET_JOIN_TIMEOUT: Duration = Duration::from_secs(10);

// ── Drain ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// From the first SIGTERM to the exit, whatever clients do.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
/// From the notice to the first close.
pub const DRAIN_NOTICE: Duration = Duration::from_secs(1);
/// Connections closed per `DRAIN_BATCH_INTERVAL`, over all shards, when not configured.
pub const DRAIN_BATCH: u32 = 10_000;
/// How often `DRAIN_BATCH` connections are closed.
pub const DRAIN_BATCH_INTERVAL: Duration = Duration::from_secs(2);
/// The drain notice tells clients to come back after this, and a random part of `DRAIN_JITTER`.
pub const DRAIN_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Largest random part of the time after which clients come back.
pub const DRAIN_JITTER: Duration = Duration::from_secs(5);

// ── Tables and queues ───────────────────────────────────────────────────────────────────────────────────────────────

/// Connections of one shard: a slot is 24 bits of `user_data`.
pub const CONNECTIONS_PER_SHARD_MAX: u32 = 1 << 24;
/// Descriptor slots of a shard that no player gets: they carry refusals. With fewer free, accepting stops.
pub const CONNECTIONS_RESERVE: u32 = 64;
/// Descriptors of a shard that are no sockets of players: two listeners, epoll or ring, two eventfds.
pub const DESCRIPTORS_OF_SHARD: u32 = 5;
/// Descriptors kept for the rest of the process: admin pages, store, log, runtime. Sockets of players take none of them.
pub const DESCRIPTORS_OF_PROCESS: u32 = ADMIN_VISITORS_MAX as u32 + 32;
/// Shards of one process.
pub const SHARDS_MAX: u16 = 256;
/// What the kernel takes for a connection that is idle: socket, inode, file, dentry, and the poll that waits for it (measured on
/// Linux 6.18). Only planned with: `connections_max` that would take more memory than there is is refused.
pub const CONNECTION_KERNEL_BYTES: u64 = 4200;
/// Letters waiting between two shards. Full: further ones wait in the sender's overflow.
pub const MAILBOX_LETTERS_MAX: usize = 1024;
/// Letters waiting between two shards, at least, with very many shards.
pub const MAILBOX_LETTERS_MIN: usize = 16;
/// Letters that the queues between all shards have room for together, within the bounds of each: 2 MiB, once all were used.
pub const MAILBOX_LETTERS_ALL: usize = 32 * 1024;
/// Letters that wait behind a full mailbox. More: a handover is refused with 503, a request is answered `overload`; members that
/// cannot be told something get `phx_error` and may join again. What must arrive waits beyond this bound: for each channel its
/// leave, and one or two notices that it is over; for each frame that a member of a topic could not take, one request for the
/// whole state.
pub const MAILBOX_OVERFLOW_MAX: usize = 16 * 1024;
/// When a crowd has gone, its queues and tables shrink to two to four times so many entries.
pub const ENTRIES_KEPT: usize = 128;
/// Receive buffers that a shard lends to the kernel.
pub const RECEIVE_BUFFERS: u16 = 1024;
/// Receive buffers of a shard, with many shards per CPU.
pub const RECEIVE_BUFFERS_MIN: u16 = 32;
/// Size of a receive buffer.
pub const RECEIVE_BUFFER_BYTES: u32 = 4096;
/// Completion queue entries of a shard's ring.
pub const COMPLETION_QUEUE_ENTRIES: u32 = 64 * 1024;
/// Completion queue entries with many shards per CPU. A kernel since 6.14 posts at most as many at a time as are waited for; on
/// an older one, a queue that overflows ends receives, which are armed again.
pub const COMPLETION_QUEUE_ENTRIES_MIN: u32 = 4 * 1024;
/// Submission queue entries of a shard's ring.
pub const SUBMISSION_QUEUE_ENTRIES: u32 = 4096;
/// Submission queue entries with many shards per CPU: the sends of a few games' ticks.
pub const SUBMISSION_QUEUE_ENTRIES_MIN: u32 = 256;
/// Clients that have connected and wait to be accepted, per shard (`net.core.somaxconn` caps it). More: their SYN is dropped.
pub const LISTEN_BACKLOG: u32 = 4096;
/// Accepts in flight when they go one by one: near the end of the descriptor table, when addresses are counted, or for TLS.
pub const ACCEPTS_IN_FLIGHT: usize = 16;
/// `SO_SNDBUF` of a connection: what the kernel holds for a client until it acknowledges (it doubles the number for its own
/// bookkeeping), so throughput is at most this per round trip. Below the 64 KiB segments of the loopback interface the
/// sender waits for delayed acknowledgements (measured: 2 MB/s instead of 80).
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// `TCP_NOTSENT_LOWAT` of a connection: with so many bytes not yet on the network it counts as busy and is skipped. Less means
/// fresher frames for a slow client.
pub const UNSENT_BYTES_MAX: u32 = 16 * 1024;
/// Completions that a busy loop gathers before it turns, but at most half as many as it has receive buffers.
pub const COMPLETIONS_PER_TURN: usize = 512;
/// Longest wait of a busy loop for more completions: what a single ping pays for the batching of everything else.
pub const TURN_GATHER_TIME: Duration = Duration::from_millis(1);
/// With N shards per CPU each gathers for N times `TURN_GATHER_TIME`, but no longer than this. So a CPU wakes as often as with
/// one shard: with 32 that each woke after a millisecond, a frame cost twice the CPU.
pub const TURN_GATHER_TIME_MAX: Duration = Duration::from_millis(20);
/// Completions that one turn looks at. What is left goes on in the next turn, which follows at once.
pub const COMPLETIONS_READ_MAX: usize = 2048;
/// Letters that one turn reads. What is left goes on in the next turn.
pub const LETTERS_READ_MAX: usize = 1024;
/// After so many completions or letters the loop looks whether a tick is due.
pub const READS_PER_LOOK: usize = 64;
/// Work of each part of a turn (reading, ticks and so on), in messages read and frames queued. What is left goes on in the next
/// turn, which follows at once, first come first served. A unit takes 0.1 to 0.5 µs.
pub const PART_WORK_MAX: u32 = 4096;
/// Work for one connection whose messages wait, before the next one has its turn.
pub const UNREAD_WORK_AT_ONCE: u32 = 256;
/// Bytes of a connection that wait to be read because turns have other work. More: reading from it stops for `UNREAD_STOP`. Most
/// connections stop at their byte budget long before.
pub const UNREAD_BYTES_MAX: usize = 256 * 1024;
/// How long reading from a connection stops that is over `UNREAD_BYTES_MAX`.
pub const UNREAD_STOP: Duration = Duration::from_millis(50);
/// So many bytes of a message that is read, or written for one client alone, count as one more unit of work.
pub const WORK_BYTES: usize = 512;
/// So many connections, seats or components of operations that are only looked at count as one unit of work.
pub const LOOKS_PER_WORK: usize = 8;
/// Units of work that the end of a connection counts: its seat, its topics, its last frame.
pub const WORK_OF_CLOSE: usize = 4;
/// Units of work that the check of a token's signature counts.
pub const WORK_OF_TOKEN: usize = 256;
/// Sends begun in one turn; the next turn, which follows at once, goes on. It bounds the sends that are begun before their
/// completions are looked at, and with them the memory of the pool of sends.
pub const SENDS_PER_TURN: usize = 1024;
/// Overdue connections that a shard looks at in one turn; the rest is due in the next one, which follows at once. Each look may be
/// a ping: half of the sends of a turn are left to what players say to each other, and with 2 µs a ping no tick waits longer than
/// about a millisecond for them.
pub const CHECKS_PER_TURN: usize = SENDS_PER_TURN / 2;
/// If a sleep or a turn of a loop takes so much longer than it should, the process or its machine stood still, and what clients
/// have sent waits in their sockets. The clock of the shard leaves that time out, so that no deadline comes nearer by it.
pub const STANDSTILL_MIN: Duration = Duration::from_millis(250);
/// After a standstill so many turns only read (fewer, if nothing is left to read), so that no client counts as silent before it
/// is heard.
pub const TURNS_OF_CATCHING_UP: u8 = 32;
/// If the wall clock is set by so much, or goes on by so much while the shard's clock stands still, all that expires by it is
/// checked anew.
pub const WALL_CLOCK_STEP_MIN: Duration = Duration::from_millis(500);
/// Longest sleep of a loop: `/livez` watches that it turns.
pub const TURN_INTERVAL_MAX: Duration = Duration::from_secs(1);

// ── Memory of an idle player ────────────────────────────────────────────────────────────────────────────────────────
// The structs assert their part where they are declared; `tests/allocations.rs` counts the whole.

/// The player's place in the shard's table of connections.
pub const CONNECTION_BYTES_MAX: usize = 128;
/// The player's place in the ring's table of sockets.
pub const SOCKET_BYTES_MAX: usize = 16;
/// The player's seat.
pub const SEAT_BYTES_MAX: usize = 56;
/// The player's position.
pub const POSITION_BYTES: usize = 12;
/// User id and name, with the rounding of the allocator.
pub const NAMES_BYTES: usize = 24;
/// The player's share of a game of 50: the game itself, spare seats, frames kept for the next tick.
pub const GAME_SHARE_BYTES: usize = 60;
/// The player's entries in queues that keep their size: deadlines, outboxes to look at, sends.
pub const QUEUE_ENTRIES_BYTES: usize = 24;
/// User memory of an idle player, as the slope over the number of players.
pub const IDLE_PLAYER_BYTES_MAX: usize = CONNECTION_BYTES_MAX
    + SOCKET_BYTES_MAX
    + SEAT_BYTES_MAX
    + POSITION_BYTES
    + NAMES_BYTES
    + GAME_SHARE_BYTES
    + QUEUE_ENTRIES_BYTES;

const _: () = assert!(IDLE_PLAYER_BYTES_MAX <= 320, "the budget that the relay promises");
const _: () = assert!(OUTBOUND_MESSAGE_BYTES_MAX < 65_535, "Godot's default inbound buffer");
const _: () = assert!(EVENT_PAYLOAD_BYTES_MAX + 16 < OUTBOUND_MESSAGE_BYTES_MAX);
const _: () = assert!(EVENT_PAYLOAD_BYTES_MAX + 8 <= MESSAGE_BYTES_MAX);
const _: () = assert!(OUTBOX_BYTES_MAX > 2 * OUTBOUND_MESSAGE_BYTES_MAX, "a whole state and its roster fit");
const _: () = assert!(ECHO_OUTBOX_BYTES_MAX > ECHO_MESSAGE_BYTES_MAX);
const _: () =
    assert!(NAME_BYTES_MAX < 256 && USER_ID_BYTES_MAX < 256, "their length is one byte on the wire");
const _: () = assert!(
    6 + WHO_PLAYERS_MAX * (4 + 1 + USER_ID_BYTES_MAX + 1 + NAME_BYTES_MAX) <= OUTBOUND_MESSAGE_BYTES_MAX,
    "the answer to a Who is one message"
);
const _: () = assert!(
    GOOD_TOKEN_RATE.1 as usize >= CHANNELS_PER_CONNECTION_MAX,
    "whoever comes back joins everything anew"
);
const _: () = assert!(VIEW_PERIOD_TICKS_MAX.is_power_of_two());
const _: () = assert!(VIEW_RADIUS_DEFAULT <= VIEW_RADIUS_MAX);
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two());
const _: () = assert!(RECEIVE_BUFFERS_MIN.is_power_of_two());
const _: () =
    assert!(2 * COMPLETIONS_PER_TURN <= RECEIVE_BUFFERS as usize, "one enter may run twice as many receives");
const _: () = assert!(QUESTION_WAIT.as_millis() < ADMIN_VISIT_TIME_MAX.as_millis(), "a kick is answered");
const _: () = assert!(
    3 * QUESTION_WAIT.as_millis() < ADMIN_VISIT_TIME_MAX.as_millis(),
    "who makes a document is answered: by the store, and then by the shards"
);
const _: () = assert!(QUESTIONS_MAX < ADMIN_VISITORS_MAX, "each visitor asks one question");
const _: () =
    assert!(8 * MESSAGE_BYTES_MAX < IMPORT_LINE_BYTES_MAX, "what was said is a line, however it is escaped");
const _: () = assert!(
    6 * DOCUMENT_BYTES_MAX + WRITERS_MAX * (6 * (USER_ID_BYTES_MAX + OP_ID_BYTES_MAX) + 64) + 128
        < IMPORT_LINE_BYTES_MAX,
    "a text with its writers is a line, where one byte may become six"
);
const _: () = assert!(RESTRICTIONS_MAX + READ_MARKERS_MAX < IMPORT_VALUES_MAX, "a room has so many values");
const _: () = assert!(DRAIN_NOTICE.as_millis() < DRAIN_DEADLINE.as_millis());
const _: () = assert!(
    6 * (NAME_BYTES_MAX + USER_ID_BYTES_MAX + STATUS_BYTES_MAX) + META_BYTES_MAX + 256
        < PRESENCE_TEXT_BYTES_MAX,
    "one meta, however much of it is escaped, fits"
);
