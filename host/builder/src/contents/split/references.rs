//! Which store paths name which: as Nix finds a path's references, by looking for the hashes in its files.
//! <https://nix.dev/manual/nix/2.24/store/store-path>

use super::Sources;
use crate::{Error, error::Kind};
use kiln_image::{
    layered::Group,
    tree::{Content, Tree},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
};

/// Characters of the hash at the start of a store path's name.
const HASH_LENGTH: usize = 32;

/// Bytes read at once.
const READ_SIZE: usize = 256 * 1024;

const STORES: [&[u8]; 2] = [b"nix/store/", b"gnu/store/"];

/// For each store path the others that its files name.
pub(super) fn of(tree: &Tree, sources: &Sources) -> Result<BTreeMap<Group, BTreeSet<Group>>, Error> {
    let groups: BTreeSet<Group> =
        tree.walk().filter_map(|(path, _)| group(&path).map(<[u8]>::to_vec)).collect();
    let by_hash: HashMap<&[u8], &Group> =
        groups.iter().filter_map(|group| Some((group.get(..HASH_LENGTH)?, group))).collect();
    let mut needs: BTreeMap<Group, BTreeSet<Group>> = BTreeMap::new();
    for (path, id) in tree.walk() {
        let Some(group) = group(&path) else { continue };
        let mut found = Found { by_hash: &by_hash, needs: needs.entry(group.to_vec()).or_default() };
        let looked = match &tree.node(id).content {
            Content::Symlink(target) => {
                found.look(target);
                Ok(())
            }
            Content::File { size, extents } => file(*size, extents, sources, &mut found),
            _ => Ok(()),
        };
        let what = || format!("cannot look for store paths in {}", String::from_utf8_lossy(&path));
        looked.map_err(|source| Kind::Compare { what: what(), source })?;
    }
    Ok(needs)
}

fn group(path: &[u8]) -> Option<&[u8]> {
    let inside = STORES.iter().find_map(|store| path.strip_prefix(*store))?;
    inside.split(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
}

struct Found<'a> {
    by_hash: &'a HashMap<&'a [u8], &'a Group>,
    needs: &'a mut BTreeSet<Group>,
}

impl Found<'_> {
    /// Looks at every place where so many characters of hashes stand in a row.
    fn look(&mut self, bytes: &[u8]) {
        let mut run = 0;
        for (at, byte) in bytes.iter().enumerate() {
            run = if byte.is_ascii_digit() || byte.is_ascii_lowercase() { run + 1 } else { 0 };
            if run >= HASH_LENGTH
                && let Some(group) = self.by_hash.get(&bytes[at + 1 - HASH_LENGTH..=at])
            {
                self.needs.insert((*group).clone());
            }
        }
    }
}

/// Pieces overlap, so that a hash across two is seen.
fn file(
    size: u64,
    extents: &[kiln_image::tree::Extent],
    sources: &Sources,
    found: &mut Found,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    let mut position = 0;
    while position < size {
        let length = usize::try_from(size - position).unwrap_or(usize::MAX).min(READ_SIZE);
        sources.with_reader(|read| {
            super::super::difference::read_range(extents, position, &mut buffer[..length], read)
        })?;
        found.look(&buffer[..length]);
        if length < READ_SIZE {
            break;
        }
        position += (READ_SIZE - HASH_LENGTH) as u64;
    }
    Ok(())
}
