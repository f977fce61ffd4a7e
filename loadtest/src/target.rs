//! Where the relay is: `ws://host:port` or `wss://host:port`, and its metrics beside it.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;

use anyhow::{Context, bail};

use crate::secure::Trust;

/// Port of the relay's admin listener, unless told otherwise.
const ADMIN_PORT: u16 = 4001;

#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port`, as the `Host` header says it.
    pub authority: String,
    pub address: SocketAddr,
    /// With `wss://`: whom its clients believe.
    pub trust: Option<Trust>,
}

impl Target {
    /// Reads `ws://host:port` or `wss://host:port` (nothing behind it but a slash) and resolves the host. Of several addresses it is
    /// the first that somebody listens on, IPv4 before IPv6. `ca`: the certificates that a client of `wss://` believes.
    pub fn parse(url: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let (rest, port) = match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
            (Some(rest), _) => (rest, 80),
            (None, Some(rest)) => (rest, 443),
            (None, None) => {
                bail!("--url {url}: it must look like ws://127.0.0.1:4000, or wss:// with --tls-ca")
            }
        };
        let authority = rest.trim_end_matches('/');
        let trust = match ca {
            None if port == 443 => bail!(
                "--url {url}: say with --tls-ca FILE whom to believe: the relay's own certificate (PEM), or those of an authority, \
                 such as /etc/ssl/certs/ca-certificates.crt"
            ),
            Some(ca) if port == 443 => Some(trust(ca, authority)?),
            Some(_) => bail!("--tls-ca belongs to a relay with TLS: --url wss://…"),
            None => None,
        };
        if authority.contains('/') {
            bail!("--url {url}: the path is the load test's own (/play/…); give ws://host:port only");
        }
        let addresses = authority.to_socket_addrs().or_else(|_| (authority, port).to_socket_addrs());
        let mut addresses: Vec<_> =
            addresses.with_context(|| format!("--url {url}: it is no host:port"))?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let address = reachable(&addresses).with_context(|| format!("--url {url}: no address"))?;
        Ok(Self { authority: authority.to_owned(), address, trust })
    }

    /// Where the metrics are if nobody says: the same host, port 4001.
    pub fn default_metrics_url(&self) -> String {
        let host = match self.authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => &self.authority,
        };
        format!("http://{host}:{ADMIN_PORT}/metrics")
    }
}

fn trust(ca: &Path, authority: &str) -> anyhow::Result<Trust> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    let pem = std::fs::read(ca).with_context(|| format!("--tls-ca {}", ca.display()))?;
    Trust::new(&pem, host).with_context(|| format!("--tls-ca {}", ca.display()))
}

/// The first address that takes a connection. If none does it is the first of all: the run then says what is wrong with it.
fn reachable(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let first = addresses.first().copied();
    if addresses.len() < 2 {
        return first;
    }
    TcpStream::connect(addresses).and_then(|stream| stream.peer_addr()).ok().or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_relay_and_its_metrics() {
        let target = Target::parse("ws://127.0.0.1:4000/", None).unwrap();
        assert_eq!(target.address, "127.0.0.1:4000".parse().unwrap());
        assert_eq!(target.authority, "127.0.0.1:4000");
        assert_eq!(target.default_metrics_url(), "http://127.0.0.1:4001/metrics");
        assert_eq!(Target::parse("ws://127.0.0.1", None).unwrap().address.port(), 80);
        assert_eq!(
            Target::parse("ws://[::1]:4000", None).unwrap().default_metrics_url(),
            "http://[::1]:4001/metrics"
        );
    }

    #[test]
    fn the_first_address_that_answers_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        // Nobody listens on it: it is a port of a service that no machine has.
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(reachable(&[closed, open]), Some(open));
        assert_eq!(reachable(&[closed, closed]), Some(closed));
        assert_eq!(reachable(&[closed]), Some(closed));
    }

    #[test]
    fn another_scheme_and_a_path_are_refused_with_what_is_right() {
        for bad in ["http://127.0.0.1:4000", "ws://127.0.0.1:4000/play/x"] {
            assert!(Target::parse(bad, None).unwrap_err().to_string().contains("ws://"), "{bad}");
        }
        let told = |url, ca: Option<&str>| Target::parse(url, ca.map(Path::new)).unwrap_err().to_string();
        assert!(told("wss://127.0.0.1", None).contains("--tls-ca FILE"));
        assert!(told("wss://127.0.0.1", Some("/nowhere")).contains("--tls-ca /nowhere"));
        assert!(told("ws://127.0.0.1", Some("/nowhere")).contains("--url wss://"));
    }
}
