//! What a disk's driver does, written down: the inputs of the target `block`.
//!
//! The first byte of an input chooses the disk, the rest are steps of [`STEP_BYTES`]. Places and addresses count from
//! where the driver has its buffers.

/// A step as bytes: kind, a small number, a place, a length, an address or sector; little-endian.
pub const STEP_BYTES: usize = 16;

/// One thing the driver does, sensible or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Writes a request's header into a buffer.
    Header { place: u16, kind: u32, sector: u64 },
    /// Writes a segment of a discard or write-zeroes request into a buffer.
    Range { place: u16, flags: u8, sectors: u32, sector: u64 },
    /// Fills a buffer with bytes that no other seed gives.
    Fill { place: u16, seed: u8, length: u32 },
    /// Writes a descriptor into a buffer, for an indirect table. `next` and `flags` as on the wire.
    Entry { place: u16, flags: u8, next: u16, length: u32, address: u32 },
    /// Writes the next descriptor of the queue. `next`: 0 for the one that will be written next, else one more than
    /// what goes over the wire.
    Buffer { flags: u8, next: u16, length: u32, address: u64 },
    /// Makes a chain available: 0 for the one of all descriptors since the last time, else one more than its head.
    Offer { head: u16 },
    /// Has the device work.
    Kick,
    /// Resets the device and starts it again.
    Restart,
}

/// The choice of a disk, and the steps that `input` says, whatever it is; what is no whole step at the end is left out.
pub fn parse(input: &[u8]) -> (u8, impl Iterator<Item = Step>) {
    let (choice, steps) = input.split_first().unwrap_or((&0, &[]));
    (*choice, steps.as_chunks().0.iter().map(Step::parse))
}

/// The input that [`parse`] takes for this.
pub fn build(choice: u8, steps: impl IntoIterator<Item = Step>) -> Vec<u8> {
    [choice].into_iter().chain(steps.into_iter().flat_map(Step::to_bytes)).collect()
}

impl Step {
    fn parse(bytes: &[u8; STEP_BYTES]) -> Self {
        let &[kind, small, a, b, c, d, e, f, ref rest @ ..] = bytes;
        let (place, length) = (u16::from_le_bytes([a, b]), u32::from_le_bytes([c, d, e, f]));
        let (long, &[g, h, i, j, k, l, ..]) = (u64::from_le_bytes(*rest), rest);
        let (address, next) = (u32::from_le_bytes([g, h, i, j]), u16::from_le_bytes([k, l]));
        match kind % 8 {
            0 => Self::Header { place, kind: length, sector: long },
            1 => Self::Range { place, flags: small, sectors: length, sector: long },
            2 => Self::Fill { place, seed: small, length },
            3 => Self::Entry { place, flags: small, next, length, address },
            4 => Self::Buffer { flags: small, next: place, length, address: long },
            5 => Self::Offer { head: place },
            6 => Self::Kick,
            _ => Self::Restart,
        }
    }

    fn to_bytes(self) -> [u8; STEP_BYTES] {
        let (kind, small, place, length, long) = match self {
            Self::Header { place, kind, sector } => (0, 0, place, kind, sector),
            Self::Range { place, flags, sectors, sector } => (1, flags, place, sectors, sector),
            Self::Fill { place, seed, length } => (2, seed, place, length, 0),
            Self::Entry { place, flags, next, length, address } => {
                (3, flags, place, length, u64::from(address) | u64::from(next) << 32)
            }
            Self::Buffer { flags, next, length, address } => (4, flags, next, length, address),
            Self::Offer { head } => (5, 0, head, 0, 0),
            Self::Kick => (6, 0, 0, 0, 0),
            Self::Restart => (7, 0, 0, 0, 0),
        };
        let mut bytes = [kind, small, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&u16::to_le_bytes(place));
        bytes[4..8].copy_from_slice(&u32::to_le_bytes(length));
        bytes[8..].copy_from_slice(&u64::to_le_bytes(long));
        bytes
    }
}
