//! Arrays of tables: what one table of each must say.

use super::{DOCUMENT_KEYS, GAME_KEYS, KEY_KEYS, ROOM_KEYS, set};
use crate::config::draft::Draft;
use crate::config::error::ConfigError;
use crate::config::secrets::KeyTable;
use crate::config::source::{Assignment, Origin};
use crate::config::value::{KEY_ID_EXPECTED, PATTERN_EXPECTED};
use crate::room::chat::RoomRules;
use crate::room::document::DocumentRules;
use crate::room::game::GameRules;
use crate::wire::layout::Number;

pub(super) fn assign_key(
    draft: &mut Draft,
    assignments: &[Assignment],
    table: Origin,
) -> Result<(), ConfigError> {
    let mut key = KeyTable::default();
    for assignment in assignments {
        set(KEY_KEYS, &mut key, assignment)?;
    }
    if key.kid.is_empty() {
        return Err(ConfigError::Value {
            key: "key.kid".into(),
            found: "missing".into(),
            origin: table,
            expected: format!("there, and {KEY_ID_EXPECTED}"),
        });
    }
    if key.file.is_some() == key.env.is_some() {
        let kid = &key.kid;
        let what = format!("key \"{kid}\" ({table}): it is read from `file` or from `env`, one of them");
        return Err(ConfigError::Conflict { what });
    }
    draft.keys.push(key);
    Ok(())
}

pub(super) fn assign_game(
    draft: &mut Draft,
    assignments: &[Assignment],
    table: Origin,
) -> Result<(), ConfigError> {
    let mut game = GameRules { pattern: "".into(), ..GameRules::default() };
    for assignment in assignments {
        set(GAME_KEYS, &mut game, assignment)?;
    }
    if game.pattern.is_empty() {
        return Err(no_pattern("game.pattern", table));
    }
    let (bounds, layout, pattern) = (game.bounds, game.layout, &game.pattern);
    for (axis, (min, max)) in ["x", "y", "z"].iter().zip(bounds.min.into_iter().zip(bounds.max)) {
        if min >= max {
            return Err(ConfigError::Conflict {
                what: format!(
                    "game \"{pattern}\" ({table}): min_{axis} = {min} must be less than max_{axis} = {max}"
                ),
            });
        }
    }
    if layout.number == Number::U16 && !bounds.are_set(layout.axes) {
        return Err(ConfigError::Conflict {
            what: format!(
                "game \"{pattern}\" ({table}): number = \"u16\" is a step between the bounds, so both sides of all {} axes must be \
                 set, such as bounds = {}",
                layout.axes,
                if layout.axes > 2 { "[-512, -512, 0, 512, 512, 64]" } else { "[-512, -512, 512, 512]" }
            ),
        });
    }
    if let Some(view) = &game.view {
        let sides = [bounds.min[0], bounds.min[1], bounds.max[0], bounds.max[1]];
        let what =
            |why: String| ConfigError::Conflict { what: format!("game \"{pattern}\" ({table}): {why}") };
        view.check(sides).map_err(what)?;
    }
    draft.games.push(game);
    Ok(())
}

pub(super) fn assign_room(
    draft: &mut Draft,
    assignments: &[Assignment],
    table: Origin,
) -> Result<(), ConfigError> {
    let mut room = RoomRules { pattern: "".into(), ..RoomRules::default() };
    for assignment in assignments {
        set(ROOM_KEYS, &mut room, assignment)?;
    }
    if room.pattern.is_empty() {
        return Err(no_pattern("room.pattern", table));
    }
    draft.rooms.push(room);
    Ok(())
}

pub(super) fn assign_document(
    draft: &mut Draft,
    assignments: &[Assignment],
    table: Origin,
) -> Result<(), ConfigError> {
    let mut document = DocumentRules { pattern: "".into(), ..DocumentRules::default() };
    for assignment in assignments {
        set(DOCUMENT_KEYS, &mut document, assignment)?;
    }
    if document.pattern.is_empty() {
        return Err(no_pattern("doc.pattern", table));
    }
    draft.documents.push(document);
    Ok(())
}

fn no_pattern(key: &str, table: Origin) -> ConfigError {
    let expected = format!("there, and {PATTERN_EXPECTED}");
    ConfigError::Value { key: key.into(), found: "missing".into(), origin: table, expected }
}
