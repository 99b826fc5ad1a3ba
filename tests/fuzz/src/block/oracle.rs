//! What a disk must do with a chain, said a second time and in the simplest way: over a copy of memory and disk.

use super::{AREA_BYTES, SERIAL};
use crate::board::{BUFFERS, DESCRIPTOR_BYTES, INDIRECT, NEXT, QUEUE_SIZE, WRITE, addresses};
use virtio_bindings::virtio_blk as spec;

const SECTOR_BYTES: u64 = 512;
const HEADER_BYTES: usize = 16;
const RANGE_BYTES: usize = 16;
/// As the configuration space says.
const RANGES_MAX: usize = 16;
const RANGE_SECTORS_MAX: u64 = 1 << 21;

/// A disk and its driver's memory as they should be.
pub struct Oracle {
    pub disk: Vec<u8>,
    /// From address 0 on.
    pub memory: Vec<u8>,
    pub read_only: bool,
    pub flush: bool,
}

/// A status other than success.
type Failure = u32;

/// Bytes of memory, piece by piece. A chain may name the same ones again and again, so they are not listed.
#[derive(Default)]
struct Places(Vec<std::ops::Range<usize>>);

impl Places {
    fn len(&self) -> usize {
        self.0.iter().map(ExactSizeIterator::len).sum()
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().cloned().flatten()
    }

    /// Takes the last one away.
    fn pop(&mut self) -> Option<usize> {
        self.0.iter_mut().rev().find_map(|piece| piece.next_back())
    }
}

impl Oracle {
    /// The used length of the chain from `head` on; it is done.
    pub fn serve(&mut self, head: u16) -> u32 {
        let Some((readable, mut writable)) = self.flatten(head) else { return 0 };
        let Some(status_place) = writable.pop() else { return 0 };
        let room = writable.len();
        let (status, written) = match self.execute(&readable, &writable) {
            Ok(written) => (spec::VIRTIO_BLK_S_OK, written),
            Err(failure) => (failure, room),
        };
        self.memory[status_place] = u8::try_from(status).expect("a byte");
        u32::try_from(written).expect("memory is small") + 1
    }

    /// What the chain reads and what it writes; `None` when it is malformed.
    fn flatten(&self, head: u16) -> Option<(Places, Places)> {
        let (mut table, mut size, mut index) = (addresses(0)[0], u32::from(QUEUE_SIZE), u32::from(head));
        let (mut readable, mut writable) = (Places::default(), Places::default());
        let (mut steps, mut in_indirect) = (0, false);
        loop {
            if index >= size || steps >= size {
                return None;
            }
            let (addr, len, flags, next) =
                self.descriptor(table.checked_add(u64::from(index) * DESCRIPTOR_BYTES)?)?;
            if flags & INDIRECT != 0 {
                if in_indirect || !u64::from(len).is_multiple_of(DESCRIPTOR_BYTES) {
                    return None;
                }
                (table, size, index) = (addr, len / DESCRIPTOR_BYTES as u32, 0);
                size = u16::try_from(size).ok()?.into();
                (steps, in_indirect) = (0, true);
                continue;
            }
            let places = self.places(addr, len)?;
            match flags & WRITE != 0 {
                true => writable.0.push(places),
                false if writable.len() == 0 => readable.0.push(places),
                false => return None,
            }
            if flags & NEXT == 0 {
                return Some((readable, writable));
            }
            (index, steps) = (next.into(), steps + 1);
        }
    }

    fn descriptor(&self, address: u64) -> Option<(u64, u32, u16, u16)> {
        let at = usize::try_from(address).ok()?;
        let bytes = self.memory.get(at..at.checked_add(16)?)?;
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Some((word(bytes, 0) | word(bytes, 4) << 32, word(bytes, 8) as u32, half(12), half(14)))
    }

    /// No bytes are anywhere.
    fn places(&self, addr: u64, len: u32) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(addr).ok().or((len == 0).then_some(0))?;
        let end = start.checked_add(len as usize).or((len == 0).then_some(0))?;
        (len == 0 || end <= self.memory.len()).then_some(start..end)
    }

    /// Gives how many of the places `room` are filled.
    fn execute(&mut self, readable: &Places, room: &Places) -> Result<usize, Failure> {
        // No more than can make sense.
        let sent = readable.iter().take(HEADER_BYTES + self.disk.len() + 1);
        let sent: Vec<u8> = sent.map(|place| self.memory[place]).collect();
        let (header, data) = sent.split_at_checked(HEADER_BYTES).ok_or(spec::VIRTIO_BLK_S_IOERR)?;
        let (kind, sector) = (word(header, 0) as u32, word(header, 8) | word(header, 12) << 32);
        match kind {
            spec::VIRTIO_BLK_T_IN => {
                let disk = self.within(sector, room.len() as u64)?;
                Ok(fill(&mut self.memory, room, &self.disk[disk]))
            }
            spec::VIRTIO_BLK_T_OUT => {
                let length = (readable.len() - HEADER_BYTES) as u64;
                let disk = self.changing().and_then(|()| self.within(sector, length))?;
                self.disk[disk].copy_from_slice(data);
                Ok(0)
            }
            spec::VIRTIO_BLK_T_FLUSH if self.flush => Ok(0),
            spec::VIRTIO_BLK_T_GET_ID => {
                let mut serial = [0; spec::VIRTIO_BLK_ID_BYTES as usize];
                serial[..SERIAL.len()].copy_from_slice(SERIAL.as_bytes());
                Ok(fill(&mut self.memory, room, &serial))
            }
            spec::VIRTIO_BLK_T_DISCARD => self.clear(data, 0),
            spec::VIRTIO_BLK_T_WRITE_ZEROES => self.clear(data, spec::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
            _ => Err(spec::VIRTIO_BLK_S_UNSUPP),
        }
    }

    fn clear(&mut self, data: &[u8], known_flags: u32) -> Result<usize, Failure> {
        let ranges = data.chunks(RANGE_BYTES);
        let proper = |range: &[u8]| range.len() == RANGE_BYTES && word(range, 8) <= RANGE_SECTORS_MAX;
        if ranges.len() == 0 || ranges.len() > RANGES_MAX || !ranges.clone().all(proper) {
            return Err(spec::VIRTIO_BLK_S_IOERR);
        }
        self.changing()?;
        for range in ranges {
            if word(range, 12) as u32 & !known_flags != 0 {
                return Err(spec::VIRTIO_BLK_S_UNSUPP);
            }
            let sector = word(range, 0) | word(range, 4) << 32;
            let disk = self.within(sector, word(range, 8) * SECTOR_BYTES)?;
            self.disk[disk].fill(0);
        }
        Ok(0)
    }

    fn changing(&self) -> Result<(), Failure> {
        if self.read_only { Err(spec::VIRTIO_BLK_S_IOERR) } else { Ok(()) }
    }

    /// Whole sectors of the disk; what does not fill one at its end is none.
    fn within(&self, sector: u64, length: u64) -> Result<std::ops::Range<usize>, Failure> {
        let (start, end) = (u128::from(sector) * 512, u128::from(sector) * 512 + u128::from(length));
        let inside = length.is_multiple_of(SECTOR_BYTES) && end <= self.disk.len() as u128 / 512 * 512;
        if inside { Ok(start as usize..end as usize) } else { Err(spec::VIRTIO_BLK_S_IOERR) }
    }

    /// The driver's buffers.
    pub fn buffers(&self) -> &[u8] {
        &self.memory[BUFFERS as usize..][..AREA_BYTES]
    }
}

fn fill(memory: &mut [u8], room: &Places, bytes: &[u8]) -> usize {
    room.iter().zip(bytes).for_each(|(place, byte)| memory[place] = *byte);
    room.len().min(bytes.len())
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]).into()
}
