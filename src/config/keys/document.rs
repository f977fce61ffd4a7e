//! Generates `docs/CONFIGURATION.md` from the tables of keys.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{CERTIFICATE_KEYS, DOCUMENT_KEYS, GAME_KEYS, KEY_KEYS, KEYS, Key, ROOM_KEYS, shown};
use crate::config::certificates::CertificateTable;
use crate::config::draft::Draft;
use crate::config::secrets::KeyTable;
use crate::config::value::Value;
use crate::room::chat::RoomRules;
use crate::room::document::DocumentRules;
use crate::room::game::GameRules;
use crate::wire::token::Algorithm;
use crate::wire::upgrade::OriginPattern;

/// Shown as the default of a key that has no value when it is left out.
pub(super) const UNSET: &str = "unset";
/// Shown as the default of a key that may not be left out.
pub(super) const REQUIRED: &str = "required";

const INTRODUCTION: &str = "\
<!-- Generated from src/config/keys.rs: WRITE_DOCUMENTS=1 cargo test --test documents -->

# Configuration

Later wins: built-in defaults, `corelay.toml` in the working directory (or `--config FILE`, `CORELAY_CONFIG`),
environment, flags. A variable is the key in capitals behind `CORELAY_`: `rates.move_per_s` is
`CORELAY_RATES_MOVE_PER_S`; lists are comma separated; an empty variable counts as not set. An unknown key, or a value
out of range, is an error that says where it stands and what would be right; an unknown `CORELAY_` variable is a
warning.

```toml
# corelay.toml
listen = \"0.0.0.0:4000\"
jwt_key_file = \"/etc/corelay/corelay.key\"
allowed_origins = [\"https://game.example\", \"//*.game.example\"]

[rates]
event_per_s = 50

[[game]]
pattern = \"arena-*\"
tick_hz = 30
bounds = [-500, -500, 500, 500]
max_speed = 12

[[game]]
pattern = \"*\"
players_max = 50
```

## Keys

";

const GAMES: &str = "
## Games

`[[game]]` tables set the rules of the games whose name fits; the first that fits wins; a game that fits none has the
defaults. They are in the file only.

";

const ROOMS: &str = "
## Rooms

`[[room]]` tables do the same for chat rooms. What is kept no longer is removed from the disk a little with each message
that follows.

";

const DOCUMENTS: &str = "
## Documents

`[[doc]]` tables do the same for documents.

";

const TOKEN_KEYS: &str = "
## Keys of tokens

`[[key]]` tables name the keys of tokens: [keys and rotation](OPERATIONS.md#keys-and-rotation). They are in the file
only.

";

const CERTIFICATES: &str = "
## Certificates

`[[certificate]]` tables are for `listen_tls`. A client gets the first one that is for exactly the name it asks for, else
the first with `*.` before all but the first label of that name, else the first of all. They are in the file only, and
read again at SIGHUP: [TLS in the process](OPERATIONS.md#tls-in-the-process).

";

/// A default as the configuration file would have it.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_as_written {
    ($($type:ty)+) => {$(
        impl Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

shown_as_written! { bool u16 u32 u64 u128 usize }

impl Shown for f32 {
    fn shown(&self) -> String {
        if self.is_finite() { format!("{self:e}") } else { self.to_string() }
    }
}

/// The word for a value that is one of several.
pub(super) fn word_of<T: Copy + PartialEq>(value: T, words: &[(&str, T)]) -> String {
    let word = words.iter().find(|(_, meaning)| *meaning == value).map_or("", |(word, _)| *word);
    format!("\"{word}\"")
}

impl Shown for SocketAddr {
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> String {
        format!("\"{}\"", self.display())
    }
}

impl Shown for Algorithm {
    fn shown(&self) -> String {
        format!("\"{}\"", self.name())
    }
}

impl<T> Shown for Option<T> {
    fn shown(&self) -> String {
        if self.is_none() { UNSET.into() } else { "set".into() }
    }
}

impl Shown for Vec<OriginPattern> {
    fn shown(&self) -> String {
        if self.is_empty() { "[]".into() } else { "set".into() }
    }
}

/// Every key with its default, what it may be and what it means, in Markdown.
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    table(&mut text, KEYS, &Draft::default());
    text += GAMES;
    table(&mut text, GAME_KEYS, &GameRules::default());
    text += ROOMS;
    table(&mut text, ROOM_KEYS, &RoomRules::default());
    text += DOCUMENTS;
    table(&mut text, DOCUMENT_KEYS, &DocumentRules::default());
    text += TOKEN_KEYS;
    table(&mut text, KEY_KEYS, &KeyTable::default());
    text += CERTIFICATES;
    table(&mut text, CERTIFICATE_KEYS, &CertificateTable::default());
    text
}

fn table<T: Default>(text: &mut String, keys: &[Key<T>], defaults: &T) {
    *text += "| key | default | must be | meaning |\n| --- | --- | --- | --- |\n";
    for key in keys {
        let default = match (key.default)(defaults) {
            word if [UNSET, REQUIRED].contains(&word.as_str()) => word,
            value => format!("`{value}`"),
        };
        *text += &format!("| `{}` | {default} | {} | {} |\n", shown(key.name), must_be(key), key.meaning);
    }
}

/// What a value must be, by the text of a refusal: every key refuses a value of a type that no key takes.
fn must_be<T: Default>(key: &Key<T>) -> String {
    let refused = (key.set)(&mut T::default(), &Value::Other(String::new()));
    let expected = refused.err().unwrap_or_default();
    // A star outside of backquotes would be emphasis.
    if expected.contains('`') { expected } else { expected.replace('*', "\\*") }
}
