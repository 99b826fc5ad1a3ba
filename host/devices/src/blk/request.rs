//! What the driver asks for: bytes in, meaning out (virtio 1.2 section 5.2.6).

use super::config::{HOLE_SECTORS_MAX, HOLE_SEGMENTS_MAX};
use crate::chain::Bytes;
use virtio_bindings::virtio_blk as spec;

/// Length of the serial number that GET_ID answers with.
pub const SERIAL_BYTES: usize = spec::VIRTIO_BLK_ID_BYTES as usize;

/// `struct virtio_blk_req` up to its data: type, reserved, sector.
const HEADER_BYTES: usize = 16;
/// `struct virtio_blk_discard_write_zeroes`: sector, number of sectors, flags.
const RANGE_BYTES: usize = 16;

/// Sectors to be cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub sector: u64,
    pub sectors: u32,
    pub flags: u32,
}

/// One request, its data left in the chain.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    In { sector: u64 },
    Out { sector: u64 },
    Flush,
    GetId,
    Discard(Vec<Range>),
    WriteZeroes(Vec<Range>),
    Unknown(u32),
}

/// The request is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invalid {
    ShortHeader,
    /// Not whole ranges, too many of them, or one too long.
    BadRanges,
}

impl Request {
    /// Takes the header, and the ranges if there are any, off the front of `readable`.
    pub fn parse(readable: &mut Bytes<'_>) -> Result<Self, Invalid> {
        let header: [u8; HEADER_BYTES] = readable.take().ok_or(Invalid::ShortHeader)?;
        let [kind, _reserved, low, high] = words(header);
        let sector = u64::from(low) | u64::from(high) << 32;
        Ok(match kind {
            spec::VIRTIO_BLK_T_IN => Self::In { sector },
            spec::VIRTIO_BLK_T_OUT => Self::Out { sector },
            spec::VIRTIO_BLK_T_FLUSH => Self::Flush,
            spec::VIRTIO_BLK_T_GET_ID => Self::GetId,
            spec::VIRTIO_BLK_T_DISCARD => Self::Discard(ranges(readable)?),
            spec::VIRTIO_BLK_T_WRITE_ZEROES => Self::WriteZeroes(ranges(readable)?),
            other => Self::Unknown(other),
        })
    }
}

fn ranges(readable: &mut Bytes<'_>) -> Result<Vec<Range>, Invalid> {
    let count = readable.len() / RANGE_BYTES;
    let too_many = count > HOLE_SEGMENTS_MAX as usize;
    if too_many || count == 0 || !readable.len().is_multiple_of(RANGE_BYTES) {
        return Err(Invalid::BadRanges);
    }
    (0..count).map(|_| range(readable)).collect()
}

fn range(readable: &mut Bytes<'_>) -> Result<Range, Invalid> {
    let [low, high, sectors, flags] = words(readable.take().ok_or(Invalid::BadRanges)?);
    let range = Range { sector: u64::from(low) | u64::from(high) << 32, sectors, flags };
    if sectors <= HOLE_SECTORS_MAX { Ok(range) } else { Err(Invalid::BadRanges) }
}

fn words(bytes: [u8; 16]) -> [u32; 4] {
    let word = |index: usize| {
        let at = index * 4;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    [word(0), word(1), word(2), word(3)]
}
