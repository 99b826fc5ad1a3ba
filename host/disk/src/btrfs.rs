//! Makes two btrfs file systems of one tree the same bytes.
//!
//! `mkfs.btrfs --rootdir` takes the file system's UUID from its caller, but draws the device's, that of the tree of chunks
//! (which is in every node) and those of subvolumes, stamps what it makes itself with the clock, and leaves what it wrote
//! on its way where nothing leads to any more. [`canonicalise`] goes through all trees once to find out what there is, and once more to
//! put others in place of these, in the file system's own bytes: nothing moves.
//!
//! Of the on-disk format it needs little: superblocks lead to chunks (which map addresses to bytes of the partition), these to
//! the tree of roots, and that to all other trees. Every node has a checksum, and many have two copies.
//!
//! What it cannot make the same is what mkfs was given: contents, names, their order in directories as the source's file
//! system gives it (inodes are numbered by it), and versions and options of mkfs. Seen with versions 6.14 and 7.3.

mod checksum;
mod chunk;
pub(crate) mod fault;
mod node;
mod rewrite;
mod root_item;
mod superblock;
mod survey;
#[cfg(test)]
mod tests;
mod times;
mod volume;
mod xxhash;

use crate::Error;
use crate::error::Kind;
use crate::sparse::{Source, Target};
use fault::Fault;
use rewrite::Identity;
use sha2::{Digest as _, Sha256};
use std::ops::Range;
use superblock::Superblock;
use survey::{Survey, Tree};
use volume::Volume;

/// A UUID as it is stored: the order in which it is written.
pub type Uuid = [u8; UUID_SIZE];

const UUID_SIZE: usize = 16;

/// The partition's start that is not the file system's: boot loaders are in it.
const RESERVED: u64 = 1 << 20;

/// What to put in place of what mkfs drew and looked up. UUIDs that are not given come from the file system's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Time of whatever mkfs made itself, in seconds since 1970.
    pub time_s: u64,
    /// The device's UUID (`--device-uuid`).
    pub device_uuid: Option<Uuid>,
    /// The UUID of the tree of chunks.
    pub chunk_tree_uuid: Option<Uuid>,
    /// The times of the files.
    pub inode_times: InodeTimes,
}

/// What becomes of the times that came with the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InodeTimes {
    /// They stay. Nobody can set the time of change, so that copies of one tree differ in it.
    #[default]
    Kept,
    /// That of modification stands for all of a file.
    OfModification,
}

/// Rewrites the btrfs file system in a range of a disk, in bytes. Everything in it that is not in use becomes zero, but for
/// its first MiB. What an error leaves behind is not to be used.
///
/// # Errors
/// When there is none, it is corrupt, or has what `mkfs.btrfs` does not make on one device (several copies elsewhere, a log), checksums
/// of BLAKE2b, or more subvolumes than one node has UUIDs of; or when the disk cannot be read or written.
pub fn canonicalise<D>(disk: &mut D, partition: Range<u64>, options: &Options) -> Result<(), Error>
where
    D: Source + Target + ?Sized,
{
    let start = partition.start;
    let mut volume = Volume::new(disk, partition).map_err(|fault| Kind::Btrfs(start, fault))?;
    rewrite_volume(&mut volume, options).map_err(|fault| Kind::Btrfs(start, fault).into())
}

fn rewrite_volume<D>(volume: &mut Volume<'_, D>, options: &Options) -> Result<(), Fault>
where
    D: Source + Target + ?Sized,
{
    let superblock = Superblock::read(volume)?;
    let survey = Survey::of(volume, &superblock)?;
    let identity = identity(&superblock, &survey, options)?;
    let gaps = gaps(volume.len(), &survey)?;
    rewrite_nodes(volume, &superblock, &survey, &identity)?;
    for gap in gaps {
        volume.clear(gap)?;
    }
    for (offset, bytes) in superblock.with_device(&identity.device)? {
        volume.write(offset, &bytes)?;
    }
    Ok(())
}

fn identity(superblock: &Superblock, survey: &Survey, options: &Options) -> Result<Identity, Fault> {
    if survey.nodes.iter().any(|node| node.tree == Tree::Uuids && node.level > 0) {
        return Err(Fault::Unsupported("more subvolumes than one node has room for"));
    }
    let fsid = superblock.fsid();
    let subvolumes = survey.subvolumes.iter().map(|(old, id)| (*old, derived(&fsid, "subvolume", *id)));
    Ok(Identity {
        device: options.device_uuid.unwrap_or_else(|| derived(&fsid, "device", 1)),
        chunk_tree: options.chunk_tree_uuid.unwrap_or_else(|| derived(&fsid, "chunk tree", 0)),
        subvolumes: subvolumes.collect(),
        time_s: options.time_s,
        inode_times: options.inode_times,
    })
}

/// A UUID made of the file system's own, of version 8
/// ([RFC 9562](https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-8)). Another way means other disks.
fn derived(fsid: &Uuid, what: &str, id: u64) -> Uuid {
    let hash = Sha256::new().chain_update(fsid).chain_update(what).chain_update(id.to_le_bytes()).finalize();
    let mut uuid = Uuid::default();
    uuid.copy_from_slice(&hash[..UUID_SIZE]);
    uuid[6] = 0x80 | (uuid[6] & 0x0f);
    uuid[8] = 0x80 | (uuid[8] & 0x3f);
    uuid
}

fn rewrite_nodes<D>(
    volume: &mut Volume<'_, D>,
    superblock: &Superblock,
    survey: &Survey,
    identity: &Identity,
) -> Result<(), Fault>
where
    D: Source + Target + ?Sized,
{
    for place in &survey.nodes {
        let mut node = survey::read(volume, superblock, &survey.chunks, *place)?;
        if node.is_leaf() {
            identity.rewrite(&mut node, place.tree)?;
        }
        let bytes = node.sealed(&identity.chunk_tree, superblock.checksum)?;
        for copy in survey.chunks.copies(place.address, bytes.len() as u64)? {
            volume.write(copy, &bytes)?;
        }
    }
    Ok(())
}

/// The ranges of the partition that nothing leads to, rising.
fn gaps(length: u64, survey: &Survey) -> Result<Vec<Range<u64>>, Fault> {
    let mut used = superblock::MIRRORS.map(|mirror| mirror..mirror + superblock::SIZE as u64).to_vec();
    used.push(0..RESERVED);
    for Range { start, end } in &survey.used {
        let size = end - start;
        let copies = survey.chunks.copies(*start, size)?;
        let ends = copies.into_iter().map(|copy| (copy, copy.checked_add(size).filter(|end| *end <= length)));
        for (copy, end) in ends {
            used.push(copy..end.ok_or(Fault::BeyondEnd(copy, size))?);
        }
    }
    used.sort_by_key(|range| range.start);
    let mut at = 0;
    let mut gaps = Vec::new();
    for range in used {
        if at < range.start.min(length) {
            gaps.push(at..range.start.min(length));
        }
        at = at.max(range.end);
    }
    gaps.extend((at < length).then_some(at..length));
    Ok(gaps)
}
