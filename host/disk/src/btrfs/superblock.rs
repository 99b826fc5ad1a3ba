//! The superblock and its mirrors.

use super::checksum::Checksum;
use super::chunk::{Chunks, Stripes};
use super::fault::Fault;
use super::node::{KEY_SIZE, Key};
use super::volume::Volume;
use super::{UUID_SIZE, Uuid};
use crate::field::{get_u16, get_u32, get_u64, put_u64};
use crate::sparse::{Source, Target};

/// Bytes of a superblock.
pub(super) const SIZE: usize = 4096;

/// Where its copies are, as far as the file system reaches, in bytes; the first one counts.
pub(super) const MIRRORS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];

const MAGIC: &[u8] = b"_BHRfS_M";

// Offsets of fields (https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#superblock).
const FSID: usize = 0x20;
const BYTENR: usize = 0x30;
const MAGIC_AT: usize = 0x40;
const ROOT: usize = 0x50;
const CHUNK_ROOT: usize = 0x58;
const LOG_ROOT: usize = 0x60;
const NUM_DEVICES: usize = 0x88;
const SECTORSIZE: usize = 0x90;
const NODESIZE: usize = 0x94;
const SYS_CHUNK_ARRAY_SIZE: usize = 0xa0;
const INCOMPAT_FLAGS: usize = 0xbc;
const CSUM_TYPE: usize = 0xc4;
const ROOT_LEVEL: usize = 0xc6;
const CHUNK_ROOT_LEVEL: usize = 0xc7;
const DEV_ITEM: usize = 0xc9;
const METADATA_UUID: usize = 0x23b;
const SYS_CHUNK_ARRAY: usize = 0x32b;

/// Within a `dev_item`: its size in bytes, and its UUID.
const DEVICE_TOTAL_BYTES: usize = 8;
pub(super) const DEVICE_UUID: usize = 66;

/// Most bytes of `sys_chunk_array`.
const MAX_SYS_CHUNK_ARRAY: usize = 2048;

/// Sizes of nodes in bytes, all powers of two.
const NODESIZES: std::ops::RangeInclusive<u32> = 4096..=65536;

/// `incompat_flags` that change nothing in what is rewritten here: mixed back references, default subvolume, mixed groups,
/// LZO, Zstandard, big metadata, extended references, skinny metadata, no holes, metadata UUID, simple quotas.
const KNOWN_INCOMPAT: u64 = 0x1_077f;
const INCOMPAT_METADATA_UUID: u64 = 0x400;

/// One that was read and found right.
pub(super) struct Superblock {
    bytes: Vec<u8>,
    pub checksum: Checksum,
}

/// A tree's root: its address, and its level above the leaves.
#[derive(Clone, Copy)]
pub(super) struct Root {
    pub address: u64,
    pub level: u8,
}

impl Superblock {
    pub(super) fn read<D: Source + Target + ?Sized>(volume: &Volume<'_, D>) -> Result<Self, Fault> {
        let mut bytes = vec![0; SIZE];
        volume.read(MIRRORS[0], &mut bytes)?;
        if &bytes[MAGIC_AT..MAGIC_AT + MAGIC.len()] != MAGIC {
            return Err(Fault::Superblock("it is not one of btrfs"));
        }
        let checksum = Checksum::of_type(get_u16(&bytes, CSUM_TYPE))?;
        if !checksum.is_right(&bytes) {
            return Err(Fault::Superblock("its checksum is another"));
        }
        let superblock = Self { bytes, checksum };
        superblock.check(volume.len())?;
        Ok(superblock)
    }

    fn check(&self, length: u64) -> Result<(), Fault> {
        let nodesize = get_u32(&self.bytes, NODESIZE);
        if !NODESIZES.contains(&nodesize) || !nodesize.is_power_of_two() {
            return Err(Fault::Superblock("its nodesize is not a power of two from 4096 to 65536"));
        }
        if get_u32(&self.bytes, SECTORSIZE) > nodesize {
            return Err(Fault::Superblock("its sectors are longer than its nodes"));
        }
        if get_u32(&self.bytes, SYS_CHUNK_ARRAY_SIZE) as usize > MAX_SYS_CHUNK_ARRAY {
            return Err(Fault::Superblock("its array of chunks is longer than the room for it"));
        }
        if self.total_bytes() > length {
            return Err(Fault::Superblock("the file system is longer than its partition"));
        }
        self.check_known()
    }

    fn check_known(&self) -> Result<(), Fault> {
        if get_u64(&self.bytes, NUM_DEVICES) != 1 {
            return Err(Fault::Unsupported("more than one device"));
        }
        if get_u64(&self.bytes, LOG_ROOT) != 0 {
            return Err(Fault::Unsupported("a log that was not replayed"));
        }
        if get_u64(&self.bytes, INCOMPAT_FLAGS) & !KNOWN_INCOMPAT != 0 {
            return Err(Fault::Unsupported(
                "features (incompat_flags) that came later or need several devices",
            ));
        }
        Ok(())
    }

    fn uuid(&self, at: usize) -> Uuid {
        self.bytes[at..at + UUID_SIZE].try_into().expect("a slice of this size")
    }

    /// The UUID that people know the file system by.
    pub(super) fn fsid(&self) -> Uuid {
        self.uuid(FSID)
    }

    /// The UUID in every node, which is the one at the making when the other was changed afterwards.
    pub(super) fn node_fsid(&self) -> Uuid {
        let changed = get_u64(&self.bytes, INCOMPAT_FLAGS) & INCOMPAT_METADATA_UUID != 0;
        self.uuid(if changed { METADATA_UUID } else { FSID })
    }

    /// Bytes of a node.
    pub(super) fn nodesize(&self) -> u32 {
        get_u32(&self.bytes, NODESIZE)
    }

    /// Bytes of the device that the file system takes.
    fn total_bytes(&self) -> u64 {
        get_u64(&self.bytes, DEV_ITEM + DEVICE_TOTAL_BYTES)
    }

    pub(super) fn root_tree(&self) -> Root {
        Root { address: get_u64(&self.bytes, ROOT), level: self.bytes[ROOT_LEVEL] }
    }

    pub(super) fn chunk_tree(&self) -> Root {
        Root { address: get_u64(&self.bytes, CHUNK_ROOT), level: self.bytes[CHUNK_ROOT_LEVEL] }
    }

    /// The chunks that hold the tree of chunks.
    pub(super) fn system_chunks(&self) -> Result<Chunks, Fault> {
        let mut chunks = Chunks::default();
        for (key, at) in self.system_chunk_places()? {
            chunks.insert(key.offset, &self.bytes[at..])?;
        }
        Ok(chunks)
    }

    /// The chunks' keys, and where in the superblock their items are.
    fn system_chunk_places(&self) -> Result<Vec<(Key, usize)>, Fault> {
        let size = get_u32(&self.bytes, SYS_CHUNK_ARRAY_SIZE) as usize;
        let (mut at, end) = (SYS_CHUNK_ARRAY, SYS_CHUNK_ARRAY + size);
        let mut places = Vec::new();
        while at < end {
            let item = at + KEY_SIZE;
            let stripes = self.bytes.get(item..end).and_then(Stripes::of);
            let stripes = stripes.ok_or(Fault::Superblock("its array of chunks ends within one"))?;
            places.push((Key::read(&self.bytes, at), item));
            at = item + stripes.item_size();
        }
        Ok(places)
    }

    /// The copies to write, by their offsets.
    pub(super) fn with_device(mut self, device: &Uuid) -> Result<Vec<(u64, Vec<u8>)>, Fault> {
        let at = DEV_ITEM + DEVICE_UUID;
        self.bytes[at..at + UUID_SIZE].copy_from_slice(device);
        for (_, at) in self.system_chunk_places()? {
            super::chunk::set_device(&mut self.bytes[at..], device);
        }
        // Behind the array is what is left of a longer one.
        let end = SYS_CHUNK_ARRAY + get_u32(&self.bytes, SYS_CHUNK_ARRAY_SIZE) as usize;
        self.bytes[end..SYS_CHUNK_ARRAY + MAX_SYS_CHUNK_ARRAY].fill(0);
        let reach = self.total_bytes();
        let mirrors = MIRRORS.into_iter().filter(|mirror| mirror + SIZE as u64 <= reach);
        Ok(mirrors.map(|mirror| (mirror, self.mirror(mirror))).collect())
    }

    fn mirror(&self, offset: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        put_u64(&mut bytes, BYTENR, offset);
        self.checksum.seal(&mut bytes);
        bytes
    }
}
