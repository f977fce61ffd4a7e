//! Request heads with random damage: an answer never changes with what comes later, and no damage panics.

use corelay::wire::upgrade::{self, OriginPattern, UpgradeRules};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const HEAD: &[u8] =
    b"GET /play/arena-1?name=J%C3%B6&seq=7&resume=00112233445566778899aabbccddeeff HTTP/1.1\r\n\
    Host: relay.example:4000\r\nOrigin: https://a.game.example\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: corelay.v1, base64url.bearer.phx.YS5iLmM\r\n\r\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_answer_does_not_change_with_what_follows(
        damage in vec((any::<Index>(), prop_oneof![any::<u8>(), Just(b'\n'), Just(b' '), Just(b'%')]), 0..3),
        end in any::<Index>(),
        following in vec(any::<u8>(), 0..50),
    ) {
        let rules = UpgradeRules {
            allowed_origins: vec![OriginPattern::parse("//*.game.example").unwrap()],
            ..UpgradeRules::default()
        };
        let mut head = HEAD.to_vec();
        for (index, byte) in &damage {
            *index.get_mut(&mut head) = *byte;
        }
        let whole = upgrade::parse(&[&head, &following[..]].concat(), &rules);
        if damage.is_empty() {
            let (_, bytes) = whole.clone().expect("it is valid").expect("it is whole");
            prop_assert_eq!(bytes, HEAD.len());
        }
        let part = upgrade::parse(&head[..end.index(head.len())], &rules);
        match part {
            Ok(None) => {}
            Ok(Some(upgrade)) => prop_assert_eq!(whole, Ok(Some(upgrade))),
            Err(refusal) => {
                prop_assert!(whole.is_err());
                let body = format!("\r\n\r\n{}\n", refusal.text);
                prop_assert!(refusal.response().ends_with(body.as_bytes()), "{}", body);
            }
        }
    }
}
