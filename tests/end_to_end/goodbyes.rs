//! The last thing that a client is told arrives, whatever it goes on sending.

use crate::records::masked_frame;
use crate::relay::Relay;
use crate::socket::RawClient;

/// The kernel decides what arrives when: what works once may not work the next time.
const TIMES: usize = 5;

#[test]
fn a_close_frame_arrives_whatever_comes_behind_what_caused_it() {
    let relay = Relay::start_shards(2, "");
    let text = format!(r#"["1","2","room:a","new_message",{{"body":"{}"}}]"#, "x".repeat(150_000));
    let more = masked_frame(0x82, &[0; 140_000]);
    let cases = [
        ("/socket/websocket?vsn=2.0.0", masked_frame(0x81, text.as_bytes()), (1009, "too_big")),
        ("/play/arena", masked_frame(0x82, &[b'x'; 150_000]), (1009, "too_big")),
        ("/play/arena", [&[0x82, 1, 0][..], &more].concat(), (1002, "protocol")),
        ("/play/arena", [&masked_frame(0x81, &[0xFF])[..], &more].concat(), (1007, "utf8")),
        ("/play/arena", [&crate::records::close(1000, "")[..], &more].concat(), (1000, "bye")),
        ("/socket/websocket", [&crate::records::close(1000, "")[..], &more].concat(), (1000, "bye")),
        ("/socket/websocket", [&masked_frame(0x81, b"no message")[..], &more].concat(), (1003, "malformed")),
    ];
    for (target, bytes, (code, word)) in cases {
        for _ in 0..TIMES {
            let mut client = RawClient::request(&relay, target);
            assert_eq!(client.answer().0, 101);
            client.send(&bytes);
            assert_eq!(client.closed(), (code, word.into()), "{target}");
        }
        relay.await_metric("corelay_connections", &["state=\"closing\""], |closing| closing == 0);
    }
}

#[test]
fn a_refusal_arrives_at_who_sends_a_body() {
    let relay = Relay::start("");
    for _ in 0..TIMES {
        let mut client = RawClient::connect(&relay);
        client.send(b"POST /play/arena HTTP/1.1\r\nHost: relay\r\nContent-Length: 900000\r\n\r\n");
        client.send(&[b'x'; 900_000]);
        let (status, text) = client.refused();
        assert!(status == 400 && text.contains("body"), "{status} {text}");
    }
    relay.await_metric("corelay_connections", &[], |connections| connections == 0);
}
