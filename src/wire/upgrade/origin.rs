//! Which web pages may connect: the `Origin` that a browser sends, against the rules.

pub mod pattern;

use std::net::{Ipv4Addr, Ipv6Addr};

use super::UpgradeRules;
use pattern::{OriginPattern, port_number, split_port};

/// Whether pages of `origin` may connect to `host`, the request's own.
///
/// With no `allowed_origins`, those of the own host may; with a list, only what the list names. In development mode loopback
/// pages and those of the own host, whatever their port, may as well. `null`, the origin of sandboxed frames and files, may only
/// where `*` lets everybody in.
pub(super) fn is_allowed(origin: &str, host: &str, rules: &UpgradeRules) -> bool {
    if rules.allowed_origins.contains(&OriginPattern::Any) {
        return true;
    }
    let Some(origin) = Origin::parse(origin) else { return false };
    let own = Authority::parse(host);
    if rules.development
        && (origin.is_loopback() || own.as_ref().is_some_and(|own| origin.authority.host == own.host))
    {
        return true;
    }
    if rules.allowed_origins.is_empty() {
        // The scheme is not compared: behind a TLS proxy a page of https:// comes in through plain TCP.
        return own.is_some_and(|own| origin.is_at(&own));
    }
    rules.allowed_origins.iter().any(|pattern| pattern.matches(&origin))
}

/// The text of a refusal. The entry that it names can be configured and lets this origin in.
pub(super) fn refusal_text(origin: &str, rules: &UpgradeRules) -> String {
    if origin.eq_ignore_ascii_case("null") || origin.starts_with("file:") {
        return format!(
            "this page is a file or in a sandboxed frame (Origin: {origin}), and could be anybody's: serve it over HTTP, for example with \
             `python3 -m http.server`; or let every page in: allowed_origins = [\"*\"]"
        );
    }
    let Some(entry) = entry_for(origin) else {
        return format!(
            "{origin:?} is no origin that could be listed; only allowed_origins = [\"*\"] lets it in, with every other"
        );
    };
    let own = if rules.allowed_origins.is_empty() {
        "; a list replaces the relay's own host, so name that, too, if pages come from it"
    } else {
        ""
    };
    format!("pages of {origin:?} may not connect; the operator can add \"{entry}\" to `allowed_origins`{own}")
}

/// An entry of `allowed_origins` for this origin.
fn entry_for(origin: &str) -> Option<Box<str>> {
    let parsed = Origin::parse(origin)?;
    let exact = origin.strip_suffix('/').unwrap_or(origin);
    let entry = match OriginPattern::parse(exact) {
        Ok(_) => exact.into(),
        Err(misspelt) => misspelt.instead?,
    };
    OriginPattern::parse(&entry).is_ok_and(|pattern| pattern.matches(&parsed)).then_some(entry)
}

/// `scheme://host[:port]`. Browsers send nothing behind it; some other clients a slash, which means the same.
struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

/// `host[:port]`.
struct Authority<'a> {
    host: Host<'a>,
    port: Option<u16>,
}

/// A name is compared without regard to case.
#[derive(Debug)]
enum Host<'a> {
    /// Also an IPv4 address.
    Name(&'a str),
    /// In brackets.
    V6(Ipv6Addr),
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (Self::V6(a), Self::V6(b)) => a == b,
            (Self::Name(_), Self::V6(_)) | (Self::V6(_), Self::Name(_)) => false,
        }
    }
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let authority = Authority::parse(authority.strip_suffix('/').unwrap_or(authority))?;
        (!scheme.is_empty()).then_some(Self { scheme, authority })
    }

    /// Same host, same port; a port that is not written is the scheme's.
    fn is_at(&self, other: &Authority<'_>) -> bool {
        self.authority.host == other.host && self.port() == other.port.or(default_port(self.scheme))
    }

    fn port(&self) -> Option<u16> {
        self.authority.port.or(default_port(self.scheme))
    }

    fn is_loopback(&self) -> bool {
        match &self.authority.host {
            Host::Name(name) => {
                name.eq_ignore_ascii_case("localhost")
                    || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            }
            Host::V6(address) => address.is_loopback(),
        }
    }
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = split_port(text);
        let port = match port {
            Some(port) => Some(port_number(port)?),
            None => None,
        };
        let host = match host.strip_prefix('[') {
            Some(address) => Host::V6(address.strip_suffix(']')?.parse().ok()?),
            None => Host::Name(host),
        };
        let is_host = match host {
            Host::Name(name) => !name.is_empty() && !name.contains(['/', '@', ' ', '?', '#']),
            Host::V6(_) => true,
        };
        is_host.then_some(Self { host, port })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name);
    if is("http") || is("ws") {
        Some(80)
    } else if is("https") || is("wss") {
        Some(443)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, origin: &str) -> bool {
        let rules = UpgradeRules {
            allowed_origins: vec![OriginPattern::parse(pattern).unwrap()],
            ..UpgradeRules::default()
        };
        is_allowed(origin, "relay.example", &rules)
    }

    #[test]
    fn an_origin_is_allowed_as_written() {
        assert!(allows("https://game.example", "https://game.example"));
        assert!(allows("https://game.example", "HTTPS://GAME.example"));
        assert!(allows("https://game.example:443", "https://game.example"));
        assert!(allows("http://game.example:8080", "http://game.example:8080"));
        for foreign in [
            "http://game.example",
            "https://game.example:8443",
            "https://evil-game.example",
            "https://game.example.evil",
            "https://game.example@evil",
            "https://",
            "game.example",
            "null",
            "",
        ] {
            assert!(!allows("https://game.example", foreign), "{foreign}");
        }
        assert!(!allows("https://game.example", "https://relay.example"), "the list replaces the own host");
    }

    #[test]
    fn a_host_is_allowed_with_any_scheme_and_port() {
        assert!(allows("//game.example", "http://game.example"));
        assert!(allows("//game.example", "https://game.example:8443"));
        assert!(allows("//game.example:8443", "https://game.example:8443"));
        assert!(!allows("//game.example:8443", "https://game.example"));
        assert!(!allows("//game.example", "https://a.game.example"));
    }

    #[test]
    fn a_star_stands_for_subdomains() {
        for origin in ["https://game.example", "https://a.game.example", "http://b.A.Game.example:1"] {
            assert!(allows("//*.game.example", origin), "{origin}");
        }
        for origin in ["https://evilgame.example", "https://example", "https://é", "null"] {
            assert!(!allows("//*.game.example", origin), "{origin}");
        }
        assert!(allows("*", "https://anybody.example"));
        assert!(allows("*", "null"));
    }

    #[test]
    fn a_star_below_a_scheme_keeps_scheme_and_port() {
        assert!(allows("https://*.game.example", "https://a.game.example"));
        assert!(allows("https://*.game.example:8443", "https://game.example:8443"));
        for foreign in ["http://a.game.example", "https://a.game.example:8443", "https://evilgame.example"] {
            assert!(!allows("https://*.game.example", foreign), "{foreign}");
        }
    }

    #[test]
    fn an_address_is_one_however_it_is_written() {
        assert!(allows("http://[0:0:0:0:0:0:0:1]:4000", "http://[::1]:4000"));
        assert!(allows("//[2001:DB8::1]", "https://[2001:db8::1]"));
        assert!(!allows("//[2001:db8::1]", "https://[2001:db8::2]"));
    }

    #[test]
    fn a_slash_at_the_end_is_no_other_origin() {
        assert!(allows("https://game.example", "https://game.example/"));
        assert!(is_allowed("http://relay.example:4000/", "relay.example:4000", &UpgradeRules::default()));
        assert!(!allows("https://game.example", "https://game.example//"));
        assert!(!allows("https://game.example", "https://game.example/a"));
    }

    #[test]
    fn without_a_list_the_own_host_is_allowed() {
        let rules = UpgradeRules::default();
        assert!(is_allowed("http://relay.example:4000", "relay.example:4000", &rules));
        assert!(is_allowed("https://Relay.example", "relay.example", &rules), "behind a TLS proxy");
        assert!(is_allowed("http://[::1]:4000", "[::1]:4000", &rules));
        for foreign in ["http://relay.example:4001", "http://relay.example", "http://localhost:4000", "null"]
        {
            assert!(!is_allowed(foreign, "relay.example:4000", &rules), "{foreign}");
        }
    }

    #[test]
    fn pages_of_the_own_host_are_allowed_on_any_port_in_development() {
        let rules = UpgradeRules { development: true, ..UpgradeRules::default() };
        for origin in ["http://192.168.1.5:5173", "http://192.168.1.5", "https://192.168.1.5:4000"] {
            assert!(is_allowed(origin, "192.168.1.5:4000", &rules), "{origin}");
            let strict = UpgradeRules { development: false, ..rules.clone() };
            assert!(!is_allowed(origin, "192.168.1.5:4001", &strict), "{origin}");
        }
        for foreign in ["http://192.168.1.50:4000", "http://192.168.1.5.evil:4000", "null", "file://"] {
            assert!(!is_allowed(foreign, "192.168.1.5:4000", &rules), "{foreign}");
        }
    }

    /// The first text in double quotes behind `from`.
    fn quoted<'a>(text: &'a str, from: &str) -> Option<&'a str> {
        text.split_once(from)?.1.split('"').nth(1)
    }

    #[test]
    fn the_advice_works_when_it_is_pasted() {
        for origin in [
            "https://game.example",
            "https://Game.Example:8443",
            "https://game.example/",
            "app://.",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
            "http://[::1]:3000",
            "http://[0:0::1]",
            "http://192.168.1.5:5173",
            "null",
            "file://",
            "https://münchen.example",
            "https://u@h.example",
            "ws://game.example",
            "https://a b",
            "https://",
            "nonsense",
            "",
        ] {
            let text = refusal_text(origin, &UpgradeRules::default());
            let entry =
                quoted(&text, "can add ").or_else(|| quoted(&text, "allowed_origins = ")).expect(&text);
            let pattern = OriginPattern::parse(entry).unwrap_or_else(|error| panic!("{text}: {error:?}"));
            let rules = UpgradeRules { allowed_origins: vec![pattern], ..UpgradeRules::default() };
            assert!(is_allowed(origin, "relay.example", &rules), "{text}");
            assert!(entry != "*" || !text.contains("may not connect"), "{text}");
        }
        assert!(refusal_text("null", &UpgradeRules::default()).contains("python3 -m http.server"));
        assert!(
            refusal_text("https://game.example", &UpgradeRules::default())
                .contains("can add \"https://game.example\"")
        );
    }

    #[test]
    fn loopback_pages_are_allowed_in_development() {
        let mut rules = UpgradeRules { development: true, ..UpgradeRules::default() };
        let loopback =
            ["http://localhost:5173", "http://127.0.0.1", "https://127.3.2.1:9", "http://[::1]:3000"];
        for allowed_origins in [vec![], vec![OriginPattern::parse("https://game.example").unwrap()]] {
            rules.allowed_origins = allowed_origins;
            for origin in loopback {
                assert!(is_allowed(origin, "relay.example", &rules), "{origin}");
            }
            for foreign in
                ["http://localhost.evil", "http://128.0.0.1", "http://[::2]", "http://127.0.0.1.evil"]
            {
                assert!(!is_allowed(foreign, "relay.example", &rules), "{foreign}");
            }
        }
    }
}
