//! Which web pages may connect: the `Origin` that a browser sends, against the rules.

use std::net::{IpAddr, Ipv6Addr};

use super::UpgradeRules;

/// Whether pages of `origin` may connect to `host`, the request's own.
///
/// With no `allowed_origins`, those of the own host may; with a list, only what the list names. In development mode loopback
/// pages may as well. `null`, the origin of sandboxed frames and files, may only where `*` lets everybody in.
pub(super) fn is_allowed(origin: &str, host: &str, rules: &UpgradeRules) -> bool {
    if rules.allowed_origins.iter().any(|pattern| &**pattern == "*") {
        return true;
    }
    let Some(origin) = Origin::parse(origin) else { return false };
    if rules.development && origin.is_loopback() {
        return true;
    }
    if rules.allowed_origins.is_empty() {
        // The scheme is not compared: behind a TLS proxy a page of https:// comes in through plain TCP.
        return Authority::parse(host).is_some_and(|own| origin.is_at(&own));
    }
    rules.allowed_origins.iter().any(|pattern| origin.matches(pattern))
}

/// `scheme://host[:port]`.
struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

/// `host[:port]`; the host of an IPv6 address keeps its brackets.
struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let authority = Authority::parse(authority)?;
        (!scheme.is_empty()).then_some(Self { scheme, authority })
    }

    /// `scheme://host[:port]`, `//host[:port]` (any scheme; without port: any port), `//*.host` (the host, and all below it).
    fn matches(&self, pattern: &str) -> bool {
        let Some((scheme, authority)) = pattern.split_once("//") else { return false };
        let Some(allowed) = Authority::parse(authority) else { return false };
        let Some(scheme) = scheme.strip_suffix(':') else {
            return scheme.is_empty()
                && self.is_below(allowed.host)
                && allowed.port.is_none_or(|port| self.port() == Some(port));
        };
        self.scheme.eq_ignore_ascii_case(scheme) && self.is_at(&allowed)
    }

    fn is_below(&self, host_pattern: &str) -> bool {
        let host = self.authority.host;
        let Some(parent) = host_pattern.strip_prefix("*.") else {
            return host.eq_ignore_ascii_case(host_pattern);
        };
        let Some(prefix_bytes) = host.len().checked_sub(parent.len()) else { return false };
        // Compared as bytes: the cut may fall inside a character of a host that does not match.
        let (prefix, suffix) = host.as_bytes().split_at(prefix_bytes);
        suffix.eq_ignore_ascii_case(parent.as_bytes()) && (prefix.is_empty() || prefix.ends_with(b"."))
    }

    /// Same host, same port; a port that is not written is the scheme's.
    fn is_at(&self, other: &Authority<'_>) -> bool {
        self.authority.host.eq_ignore_ascii_case(other.host)
            && self.port() == other.port.or(default_port(self.scheme))
    }

    fn port(&self) -> Option<u16> {
        self.authority.port.or(default_port(self.scheme))
    }

    fn is_loopback(&self) -> bool {
        let host = self.authority.host;
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address = match address {
            Some(address) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => host.parse().ok().map(IpAddr::V4),
        };
        host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
    }
}

impl<'a> Authority<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let host_end = text.find(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match text[host_end..].split_once(':') {
            Some((rest, port)) => (&text[..host_end + rest.len()], Some(port.parse().ok()?)),
            None => (text, None),
        };
        let is_host = !host.is_empty() && !host.contains(['/', '@', ' ', '?', '#']);
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
        let rules = UpgradeRules { allowed_origins: vec![pattern.into()], ..UpgradeRules::default() };
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
    fn loopback_pages_are_allowed_in_development() {
        let mut rules = UpgradeRules { development: true, ..UpgradeRules::default() };
        let loopback =
            ["http://localhost:5173", "http://127.0.0.1", "https://127.3.2.1:9", "http://[::1]:3000"];
        for allowed_origins in [vec![], vec!["https://game.example".into()]] {
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
