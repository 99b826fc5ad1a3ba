//! Descriptor chains as what they mean: bytes to read, then bytes to write.
//!
//! How a driver cuts its buffers is its own affair (virtio 1.2 section 2.7.4, "message framing"):
//! a header may share a descriptor with data or be spread over several. So nothing here looks at
//! single descriptors after [`Chain::collect`].

use crate::GuestMemoryMmap;
use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory, Permissions, VolatileSlice};

/// Why a chain is no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It loops, is cut short, or leaves the descriptor table.
    Broken,
    /// A buffer outside guest memory.
    OutsideMemory,
    /// A readable descriptor behind a writable one.
    OutOfOrder,
}

/// One request of the driver.
#[derive(Debug)]
pub(crate) struct Chain<'m> {
    /// What the driver knows it by.
    pub head: u16,
    /// The driver's bytes.
    pub readable: Bytes<'m>,
    /// Room for ours.
    pub writable: Bytes<'m>,
}

impl<'m> Chain<'m> {
    /// Resolves all descriptors of a chain.
    pub fn collect(
        memory: &'m GuestMemoryMmap,
        descriptors: DescriptorChain<&'m GuestMemoryMmap>,
    ) -> Result<Self, Malformed> {
        let head = descriptors.head_index();
        let mut chain = Self { head, readable: Bytes::default(), writable: Bytes::default() };
        // The iterator ends quietly at a bad index or after as many steps as there are descriptors.
        let mut ended = false;
        for descriptor in descriptors {
            let (part, access) = match (descriptor.is_write_only(), chain.writable.is_empty()) {
                (true, _) => (&mut chain.writable, Permissions::Write),
                (false, true) => (&mut chain.readable, Permissions::Read),
                (false, false) => return Err(Malformed::OutOfOrder),
            };
            let length = usize::try_from(descriptor.len()).expect("usize has 32 bits");
            let slices = memory.get_slices(descriptor.addr(), length, access);
            for slice in slices.map_err(|_| Malformed::OutsideMemory)? {
                part.push(slice.map_err(|_| Malformed::OutsideMemory)?);
            }
            ended = !descriptor.has_next();
        }
        if ended { Ok(chain) } else { Err(Malformed::Broken) }
    }
}

/// A sequence of bytes in guest memory, taken from the front.
#[derive(Debug, Default)]
pub(crate) struct Bytes<'m> {
    slices: Vec<VolatileSlice<'m>>,
    length: usize,
}

impl<'m> Bytes<'m> {
    /// Appends a slice. A chain is at most 2^32 bytes long, so the sum fits.
    pub fn push(&mut self, slice: VolatileSlice<'m>) {
        self.length += slice.len();
        self.slices.push(slice);
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What is left, piece by piece.
    pub fn slices(&self) -> &[VolatileSlice<'m>] {
        &self.slices
    }

    /// Takes the first `count` bytes, or `None` (and nothing is taken) when there are fewer.
    pub fn split_to(&mut self, count: usize) -> Option<Self> {
        let rest = self.length.checked_sub(count)?;
        let mut front = Self::default();
        let mut whole = 0;
        for slice in &self.slices {
            let wanted = count - front.length;
            if slice.len() > wanted {
                front.push(slice.subslice(0, wanted).ok()?);
                break;
            }
            whole += 1;
            front.push(*slice);
        }
        let cut = front.slices[whole..].first().map_or(0, VolatileSlice::len);
        self.slices.drain(..whole);
        if let Some(first) = self.slices.first_mut() {
            *first = first.offset(cut).ok()?;
        }
        self.length = rest;
        Some(front)
    }

    /// Takes `N` bytes as a value.
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut value = [0; N];
        self.split_to(N)?.copy_to(&mut value);
        Some(value)
    }

    /// Copies from the front into `buffer`, as much as fits; nothing is taken.
    pub fn copy_to(&self, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in &self.slices {
            done += slice.copy_to(&mut buffer[done..]);
        }
        done
    }

    /// Copies `bytes` to the front, as much as fits; nothing is taken.
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for slice in &self.slices {
            let count = slice.len().min(bytes.len() - done);
            slice.copy_from(&bytes[done..done + count]);
            done += count;
        }
        done
    }
}
