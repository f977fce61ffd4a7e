//! What passes between a client and its socket: as it is, or through TLS.

use std::io;

use super::Crowd;

impl Crowd {
    /// Sends `bytes` on a connection whose socket is free.
    pub(super) fn send(&mut self, slot: u32, bytes: &[u8]) -> io::Result<()> {
        let connection = &mut self.connections[slot as usize];
        connection.sending = true;
        let Some(tls) = &mut connection.tls else { return self.ring.send(slot, bytes) };
        tls.seal(bytes);
        self.send_unsent(slot)
    }

    /// Sends what TLS has to say, on a connection whose socket is free. Returns whether there was something.
    pub(super) fn flush(&mut self, slot: u32) -> io::Result<bool> {
        self.send_unsent(slot)?;
        Ok(self.connections[slot as usize].sending)
    }

    fn send_unsent(&mut self, slot: u32) -> io::Result<()> {
        let connection = &mut self.connections[slot as usize];
        let unsent = connection.tls.as_mut().map(|tls| tls.take_unsent()).unwrap_or_default();
        connection.sending = !unsent.is_empty();
        if unsent.is_empty() { Ok(()) } else { self.ring.send(slot, &unsent) }
    }
}
