//! What is being sent: buffers that belong to sends in flight and to nothing else, so that a connection that is silent has none.

/// A send in flight. Invariant: `sent <= bytes.len()`; the kernel may read `bytes[sent..]` until its completion.
#[derive(Default)]
struct Sending {
    bytes: Vec<u8>,
    sent: usize,
}

/// All sends of a ring, by index. A buffer keeps its memory for the next send.
#[derive(Default)]
pub(super) struct Sends {
    sends: Vec<Sending>,
    free: Vec<u32>,
}

impl Sends {
    /// Copies `bytes` to where they stay until `release`.
    pub(super) fn take(&mut self, bytes: &[u8]) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.sends.push(Sending::default());
            self.sends.len() as u32 - 1
        });
        let sending = &mut self.sends[index as usize];
        sending.bytes.clear();
        sending.bytes.extend_from_slice(bytes);
        sending.sent = 0;
        index
    }

    /// What the kernel has not taken.
    pub(super) fn unsent(&self, index: u32) -> &[u8] {
        let Sending { bytes, sent } = &self.sends[index as usize];
        &bytes[*sent..]
    }

    /// The kernel has taken so many bytes more.
    pub(super) fn advance(&mut self, index: u32, sent: usize) {
        let sending = &mut self.sends[index as usize];
        sending.sent += sent;
        debug_assert!(sending.sent <= sending.bytes.len(), "more was sent than there is");
    }

    /// Its completion is in: the buffer is free.
    pub(super) fn release(&mut self, index: u32) {
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_stays_where_it_is_while_others_come() {
        let mut sends = Sends::default();
        let first = sends.take(b"hello");
        let at = sends.unsent(first).as_ptr();
        let others: Vec<_> = (0..1000).map(|_| sends.take(b"x")).collect();
        assert_eq!((sends.unsent(first).as_ptr(), sends.unsent(first)), (at, &b"hello"[..]));
        sends.advance(first, 3);
        assert_eq!(sends.unsent(first), b"lo");
        others.into_iter().for_each(|index| sends.release(index));
        sends.take(b"y");
        assert_eq!(sends.sends.len(), 1001);
    }
}
