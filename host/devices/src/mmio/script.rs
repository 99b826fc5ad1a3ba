//! What a driver may do to a device, written down: for tests and fuzzing, whose inputs it is.

use super::MmioTransport;
use crate::GuestMemoryMmap;
use vm_memory::{Bytes, GuestAddress};

/// One thing a driver does, sensible or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reads so many bytes of registers.
    Read {
        /// From where on.
        offset: u16,
        /// How many.
        size: u8,
    },
    /// Writes to registers.
    Write {
        /// From where on.
        offset: u16,
        /// Little-endian, of which `size` bytes are written.
        value: u64,
        /// How many bytes, at most those of `value`.
        size: u8,
    },
    /// Changes eight bytes of its memory, where it has some.
    Store {
        /// Where, in units of eight bytes.
        place: u16,
        /// What, little-endian.
        value: u64,
    },
    /// Kicks a queue, or something came from outside.
    Work,
}

/// A step as bytes: kind, size, offset or place, value.
pub const STEP_BYTES: usize = 12;

/// The steps that `bytes` say, whatever they are; what is no whole step at the end is left out.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Step> {
    bytes.as_chunks().0.iter().map(Step::parse)
}

impl Step {
    /// Kinds beyond those there are count as writes, which lead furthest.
    fn parse(&[kind, size, ref rest @ ..]: &[u8; STEP_BYTES]) -> Self {
        let &[a, b, ref value @ ..] = rest;
        let (place, value) = (u16::from_le_bytes([a, b]), u64::from_le_bytes(*value));
        match kind {
            0 => Self::Work,
            1 => Self::Read { offset: place, size },
            2 => Self::Store { place, value },
            _ => Self::Write { offset: place, value, size: size.min(8) },
        }
    }

    /// The bytes that [`parse`] takes for this step.
    pub fn to_bytes(self) -> [u8; STEP_BYTES] {
        let (kind, size, place, value) = match self {
            Self::Work => (0, 0, 0, 0),
            Self::Read { offset, size } => (1, size, offset, 0),
            Self::Store { place, value } => (2, 0, place, value),
            Self::Write { offset, value, size } => (3, size, offset, value),
        };
        let [a, b] = place.to_le_bytes();
        let [c, d, e, f, g, h, i, j] = u64::to_le_bytes(value);
        [kind, size, a, b, c, d, e, f, g, h, i, j]
    }

    /// Does it.
    pub fn take(self, transport: &MmioTransport, memory: &GuestMemoryMmap) {
        match self {
            Self::Work => transport.work(memory),
            Self::Read { offset, size } => transport.read(offset.into(), &mut vec![0; size.into()]),
            Self::Write { offset, value, size } => {
                transport.write(memory, offset.into(), &value.to_le_bytes()[..usize::from(size.min(8))]);
            }
            Self::Store { place, value } => {
                // Where the driver has no memory, it cannot change any.
                let _ = memory.write_obj(value.to_le(), GuestAddress(u64::from(place) * 8));
            }
        }
    }
}
