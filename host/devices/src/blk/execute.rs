//! Doing what a request asks for.

use super::BlkOptions;
use super::request::{Range, Request, SERIAL_BYTES};
use crate::chain::{Bytes, Chain};
use crate::{SECTOR_BYTES, Storage};
use virtio_bindings::virtio_blk as spec;

/// The byte every request ends with.
const STATUS_BYTES: usize = 1;

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Io,
    Unsupported,
}

pub(super) struct Disk<'a> {
    pub storage: &'a dyn Storage,
    pub options: &'a BlkOptions,
}

impl Disk<'_> {
    /// Executes the request in `chain` and writes its status. Gives the bytes written, `None` when
    /// there is not even room for the status.
    pub fn serve(&self, chain: &mut Chain<'_>) -> Option<u32> {
        let room = chain.writable.len().checked_sub(STATUS_BYTES)?;
        let data = chain.writable.split_to(room)?;
        let (status, written) = match self.execute(&mut chain.readable, &data) {
            Ok(written) => (spec::VIRTIO_BLK_S_OK, written),
            Err(Failure::Io) => (spec::VIRTIO_BLK_S_IOERR, room),
            Err(Failure::Unsupported) => (spec::VIRTIO_BLK_S_UNSUPP, room),
        };
        chain.writable.copy_from(&[u8::try_from(status).expect("a status is a byte")]);
        u32::try_from(written + STATUS_BYTES).ok()
    }

    /// Gives the bytes written into `data_in`.
    fn execute(&self, readable: &mut Bytes<'_>, data_in: &Bytes<'_>) -> Result<usize, Failure> {
        match Request::parse(readable).map_err(|_| Failure::Io)? {
            Request::In { sector } => self.read(sector, data_in),
            Request::Out { sector } => self.write(sector, readable),
            Request::Flush => self.flush(),
            Request::GetId => self.serial(data_in),
            Request::Discard(ranges) => self.clear(&ranges, 0),
            Request::WriteZeroes(ranges) => self.clear(&ranges, spec::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
            Request::Unknown(_) => Err(Failure::Unsupported),
        }
    }

    fn read(&self, sector: u64, data: &Bytes<'_>) -> Result<usize, Failure> {
        let offset = self.offset(sector, data.len() as u64)?;
        self.storage.read_at(data.slices(), offset).map_err(|_| Failure::Io)?;
        Ok(data.len())
    }

    fn write(&self, sector: u64, data: &Bytes<'_>) -> Result<usize, Failure> {
        self.writing()?;
        let offset = self.offset(sector, data.len() as u64)?;
        self.storage.write_at(data.slices(), offset).map_err(|_| Failure::Io)?;
        Ok(0)
    }

    fn flush(&self) -> Result<usize, Failure> {
        if !self.options.flush {
            return Err(Failure::Unsupported);
        }
        self.storage.flush().map_err(|_| Failure::Io)?;
        Ok(0)
    }

    /// The serial number, filled up with zeroes; without a final zero when it is just as long.
    fn serial(&self, data: &Bytes<'_>) -> Result<usize, Failure> {
        let mut serial = [0; SERIAL_BYTES];
        let given = self.options.serial.as_bytes();
        let length = given.len().min(SERIAL_BYTES);
        serial[..length].copy_from_slice(&given[..length]);
        Ok(data.copy_from(&serial))
    }

    /// Discards, or zeroes, which is the same here: what is discarded reads as zeroes.
    fn clear(&self, ranges: &[Range], known_flags: u32) -> Result<usize, Failure> {
        self.writing()?;
        for range in ranges {
            if range.flags & !known_flags != 0 {
                return Err(Failure::Unsupported);
            }
            let length = u64::from(range.sectors) * SECTOR_BYTES;
            let offset = self.offset(range.sector, length)?;
            self.storage.punch_hole(offset, length).map_err(|_| Failure::Io)?;
        }
        Ok(0)
    }

    fn writing(&self) -> Result<(), Failure> {
        if self.options.read_only { Err(Failure::Io) } else { Ok(()) }
    }

    /// Where `length` bytes from `sector` on are, if they are whole sectors on the disk.
    fn offset(&self, sector: u64, length: u64) -> Result<u64, Failure> {
        let capacity = self.storage.len() / SECTOR_BYTES * SECTOR_BYTES;
        let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Failure::Io)?;
        let end = offset.checked_add(length).ok_or(Failure::Io)?;
        if length.is_multiple_of(SECTOR_BYTES) && end <= capacity { Ok(offset) } else { Err(Failure::Io) }
    }
}
