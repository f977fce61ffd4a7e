//! An entry of `allowed_origins`: read strictly, so that none is configured that no page could ever match.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Authority, Host, Origin, default_port};

/// Pages that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`: all, also those that have no origin.
    Any,
    /// `https://host[:port]`, `//host[:port]` (any scheme; without a port, any), and `*.host` for the host and all below it.
    Pages {
        /// Without its colon; `None`: any.
        scheme: Option<Box<str>>,
        /// The host whose pages they are.
        host: HostPattern,
        /// As written.
        port: Option<u16>,
    },
}

/// The host of an `OriginPattern`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This name or IPv4 address.
    Name(Box<str>),
    /// This name and every one below it.
    Below(Box<str>),
    /// This address, however it is written.
    V6(Ipv6Addr),
}

/// Why a text is no `OriginPattern`, and what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misspelt {
    /// What is wrong with it, as half a sentence.
    pub why: &'static str,
    /// An entry that is right; `None`: nobody can tell.
    pub instead: Option<Box<str>>,
}

/// What is wrong, and an entry without this fault.
type Fault = (&'static str, Option<String>);

const WHY_SCHEME: &str = "a scheme is https, http, or that of an app";
const WHY_PORT: &str = "a port is a number from 1 to 65535";
const WHY_STAR: &str = "a star stands for everybody, or as `*.` before a host for all below it";

impl OriginPattern {
    /// Reads an entry.
    pub fn parse(text: &str) -> Result<Self, Misspelt> {
        match Self::read(text) {
            // The entry without this fault may have another one: what is suggested has none.
            Err((why, Some(instead))) => {
                let instead = if Self::read(&instead).is_ok() {
                    Some(instead.into())
                } else {
                    Self::parse(&instead).err().and_then(|misspelt| misspelt.instead)
                };
                Err(Misspelt { why, instead })
            }
            Err((why, None)) => Err(Misspelt { why, instead: None }),
            Ok(pattern) => Ok(pattern),
        }
    }

    fn read(text: &str) -> Result<Self, Fault> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.trim() != text {
            return Err(("it begins or ends with a blank", Some(text.trim().into())));
        }
        if text.eq_ignore_ascii_case("null") || text.starts_with("file:") {
            let why = "files and sandboxed frames have no origin that could be listed; serve the page \
                       (`python3 -m http.server`), or let everybody in with \"*\"";
            return Err((why, None));
        }
        let (scheme, rest) = split_scheme(text)?;
        let start = scheme.map_or("//".to_owned(), |scheme| format!("{scheme}://"));
        let with = |rest: &str| Some(format!("{start}{rest}"));
        if let Some(end) = rest.find(['/', '?', '#']) {
            return Err(("an origin has no path, nor a slash at its end", with(&rest[..end])));
        }
        if let Some((_, host)) = rest.rsplit_once('@') {
            return Err(("an origin has no user", with(host)));
        }
        if rest.parse::<Ipv6Addr>().is_ok() {
            return Err(("an IPv6 address stands in brackets", with(&format!("[{rest}]"))));
        }
        let (host, port) = split_port(rest);
        let port = match port {
            None => None,
            Some("") => return Err(("there is no port behind the colon", with(host))),
            Some("*") => {
                return Err((
                    "without a scheme and a port, every port is allowed",
                    Some(format!("//{host}")),
                ));
            }
            Some(port) => Some(port_number(port).ok_or((WHY_PORT, None))?),
        };
        let host = read_host(host, is_special(scheme)).map_err(|(why, instead)| {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            let instead = instead.map(|host| if host == "*" { host } else { format!("{start}{host}{port}") });
            (why, instead)
        })?;
        Ok(Self::Pages { scheme: scheme.map(Box::from), host, port })
    }

    pub(super) fn matches(&self, origin: &Origin<'_>) -> bool {
        let Self::Pages { scheme, host, port } = self else { return true };
        let allowed_port = match scheme {
            Some(scheme) if !origin.scheme.eq_ignore_ascii_case(scheme) => return false,
            Some(scheme) => origin.port() == port.or(default_port(scheme)),
            None => port.is_none() || origin.port() == *port,
        };
        allowed_port && host.matches(&origin.authority)
    }
}

impl HostPattern {
    fn matches(&self, authority: &Authority<'_>) -> bool {
        match (self, &authority.host) {
            (Self::Name(name), Host::Name(host)) => host.eq_ignore_ascii_case(name),
            (Self::Below(parent), Host::Name(host)) => is_below(host, parent),
            (Self::V6(address), Host::V6(host)) => address == host,
            (Self::Name(_) | Self::Below(_), Host::V6(_)) | (Self::V6(_), Host::Name(_)) => false,
        }
    }
}

fn is_below(host: &str, parent: &str) -> bool {
    let Some(prefix_bytes) = host.len().checked_sub(parent.len()) else { return false };
    // Compared as bytes: the cut may fall inside a character of a host that does not match.
    let (prefix, suffix) = host.as_bytes().split_at(prefix_bytes);
    suffix.eq_ignore_ascii_case(parent.as_bytes()) && (prefix.is_empty() || prefix.ends_with(b"."))
}

/// Scheme and what stands behind `//`.
fn split_scheme(text: &str) -> Result<(Option<&str>, &str), Fault> {
    let Some((scheme, rest)) = text.split_once("//") else {
        if let Some((scheme, rest)) = text.split_once(":/") {
            return Err(("a slash is missing behind the scheme", Some(format!("{scheme}://{rest}"))));
        }
        return Err(("it needs a scheme (`https://`), or `//` for any", Some(format!("//{text}"))));
    };
    if scheme.is_empty() {
        return Ok((None, rest));
    }
    let Some(scheme) = scheme.strip_suffix(':') else {
        return Err(("a colon is missing behind the scheme", Some(format!("{scheme}://{rest}"))));
    };
    // No page has a WebSocket's scheme, though the socket it opens has.
    for (socket, page) in [("ws", "http"), ("wss", "https")] {
        if scheme.eq_ignore_ascii_case(socket) {
            return Err(("pages come from http:// or https://", Some(format!("{page}://{rest}"))));
        }
    }
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme =
        scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(is_inner);
    if is_scheme { Ok((Some(scheme), rest)) } else { Err((WHY_SCHEME, None)) }
}

/// Host and port, as written.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    let host_end = authority.find(']').map_or(0, |bracket| bracket + 1);
    match authority[host_end..].split_once(':') {
        Some((rest, port)) => (&authority[..host_end + rest.len()], Some(port)),
        None => (authority, None),
    }
}

pub(super) fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// `special`: a browser reads the host as a name or an address, and writes it in its own way (WHATWG URL, "special scheme").
fn read_host(host: &str, special: bool) -> Result<HostPattern, Fault> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse().map(HostPattern::V6).map_err(|_| ("this is no IPv6 address", None));
    }
    if host == "*" {
        return Err((WHY_STAR, Some("*".into())));
    }
    let parent = host.strip_prefix("*.");
    let name = parent.unwrap_or(host);
    if name.is_empty() {
        return Err(("the host is missing", None));
    }
    if name.contains('*') {
        return Err((WHY_STAR, None));
    }
    if !name.is_ascii() {
        let why = "browsers send hosts in ASCII (`xn--…`); in a browser's console `new URL(\"https://…\").origin` says how";
        return Err((why, None));
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !name.bytes().all(is_letter) {
        return Err(("a host has no such characters", None));
    }
    if special && let Some(name) = name.strip_prefix('.') {
        return Err((WHY_STAR, Some(format!("*.{name}"))));
    }
    if special && is_numeric(name) {
        return match (parent, name.parse::<Ipv4Addr>()) {
            (None, Ok(_)) => Ok(HostPattern::Name(name.into())),
            (Some(_), Ok(_)) => Err(("nothing is below an address", Some(name.into()))),
            (_, Err(_)) => Err(("this is no IPv4 address as browsers write it: four numbers", None)),
        };
    }
    Ok(if parent.is_some() { HostPattern::Below(name.into()) } else { HostPattern::Name(name.into()) })
}

/// Browsers take a host whose last label is a number for an IPv4 address, and refuse it if it is none.
fn is_numeric(name: &str) -> bool {
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_special(scheme: Option<&str>) -> bool {
    scheme.is_none_or(|scheme| default_port(scheme).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_page_can_match_is_refused_with_what_was_meant() {
        let cases = [
            ("https://game.example/", Some("https://game.example")),
            ("https://game.example/play?x#y", Some("https://game.example")),
            ("//game.example:*", Some("//game.example")),
            ("http://localhost:*", Some("//localhost")),
            ("https://game.example:", Some("https://game.example")),
            ("https://game.example:443443", None),
            ("https://game.example:0", None),
            ("https://game.example:+443", None),
            ("https://u@h.example", Some("https://h.example")),
            ("https://u:p@h.example:8443/", Some("https://h.example:8443")),
            ("https://münchen.example", None),
            ("game.example", Some("//game.example")),
            ("localhost:5173", Some("//localhost:5173")),
            ("192.168.1.5/", Some("//192.168.1.5")),
            ("http//game.example", Some("http://game.example")),
            ("https:/game.example", Some("https://game.example")),
            ("ws://game.example:4000", Some("http://game.example:4000")),
            ("WSS://game.example/socket", Some("https://game.example")),
            (" https://game.example", Some("https://game.example")),
            ("https://*", Some("*")),
            ("//*", Some("*")),
            ("//.game.example", Some("//*.game.example")),
            ("https://.game.example:8443", Some("https://*.game.example:8443")),
            ("https://a*.game.example", None),
            ("https://*.*.example", None),
            ("//*.127.0.0.1", Some("//127.0.0.1")),
            ("http://127.1", None),
            ("http://0x7f.0.0.0x1", None),
            ("http://010.0.0.1", None),
            ("http://::1", Some("http://[::1]")),
            ("http://[::1", None),
            ("http://[::g]", None),
            ("http://a b", None),
            ("1http://game.example", None),
            ("https://", None),
            ("//", None),
            ("", None),
            ("null", None),
            ("file://", None),
            ("file:///home/ann/game.html", None),
        ];
        for (entry, instead) in cases {
            let misspelt = OriginPattern::parse(entry).expect_err(entry);
            assert_eq!(misspelt.instead.as_deref(), instead, "{entry}: {}", misspelt.why);
        }
    }

    #[test]
    fn what_a_page_can_match_is_taken() {
        let cases = [
            ("https://game.example", "https://game.example"),
            ("HTTPS://Game.Example:443", "https://game.example"),
            ("https://*.game.example", "https://a.game.example"),
            ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
            ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
            ("//localhost", "http://localhost:5173"),
            ("//my_host-1", "http://my_host-1"),
            ("app://.", "app://."),
            ("capacitor://localhost", "capacitor://localhost"),
            ("moz-extension://0a1b", "moz-extension://0a1b"),
            ("http://[::1]:4000", "http://[::1]:4000"),
            ("*", "app://anything"),
        ];
        for (entry, origin) in cases {
            let pattern = OriginPattern::parse(entry).expect(entry);
            assert!(pattern.matches(&Origin::parse(origin).unwrap()), "{entry}");
        }
    }

    proptest::proptest! {
        /// The relay never advises what it refuses itself.
        #[test]
        fn what_is_suggested_is_right(entry in "(https?|ws|app)?:?/{0,2}[a-zA-Z0-9.*@:/\\[\\] -]{0,20}") {
            if let Err(Misspelt { instead: Some(instead), .. }) = OriginPattern::parse(&entry) {
                proptest::prop_assert!(OriginPattern::parse(&instead).is_ok(), "{} instead of {}", instead, entry);
            }
        }
    }
}
