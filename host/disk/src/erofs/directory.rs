//! Directories: blocks of `struct erofs_dirent`, each block's names behind its entries.

use crate::field::{put_u16, put_u64};

/// Bytes of an entry without its name.
const DIRENT_SIZE: usize = 12;

/// An entry: where it leads, and as what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dirent<'t> {
    pub(super) name: &'t [u8],
    pub(super) nid: u64,
    pub(super) file_type: u8,
}

/// Bytes of the directory with these names, sorted. All blocks but the last count in full.
pub(super) fn size<'n>(names: impl Iterator<Item = &'n [u8]>, block_size: usize) -> u64 {
    let (mut full_blocks, mut used) = (0, 0);
    for name in names {
        let entry = DIRENT_SIZE + name.len();
        if used + entry > block_size {
            full_blocks += 1;
            used = 0;
        }
        used += entry;
    }
    full_blocks * block_size as u64 + used as u64
}

/// The directory's bytes, as many as [`size`] says. The kernel searches by halves: entries must be
/// sorted by the bytes of their names, `.` and `..` among them.
pub(super) fn encode(entries: &[Dirent<'_>], block_size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        bytes.resize(bytes.len().next_multiple_of(block_size), 0);
        let (block, after) = rest.split_at(fitting(rest, block_size));
        encode_block(block, &mut bytes);
        rest = after;
    }
    bytes
}

/// How many of the entries fit in one block: at least one, since a name has at most 255 bytes.
fn fitting(entries: &[Dirent<'_>], block_size: usize) -> usize {
    let mut used = 0;
    let fits = |entry: &&Dirent<'_>| {
        used += DIRENT_SIZE + entry.name.len();
        used <= block_size
    };
    entries.iter().take_while(fits).count()
}

fn encode_block(entries: &[Dirent<'_>], bytes: &mut Vec<u8>) {
    let mut name_offset = DIRENT_SIZE * entries.len();
    for entry in entries {
        let mut dirent = [0; DIRENT_SIZE];
        put_u64(&mut dirent, 0, entry.nid);
        put_u16(&mut dirent, 8, name_offset as u16); // nameoff
        dirent[10] = entry.file_type;
        bytes.extend(dirent);
        name_offset += entry.name.len();
    }
    for entry in entries {
        bytes.extend(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_size_is_known_before_the_bytes(
            names in proptest::collection::btree_set(proptest::collection::vec(1_u8.., 1..=255), 1..200)
        ) {
            let entries: Vec<_> =
                names.iter().map(|name| Dirent { name, nid: 7, file_type: 1 }).collect();
            let bytes = encode(&entries, 512);
            prop_assert_eq!(bytes.len() as u64, size(names.iter().map(Vec::as_slice), 512));
        }
    }

    #[test]
    fn a_block_starts_with_its_entries_and_ends_with_their_names() {
        let entries =
            [Dirent { name: b".", nid: 36, file_type: 2 }, Dirent { name: b"ab", nid: 1, file_type: 1 }];
        let bytes = encode(&entries, 512);
        assert_eq!(bytes, b"\x24\0\0\0\0\0\0\0\x18\0\x02\0\x01\0\0\0\0\0\0\0\x19\0\x01\0.ab");
    }
}
