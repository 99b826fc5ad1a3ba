//! Random trees as EROFS disks. An input is a script that makes the tree; anything is one.
//!
//! A tree is laid out or refused. What is laid out has the length that was said, a superblock that knows the disk's, and is the
//! same again; `fsck.erofs` agrees, as the test of this module shows for the seeds.

use kiln_disk::erofs::{Layout, START_LENGTH, disk_length};
use kiln_image::entry::Metadata;
use kiln_image::tree::{Content, Extent, Node, NodeId, Tree};
use std::collections::BTreeMap;

/// kiln's block size, as a power of two.
const BLOCK_BITS: u8 = kiln_disk::erofs::BLOCK_SIZE.trailing_zeros() as u8;
/// Bytes of the one source.
const SOURCE_LENGTH: u64 = 1 << 16;

/// Bytes of an index that are looked at.
const INDEX_MAX: u64 = 16 << 20;

/// Plays an input.
pub fn play(input: &[u8]) {
    let tree = tree(input);
    let Some(index) = write(&tree, BLOCK_BITS) else { return };
    assert_eq!(write(&tree, BLOCK_BITS).as_ref(), Some(&index));
    let start = index.first_chunk::<START_LENGTH>().expect("there is a superblock");
    let layout = Layout::new(&tree, &[SOURCE_LENGTH]).expect("it was laid out before");
    assert_eq!(disk_length(start), Some(layout.disk_length()));
}

/// The index, unless the tree is refused or it is too long.
fn write(tree: &Tree, block_bits: u8) -> Option<Vec<u8>> {
    let layout = Layout::with_block_bits(tree, &[SOURCE_LENGTH], block_bits).ok()?;
    // A file whose contents lie between blocks is copied with its holes, which may be long; here all of it would be in memory.
    if layout.index_length() > INDEX_MAX {
        return None;
    }
    let mut index = Vec::new();
    let mut read = |_: u32, offset: u64, buffer: &mut [u8]| {
        assert!(offset + buffer.len() as u64 <= SOURCE_LENGTH, "it reads beyond the source");
        buffer.iter_mut().zip(offset..).for_each(|(byte, position)| *byte = (position % 251) as u8);
        Ok(())
    };
    layout.write(&mut index, &mut read).expect("memory takes it");
    assert_eq!(index.len() as u64, layout.index_length());
    Some(index)
}

/// Reads a script.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        // Small ones mostly, and powers of two to their sides.
        let (kind, value) = (self.byte(), u64::from(self.byte()));
        match kind % 4 {
            0 => value,
            1 => value * 512,
            2 => (1_u64 << (value % 48)).wrapping_sub(u64::from(kind / 4 % 3)).wrapping_add(1),
            _ => value << (kind / 4 % 16),
        }
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let pattern = [self.byte(), self.byte()];
        (0..length).map(|index| pattern[index % 2].wrapping_add((index / 2) as u8)).collect()
    }

    fn metadata(&mut self) -> Metadata {
        let mut metadata = Metadata {
            mode: u16::from_le_bytes([self.byte(), self.byte()]) & 0o7777,
            uid: self.number() as u32,
            gid: self.number() as u32,
            mtime: self.number() as i64 - 1000,
            ..Metadata::default()
        };
        for _ in 0..self.byte() % 4 {
            let prefix = [&b"user."[..], b"trusted.", b"security.", b"system.posix_acl_access"]
                [usize::from(self.byte() % 4)];
            let length = usize::from(self.byte() % 240);
            let name = [prefix, &self.bytes(length)].concat();
            let length = if self.is_wild() { 70_000 } else { self.number() as usize % 300 };
            metadata.xattrs.insert(name, self.bytes(length));
        }
        metadata
    }

    /// Whether to make what is refused: seldom, or nothing would be laid out.
    fn is_wild(&mut self) -> bool {
        self.byte() == 255
    }

    fn name(&mut self) -> Vec<u8> {
        let (is_wild, length) = (self.is_wild(), usize::from(self.byte()));
        let mut name = self.bytes(length.max(1));
        if !is_wild {
            name.iter_mut().filter(|byte| matches!(**byte, 0 | b'/' | b'.')).for_each(|byte| *byte = b'x');
        }
        name
    }

    fn file(&mut self) -> Content {
        let (is_wild, size) = (self.is_wild(), self.number());
        let mut extents: Vec<Extent> = Vec::new();
        let mut position = 0_u64;
        for _ in 0..self.byte() % 5 {
            let mut file_offset = position.saturating_add(self.number());
            let (mut length, mut source_offset) = (self.number(), self.number());
            if !is_wild {
                file_offset = file_offset.min(size);
                source_offset %= SOURCE_LENGTH;
                length = length.min(size - file_offset).min(SOURCE_LENGTH - source_offset);
                if length == 0 {
                    continue;
                }
            }
            extents.push(Extent { file_offset, length, source: 0, source_offset });
            position = file_offset.saturating_add(length);
        }
        Content::File { size, extents }
    }

    fn device(&mut self, bits: u32) -> u32 {
        let (is_wild, number) = (self.is_wild(), self.number() as u32);
        if is_wild { number } else { number & ((1 << bits) - 1) }
    }

    fn content(&mut self) -> Content {
        match self.byte() % 8 {
            0 | 1 => Content::Directory(BTreeMap::new()),
            2 => Content::Symlink({
                let length = if self.is_wild() { 4096 } else { 1 + self.number() as usize % 4095 };
                self.bytes(length)
            }),
            3 => Content::CharacterDevice { major: self.device(12), minor: self.device(20) },
            4 => Content::BlockDevice { major: self.device(12), minor: self.device(20) },
            5 => Content::Fifo,
            _ => self.file(),
        }
    }
}

fn tree(input: &[u8]) -> Tree {
    let mut script = Script(input);
    let mut tree = Tree::new();
    let mut nodes = vec![Tree::ROOT];
    let directories = |tree: &Tree, nodes: &[NodeId]| -> Vec<NodeId> {
        nodes.iter().copied().filter(|id| tree.is_directory(*id)).collect()
    };
    while !script.0.is_empty() && nodes.len() < 400 {
        let parents = directories(&tree, &nodes);
        let parent = parents[usize::from(script.byte()) % parents.len()];
        let name = script.name();
        let id = match script.byte() % 5 {
            // Another name of a file. Of a directory it is refused, and would be a loop.
            0 => {
                let known = nodes[usize::from(script.byte()) % nodes.len()];
                if tree.is_directory(known) {
                    continue;
                }
                known
            }
            _ => {
                let node = Node { metadata: script.metadata(), content: script.content() };
                let id = tree.insert(node);
                nodes.push(id);
                id
            }
        };
        tree.children_mut(parent).expect("a directory").insert(name, id);
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use std::process::Command;

    fn scripts() -> impl Iterator<Item = Vec<u8>> {
        // A generator of Marsaglia's, so that every run has the same.
        (1_u64..200).map(|seed| {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = move || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            };
            (0..(seed * 7 % 600)).map(|_| next()).collect()
        })
    }

    #[test]
    fn scripts_become_disks_that_fsck_finds_sound() {
        let directory = std::env::temp_dir().join(format!("kiln-fuzz-erofs-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let disk = directory.join("disk");
        let mut checked = 0;
        for script in scripts() {
            seed::keep("erofs", &script);
            play(&script);
            // Debian's does not know the small blocks that kiln uses.
            let Some(mut bytes) = write(&tree(&script), 12) else { continue };
            bytes.extend((0..SOURCE_LENGTH).map(|position| (position % 251) as u8));
            std::fs::write(&disk, &bytes).unwrap();
            let output =
                Command::new("fsck.erofs").arg(&disk).output().expect("erofs-utils are needed for this test");
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{script:?}: {}", String::from_utf8_lossy(&said));
            checked += 1;
        }
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(checked > 50, "only {checked} scripts were laid out");
    }
}
