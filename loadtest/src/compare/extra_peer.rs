//! `--peer`: a server that somebody else has started.

use std::str::FromStr;

/// `--peer NAME=URL` or `NAME=URL@PID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraPeer {
    pub name: String,
    pub url: String,
    /// Its process, if it runs on this machine.
    pub pid: Option<u32>,
}

impl FromStr for ExtraPeer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "it must be NAME=ws://HOST:PORT or NAME=ws://HOST:PORT@PID".to_owned();
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            return Err("NAME must be letters, digits, '-' and '_'".to_owned());
        }
        let (url, pid) = match rest.rsplit_once('@') {
            None => (rest, None),
            Some((url, pid)) => (url, Some(pid.parse().map_err(|_| format!("'{pid}' is no process id"))?)),
        };
        if !url.starts_with("ws://") {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), url: url.to_owned(), pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_a_url_and_perhaps_a_process() {
        let peer = |text: &str| text.parse::<ExtraPeer>();
        let url = "ws://10.0.0.1:9000".to_owned();
        assert_eq!(
            peer("go=ws://10.0.0.1:9000"),
            Ok(ExtraPeer { name: "go".into(), url: url.clone(), pid: None })
        );
        assert_eq!(peer("go=ws://10.0.0.1:9000@42"), Ok(ExtraPeer { name: "go".into(), url, pid: Some(42) }));
        for bad in [
            "ws://10.0.0.1:9000",
            "=ws://a:1",
            "a b=ws://a:1",
            "a.b=ws://a:1",
            "go=http://a:1",
            "go=ws://a:1@x",
        ] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }
}
