//! Request heads: what is refused early is refused as well when it is longer, and an answer is always whole.
#![no_main]

use corelay::wire::upgrade::{self, OriginPattern, UpgradeRules};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let rules = UpgradeRules {
        allowed_origins: vec![OriginPattern::parse("//*.example").expect("an origin")],
        development: true,
        echo: true,
    };
    let response = match upgrade::parse(bytes, &rules) {
        Ok(None) => return,
        Ok(Some((upgrade, consumed))) => {
            assert!(consumed <= bytes.len());
            assert_eq!(
                upgrade::parse(&bytes[..consumed - 1], &rules),
                Ok(None),
                "an upgrade needs its last byte"
            );
            upgrade.response()
        }
        Err(refusal) => {
            let longer = [bytes, b"GET / HTTP/1.1\r\n\r\n"].concat();
            assert!(upgrade::parse(&longer, &rules).is_err());
            refusal.response()
        }
    };
    assert!(response.starts_with(b"HTTP/1.1 "));
});
