//! The receive buffers: known by index, each with an owner. They are allocated when they are needed first. The one that came back
//! last is lent first, so a loop that gives each back before it asks for the next uses a single one.

use crate::limits::RECEIVE_BUFFER_BYTES;
use crate::memory::Allocated;
use crate::rim::driver::Lent;

type Memory = Box<[u8]>;

/// Who may touch a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Driver,
    Core,
}

#[derive(Debug)]
struct Buffer {
    owner: Owner,
    /// `None`: not needed yet.
    memory: Option<Memory>,
}

/// The receive buffers of one driver.
pub(super) struct Buffers {
    buffers: Vec<Buffer>,
    /// The driver's; the last one is lent next.
    free: Vec<u16>,
}

impl Buffers {
    pub(super) fn new(count: u16) -> Self {
        let buffers = (0..count).map(|_| Buffer { owner: Owner::Driver, memory: None }).collect();
        Self { buffers, free: (0..count).rev().collect() }
    }

    /// Has `fill` write to a free buffer, and lends it if that returns how many bytes it wrote, at least one. `None`: none is free.
    pub(super) fn fill<E>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Option<Result<Option<Lent>, E>> {
        let id = *self.free.last()?;
        let buffer = &mut self.buffers[usize::from(id)];
        let memory =
            buffer.memory.get_or_insert_with(|| vec![0; RECEIVE_BUFFER_BYTES as usize].into_boxed_slice());
        let bytes = match fill(memory) {
            Ok(0) => return Some(Ok(None)),
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(error)),
        };
        buffer.owner = Owner::Core;
        self.free.pop();
        Some(Ok(Some(Lent { buffer: id, bytes: bytes as u16 })))
    }

    pub(super) fn bytes(&mut self, lent: &Lent) -> &mut [u8] {
        let Buffer { owner, memory } = &mut self.buffers[usize::from(lent.buffer)];
        assert_eq!(
            *owner,
            Owner::Core,
            "receive buffer {} is read by somebody who does not have it",
            lent.buffer
        );
        &mut memory.as_mut().expect("a lent buffer has memory")[..usize::from(lent.bytes)]
    }

    #[allow(clippy::needless_pass_by_value, reason = "whoever gives a buffer back has it no more")]
    pub(super) fn release(&mut self, lent: Lent) {
        let owner = &mut self.buffers[usize::from(lent.buffer)].owner;
        assert_eq!(
            *owner,
            Owner::Core,
            "receive buffer {} is released by somebody who does not have it",
            lent.buffer
        );
        *owner = Owner::Driver;
        self.free.push(lent.buffer);
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Gives the memory of all that are free back.
    pub(super) fn give_back(&mut self) {
        self.free.iter().for_each(|id| self.buffers[usize::from(*id)].memory = None);
    }

    /// User memory, in bytes; see `memory`.
    pub(super) fn heap_bytes(&self) -> usize {
        let used = self.buffers.iter().map(|buffer| buffer.memory.allocated_bytes());
        used.sum::<usize>() + self.buffers.allocated_bytes() + self.free.allocated_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &mut Buffers, byte: u8) -> Lent {
        let fill = |memory: &mut [u8]| {
            memory[..2].fill(byte);
            Ok::<_, ()>(2)
        };
        buffers.fill(fill).unwrap().unwrap().unwrap()
    }

    #[test]
    fn a_buffer_that_came_back_is_the_next_and_others_take_no_memory() {
        let mut buffers = Buffers::new(64);
        let empty = buffers.heap_bytes();
        for byte in 0..10 {
            let lent = filled(&mut buffers, byte);
            assert_eq!(buffers.bytes(&lent), [byte; 2]);
            assert_eq!(buffers.free(), 63);
            buffers.release(lent);
        }
        assert_eq!(buffers.heap_bytes(), empty + 4096);
        buffers.give_back();
        assert_eq!(buffers.heap_bytes(), empty);
    }

    #[test]
    fn without_bytes_nothing_is_lent_and_without_a_free_buffer_nobody_is_asked() {
        let mut buffers = Buffers::new(1);
        assert_eq!(buffers.fill(|_| Ok::<_, ()>(0)), Some(Ok(None)));
        assert_eq!(buffers.fill(|_| Err("no")), Some(Err("no")));
        assert_eq!(buffers.free(), 1);
        let lent = filled(&mut buffers, 1);
        assert_eq!(buffers.fill(|_| -> Result<usize, ()> { unreachable!() }), None);
        buffers.release(lent);
    }

    #[test]
    #[should_panic(expected = "by somebody who does not have it")]
    fn a_buffer_is_not_released_twice() {
        let mut buffers = Buffers::new(8);
        let Lent { buffer, bytes } = filled(&mut buffers, 1);
        buffers.release(Lent { buffer, bytes });
        buffers.release(Lent { buffer, bytes });
    }
}
