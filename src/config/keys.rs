//! Every key: its name, what it may be, where it goes, its default and its meaning. One row each; nothing else knows the names.

mod certificate;
mod document;
mod game;
mod hints;
mod tables;

use std::ops::RangeInclusive;

use super::draft::{Draft, LogFormat};
use super::error::ConfigError;
use super::secrets::KeyTable;
use super::source::{Assignment, Origin};
use super::value::{
    Expected, Value, address, boolean, key_id, milliseconds, number, origins, path, pattern, secret,
    variable, word,
};
use crate::driver_choice::DriverWish;
use crate::limits;
use crate::room::chat::RoomRules;
use crate::room::document::DocumentRules;
use crate::wire::token::Algorithm;

use certificate::CERTIFICATE_KEYS;
use document::{REQUIRED, Shown, UNSET, word_of};
use game::GAME_KEYS;

pub use document::document;
pub use hints::hint_for_flag;
pub(super) use hints::hint_for_variable;

/// Name of the array of tables that sets game rules.
pub const GAME_TABLE: &str = "game";

/// Name of the array of tables that sets rules of chat rooms.
pub const ROOM_TABLE: &str = "room";

/// Name of the array of tables that sets rules of documents.
pub const DOCUMENT_TABLE: &str = "doc";

/// Name of the array of tables that names keys of tokens.
pub const KEY_TABLE: &str = "key";

/// Name of the array of tables that names certificates.
pub const CERTIFICATE_TABLE: &str = "certificate";
/// Keys whose values are never shown.
const SECRET_KEYS: [&str; 2] = ["admin_token", "jwt_key"];

/// A row: the key, how its value is put into a `T`, what it is in the embedded default, and what it means.
struct Key<T> {
    name: &'static str,
    set: fn(&mut T, &Value) -> Result<(), Expected>,
    default: fn(&T) -> String,
    meaning: &'static str,
}

const fn key<T>(
    name: &'static str,
    set: fn(&mut T, &Value) -> Result<(), Expected>,
    default: fn(&T) -> String,
    meaning: &'static str,
) -> Key<T> {
    Key { name, set, default, meaning }
}

const RATE: RangeInclusive<u32> = 1..=1_000_000;
const BYTE_RATE: RangeInclusive<u32> = 1_024..=1_073_741_824;
const SILENCE_MS: RangeInclusive<u32> = 100..=3_600_000;

#[rustfmt::skip]
const KEYS: &[Key<Draft>] = &[
    key("listen", |draft, value| put(&mut draft.listen, address(value)), |draft| draft.listen.shown(),
        "where players connect. An address that is not loopback needs a key, or `insecure`. Flag `--listen`"),
    key("listen_tls", |draft, value| put(&mut draft.listen_tls, address(value).map(Some)), |draft| draft.listen_tls.shown(),
        "where players connect by TLS (`wss://`), beside `listen`; needs a `[[certificate]]`. Flag `--listen-tls`"),
    key("admin", |draft, value| put(&mut draft.admin, address(value)), |draft| draft.admin.shown(),
        "where the admin pages are. An address that is not loopback needs `admin_token` or its file. Flag `--admin`"),
    key("shards", |draft, value| put(&mut draft.wanted.shards, number(value, 1..=limits::SHARDS_MAX).map(Some)), |draft| draft.wanted.shards.shown(),
        "threads that carry connections. Unset: one per CPU, or as many as `connections_max` needs. Flag `--shards`"),
    key("connections_max", |draft, value| put(&mut draft.wanted.connections_max, number(value, 1..=100_000_000).map(Some)), |draft| draft.wanted.connections_max.shown(),
        "of the whole relay: shards, tables and queues are made for so many, or the relay says why it cannot; who comes beyond it gets 503. Games fall on shards by hash, so each of several shards has room for a quarter more than its share, and for 4,000. Unset: as many as fit. Flag `--connections-max`"),
    key("driver", |draft, value| put(&mut draft.driver, word(value, DRIVERS)), |draft| word_of(draft.driver, DRIVERS),
        "what the shards run on. auto: io_uring, or epoll where the kernel or a seccomp profile refuses io_uring. io_uring: no relay there. Flag `--driver`"),
    key("log_format", |draft, value| put(&mut draft.log_format, word(value, LOG_FORMATS)), |draft| word_of(draft.log_format, LOG_FORMATS),
        "how log lines look. auto: pretty on a terminal, JSON otherwise. Flag `--log-format`"),
    key("data_dir", |draft, value| put(&mut draft.store.data_dir, path(value)), |draft| draft.store.data_dir.shown(),
        "the directory of the store, which keeps what is said in rooms; made if it is not there. It belongs to one relay at a time. Flag `--data-dir`"),
    key("ephemeral", |draft, value| put(&mut draft.store.ephemeral, boolean(value)), |draft| draft.store.ephemeral.shown(),
        "keeps what is said in memory only: it ends with the process, and `data_dir` is not touched. Flag `--ephemeral`"),
    key("store.cache_bytes", |draft, value| put(&mut draft.store.cache_bytes, number(value, 1_048_576..=1_073_741_824)), |draft| draft.store.cache_bytes.shown(),
        "memory for what the store has read and written last"),
    key("insecure", |draft, value| put(&mut draft.insecure, boolean(value)), |draft| draft.insecure.shown(),
        "allows players on public addresses without a key. It does not open the admin pages. Flag `--insecure`"),
    key("enable_echo", |draft, value| put(&mut draft.upgrade.echo, boolean(value)), |draft| draft.upgrade.echo.shown(),
        "serves `/echo`, for conformance suites. Flag `--enable-echo`"),
    key("allowed_origins", |draft, value| put(&mut draft.upgrade.allowed_origins, origins(value)), |draft| draft.upgrade.allowed_origins.shown(),
        "web pages that may connect: `https://host[:port]`, `//host[:port]`, `*.` before a host for all below it, `*`. Empty: pages of the relay's own host; a list replaces it"),
    key("admin_token", |draft, value| put(&mut draft.admin_token, secret(value).map(Some)), |draft| draft.admin_token.shown(),
        "what the admin pages want as `Authorization: Bearer …`: 16 printable ASCII characters or more. Meant for the variable `CORELAY_ADMIN_TOKEN`. `/livez` and `/readyz` stay open"),
    key("admin_token_file", |draft, value| put(&mut draft.admin_token_file, path(value).map(Some)), |draft| draft.admin_token_file.shown(),
        "the same from a file, read at the start"),
    key("jwt_key", |draft, value| put(&mut draft.jwt_key, secret(value).map(Some)), |draft| draft.jwt_key.shown(),
        "the key of the tokens itself, instead of its file. Meant for the variable `CORELAY_JWT_KEY`"),
    key("jwt_key_file", |draft, value| put(&mut draft.jwt_key_file, path(value).map(Some)), |draft| draft.jwt_key_file.shown(),
        "the file with the key of the tokens. No key at all: development mode, where everybody is a guest. Flag `--jwt-key-file`"),
    key("jwt_algorithm", |draft, value| put(&mut draft.jwt_algorithm, algorithm(value)), |draft| draft.jwt_algorithm.shown(),
        "of that key, and of each `[[key]]` that says none. Flag `--jwt-algorithm`"),
    key("outbox_bytes_max", |draft, value| put(&mut draft.clients.outbox_bytes_max, number(value, OUTBOX_BYTES_MIN..=67_108_864)), |draft| draft.clients.outbox_bytes_max.shown(),
        "bytes of reliable records and messages that wait for one client, each counted with 96 bytes more; over it: 1013 `slow`"),
    key("message_bytes_max", |draft, value| put(&mut draft.clients.message_bytes_max, number(value, MESSAGE_BYTES_MIN..=16_777_216)), |draft| draft.clients.message_bytes_max.shown(),
        "bytes of an inbound message"),
    key("upgrade_timeout_ms", |draft, value| put(&mut draft.clients.upgrade_timeout, milliseconds(value, 100..=60_000)), |draft| draft.clients.upgrade_timeout.as_millis().shown(),
        "from accept to the complete request head"),
    key("socket_join_timeout_ms", |draft, value| put(&mut draft.clients.socket_join_timeout, milliseconds(value, 100..=3_600_000)), |draft| draft.clients.socket_join_timeout.as_millis().shown(),
        "with a key: how long a client that came to `/socket` without a token may be without a topic; longer: 1008 `unauthorized`"),
    key("socket_token_required", |draft, value| put(&mut draft.clients.socket_token_required, boolean(value)), |draft| draft.clients.socket_token_required.shown(),
        "with a key: `/socket` refuses who brings no token with the request (403); topics may want another one still"),
    key("connections_per_address", |draft, value| put(&mut draft.listen_options.connections_per_address, number(value, 1..=1_000_000).map(Some)), |draft| draft.listen_options.connections_per_address.shown(),
        "more are answered 429 before the request is read. An IPv6 address counts as its /64. Behind a proxy every player has the proxy's address: leave it unset there. Unset: any number"),
    key("send_buffer_bytes", |draft, value| put(&mut draft.listen_options.send_buffer_bytes, number(value, 4_096..=16_777_216)), |draft| draft.listen_options.send_buffer_bytes.shown(),
        "`SO_SNDBUF` of a connection: what the kernel holds until the client acknowledges, so throughput is at most this per round trip. Below 64 KiB the loopback interface is slow"),
    key("drain.batch", |draft, value| put(&mut draft.clients.drain_batch, number(value, 1..=10_000_000)), |draft| draft.clients.drain_batch.shown(),
        "connections closed per 2 s while draining, over all shards"),
    key("liveness.ping_after_ms", |draft, value| put(&mut draft.liveness.ping_after, milliseconds(value, SILENCE_MS)), |draft| draft.liveness.ping_after.as_millis().shown(),
        "silence after which the relay pings a client on `/play`"),
    key("liveness.close_after_ms", |draft, value| put(&mut draft.liveness.close_after, milliseconds(value, SILENCE_MS)), |draft| draft.liveness.close_after.as_millis().shown(),
        "silence after which it closes the client; must be more than `ping_after_ms`"),
    key("liveness.socket_warn_after_ms", |draft, value| put(&mut draft.liveness.socket_warn_after, milliseconds(value, SILENCE_MS)), |draft| draft.liveness.socket_warn_after.as_millis().shown(),
        "on `/socket`, whose clients send a heartbeat each 30 s: silence after which each topic gets `disconnect_warning`"),
    key("liveness.socket_close_after_ms", |draft, value| put(&mut draft.liveness.socket_close_after, milliseconds(value, SILENCE_MS)), |draft| draft.liveness.socket_close_after.as_millis().shown(),
        "silence after which it closes such a client; must be more than `socket_warn_after_ms`"),
    key("presence.list_max", |draft, value| put(&mut draft.clients.presence_list_max, number(value, 0..=limits::PRESENCE_LIST_MAX_MAX)), |draft| draft.clients.presence_list_max.shown(),
        "members of a topic up to which each is told who is here; above, only how many. The cost of a join grows with it"),
    key("rates.move_per_s", |draft, value| put(&mut draft.rates.moves.per_s, number(value, RATE)), |draft| draft.rates.moves.per_s.shown(),
        "Move and HostMoves, `move` and `game_state`. All rates are per connection"),
    key("rates.move_burst", |draft, value| put(&mut draft.rates.moves.burst, number(value, RATE)), |draft| draft.rates.moves.burst.shown(),
        "the same, at once"),
    key("rates.object_per_s", |draft, value| put(&mut draft.rates.objects.per_s, number(value, RATE)), |draft| draft.rates.objects.per_s.shown(),
        "PutObject and RemoveObject, objects in a `game_state`"),
    key("rates.object_burst", |draft, value| put(&mut draft.rates.objects.burst, number(value, RATE)), |draft| draft.rates.objects.burst.shown(),
        "the same, at once"),
    key("rates.event_per_s", |draft, value| put(&mut draft.rates.events.per_s, number(value, RATE)), |draft| draft.rates.events.per_s.shown(),
        "Event, `game_event`, `typing`, `history` and other events of topics"),
    key("rates.event_burst", |draft, value| put(&mut draft.rates.events.burst, number(value, RATE)), |draft| draft.rates.events.burst.shown(),
        "the same, at once"),
    key("rates.ping_per_s", |draft, value| put(&mut draft.rates.pings.per_s, number(value, RATE)), |draft| draft.rates.pings.per_s.shown(),
        "Ping"),
    key("rates.ping_burst", |draft, value| put(&mut draft.rates.pings.burst, number(value, RATE)), |draft| draft.rates.pings.burst.shown(),
        "the same, at once"),
    key("rates.join_per_s", |draft, value| put(&mut draft.rates.joins.per_s, number(value, RATE)), |draft| draft.rates.joins.per_s.shown(),
        "`phx_join`"),
    key("rates.join_burst", |draft, value| put(&mut draft.rates.joins.burst, number(value, RATE)), |draft| draft.rates.joins.burst.shown(),
        "the same, at once; a client that reconnects joins everything at once"),
    key("rates.presence_per_s", |draft, value| put(&mut draft.rates.presence.per_s, number(value, RATE)), |draft| draft.rates.presence.per_s.shown(),
        "`presence_update`"),
    key("rates.presence_burst", |draft, value| put(&mut draft.rates.presence.burst, number(value, RATE)), |draft| draft.rates.presence.burst.shown(),
        "the same, at once"),
    key("rates.operation_per_s", |draft, value| put(&mut draft.rates.operations.per_s, number(value, RATE)), |draft| draft.rates.operations.per_s.shown(),
        "`operation` on a document"),
    key("rates.operation_burst", |draft, value| put(&mut draft.rates.operations.burst, number(value, RATE)), |draft| draft.rates.operations.burst.shown(),
        "the same, at once"),
    key("rates.cursor_per_s", |draft, value| put(&mut draft.rates.cursors.per_s, number(value, RATE)), |draft| draft.rates.cursors.per_s.shown(),
        "`cursor` in a document"),
    key("rates.cursor_burst", |draft, value| put(&mut draft.rates.cursors.burst, number(value, RATE)), |draft| draft.rates.cursors.burst.shown(),
        "the same, at once"),
    key("rates.bytes_per_s", |draft, value| put(&mut draft.rates.bytes.per_s, number(value, BYTE_RATE)), |draft| draft.rates.bytes.per_s.shown(),
        "bytes in; over it the relay stops reading until the budget is back, 2 s at most at a time"),
    key("rates.bytes_burst", |draft, value| put(&mut draft.rates.bytes.burst, number(value, BYTE_RATE)), |draft| draft.rates.bytes.burst.shown(),
        "the same, at once"),
];

#[rustfmt::skip]
const ROOM_KEYS: &[Key<RoomRules>] = &[
    key("room.pattern", |room, value| put(&mut room.pattern, pattern(value)), |_| REQUIRED.into(),
        "which rooms: a `*` stands for any run of characters"),
    key("room.messages_per_minute", |room, value| put(&mut room.messages_per_minute, number(value, RATE)), |room| room.messages_per_minute.shown(),
        "messages and edits of one user in one room, within any minute; neither a reconnect nor a restart renews it"),
    key("room.messages_kept", |room, value| put(&mut room.messages_kept, number(value, 1..=100_000_000)), |room| room.messages_kept.shown(),
        "the last so many messages, edits and deletions are kept"),
    key("room.days_kept", |room, value| put(&mut room.days_kept, number(value, 1..=36_500)), |room| room.days_kept.shown(),
        "and none of them for longer"),
    key("room.edit_s", |room, value| put(&mut room.edit_s, number(value, 0..=u32::MAX)), |room| room.edit_s.shown(),
        "seconds within which its author may edit a message; 0: never"),
];

#[rustfmt::skip]
const DOCUMENT_KEYS: &[Key<DocumentRules>] = &[
    key("doc.pattern", |document, value| put(&mut document.pattern, pattern(value)), |_| REQUIRED.into(),
        "which documents: a `*` stands for any run of characters"),
    key("doc.create", |document, value| put(&mut document.create, boolean(value)), |document| document.create.shown(),
        "whether a document that does not exist may be joined, and begins with its first operation; `false`: only those that `PUT /docs/{id}` has made"),
];

#[rustfmt::skip]
const KEY_KEYS: &[Key<KeyTable>] = &[
    key("key.kid", |table, value| put(&mut table.kid, key_id(value)), |_| REQUIRED.into(),
        "how tokens name it in their header; each key another"),
    key("key.algorithm", |table, value| put(&mut table.algorithm, algorithm(value).map(Some)), |table| table.algorithm.shown(),
        "of this key. Unset: `jwt_algorithm`"),
    key("key.file", |table, value| put(&mut table.file, path(value).map(Some)), |table| table.file.shown(),
        "where the key is; this or `env`"),
    key("key.env", |table, value| put(&mut table.env, variable(value).map(Some)), |table| table.env.shown(),
        "the variable that holds the key; this or `file`"),
];

/// Room for the state of a whole game, and its roster.
const OUTBOX_BYTES_MIN: usize = 131_072;
const _: () = assert!(OUTBOX_BYTES_MIN > 2 * limits::OUTBOUND_MESSAGE_BYTES_MAX);
/// Room for the largest Event.
const MESSAGE_BYTES_MIN: usize = 2_048;
const _: () = assert!(MESSAGE_BYTES_MIN >= limits::EVENT_PAYLOAD_BYTES_MAX + 8);

const DRIVERS: &[(&str, DriverWish)] =
    &[("auto", DriverWish::Auto), ("io_uring", DriverWish::IoUring), ("epoll", DriverWish::Epoll)];
const LOG_FORMATS: &[(&str, LogFormat)] =
    &[("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
/// Names of all keys, with their table.
pub fn names() -> impl Iterator<Item = &'static str> {
    let tables = GAME_KEYS.iter().map(|key| key.name).chain(ROOM_KEYS.iter().map(|key| key.name));
    let tables =
        tables.chain(DOCUMENT_KEYS.iter().map(|key| key.name)).chain(KEY_KEYS.iter().map(|key| key.name));
    let tables = tables.chain(CERTIFICATE_KEYS.iter().map(|key| key.name));
    KEYS.iter().map(|key| key.name).chain(tables)
}

/// Whether keys are in a section of this name: `drain`, `liveness`, `rates`.
pub fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(section, _)| section == name))
}

/// The key that `CORELAY_{name}` sets.
pub fn key_of_variable(name: &str) -> Option<&'static str> {
    KEYS.iter().map(|key| key.name).find(|key| key.replace('.', "_").eq_ignore_ascii_case(name))
}

/// Puts a value into the field of its key.
pub fn assign(draft: &mut Draft, assignment: &Assignment) -> Result<(), ConfigError> {
    if [GAME_TABLE, ROOM_TABLE, DOCUMENT_TABLE, KEY_TABLE, CERTIFICATE_TABLE]
        .contains(&assignment.key.as_str())
    {
        return Err(wrong_value(assignment, format!("an array of tables: [[{}]]", assignment.key)));
    }
    if is_section(&assignment.key) {
        return Err(wrong_value(assignment, format!("a table: [{}]", assignment.key)));
    }
    set(KEYS, draft, assignment)
}

/// Adds one table of an array of tables, which stands where `Origin` says.
pub type AddTable = fn(&mut Draft, &[Assignment], Origin) -> Result<(), ConfigError>;

/// What adds a table of the array called `name`; `None`: there is no such array.
pub fn table_array(name: &str) -> Option<AddTable> {
    match name {
        GAME_TABLE => Some(tables::assign_game),
        ROOM_TABLE => Some(tables::assign_room),
        DOCUMENT_TABLE => Some(tables::assign_document),
        KEY_TABLE => Some(tables::assign_key),
        CERTIFICATE_TABLE => Some(certificate::assign),
        _ => None,
    }
}

fn set<T>(keys: &[Key<T>], target: &mut T, assignment: &Assignment) -> Result<(), ConfigError> {
    let Some(key) = keys.iter().find(|key| key.name == assignment.key) else {
        return Err(ConfigError::UnknownKey {
            key: shown(&assignment.key).into(),
            origin: assignment.origin.clone(),
            hint: hints::hint(&assignment.key),
        });
    };
    (key.set)(target, &assignment.value).map_err(|expected| wrong_value(assignment, expected))
}

fn wrong_value(assignment: &Assignment, expected: Expected) -> ConfigError {
    ConfigError::Value {
        key: shown(&assignment.key).into(),
        found: if SECRET_KEYS.contains(&assignment.key.as_str()) {
            "not what it should be".into()
        } else {
            assignment.value.to_string()
        },
        origin: assignment.origin.clone(),
        expected,
    }
}

/// The key of a game, a room or a key is shown as it is written: without its table.
fn shown(key: &str) -> &str {
    let tables = ["game.", "room.", "doc.", "key.", "certificate."];
    tables.into_iter().find_map(|table| key.strip_prefix(table)).unwrap_or(key)
}

fn put<T>(target: &mut T, value: Result<T, Expected>) -> Result<(), Expected> {
    *target = value?;
    Ok(())
}

fn algorithm(value: &Value) -> Result<Algorithm, Expected> {
    word(value, &Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    use super::super::source::{assign_file, read_environment};
    use super::*;
    use crate::wire::upgrade::OriginPattern;

    fn parse(text: &str) -> Result<Draft, String> {
        let mut draft = Draft::default();
        let assigned = assign_file(&mut draft, Path::new("corelay.toml"), text);
        assigned.map(|()| draft).map_err(|error| error.to_string())
    }

    fn refusal(text: &str) -> String {
        parse(text).expect_err(text)
    }

    #[test]
    fn every_kind_of_key_arrives() {
        let draft = parse(
            "listen = '[::1]:5000'\nshards = 3\nlog_format = 'json'\nenable_echo = true\nallowed_origins = ['//*.example.com']\n\
             upgrade_timeout_ms = 250\n[rates]\nmove_per_s = 30\n[liveness]\nping_after_ms = 1_000\n\
             [[game]]\npattern = 'arena-*'\ntick_hz = 60\nbounds = [-1, -2.5, 1, 2]\nmax_speed = 4\nseat_hold_s = 0\n\
             [[game]]\npattern = '*'\nmax_x = 9\nplayers_max = 2",
        )
        .unwrap();
        assert_eq!(draft.listen, "[::1]:5000".parse().unwrap());
        assert_eq!(
            (draft.wanted.shards, draft.log_format, draft.upgrade.echo),
            (Some(3), LogFormat::Json, true)
        );
        assert_eq!(draft.upgrade.allowed_origins, [OriginPattern::parse("//*.example.com").unwrap()]);
        assert_eq!(draft.clients.upgrade_timeout, Duration::from_millis(250));
        assert_eq!((draft.rates.moves.per_s, draft.rates.moves.burst), (30, 60));
        assert_eq!(draft.liveness.ping_after, Duration::from_secs(1));
        let [arena, other] = draft.games.as_slice() else { panic!("two games") };
        assert_eq!((arena.tick_hz, arena.bounds.min[1], arena.seat_hold), (60, -2.5, Duration::ZERO));
        assert_eq!((other.tick_hz, other.bounds.max[0], other.players_max), (20, 9.0, 2));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_right_one() {
        let cases = [
            (
                "[[game]]\npattern = '*'\ntick_hs = 3",
                "unknown key `tick_hs` (corelay.toml line 3); did you mean `tick_hz`?",
            ),
            ("lisen = 'x'", "unknown key `lisen` (corelay.toml line 1); did you mean `listen`?"),
            (
                "\n[rates]\nmov_per_s = 3",
                "unknown key `rates.mov_per_s` (corelay.toml line 3); did you mean `rates.move_per_s`?",
            ),
            (
                "tick_hz = 3",
                "unknown key `tick_hz` (corelay.toml line 1); `tick_hz` belongs in a [[game]] table",
            ),
            (
                "[rates]\nlisten = 'x'",
                "unknown key `rates.listen` (corelay.toml line 2); `listen` belongs at the top of the file, before the first [table]",
            ),
            ("batch = 3", "unknown key `batch` (corelay.toml line 1); `batch` belongs in [drain]"),
            ("[[games]]\npattern = '*'", "unknown key `games` (corelay.toml line 1); did you mean `game`?"),
            ("[rate]\nmove_per_s = 3", "unknown key `rate` (corelay.toml line 1); did you mean `rates`?"),
            (
                "max_players = 3",
                "unknown key `max_players` (corelay.toml line 1); did you mean `players_max`, in a [[game]] table?",
            ),
            (
                "[[game]]\npattern = '*'\nmax_players = 3",
                "unknown key `max_players` (corelay.toml line 3); did you mean `players_max`?",
            ),
            ("port = 4000", "unknown key `port` (corelay.toml line 1); did you mean `listen`?"),
            (
                "max_connections = 9",
                "unknown key `max_connections` (corelay.toml line 1); did you mean `connections_max`?",
            ),
            ("zzzzzzzzzzzz = 3", "unknown key `zzzzzzzzzzzz` (corelay.toml line 1)"),
        ];
        for (text, expected) in cases {
            assert_eq!(refusal(text), expected);
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_allowed() {
        let cases = [
            (
                "[[game]]\npattern = '*'\ntick_hz = 121",
                "`tick_hz` is 121 (corelay.toml line 3); it must be a whole number from 1 to 120",
            ),
            ("shards = 0", "`shards` is 0 (corelay.toml line 1); it must be a whole number from 1 to 256"),
            (
                "shards = '2'",
                "`shards` is \"2\" (corelay.toml line 1); it must be a whole number from 1 to 256",
            ),
            (
                "listen = 'localhost:4000'",
                "`listen` is \"localhost:4000\" (corelay.toml line 1); it must be an IP address and a port, such as 127.0.0.1:4000 or [::]:4000",
            ),
            (
                "log_format = 'xml'",
                "`log_format` is \"xml\" (corelay.toml line 1); it must be one of \"auto\", \"pretty\", \"json\"",
            ),
            ("rates = 5", "`rates` is 5 (corelay.toml line 1); it must be a table: [rates]"),
            ("game = 5", "`game` is 5 (corelay.toml line 1); it must be an array of tables: [[game]]"),
            (
                "[game]\npattern = '*'",
                "`game` is a table (corelay.toml line 1); it must be an array of tables: [[game]]",
            ),
            (
                "[[game]]\ntick_hz = 5",
                "`game.pattern` is missing (corelay.toml line 1); it must be there, and 1 to 64 characters of `A-Z a-z 0-9 _ - . *`",
            ),
            (
                "[[game]]\npattern = '*'\nmax_speed = nan",
                "`max_speed` is NaN (corelay.toml line 3); it must be a number above 0, in units of distance per second (inf: not checked)",
            ),
            (
                "[[game]]\npattern = '*'\nbounds = [0, 0, 1]",
                "`bounds` is [0, 0, 1] (corelay.toml line 3); it must be four numbers, [min_x, min_y, max_x, max_y], or six with three axes: [min_x, min_y, min_z, max_x, max_y, max_z]",
            ),
            (
                "[[game]]\npattern = 'a'\nstate = { number = 'u16' }",
                "game \"a\" (corelay.toml line 1): number = \"u16\" is a step between the bounds, so both sides of all 2 axes must be set, \
                 such as bounds = [-512, -512, 512, 512]",
            ),
            (
                "[[game]]\npattern = 'a'\nstate = { axes = 4 }",
                "`state` is a table (corelay.toml line 3); it must be a table in which `axes` is a whole number from 2 to 3, not 4",
            ),
            (
                "[[game]]\npattern = 'a'\nstate = { keys = 9, key_bytes_max = 32 }",
                "`state` is a table (corelay.toml line 3); it must be a table in which `keys` times `key_bytes_max` is at most 256, not 288",
            ),
            (
                "[[game]]\npattern = 'a'\nstate = { pose = 4 }",
                "`state` is a table (corelay.toml line 3); it must be a table: { number, axes, pose_bytes, keys, key_bytes_max }; \
                 there is no `pose` in it",
            ),
            (
                "[[game]]\npattern = 'a'\nview = { cell = 32 }",
                "game \"a\" (corelay.toml line 1): a view needs bounds on all sides, because it divides what is within them into cells: \
                 give for example bounds = [0, 0, 1000, 1000], which are min_x, min_y, max_x, max_y",
            ),
            (
                "[[game]]\npattern = 'a'\nbounds = [0, 0, 1000, 1000]\nview = { radius = 1 }",
                "game \"a\" (corelay.toml line 1): view.cell is 0; it must be a size above 0, in the units of positions",
            ),
            (
                "[[game]]\npattern = 'a'\nbounds = [0, 0, 1000, 1000]\nview = { cell = 0.001 }",
                "game \"a\" (corelay.toml line 1): view.cell is 0.001, which makes more than 1048576 cells (or 65535 along a side) of these \
                 bounds; the smallest that would do is 0.977",
            ),
            (
                "[[game]]\npattern = 'a'\nbounds = [0, 0, 1000, 1000]\nview = { cell = 9, everywhere = [70000] }",
                "`view` is a table (corelay.toml line 4); it must be a table in which `everywhere` is a list of types of objects, 0 to 65535 \
                 each, not [70000]",
            ),
            (
                "[[game]]\npattern = 'a'\nmin_x = 2\nmax_x = 2",
                "game \"a\" (corelay.toml line 1): min_x = 2 must be less than max_x = 2",
            ),
            (
                "allowed_origins = ['*', 'https://game.example/']",
                "`allowed_origins` is [\"*\", \"https://game.example/\"] (corelay.toml line 1); it must be a list of origins: \
                 \"https://example.com\", \"//example.com\", \"//*.example.com\", \"*\"; not \"https://game.example/\": an origin has \
                 no path, nor a slash at its end; write \"https://game.example\"",
            ),
            (
                "socket_join_timeout_ms = 99",
                "`socket_join_timeout_ms` is 99 (corelay.toml line 1); it must be a whole number from 100 to 3600000",
            ),
            (
                "socket_token_required = 'yes'",
                "`socket_token_required` is \"yes\" (corelay.toml line 1); it must be true or false",
            ),
            ("enable_echo = 1", "`enable_echo` is 1 (corelay.toml line 1); it must be true or false"),
        ];
        for (text, expected) in cases {
            assert_eq!(refusal(text), expected);
        }
        assert!(
            refusal("shards = 1\nshards = 2")
                .starts_with("corelay.toml line 2 is not valid TOML: duplicate key")
        );
    }

    #[test]
    fn keys_are_tables_and_their_secrets_are_not_shown() {
        let draft = parse(
            "jwt_key = 'hidden away'\n[[key]]\nkid = 'a'\nfile = '/a.pem'\nalgorithm = 'EdDSA'\n[[key]]\nkid = 'b'\nenv = 'B'",
        )
        .unwrap();
        let [a, b] = draft.keys.as_slice() else { panic!("two keys") };
        assert_eq!(
            (&*a.kid, a.algorithm, a.file.as_deref()),
            ("a", Some(Algorithm::EdDsa), Some(Path::new("/a.pem")))
        );
        assert_eq!((&*b.kid, b.algorithm, b.env.as_deref()), ("b", None, Some("B")));
        assert!(!format!("{draft:?}").contains("hidden away"));
        let cases = [
            (
                "jwt_key = ['hidden']",
                "`jwt_key` is not what it should be (corelay.toml line 1); it must be a text that is not empty",
            ),
            (
                "[[key]]\nfile = 'a'",
                "`key.kid` is missing (corelay.toml line 1); it must be there, and 1 to 64 bytes without control characters",
            ),
            (
                "[[key]]\nkid = 'a'",
                "key \"a\" (corelay.toml line 1): it is read from `file` or from `env`, one of them",
            ),
            (
                "[[key]]\nkid = 'a'\nfile = 'x'\nenv = 'y'",
                "key \"a\" (corelay.toml line 1): it is read from `file` or from `env`, one of them",
            ),
            (
                "[key]\nkid = 'a'",
                "`key` is a table (corelay.toml line 1); it must be an array of tables: [[key]]",
            ),
            ("[[keys]]\nkid = 'a'", "unknown key `keys` (corelay.toml line 1); did you mean `key`?"),
            ("kid = 'a'", "unknown key `kid` (corelay.toml line 1); `kid` belongs in a [[key]] table"),
            (
                "messages_per_minute = 3",
                "unknown key `messages_per_minute` (corelay.toml line 1); `messages_per_minute` belongs in a [[room]] table",
            ),
            ("tls = true", "unknown key `tls` (corelay.toml line 1); did you mean `listen_tls`?"),
            (
                "log_level = 'debug'",
                "unknown key `log_level` (corelay.toml line 1); RUST_LOG=debug logs more, RUST_LOG=warn less",
            ),
            ("[[certificate]]\ncert = 'a'", "unknown key `cert` (corelay.toml line 2); did you mean `file`?"),
        ];
        for (text, expected) in cases {
            assert_eq!(refusal(text), expected);
        }
    }

    #[test]
    fn variables_set_keys_of_tables_too() {
        let variables = [
            ("CORELAY_RATES_MOVE_PER_S", "7"),
            ("CORELAY_SHARDS", ""),
            ("CORELAY_SERVICE_HOST", "x"),
            ("CORELAY_SHARD", "2"),
            ("CORELAY_GAME_TICK_HZ", "30"),
            ("CORELAY_MAX_PLAYERS", "30"),
            ("CORELAY_PORT", "30"),
            ("PATH", "y"),
        ];
        let (assignments, unknown) =
            read_environment(variables.into_iter().map(|(k, v)| (k.into(), v.into())));
        let mut draft = Draft::default();
        for assignment in &assignments {
            assign(&mut draft, assignment).unwrap();
        }
        assert_eq!((assignments.len(), draft.rates.moves.per_s), (1, 7));
        assert_eq!(
            unknown,
            [
                "environment variable CORELAY_SERVICE_HOST names no key and is ignored",
                "environment variable CORELAY_SHARD names no key and is ignored; did you mean CORELAY_SHARDS?",
                "environment variable CORELAY_GAME_TICK_HZ names no key and is ignored; `tick_hz` is set in the configuration file, \
                 in a [[game]] table",
                "environment variable CORELAY_MAX_PLAYERS names no key and is ignored; `players_max` is set in the configuration file, \
                 in a [[game]] table",
                "environment variable CORELAY_PORT names no key and is ignored; did you mean CORELAY_LISTEN?",
            ]
        );
    }

    #[test]
    fn a_variable_names_one_key_only() {
        let variables: BTreeSet<String> = KEYS.iter().map(|key| key.name.replace('.', "_")).collect();
        assert_eq!(variables.len(), KEYS.len());
    }

    #[test]
    fn the_defaults_pass_their_own_checks() {
        let defaults = Draft::default();
        for key in KEYS {
            let default = (key.default)(&defaults);
            if default == UNSET {
                continue;
            }
            let draft = parse(&format!("{} = {default}", key.name)).unwrap();
            assert_eq!((key.default)(&draft), default, "{} takes its default for another value", key.name);
        }
    }
}
