//! One client's TLS, as bytes. Sans I/O.

use std::io::{Read, Write};
use std::sync::Arc;

use anyhow::Context;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore};

/// Whom clients believe, and which name they ask for.
#[derive(Clone, Debug)]
pub struct Trust {
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
}

impl Trust {
    /// `pem`: the certificates that may sign the relay's, or that one itself. `host`: a name or an address.
    pub fn new(pem: &[u8], host: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.context("no PEM")?).context("a certificate that cannot be used")?;
        }
        anyhow::ensure!(!roots.is_empty(), "there is no certificate in it (-----BEGIN CERTIFICATE-----)");
        let mut provider = aws_lc_rs::default_provider();
        // As in browsers AES with 128 bits comes first.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        let host = ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no name"))?;
        Ok(Self { config: Arc::new(config), host })
    }

    pub fn begin(&self) -> Secure {
        let mut tls = ClientConnection::new(self.config.clone(), self.host.clone())
            .expect("the configuration has versions and ciphers");
        tls.set_buffer_limit(None);
        Secure { tls, unsent: Vec::new() }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub struct Secure {
    tls: ClientConnection,
    unsent: Vec<u8>,
}

impl Secure {
    /// Says `plain`: at once, or when the handshake is done.
    pub fn seal(&mut self, plain: &[u8]) {
        self.tls.writer().write_all(plain).expect("its buffer has no limit");
        self.write();
    }

    /// Takes what has come, and appends what it says to `plain`. An error ends the connection.
    pub fn open(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).map_err(|error| format!("TLS: {error}"))?;
            let state = self.tls.process_new_packets().map_err(|error| format!("TLS: {error}"));
            let unread = state?.plaintext_bytes_to_read();
            let before = plain.len();
            plain.resize(before + unread, 0);
            self.tls.reader().read_exact(&mut plain[before..]).map_err(|error| format!("TLS: {error}"))?;
        }
        self.write();
        Ok(())
    }

    /// What is to be sent, in order.
    pub fn take_unsent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unsent)
    }

    fn write(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.unsent).expect("a Vec takes everything");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_wait_for_the_handshake_and_nonsense_ends_it() {
        let pem = include_bytes!("secure/localhost.crt");
        let mut client = Trust::new(pem, "localhost").unwrap().begin();
        client.seal(b"GET / HTTP/1.1\r\n\r\n");
        let hello = client.take_unsent();
        assert!(hello[0] == 22 && !hello.windows(3).any(|bytes| bytes == b"GET"), "{hello:?}");
        assert!(client.take_unsent().is_empty());
        let mut plain = Vec::new();
        let outcome = client.open(b"HTTP/1.1 400 Bad Request\r\n\r\n", &mut plain);
        assert!(outcome.unwrap_err().starts_with("TLS: ") && plain.is_empty());
    }

    #[test]
    fn whom_to_believe_must_be_said() {
        assert!(Trust::new(b"", "localhost").unwrap_err().to_string().contains("no certificate"));
        let pem = include_bytes!("secure/localhost.crt");
        assert!(Trust::new(pem, "no name").unwrap_err().to_string().contains("no name"));
    }
}
