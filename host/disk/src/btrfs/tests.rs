use super::checksum::Checksum;
use super::node::{Item, Node};
use super::survey::{self, Tree};
use super::*;
use crate::field::{put_u16, put_u32, put_u64};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;

const BLOCK: u64 = 4096;

/// A disk of which blocks are known that are not zero.
#[derive(Clone, PartialEq, Eq)]
struct Disk {
    length: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Disk {
    /// One that mkfs made, `before` bytes behind the start of the disk.
    fn made(fixture: &[u8], size: u64, before: u64) -> Self {
        let bytes = zstd::decode_all(fixture).unwrap();
        let blocks = bytes.chunks_exact(8 + BLOCK as usize);
        let blocks = blocks.map(|block| (before + crate::field::get_u64(block, 0), block[8..].to_vec()));
        Self { length: before + size, blocks: blocks.collect() }
    }

    fn nonzero(mut self) -> Self {
        self.blocks.retain(|_, block| block.iter().any(|byte| *byte != 0));
        self
    }

    /// Offsets of blocks that are not the same.
    fn differences(&self, other: &Self) -> Vec<u64> {
        let all = self.blocks.keys().chain(other.blocks.keys());
        all.filter(|offset| self.blocks.get(offset) != other.blocks.get(offset)).copied().collect()
    }

    fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read_at(&mut bytes, offset).unwrap();
        bytes
    }
}

/// The blocks of a range, and the part of the range in each.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let end = offset + length as u64;
    let blocks = (offset / BLOCK * BLOCK..end).step_by(BLOCK as usize);
    blocks.map(move |block| {
        let place = block.max(offset)..(block + BLOCK).min(end);
        (block, (place.start - offset) as usize..(place.end - offset) as usize)
    })
}

impl Source for Disk {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset + buffer.len() as u64 > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        for (block, place) in pieces(offset, buffer.len()) {
            if let Some(bytes) = self.blocks.get(&block) {
                let within = (offset + place.start as u64 - block) as usize;
                buffer[place.clone()].copy_from_slice(&bytes[within..within + place.len()]);
            }
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let block = self.blocks.range(offset / BLOCK * BLOCK..).next();
        Ok(block.map(|(start, _)| (*start).max(offset)..start + BLOCK))
    }
}

impl Target for Disk {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        for (block, place) in pieces(offset, bytes.len()) {
            let within = (offset + place.start as u64 - block) as usize;
            let block = self.blocks.entry(block).or_insert_with(|| vec![0; BLOCK as usize]);
            block[within..within + place.len()].copy_from_slice(&bytes[place]);
        }
        Ok(())
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        unreachable!("a disk keeps its length")
    }
}

macro_rules! disk {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/btrfs/", $name, ".zst")).as_slice()
    };
}

const MIB: u64 = 1 << 20;
const OPTIONS: Options = Options {
    time_s: 1_700_000_000,
    device_uuid: None,
    chunk_tree_uuid: None,
    inode_times: InodeTimes::Kept,
};

fn dup() -> Disk {
    Disk::made(disk!("dup-1"), 128 * MIB, 0)
}

/// A node, the tree it is of, and its items.
type Found = (Tree, Node, Vec<Item>);

/// A disk's trees.
fn surveyed(disk: &mut Disk) -> (Superblock, Survey, Vec<Found>) {
    let length = disk.length;
    let volume = Volume::new(disk, 0..length).unwrap();
    let superblock = Superblock::read(&volume).unwrap();
    let survey = Survey::of(&volume, &superblock).unwrap();
    let nodes = survey.nodes.iter().map(|place| {
        let node = survey::read(&volume, &superblock, &survey.chunks, *place).unwrap();
        let items = if node.is_leaf() { node.items().unwrap() } else { Vec::new() };
        (place.tree, node, items)
    });
    let nodes = nodes.collect();
    (superblock, survey, nodes)
}

#[test]
fn two_runs_of_mkfs_become_one() {
    use InodeTimes::{Kept, OfModification};
    // The first run read the files, which then had other times of access for the second.
    for (one, other, size, inode_times) in [
        (disk!("dup-1"), disk!("dup-2"), 128 * MIB, OfModification),
        (disk!("mixed-1"), disk!("mixed-2"), 24 * MIB, Kept),
        (disk!("empty-1"), disk!("empty-2"), 128 * MIB, Kept),
    ] {
        let options = Options { inode_times, ..OPTIONS };
        let [mut one, mut other] = [one, other].map(|fixture| Disk::made(fixture, size, 0));
        assert!(one != other);
        for disk in [&mut one, &mut other] {
            canonicalise(disk, 0..size, &options).unwrap();
        }
        assert_eq!(one.clone().nonzero().differences(&other.nonzero()), Vec::<u64>::new());
        let mut again = one.clone();
        canonicalise(&mut again, 0..size, &options).unwrap();
        assert!(again == one, "what is canonical stays");
    }
}

#[test]
fn a_partition_within_a_disk_is_the_same_and_nothing_else_changes() {
    let mut alone = dup();
    canonicalise(&mut alone, 0..128 * MIB, &OPTIONS).unwrap();
    let mut disk = Disk::made(disk!("dup-1"), 128 * MIB, MIB);
    disk.length += MIB;
    disk.write_at(b"table", 0).unwrap();
    disk.write_at(b"next", 129 * MIB).unwrap();
    canonicalise(&mut disk, MIB..129 * MIB, &OPTIONS).unwrap();
    assert_eq!((disk.bytes(0, 5), disk.bytes(129 * MIB, 4)), (b"table".to_vec(), b"next".to_vec()));
    for (offset, block) in &alone.blocks {
        assert!(disk.blocks[&(MIB + offset)] == *block, "{offset}");
    }
}

#[test]
fn what_a_boot_loader_has_before_the_file_system_stays() {
    let mut disk = dup();
    disk.write_at(b"boot", 0).unwrap();
    disk.write_at(b"core", 100 << 10).unwrap();
    canonicalise(&mut disk, 0..128 * MIB, &OPTIONS).unwrap();
    assert_eq!((disk.bytes(0, 4), disk.bytes(100 << 10, 4)), (b"boot".to_vec(), b"core".to_vec()));
}

#[test]
fn identities_are_those_asked_for_everywhere() {
    let mut disk = dup();
    let options = Options { device_uuid: Some([0xdd; 16]), chunk_tree_uuid: Some([0xcc; 16]), ..OPTIONS };
    let (_, before, _) = surveyed(&mut disk);
    canonicalise(&mut disk, 0..128 * MIB, &options).unwrap();
    let (superblock, survey, nodes) = surveyed(&mut disk);
    assert_eq!(disk.bytes(MIB / 16 + 0xc9 + 66, 16), [0xdd; 16]);
    assert_eq!(disk.bytes(64 * MIB + 0xc9 + 66, 16), [0xdd; 16]);
    let fsid = superblock.fsid();
    let expected = [5, 256, 257].map(|id| (derived(&fsid, "subvolume", id), id));
    assert_eq!(survey.subvolumes, BTreeMap::from(expected));
    assert_eq!(before.subvolumes.len(), 3);
    let mut uuids = 0;
    for (tree, node, items) in &nodes {
        assert_eq!(node.bytes[0x40..0x50], [0xcc; 16]);
        assert!(items.is_sorted_by_key(|item| item.key));
        if *tree == Tree::Uuids {
            for item in items {
                let uuid = [item.key.objectid.to_le_bytes(), item.key.offset.to_le_bytes()].concat();
                let id = crate::field::get_u64(&node.bytes, item.place.start);
                assert_eq!(survey.subvolumes[uuid.as_slice()], id);
                uuids += 1;
            }
        }
    }
    assert_eq!(uuids, 3);
    let old = before.subvolumes.keys().map(|uuid| uuid.as_slice());
    for uuid in old {
        let found = disk.blocks.values().any(|block| block.windows(16).any(|window| window == uuid));
        assert!(!found, "an old UUID is still there");
    }
}

/// All times of the inodes of a tree, in seconds.
fn times_of(disk: &mut Disk, wanted: Tree) -> Vec<[u64; 4]> {
    let (_, _, nodes) = surveyed(disk);
    let mut times = Vec::new();
    for (_, node, items) in nodes.iter().filter(|(tree, ..)| *tree == wanted) {
        for item in items.iter().filter(|item| item.key.kind == survey::INODE_ITEM) {
            times.push(
                [112, 124, 136, 148].map(|at| crate::field::get_u64(&node.bytes, item.place.start + at)),
            );
        }
    }
    times
}

#[test]
fn times_of_files_stay_or_become_those_of_modification() {
    let mut disk = dup();
    let before = times_of(&mut disk, Tree::Files);
    assert!(before.iter().filter(|times| times[2] == 1_600_000_000).count() >= 6, "{before:?}");
    canonicalise(&mut disk, 0..128 * MIB, &OPTIONS).unwrap();
    assert_eq!(times_of(&mut disk, Tree::Files), before);
    for tree in [Tree::Roots, Tree::Relocation] {
        assert_eq!(times_of(&mut disk, tree), [[1_700_000_000; 4]], "{tree:?}");
    }
    let options = Options { inode_times: InodeTimes::OfModification, ..OPTIONS };
    canonicalise(&mut disk, 0..128 * MIB, &options).unwrap();
    let expected: Vec<_> = before.iter().map(|times| [times[2], times[2], times[2], 0]).collect();
    assert_eq!(times_of(&mut disk, Tree::Files), expected);
}

#[test]
fn without_a_directory_to_copy_the_root_is_what_mkfs_made() {
    let mut disk = Disk::made(disk!("empty-1"), 128 * MIB, 0);
    canonicalise(&mut disk, 0..128 * MIB, &OPTIONS).unwrap();
    assert_eq!(times_of(&mut disk, Tree::Files), [[1_700_000_000; 4]]);
}

/// What is said of a file system in which one thing is another.
fn refusal(change: impl FnOnce(&mut Disk)) -> String {
    let mut disk = dup();
    change(&mut disk);
    let length = disk.length;
    let error = canonicalise(&mut disk, 0..length, &OPTIONS).unwrap_err();
    assert_eq!(error.to_string(), "cannot make the btrfs file system at byte 0 the same as its like");
    error.source().unwrap().to_string()
}

/// Changes the superblock, and its checksum with it.
fn in_superblock(change: impl FnOnce(&mut [u8])) -> String {
    refusal(|disk| {
        let mut bytes = disk.bytes(superblock::MIRRORS[0], superblock::SIZE);
        change(&mut bytes);
        Checksum::Crc32c.seal(&mut bytes);
        disk.write_at(&bytes, superblock::MIRRORS[0]).unwrap();
    })
}

#[test]
fn superblocks_that_cannot_be_are_refused() {
    let wrong = |why: &str| format!("the superblock at byte 65536 is wrong: {why}");
    let has = |what: &str| format!("it has {what}, which kiln does not know how to rewrite");
    assert_eq!(refusal(|disk| disk.write_at(b"x", 65536 + 0x40).unwrap()), wrong("it is not one of btrfs"));
    assert_eq!(refusal(|disk| disk.write_at(b"x", 65536 + 0x300).unwrap()), wrong("its checksum is another"));
    assert_eq!(refusal(|disk| disk.length = 1000), "byte 65536 and 4096 more are beyond its end");
    assert_eq!(refusal(|disk| disk.length -= 1), wrong("the file system is longer than its partition"));
    let nodesize = wrong("its nodesize is not a power of two from 4096 to 65536");
    for size in [0, 2048, 4097, 131_072, u32::MAX] {
        assert_eq!(in_superblock(|bytes| put_u32(bytes, 0x94, size)), nodesize);
    }
    assert_eq!(
        in_superblock(|bytes| put_u32(bytes, 0x90, 65536)),
        wrong("its sectors are longer than its nodes")
    );
    assert_eq!(in_superblock(|bytes| put_u64(bytes, 0x88, 2)), has("more than one device"));
    assert_eq!(in_superblock(|bytes| put_u64(bytes, 0x60, 4096)), has("a log that was not replayed"));
    assert_eq!(in_superblock(|bytes| put_u16(bytes, 0xc4, 3)), has("checksums of BLAKE2b"));
    assert_eq!(in_superblock(|bytes| put_u16(bytes, 0xc4, 9)), has("checksums of an unknown kind"));
    let features = has("features (incompat_flags) that came later or need several devices");
    assert_eq!(in_superblock(|bytes| put_u64(bytes, 0xbc, 1 << 13)), features);
}

#[test]
fn chunks_that_cannot_be_are_refused() {
    let longer = "the superblock at byte 65536 is wrong: its array of chunks is longer than the room for it";
    assert_eq!(in_superblock(|bytes| put_u32(bytes, 0xa0, 2049)), longer);
    let ends = "the superblock at byte 65536 is wrong: its array of chunks ends within one";
    assert_eq!(in_superblock(|bytes| put_u32(bytes, 0xa0, 100)), ends);
    let item = 0x32b + 17;
    assert_eq!(in_superblock(|bytes| put_u16(bytes, item + 44, u16::MAX)), ends);
    let single = "it has chunks that are neither single nor dup, which kiln does not know how to rewrite";
    assert_eq!(in_superblock(|bytes| put_u64(bytes, item + 24, 2 | 8)), single);
    assert!(in_superblock(|bytes| put_u64(bytes, item, 0)).ends_with("and 16384 more are in no chunk"));
    let beyond = in_superblock(|bytes| put_u64(bytes, item + 48 + 8, u64::MAX - (1 << 20)));
    assert!(beyond.ends_with("and 16384 more are beyond its end"), "{beyond}");
}

/// Changes a tree's root node in all its copies, and its checksum with it.
fn in_tree(tree: Tree, change: impl Fn(&mut Vec<u8>)) -> String {
    refusal(|disk| {
        let (_, survey, _) = surveyed(disk);
        let place = survey.nodes.iter().find(|place| place.tree == tree).unwrap();
        for copy in survey.chunks.copies(place.address, 16384).unwrap() {
            let mut bytes = disk.bytes(copy, 16384);
            change(&mut bytes);
            Checksum::Crc32c.seal(&mut bytes);
            disk.write_at(&bytes, copy).unwrap();
        }
    })
}

#[test]
fn nodes_that_cannot_be_are_refused() {
    for (offset, why) in [
        (0x20, "it is of another file system"),
        (0x30, "it is of another address"),
        (0x64, "it is of another level"),
        (0x63, "it has more items than there is room for"),
    ] {
        for tree in [Tree::Chunks, Tree::Roots, Tree::Extents, Tree::Files, Tree::Uuids] {
            let said = in_tree(tree, |bytes| bytes[offset] ^= 0xff);
            assert!(said.starts_with("the node at address ") && said.ends_with(why), "{said}");
        }
    }
    let gap = in_tree(Tree::Files, |bytes| put_u32(bytes, 0x65 + 17, 100));
    assert!(gap.ends_with("is wrong: its bytes do not end where those before it begin"), "{gap}");
    let gap = in_tree(Tree::Files, |bytes| put_u32(bytes, 0x65 + 17 + 4, u32::MAX));
    assert!(gap.ends_with("is wrong: its bytes do not end where those before it begin"), "{gap}");
    let loses = in_tree(Tree::Extents, |bytes| put_u32(bytes, 0x60, 1));
    assert!(loses.ends_with("the tree of extents does not have it"), "{loses}");
    let roots = in_tree(Tree::Roots, |bytes| put_u32(bytes, 0x60, 0));
    assert!(roots.ends_with("the tree of extents does not have it"), "{roots}");
}

/// Whatever bytes are changed, there is an answer.
#[test]
fn no_byte_makes_it_fail_otherwise() {
    let (_, survey, _) = surveyed(&mut dup());
    for place in &survey.nodes {
        let copies = survey.chunks.copies(place.address, 16384).unwrap();
        let original = dup();
        let bytes = original.bytes(copies[0], 16384);
        for at in (0x30..0x80).step_by(3).chain((0x80..16384).step_by(197)) {
            if at >= 0x80 && bytes[at] == 0 {
                continue;
            }
            let mut changed = bytes.clone();
            changed[at] ^= 0x81;
            Checksum::Crc32c.seal(&mut changed);
            let mut disk = original.clone();
            disk.write_at(&changed, copies[0]).unwrap();
            let _ = canonicalise(&mut disk, 0..128 * MIB, &OPTIONS);
        }
    }
}
