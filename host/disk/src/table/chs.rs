//! Cylinders, heads and sectors: where BIOSes without LBA look.

use super::error::Problem;
use super::request::SECTOR_BYTES;
use crate::Error;

/// How many heads and sectors a disk is said to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    heads: u8,
    sectors_per_track: u8,
}

impl Default for Geometry {
    /// 255 heads of 63 sectors, to which BIOSes translate any large disk.
    fn default() -> Self {
        Self { heads: 255, sectors_per_track: MAX_SECTORS }
    }
}

/// A sector has six bits.
const MAX_SECTORS: u8 = 63;
/// A cylinder has ten bits.
const CYLINDERS: u64 = 1024;

impl Geometry {
    /// 1 to 255 heads of 1 to 63 sectors.
    ///
    /// # Errors
    /// When there cannot be so many.
    pub fn new(heads: u32, sectors_per_track: u32) -> Result<Self, Error> {
        let heads_byte = u8::try_from(heads).ok().filter(|heads| *heads > 0);
        let sectors = u8::try_from(sectors_per_track).ok().filter(|count| (1..=MAX_SECTORS).contains(count));
        match (heads_byte, sectors) {
            (Some(heads), Some(sectors_per_track)) => Ok(Self { heads, sectors_per_track }),
            _ => Err(Problem::Geometry { heads, sectors_per_track }.into()),
        }
    }

    /// How many heads.
    pub fn heads(self) -> u8 {
        self.heads
    }

    /// Sectors that one head sees of one cylinder.
    pub fn sectors_per_track(self) -> u8 {
        self.sectors_per_track
    }

    /// Bytes of a track.
    pub(super) fn track_bytes(self) -> u64 {
        u64::from(self.sectors_per_track) * SECTOR_BYTES
    }

    /// Bytes of a cylinder.
    pub(super) fn cylinder_bytes(self) -> u64 {
        u64::from(self.heads) * self.track_bytes()
    }

    /// The three bytes of a table's entry for a sector: head, sector with the high bits of the cylinder, cylinder. Behind the
    /// last cylinder that these can name stands the last sector of that cylinder, as sfdisk has it.
    pub(super) fn address(self, sector: u64) -> [u8; 3] {
        let (heads, sectors) = (u64::from(self.heads), u64::from(self.sectors_per_track));
        let sector = sector.min(heads * sectors * CYLINDERS - 1);
        let (track, sector) = (sector / sectors, sector % sectors + 1);
        let (cylinder, head) = (track / heads, track % heads);
        [head as u8, sector as u8 | (cylinder >> 2 & 0xc0) as u8, cylinder as u8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let usual = Geometry::default();
        for (sector, expected) in [
            (0, [0, 1, 0]),
            (1, [0, 2, 0]),
            (63, [1, 1, 0]),
            (2048, [0x20, 0x21, 0]),
            (16_064, [254, 63, 0]),
            (16_065, [0, 1, 1]),
            (256 * 16_065, [0, 0x41, 0]),
            (1024 * 16_065 - 1, [0xfe, 0xff, 0xff]),
            (u64::MAX, [0xfe, 0xff, 0xff]),
        ] {
            assert_eq!(usual.address(sector), expected, "sector {sector}");
        }
        assert_eq!(Geometry::new(16, 32).unwrap().address(512), [0, 1, 1]);
    }

    #[test]
    fn geometries_that_cannot_be() {
        for (heads, sectors) in [(0, 63), (256, 63), (255, 0), (255, 64)] {
            assert_eq!(
                Geometry::new(heads, sectors).unwrap_err().to_string(),
                format!(
                    "a geometry of {heads} heads and {sectors} sectors per track: it must have 1 to 255 heads and 1 to 63 sectors"
                )
            );
        }
    }
}
