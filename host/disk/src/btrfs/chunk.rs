//! Chunks: which bytes of the partition are behind an address of the file system.

use super::fault::Fault;
use super::{UUID_SIZE, Uuid};
use crate::field::{get_u16, get_u64};
use std::collections::BTreeMap;

// Offsets of fields of a chunk item (https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#chunk-item-e4).
const LENGTH: usize = 0;
const TYPE: usize = 24;
const NUM_STRIPES: usize = 44;
const STRIPES: usize = 48;

/// Bytes of a stripe, and the offsets in it of its place on the device and the device's UUID.
const STRIPE_SIZE: usize = 32;
const STRIPE_OFFSET: usize = 8;
const STRIPE_DEVICE_UUID: usize = 16;

/// Bits of `type` for every layout but one copy, and of these the one for two copies on one device.
const PROFILES: u64 = 0x7f8;
const DUP: u64 = 0x20;

/// Most copies on one device.
const MAX_COPIES: usize = 2;

/// How many stripes a chunk item has, which fits what it is in.
pub(super) struct Stripes(usize);

impl Stripes {
    /// That of the chunk item that `bytes` begin with; `None` when they end before it does.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let count = usize::from(get_u16(bytes.get(..STRIPES)?, NUM_STRIPES));
        let stripes = Self(count);
        (bytes.len() >= stripes.item_size()).then_some(stripes)
    }

    /// Bytes of the chunk item.
    pub(super) fn item_size(&self) -> usize {
        STRIPES + self.0 * STRIPE_SIZE
    }

    fn offsets(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.0).map(|index| STRIPES + index * STRIPE_SIZE)
    }
}

/// Puts the device's UUID into every stripe of the chunk item that `bytes` begin with.
pub(super) fn set_device(bytes: &mut [u8], device: &Uuid) {
    let Some(stripes) = Stripes::of(bytes) else { return };
    for at in stripes.offsets() {
        let at = at + STRIPE_DEVICE_UUID;
        bytes[at..at + UUID_SIZE].copy_from_slice(device);
    }
}

struct Chunk {
    length: u64,
    /// Where the copies begin in the partition, in bytes.
    copies: Vec<u64>,
}

/// All chunks known so far, by their addresses.
#[derive(Default)]
pub(super) struct Chunks(BTreeMap<u64, Chunk>);

impl Chunks {
    /// Takes the chunk of this address, whose item `bytes` begin with.
    pub(super) fn insert(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        let stripes = Stripes::of(bytes).ok_or(Fault::Unmapped(address, 0))?;
        let profile = get_u64(bytes, TYPE) & PROFILES;
        if profile & !DUP != 0 || stripes.0 == 0 || stripes.0 > MAX_COPIES {
            return Err(Fault::Unsupported("chunks that are neither single nor dup"));
        }
        let length = get_u64(bytes, LENGTH);
        // So no address within, nor the end of what is within, is more than there can be.
        address.checked_add(length).ok_or(Fault::Unmapped(address, length))?;
        let copies = stripes.offsets().map(|at| get_u64(bytes, at + STRIPE_OFFSET)).collect();
        self.0.insert(address, Chunk { length, copies });
        Ok(())
    }

    /// Where the copies of a range of addresses begin in the partition: never none.
    pub(super) fn copies(&self, address: u64, length: u64) -> Result<Vec<u64>, Fault> {
        let unmapped = || Fault::Unmapped(address, length);
        let (start, chunk) = self.0.range(..=address).next_back().ok_or_else(unmapped)?;
        let within = address - start;
        let end = within.checked_add(length).filter(|end| *end <= chunk.length);
        end.ok_or_else(unmapped)?;
        let copies = chunk.copies.iter().map(|copy| copy.checked_add(within).ok_or_else(unmapped));
        copies.collect()
    }
}
