//! What was probably meant by an unknown name of a key, a variable or a flag.

use super::{CERTIFICATE_TABLE, GAME_TABLE, KEY_TABLE, KEYS, names, shown};
use crate::config::source::ENVIRONMENT_PREFIX;

/// Words that other servers use, and the key that means the same here.
const SYNONYMS: &[(&str, &str)] = &[
    ("address", "listen"),
    ("admin_port", "admin"),
    ("bind", "listen"),
    ("check_origin", "allowed_origins"),
    ("cors_origins", "allowed_origins"),
    ("host", "listen"),
    ("jwt_secret", "jwt_key"),
    ("key_file", "jwt_key_file"),
    ("metrics_port", "admin"),
    ("origins", "allowed_origins"),
    ("port", "listen"),
    ("secret", "jwt_key"),
    ("threads", "shards"),
    ("tick_rate", "game.tick_hz"),
    ("tickrate", "game.tick_hz"),
    ("workers", "shards"),
];

fn leaf(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The key that was meant by an unknown word: the key of that name in another table, a key with the same parts in another order
/// (`max_players`), or the key that other servers call so.
fn key_meant(word: &str) -> Option<&'static str> {
    let sorted = |key: &str| {
        let mut parts: Vec<String> = key.split('_').map(str::to_owned).collect();
        parts.sort();
        parts
    };
    let parts = sorted(leaf(word));
    let same = names().find(|known| leaf(known) == leaf(word));
    let reordered = || names().find(|known| sorted(leaf(known)) == parts);
    let synonym = || SYNONYMS.iter().find(|(synonym, _)| *synonym == leaf(word)).map(|(_, known)| *known);
    same.or_else(reordered).or_else(synonym)
}

/// Where to set a key of an array of tables. `None`: it is a key of no such table.
fn only_in_file(key: &str) -> Option<String> {
    let (table @ (GAME_TABLE | KEY_TABLE | CERTIFICATE_TABLE), leaf) = key.split_once('.')? else {
        return None;
    };
    Some(format!("`{leaf}` is set in the configuration file, in a [[{table}]] table"))
}

/// What a flag that does not exist was probably meant to do. `flags`: names of those that do.
pub fn hint_for_flag(flag: &str, flags: &[String]) -> Option<String> {
    let word = flag.trim_start_matches('-').replace('-', "_");
    let by_variable = || KEYS.iter().map(|key| key.name).find(|key| key.replace('.', "_") == word);
    let key = key_meant(&word).or_else(by_variable)?;
    if let Some(where_set) = only_in_file(key) {
        return Some(where_set);
    }
    let known = key.replace('_', "-");
    if flags.contains(&known) {
        let example = if key == "listen" { " 127.0.0.1:4000, address and port" } else { "" };
        return Some(format!("did you mean --{known}{example}?"));
    }
    let variable = key.replace('.', "_").to_uppercase();
    Some(format!(
        "`{key}` has no flag: set it in the configuration file, or as {ENVIRONMENT_PREFIX}{variable}"
    ))
}

/// What a variable that names no key was probably meant to be.
pub fn hint_for_variable(name: &str) -> String {
    let table_key = names().find(|key| key.replace('.', "_").eq_ignore_ascii_case(name));
    let meant = table_key.or_else(|| key_meant(&name.to_lowercase()));
    if let Some(where_set) = meant.and_then(only_in_file) {
        return format!("; {where_set}");
    }
    if let Some(known) = meant {
        return format!("; did you mean {ENVIRONMENT_PREFIX}{}?", known.replace('.', "_").to_uppercase());
    }
    let variables = KEYS.iter().map(|key| key.name.replace('.', "_").to_uppercase());
    let nearest = variables.map(|known| (strsim::damerau_levenshtein(&known, name), known)).min();
    match nearest {
        Some((distance, known)) if distance <= distance_max(name) => {
            format!("; did you mean {ENVIRONMENT_PREFIX}{known}?")
        }
        Some(_) | None => String::new(),
    }
}

/// Letters that a misspelt name may differ in from the one that was meant.
fn distance_max(name: &str) -> usize {
    1 + name.len() / 4
}

/// What an unknown key was probably meant to be: a word that means a known one, else the nearest by edit distance.
pub fn hint(unknown: &str) -> String {
    if let Some(known) = key_meant(unknown) {
        let (table, key) = known.split_once('.').unwrap_or(("", known));
        let place = match table {
            "" => "at the top of the file, before the first [table]".to_owned(),
            GAME_TABLE | KEY_TABLE | CERTIFICATE_TABLE => format!("in a [[{table}]] table"),
            section => format!("in [{section}]"),
        };
        let is_in_place = unknown.rsplit_once('.').map_or("", |(table, _)| table) == table;
        return match (key == leaf(unknown), is_in_place) {
            (true, _) => format!("; `{key}` belongs {place}"),
            (false, true) => format!("; did you mean `{key}`?"),
            (false, false) => format!("; did you mean `{key}`, {place}?"),
        };
    }
    let distance = |known: &&str| strsim::damerau_levenshtein(known, unknown);
    let tables = names().filter_map(|name| name.split_once('.')).map(|(table, _)| table);
    match names().chain(tables).min_by_key(distance) {
        Some(nearest) if distance(&nearest) <= distance_max(unknown) => {
            format!("; did you mean `{}`?", shown(nearest))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_does_not_exist_is_answered_with_what_does_it() {
        let flags = ["listen".to_owned(), "connections-max".to_owned()];
        let hint = |flag| hint_for_flag(flag, &flags).unwrap_or_default();
        assert_eq!(hint("--port"), "did you mean --listen 127.0.0.1:4000, address and port?");
        assert_eq!(hint("--max-connections"), "did you mean --connections-max?");
        assert_eq!(
            hint("--max-players"),
            "`players_max` is set in the configuration file, in a [[game]] table"
        );
        let moves = "`rates.move_per_s` has no flag: set it in the configuration file, or as CORELAY_RATES_MOVE_PER_S";
        assert_eq!((hint("--move-per-s").as_str(), hint("--rates-move-per-s").as_str()), (moves, moves));
        assert_eq!(hint("--zzzz"), "");
    }

    #[test]
    fn every_synonym_names_a_key_and_is_none() {
        for (synonym, key) in SYNONYMS {
            assert!(names().any(|known| known == *key), "{key}");
            assert!(names().all(|known| leaf(known) != *synonym), "{synonym}");
        }
    }
}
