//! What was probably meant by an unknown name of a key, a variable or a flag.

use super::{CERTIFICATE_TABLE, DOCUMENT_TABLE, GAME_TABLE, KEY_TABLE, KEYS, ROOM_TABLE, names, shown};
use crate::config::source::ENVIRONMENT_PREFIX;

/// Words that other servers use, and the key that means the same here.
const SYNONYMS: &[(&str, &str)] = &[
    ("address", "listen"),
    ("admin_port", "admin"),
    ("bind", "listen"),
    ("cert", "certificate.file"),
    ("cert_file", "certificate.file"),
    ("certificate", "certificate.file"),
    ("check_origin", "allowed_origins"),
    ("cors_origins", "allowed_origins"),
    ("host", "listen"),
    ("https", "listen_tls"),
    ("jwt_secret", "jwt_key"),
    ("key_file", "jwt_key_file"),
    ("metrics_port", "admin"),
    ("origins", "allowed_origins"),
    ("port", "listen"),
    ("private_key", "certificate.key"),
    ("secret", "jwt_key"),
    ("ssl", "listen_tls"),
    ("ssl_cert", "certificate.file"),
    ("ssl_key", "certificate.key"),
    ("threads", "shards"),
    ("tick_rate", "game.tick_hz"),
    ("tickrate", "game.tick_hz"),
    ("tls", "listen_tls"),
    ("tls_cert", "certificate.file"),
    ("tls_cert_file", "certificate.file"),
    ("tls_key", "certificate.key"),
    ("tls_key_file", "certificate.key"),
    ("tls_port", "listen_tls"),
    ("workers", "shards"),
];

/// Words for what is no key here, and what does it.
const NO_KEYS: &[(&str, &str)] = &[
    ("daemon", "it stays in the foreground; deploy/corelay.service runs it in the background"),
    ("daemonize", "it stays in the foreground; deploy/corelay.service runs it in the background"),
    ("debug", "RUST_LOG=debug logs more"),
    ("log_level", "RUST_LOG=debug logs more, RUST_LOG=warn less"),
    ("quiet", "RUST_LOG=warn logs less"),
    ("verbose", "RUST_LOG=debug logs more"),
];

fn elsewhere(word: &str) -> Option<&'static str> {
    NO_KEYS.iter().find(|(known, _)| *known == leaf(word)).map(|(_, what)| *what)
}

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

/// The arrays of tables.
const ARRAYS: [&str; 5] = [GAME_TABLE, ROOM_TABLE, DOCUMENT_TABLE, KEY_TABLE, CERTIFICATE_TABLE];

/// Where to set a key of an array of tables. `None`: it is a key of no such table.
fn only_in_file(key: &str) -> Option<String> {
    let (table, leaf) = key.split_once('.').filter(|(table, _)| ARRAYS.contains(table))?;
    Some(format!("`{leaf}` is set in the configuration file, in a [[{table}]] table"))
}

/// What a flag that does not exist was probably meant to do. `flags`: names of those that do.
pub fn hint_for_flag(flag: &str, flags: &[String]) -> Option<String> {
    let word = flag.trim_start_matches('-').replace('-', "_");
    if let Some(what) = elsewhere(&word) {
        return Some(what.into());
    }
    if word == "key" {
        let certificate =
            "that of a certificate is `key` in a [[certificate]] table of the configuration file";
        return Some(format!("did you mean --jwt-key-file, the key of the tokens? {certificate}"));
    }
    let by_variable = || KEYS.iter().map(|key| key.name).find(|key| key.replace('.', "_") == word);
    let key = key_meant(&word).or_else(by_variable)?;
    if let Some(where_set) = only_in_file(key) {
        return Some(where_set);
    }
    let known = key.replace('_', "-");
    if flags.contains(&known) {
        let example = match key {
            "listen" => " 127.0.0.1:4000, address and port",
            "listen_tls" => " 127.0.0.1:4443, with a [[certificate]] in the file",
            _ => "",
        };
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
    if let Some(what) = elsewhere(unknown) {
        return format!("; {what}");
    }
    if let Some(known) = key_meant(unknown) {
        let (table, key) = known.split_once('.').unwrap_or(("", known));
        let place = match table {
            "" => "at the top of the file, before the first [table]".to_owned(),
            array if ARRAYS.contains(&array) => format!("in a [[{table}]] table"),
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
        let flags = ["listen", "listen-tls", "connections-max"].map(str::to_owned);
        let hint = |flag| hint_for_flag(flag, &flags).unwrap_or_default();
        assert_eq!(hint("--port"), "did you mean --listen 127.0.0.1:4000, address and port?");
        assert_eq!(hint("--max-connections"), "did you mean --connections-max?");
        assert_eq!(
            hint("--max-players"),
            "`players_max` is set in the configuration file, in a [[game]] table"
        );
        let moves = "`rates.move_per_s` has no flag: set it in the configuration file, or as CORELAY_RATES_MOVE_PER_S";
        assert_eq!((hint("--move-per-s").as_str(), hint("--rates-move-per-s").as_str()), (moves, moves));
        let tls = "did you mean --listen-tls 127.0.0.1:4443, with a [[certificate]] in the file?";
        assert_eq!([hint("--tls"), hint("--tls-listen")], [tls, tls]);
        let in_table =
            |key, table| format!("`{key}` is set in the configuration file, in a [[{table}]] table");
        for (flag, key, table) in [
            ("--cert", "file", "certificate"),
            ("--tls-key", "key", "certificate"),
            ("--messages-per-minute", "messages_per_minute", "room"),
            ("--create", "create", "doc"),
        ] {
            assert_eq!(hint(flag), in_table(key, table));
        }
        assert!(hint("--key").contains("--jwt-key-file") && hint("--key").contains("[[certificate]]"));
        assert_eq!(hint("--verbose"), "RUST_LOG=debug logs more");
        assert_eq!(hint("--zzzz"), "");
    }

    #[test]
    fn every_synonym_names_a_key_and_is_none() {
        for (synonym, key) in SYNONYMS {
            assert!(names().any(|known| known == *key), "{key}");
            assert!(names().all(|known| leaf(known) != *synonym), "{synonym}");
        }
        assert!(NO_KEYS.iter().all(|(word, _)| names().all(|known| leaf(known) != *word)));
    }
}
