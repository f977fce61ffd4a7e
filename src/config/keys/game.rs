//! Keys of a `[[game]]`.

use super::{Expected, Key, REQUIRED, Shown, UNSET, Value, key, put};
use crate::config::value::{coordinate, number, pattern, seconds, speed, table, word};
use crate::limits;
use crate::room::game::GameRules;
use crate::room::interest::ViewRules;
use crate::wire::layout::{Layout, Number};

#[rustfmt::skip]
pub(super) const GAME_KEYS: &[Key<GameRules>] = &[
    key("game.pattern", |game, value| put(&mut game.pattern, pattern(value)), |_| REQUIRED.into(),
        "which games: a `*` stands for any run of characters"),
    key("game.tick_hz", |game, value| put(&mut game.tick_hz, number(value, 1..=limits::TICK_HZ_MAX)), |game| game.tick_hz.shown(),
        "frames per second. More than `rates.move_per_s` is warned about: raise that, too"),
    key("game.state", state, |game| shown_state(&game.layout),
        "of what a player's state consists. `number`: \"f32\", or \"u16\" on the way out, which halves frames and needs bounds; `axes`: 2 or 3; `pose_bytes`: bytes beside the place, up to 32; `keys`: values that a player may set, of up to `key_bytes_max` bytes each, 256 together. What is left out is as in the default"),
    key("game.bounds", bounds, |_| UNSET.into(),
        "where positions and objects may be, both corners included: `[min_x, min_y, max_x, max_y]`, with three axes `[min_x, min_y, min_z, max_x, max_y, max_z]`. Unset: all finite numbers"),
    key("game.min_x", |game, value| put(&mut game.bounds.min[0], coordinate(value)), |game| game.bounds.min[0].shown(),
        "the same, one by one"),
    key("game.min_y", |game, value| put(&mut game.bounds.min[1], coordinate(value)), |game| game.bounds.min[1].shown(),
        "the same"),
    key("game.min_z", |game, value| put(&mut game.bounds.min[2], coordinate(value)), |game| game.bounds.min[2].shown(),
        "the same, where there are three axes"),
    key("game.max_x", |game, value| put(&mut game.bounds.max[0], coordinate(value)), |game| game.bounds.max[0].shown(),
        "the same; must be more than `min_x`"),
    key("game.max_y", |game, value| put(&mut game.bounds.max[1], coordinate(value)), |game| game.bounds.max[1].shown(),
        "the same; must be more than `min_y`"),
    key("game.max_z", |game, value| put(&mut game.bounds.max[2], coordinate(value)), |game| game.bounds.max[2].shown(),
        "the same; must be more than `min_z`"),
    key("game.view", view, |_| UNSET.into(),
        "members are told only of what is near them; needs bounds. `cell`: side of a square of the grid, in units of positions, required; `radius` = 2: cells around the own one that a member sees, up to `radius_max` = 2, which it may ask for; `budget` = 128: positions that a frame is expected to hold, beyond which they are told less often; `overview_hz` = 0: rounds per second of a rough map of all players; `everywhere` = []: types of objects that all see"),
    key("game.max_speed", |game, value| put(&mut game.max_speed, speed(value)), |game| game.max_speed.shown(),
        "a network may bunch the Moves of up to a second"),
    key("game.players_max", |game, value| put(&mut game.players_max, number(value, 1..=limits::PLAYERS_MAX_MAX)), |game| game.players_max.shown(),
        "seats, held ones included; who comes beyond it gets 503. Who resumes a seat brings no new one"),
    key("game.seat_hold_s", |game, value| put(&mut game.seat_hold, seconds(value, 0..=limits::SEAT_HOLD_MAX.as_secs() as u32)), |game| game.seat_hold.as_secs().shown(),
        "how long a lost player's seat is held; 0: not at all"),
];

fn bounds(game: &mut GameRules, value: &Value) -> Result<(), Expected> {
    let expected = || {
        "four numbers, [min_x, min_y, max_x, max_y], or six with three axes: [min_x, min_y, min_z, max_x, max_y, max_z]"
            .to_owned()
    };
    let Value::List(corners) = value else { return Err(expected()) };
    let axes = corners.len() / 2;
    if !matches!(corners.len(), 4 | 6) {
        return Err(expected());
    }
    for axis in 0..axes {
        put(&mut game.bounds.min[axis], coordinate(&corners[axis]))?;
        put(&mut game.bounds.max[axis], coordinate(&corners[axes + axis]))?;
    }
    Ok(())
}

/// The table `state`.
fn state(game: &mut GameRules, value: &Value) -> Result<(), Expected> {
    let layout = &mut game.layout;
    table(value, "{ number, axes, pose_bytes, keys, key_bytes_max }", |name, value| {
        let set = match name {
            "number" => put(
                &mut layout.number,
                word(value, &[Number::F32, Number::U16].map(|number| (number.name(), number))),
            ),
            "axes" => put(&mut layout.axes, number(value, 2..=3)),
            "pose_bytes" => put(&mut layout.pose_bytes, number(value, 0..=limits::POSE_BYTES_MAX)),
            "keys" => put(&mut layout.keys, number(value, 0..=u8::MAX)),
            "key_bytes_max" => put(&mut layout.key_bytes_max, number(value, 1..=u8::MAX)),
            _ => return None,
        };
        Some(set)
    })?;
    let bytes = usize::from(layout.keys) * usize::from(layout.key_bytes_max);
    if bytes > limits::PLAYER_KEY_BYTES_MAX {
        let most = limits::PLAYER_KEY_BYTES_MAX;
        return Err(format!("a table in which `keys` times `key_bytes_max` is at most {most}, not {bytes}"));
    }
    Ok(())
}

/// The table `view`.
fn view(game: &mut GameRules, value: &Value) -> Result<(), Expected> {
    // Without a cell that is set it is refused, with the others that cannot be.
    let mut rules = ViewRules::new(0.0);
    table(value, "{ cell, radius, radius_max, budget, overview_hz, everywhere }", |name, value| {
        let set = match name {
            "cell" => put(&mut rules.cell, coordinate(value)),
            "radius" => put(&mut rules.radius, number(value, 0..=limits::VIEW_RADIUS_MAX)),
            "radius_max" => put(&mut rules.radius_max, number(value, 0..=limits::VIEW_RADIUS_MAX)),
            "budget" => put(&mut rules.budget, number(value, 1..=u16::MAX)),
            "overview_hz" => put(&mut rules.overview_hz, coordinate(value)),
            "everywhere" => put(&mut rules.everywhere, types(value)),
            _ => return None,
        };
        Some(set)
    })?;
    rules.radius_max = rules.radius_max.max(rules.radius);
    game.view = Some(rules);
    Ok(())
}

/// Types of objects.
fn types(value: &Value) -> Result<Box<[u16]>, Expected> {
    let expected = || "a list of types of objects, 0 to 65535 each".to_owned();
    let Value::List(types) = value else { return Err(expected()) };
    let types = types.iter().map(|kind| number(kind, 0..=u16::MAX));
    types.collect::<Result<_, _>>().map_err(|_| expected())
}

fn shown_state(layout: &Layout) -> String {
    let Layout { number, axes, pose_bytes, keys, key_bytes_max } = layout;
    format!(
        "{{ number = \"{}\", axes = {axes}, pose_bytes = {pose_bytes}, keys = {keys}, key_bytes_max = {key_bytes_max} }}",
        number.name()
    )
}
