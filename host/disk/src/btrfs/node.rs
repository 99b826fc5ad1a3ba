//! Nodes of trees: leaves of items, and above them nodes of pointers.
//!
//! A leaf has the headers of its items at its start and their bytes at its end, in the same order from the end backwards, so that
//! what is between is free. Nobody reads that, and what was there once is still there.

use super::checksum::Checksum;
use super::fault::Fault;
use super::{UUID_SIZE, Uuid};
use crate::field::{get_u32, get_u64, put_u32, put_u64};
use std::ops::Range;

// Offsets of fields of the header (https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#header).
const FSID: usize = 0x20;
const BYTENR: usize = 0x30;
const CHUNK_TREE_UUID: usize = 0x40;
const NRITEMS: usize = 0x60;
const LEVEL: usize = 0x64;
const HEADER_SIZE: usize = 0x65;

/// Bytes of a key, of an item's header, and of a pointer to a node.
pub(super) const KEY_SIZE: usize = 17;
const ITEM_SIZE: usize = 25;
const POINTER_SIZE: usize = 33;

/// Most levels above the leaves (`BTRFS_MAX_LEVEL` less one).
pub(super) const MAX_LEVEL: u8 = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub objectid: u64,
    pub kind: u8,
    pub offset: u64,
}

impl Key {
    pub(super) fn read(bytes: &[u8], at: usize) -> Self {
        Self { objectid: get_u64(bytes, at), kind: bytes[at + 8], offset: get_u64(bytes, at + 9) }
    }

    fn write(self, bytes: &mut [u8], at: usize) {
        put_u64(bytes, at, self.objectid);
        bytes[at + 8] = self.kind;
        put_u64(bytes, at + 9, self.offset);
    }
}

/// An item of a leaf, whose bytes are there for certain.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub key: Key,
    /// Where its bytes are in the node.
    pub place: Range<usize>,
}

/// What the way to a node says of it.
pub(super) struct Expected {
    pub address: u64,
    pub level: u8,
    pub fsid: Uuid,
    pub checksum: Checksum,
}

/// A node that is what was expected.
pub(super) struct Node {
    pub bytes: Vec<u8>,
    address: u64,
    count: usize,
}

impl Node {
    pub(super) fn parse(bytes: Vec<u8>, expected: &Expected) -> Result<Self, Fault> {
        let wrong = |why| Err(Fault::Node(expected.address, why));
        if !expected.checksum.is_right(&bytes) {
            return wrong("its checksum is another");
        }
        if get_u64(&bytes, BYTENR) != expected.address {
            return wrong("it is of another address");
        }
        if bytes[FSID..FSID + UUID_SIZE] != expected.fsid {
            return wrong("it is of another file system");
        }
        if bytes[LEVEL] != expected.level || expected.level > MAX_LEVEL {
            return wrong("it is of another level");
        }
        let size = if expected.level == 0 { ITEM_SIZE } else { POINTER_SIZE };
        let count = get_u32(&bytes, NRITEMS) as usize;
        if count > (bytes.len() - HEADER_SIZE) / size {
            return wrong("it has more items than there is room for");
        }
        Ok(Self { bytes, address: expected.address, count })
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.bytes[LEVEL] == 0
    }

    /// Addresses of the nodes below.
    pub(super) fn children(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.count).map(|index| get_u64(&self.bytes, HEADER_SIZE + index * POINTER_SIZE + KEY_SIZE))
    }

    /// The items of a leaf, which follow each other without gaps from the end backwards.
    pub(super) fn items(&self) -> Result<Vec<Item>, Fault> {
        let mut end = self.bytes.len();
        let mut items = Vec::with_capacity(self.count);
        for index in 0..self.count {
            let at = HEADER_SIZE + index * ITEM_SIZE;
            let start = HEADER_SIZE + get_u32(&self.bytes, at + KEY_SIZE) as usize;
            let size = get_u32(&self.bytes, at + KEY_SIZE + 4) as usize;
            if start.checked_add(size) != Some(end) {
                return Err(Fault::Item(
                    self.address,
                    index,
                    "its bytes do not end where those before it begin",
                ));
            }
            items.push(Item { key: Key::read(&self.bytes, at), place: start..end });
            end = start;
        }
        if end < HEADER_SIZE + self.count * ITEM_SIZE {
            return Err(Fault::Node(self.address, "its items' bytes run into their headers"));
        }
        Ok(items)
    }

    /// Where the bytes of an item are that has to have a certain size at least.
    pub(super) fn sized(&self, index: usize, item: &Item, size: usize) -> Result<Range<usize>, Fault> {
        let is_long_enough = item.place.len() >= size;
        is_long_enough.then(|| item.place.clone()).ok_or(Fault::Item(self.address, index, "it is too short"))
    }

    /// Writes the items of the leaf anew in this order.
    pub(super) fn reorder(&mut self, items: &[Item]) {
        let before = self.bytes.clone();
        let mut end = self.bytes.len();
        for (index, Item { key, place }) in items.iter().enumerate() {
            let (at, start) = (HEADER_SIZE + index * ITEM_SIZE, end - place.len());
            key.write(&mut self.bytes, at);
            put_u32(&mut self.bytes, at + KEY_SIZE, (start - HEADER_SIZE) as u32);
            put_u32(&mut self.bytes, at + KEY_SIZE + 4, place.len() as u32);
            self.bytes[start..end].copy_from_slice(&before[place.clone()]);
            end = start;
        }
    }

    /// The node to write: with this UUID of the tree of chunks, zero where it is free, and its checksum.
    pub(super) fn sealed(mut self, chunk_tree: &Uuid, checksum: Checksum) -> Result<Vec<u8>, Fault> {
        let free = self.free()?;
        self.bytes[free].fill(0);
        self.bytes[CHUNK_TREE_UUID..CHUNK_TREE_UUID + UUID_SIZE].copy_from_slice(chunk_tree);
        checksum.seal(&mut self.bytes);
        Ok(self.bytes)
    }

    fn free(&self) -> Result<Range<usize>, Fault> {
        if !self.is_leaf() {
            return Ok(HEADER_SIZE + self.count * POINTER_SIZE..self.bytes.len());
        }
        let items = self.items()?;
        let end = items.last().map_or(self.bytes.len(), |item| item.place.start);
        Ok(HEADER_SIZE + self.count * ITEM_SIZE..end)
    }
}
