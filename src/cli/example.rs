//! What to do with a fresh token: lines to paste.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::ids::TopicName;
use crate::server::reachable;
use crate::wire::token::TopicPattern;

/// A `Sec-WebSocket-Key` (RFC 6455 section 4.1 wants any 16 bytes).
const WEBSOCKET_KEY: &str = "Y29yZWxheSBleGFtcGxlIQ==";

/// Examples for a relay at `listen`, for the first of the topics that each way can join. `secure`: where it speaks TLS, which is
/// where players connect then.
pub(super) fn examples(
    listen: SocketAddr,
    secure: Option<String>,
    token: &str,
    topics: &[TopicPattern],
) -> String {
    let address = reachable(listen);
    let url = secure.unwrap_or_else(|| format!("ws://{address}"));
    let mut text = String::new();
    let game = topics.iter().find_map(|pattern| game_of(pattern.as_str()));
    // Writing to a String cannot fail.
    if let Some(game) = &game {
        let _ = write!(
            text,
            "curl, which shows the answer 101 and the first records:\n  \
             curl -i -N --output - -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
             -H 'Sec-WebSocket-Key: {WEBSOCKET_KEY}' 'http://{address}/play/{game}?token={token}'\n\
             JavaScript, native:\n  \
             const socket = new WebSocket(\"{url}/play/{game}?token={token}\"); \
             socket.binaryType = \"arraybuffer\";\n"
        );
    }
    let first = topics.first().map_or("*", TopicPattern::as_str);
    // `doc:x:read` is the right to read `doc:x`.
    let first = if first.starts_with("doc:") { first.trim_end_matches(":read") } else { first };
    let topic = game.map_or_else(|| first.replace('*', "1"), |game| format!("game:{game}"));
    let _ = write!(
        text,
        "JavaScript, phoenix 1.8 (import {{ Socket }} from \"phoenix\"):\n  \
         const socket = new Socket(\"{url}/socket\", {{ authToken: \"{token}\" }}); socket.connect(); \
         socket.channel({topic:?}).join();\n"
    );
    text
}

/// A game that the pattern covers. `None`: it covers other topics only.
fn game_of(pattern: &str) -> Option<String> {
    let name = match pattern {
        "*" | "game:*" => "arena".to_owned(),
        _ => pattern.strip_prefix("game:")?.replace('*', "1"),
    };
    TopicName::parse(&name).map(|name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(listen: &str, topics: &[&str]) -> String {
        let topics: Vec<TopicPattern> = topics.iter().map(|topic| TopicPattern::new(*topic)).collect();
        examples(listen.parse().unwrap(), None, "T0KEN", &topics)
    }

    #[test]
    fn the_examples_join_what_the_token_allows() {
        let text = of("0.0.0.0:4000", &["room:lobby", "game:arena-*"]);
        for part in [
            "'http://127.0.0.1:4000/play/arena-1?token=T0KEN'",
            "new WebSocket(\"ws://127.0.0.1:4000/play/arena-1?token=T0KEN\")",
            "new Socket(\"ws://127.0.0.1:4000/socket\", { authToken: \"T0KEN\" })",
            "socket.channel(\"game:arena-1\").join()",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let secure = Some("wss://play.example.com:443".to_owned());
        let text =
            examples("127.0.0.1:4000".parse().unwrap(), secure, "T0KEN", &[TopicPattern::new("game:a")]);
        for part in [
            "'http://127.0.0.1:4000/play/a",
            "\"wss://play.example.com:443/play/a",
            "\"wss://play.example.com:443/socket\"",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(of("[::1]:5000", &["*"]).contains("ws://[::1]:5000/play/arena?token="));
        assert!(of("127.0.0.1:4000", &["doc:*:read"]).contains("channel(\"doc:1\")"));
        let room = of("127.0.0.1:4000", &["room:*"]);
        assert!(!room.contains("curl") && room.contains("channel(\"room:1\")"), "{room}");
    }
}
