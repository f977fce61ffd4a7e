//! Checks what concerns several keys, and turns the draft into what the shards need.

use std::net::SocketAddr;
use std::sync::Arc;

use super::capacity;
use super::draft::Draft;
use super::error::ConfigError;
use super::{Config, Loaded, secrets};
use crate::driver_choice::DriverKind;
use crate::glob::glob_matches;
use crate::limits;
use crate::machine::Resources;
use crate::metrics::SharedCount;
use crate::room::game::GameRules;
use crate::shard::placement::Placement;
use crate::shard::settings::Settings;
use crate::wire::upgrade::UpgradeRules;

/// See `Loaded::resolve`.
pub(super) fn resolve(loaded: Loaded, found: Resources, driver: DriverKind) -> Result<Config, ConfigError> {
    let draft = &loaded.draft;
    let mut warnings = loaded.warnings.clone();
    check_who_may_connect(draft)?;
    check_liveness(draft)?;
    warnings.extend(unreachable_games(draft));
    warnings.extend(too_few_moves(draft));

    let admin_token = secrets::admin_token(draft, &mut warnings)?;
    if admin_token.is_none() && !draft.admin.ip().is_loopback() {
        return Err(ConfigError::PublicAdmin { admin: draft.admin });
    }
    let verifier = secrets::verifier(draft, &mut warnings)?;
    let development = verifier.is_none();
    let tls = loaded.certificates(&mut warnings)?;
    let Loaded { draft, file, .. } = loaded;
    let tls = draft.listen_tls.zip(tls);
    let wanted = draft.capacity_wanted();
    let capacity = capacity::plan(wanted, found, driver)?;
    warnings.extend(capacity::warnings(&capacity, wanted, found));
    let settings = Settings {
        placement: Placement::known(capacity.shards),
        connections_per_shard_max: capacity.connections_per_shard,
        connections_max: capacity.connections_max,
        connections_open: SharedCount::default(),
        upgrade: UpgradeRules { development, ..draft.upgrade },
        verifier: verifier.map(Arc::new),
        games: draft.games,
        rooms: draft.rooms,
        documents: draft.documents,
        // The server asks the store for it.
        guests_before: 0,
        // Not known yet: the log is started only after this.
        notes: false,
        rates: draft.rates,
        liveness: draft.liveness,
        clients: draft.clients,
    };
    Ok(Config {
        listen: draft.listen,
        tls,
        admin: draft.admin,
        admin_token,
        capacity,
        listen_options: draft.listen_options,
        store: draft.store,
        file,
        warnings,
        settings,
    })
}

fn check_who_may_connect(draft: &Draft) -> Result<(), ConfigError> {
    let strangers = [Some(draft.listen), draft.listen_tls].into_iter().flatten();
    for listen in strangers.filter(|listen| !listen.ip().is_loopback()) {
        if !draft.insecure && !secrets::has_key(draft) {
            return Err(ConfigError::PublicWithoutKey { listen });
        }
    }
    if draft.clients.socket_token_required && !secrets::has_key(draft) {
        let what = "`socket_token_required` needs a key (`jwt_key_file`): without one tokens are ignored, and everybody is a guest";
        return Err(ConfigError::Conflict { what: what.into() });
    }
    let (listen, admin) = (("listen", draft.listen), ("admin", draft.admin));
    check_ports(listen, admin)?;
    if let Some(address) = draft.listen_tls {
        check_ports(listen, ("listen_tls", address))?;
        check_ports(("listen_tls", address), admin)?;
    }
    Ok(())
}

/// Refuses two addresses that cannot both be listened on.
fn check_ports(one: (&str, SocketAddr), other: (&str, SocketAddr)) -> Result<(), ConfigError> {
    let ((one, at), (other, address)) = (one, other);
    let same_host = at.ip() == address.ip() || at.ip().is_unspecified() || address.ip().is_unspecified();
    if same_host && at.port() == address.port() && at.port() != 0 {
        let what = format!("`{one}` = {at} and `{other}` = {address} have the same port; they need two");
        return Err(ConfigError::Conflict { what });
    }
    Ok(())
}

fn check_liveness(draft: &Draft) -> Result<(), ConfigError> {
    let (ping, close) = (draft.liveness.ping_after, draft.liveness.close_after);
    if ping >= close {
        return Err(ConfigError::Conflict {
            what: format!(
                "`liveness.ping_after_ms` = {} must be less than `liveness.close_after_ms` = {}: a client needs time to answer",
                ping.as_millis(),
                close.as_millis()
            ),
        });
    }
    let (warn, close) = (draft.liveness.socket_warn_after, draft.liveness.socket_close_after);
    if warn >= close {
        return Err(ConfigError::Conflict {
            what: format!(
                "`liveness.socket_warn_after_ms` = {} must be less than `liveness.socket_close_after_ms` = {}: a client needs \
                 time to answer",
                warn.as_millis(),
                close.as_millis()
            ),
        });
    }
    Ok(())
}

/// Warnings about `[[game]]` tables that no game can ever reach, because an earlier one takes them all.
fn unreachable_games(draft: &Draft) -> Vec<String> {
    let shadowed_by = |index: usize| {
        let pattern = &draft.games[index].pattern;
        // The later pattern is matched as if it were a name: its star is a character that only a star of the earlier pattern
        // matches.
        draft.games[..index].iter().find(|earlier| glob_matches(&earlier.pattern, pattern))
    };
    (0..draft.games.len())
        .filter_map(|index| Some((index, shadowed_by(index)?)))
        .map(|(index, earlier)| {
            format!(
                "[[game]] pattern \"{}\" is never used: \"{}\" stands before it and the first that fits wins",
                draft.games[index].pattern, earlier.pattern
            )
        })
        .collect()
}

/// Warnings about games whose ticks a client cannot keep up with: PROTOCOL lets it send a Move for each.
fn too_few_moves(draft: &Draft) -> Vec<String> {
    let per_s = draft.rates.moves.per_s;
    let game = |rules: &GameRules| (format!("[[game]] pattern \"{}\"", rules.pattern), rules.tick_hz);
    let others = ("a game without a [[game]] table".to_owned(), limits::TICK_HZ_DEFAULT);
    let games = draft.games.iter().map(game);
    let others = (!draft.games.iter().any(|rules| &*rules.pattern == "*")).then_some(others);
    let too_fast = games.chain(others).filter(|(_, tick_hz)| u32::from(*tick_hz) > per_s);
    too_fast
        .map(|(game, tick_hz)| {
            format!(
                "{game} has {tick_hz} ticks per second, and rates.move_per_s = {per_s}: a client that sends a Move per tick is \
                 rate-limited; set rates.move_per_s = {tick_hz} and rates.move_burst = {tick_hz}"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::source::assign_file;
    use super::*;

    fn resolve_text(text: &str) -> Result<Config, ConfigError> {
        let mut loaded = Loaded::default();
        assign_file(&mut loaded.draft, Path::new("corelay.toml"), text).unwrap();
        let found = Resources { cpus: 2, descriptors: 20_000, memory: None, memory_available: None };
        loaded.resolve(found, DriverKind::IoUring)
    }

    fn key_file(name: &str, content: &[u8]) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("corelay-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn defaults_are_two_shards_in_development_mode_on_loopback() {
        let config = resolve_text("").unwrap();
        assert_eq!((config.settings.placement.shards, config.capacity.table_entries), (2, 20_000));
        assert!(config.settings.upgrade.development && config.settings.verifier.is_none());
        assert_eq!(config.settings.drain_batch_of_shard(), 5_000);
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn strangers_are_kept_out_without_a_key() {
        let error = resolve_text("listen = '0.0.0.0:4000'").unwrap_err();
        assert!(matches!(error, ConfigError::PublicWithoutKey { .. }));
        let remedy = error.remedy().unwrap();
        assert!(remedy.contains("--jwt-key-file") && remedy.contains("--insecure"), "{remedy}");
        assert!(resolve_text("listen = '0.0.0.0:4000'\ninsecure = true").is_ok());
        let key = key_file("public", &[b'k'; 32]);
        let with_key = format!("listen = '0.0.0.0:4000'\njwt_key_file = '{}'", key.display());
        assert!(!resolve_text(&with_key).unwrap().settings.upgrade.development);
        let required = "socket_token_required = true\nsocket_join_timeout_ms = 500";
        let clients = resolve_text(&format!("{with_key}\n{required}")).unwrap().settings.clients;
        assert!(clients.socket_token_required && clients.socket_join_timeout.as_millis() == 500);
        let error = resolve_text(required).unwrap_err();
        assert!(error.to_string().contains("`socket_token_required` needs a key"), "{error}");
        std::fs::remove_file(key).unwrap();
    }

    #[test]
    fn the_admin_pages_stay_on_loopback_without_a_token() {
        for public in ["admin = '[::]:4001'", "admin = '[::]:4001'\ninsecure = true"] {
            let error = resolve_text(public).unwrap_err();
            assert!(matches!(error, ConfigError::PublicAdmin { .. }));
            assert!(error.remedy().unwrap().contains("admin_token_file"));
        }
        let with_token = resolve_text("admin = '[::]:4001'\nadmin_token = 'sixteen-letters!'").unwrap();
        assert!(with_token.admin_token.is_some());
        for (listen, admin) in [
            ("127.0.0.1:4000", "127.0.0.1:4000"),
            ("0.0.0.0:4000", "127.0.0.1:4000"),
            ("127.0.0.1:5", "[::]:5"),
        ] {
            let text = format!(
                "listen = '{listen}'\nadmin = '{admin}'\ninsecure = true\nadmin_token = 'sixteen-letters!'"
            );
            assert!(
                matches!(resolve_text(&text), Err(ConfigError::Conflict { .. })),
                "the same port twice: {text}"
            );
        }
        assert!(resolve_text("listen = '127.0.0.1:4000'\nadmin = '127.0.0.2:4000'").is_ok());
    }

    #[test]
    fn a_short_or_missing_key_is_named() {
        let short = key_file("short", b"secret\n");
        let error = resolve_text(&format!("jwt_key_file = '{}'", short.display())).unwrap_err();
        assert!(error.to_string().ends_with("cannot be used"), "{error}");
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(reason.contains("at least 32 bytes, this one has 6"), "{reason}");
        std::fs::remove_file(short).unwrap();
        assert!(matches!(
            resolve_text("jwt_key_file = '/nowhere/key'"),
            Err(ConfigError::KeyUnreadable { .. })
        ));
    }

    #[test]
    fn silence_must_be_pinged_before_it_is_closed() {
        let error = resolve_text("[liveness]\nping_after_ms = 15000").unwrap_err();
        assert!(error.to_string().contains("must be less than `liveness.close_after_ms` = 15000"), "{error}");
    }

    #[test]
    fn a_game_that_is_never_reached_is_warned_about() {
        let config = resolve_text("[[game]]\npattern = '*'\n[[game]]\npattern = 'arena'").unwrap();
        assert_eq!(config.warnings.len(), 1);
        assert!(config.warnings[0].contains("\"arena\" is never used"), "{:?}", config.warnings);
        let covered = "[[game]]\npattern = 'arena-*'\n[[game]]\npattern = 'arena-*-small'";
        assert_eq!(resolve_text(covered).unwrap().warnings.len(), 1);
        let reached = "[[game]]\npattern = 'arena-1'\n[[game]]\npattern = 'arena-*'\n[[game]]\npattern = '*'";
        assert!(resolve_text(reached).unwrap().warnings.is_empty());
    }

    #[test]
    fn ticks_that_moves_cannot_follow_are_warned_about_with_what_helps() {
        let fast = "[[game]]\npattern = 'duel'\ntick_hz = 120\n";
        let warnings = resolve_text(fast).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains("\"duel\" has 120 ticks"), "{warnings:?}");
        // Whoever pastes the advice is warned no more.
        let (_, advice) = warnings[0].split_once("; set ").unwrap();
        let advice = advice.replace(" and ", "\n");
        assert!(resolve_text(&format!("{advice}\n{fast}")).unwrap().warnings.is_empty());
        assert!(resolve_text("[[game]]\npattern = '*'\ntick_hz = 60").unwrap().warnings.is_empty());
        let slow = resolve_text("rates.move_per_s = 10").unwrap().warnings;
        assert!(slow.len() == 1 && slow[0].starts_with("a game without a [[game]] table has 20"), "{slow:?}");
    }
}
