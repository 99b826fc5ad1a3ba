//! Root items: what the tree of roots says of each other tree.

use super::superblock::Root;
use super::times::{self, TIME_SIZE};
use super::{UUID_SIZE, Uuid};
use crate::field::get_u64;
use std::collections::BTreeMap;

// Offsets of fields (https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#root-item-84).
const BYTENR: usize = 176;
const DROP_PROGRESS: usize = 220;
const LEVEL: usize = 238;
const UUIDS: usize = 247;
const TIMES: usize = 327;

/// Its own, its parent's, and the one that it was received as.
const UUID_COUNT: usize = 3;

/// Of change, origin, sending, receiving.
const TIME_COUNT: usize = 4;

/// Bytes, since there are UUIDs in it (Linux 3.6).
pub(super) const SIZE: usize = 439;

/// Where the tree begins. `item` has [`SIZE`] bytes, here and below.
pub(super) fn root(item: &[u8]) -> Root {
    Root { address: get_u64(item, BYTENR), level: item[LEVEL] }
}

/// Nodes of such a tree may be gone already.
pub(super) fn is_half_deleted(item: &[u8]) -> bool {
    get_u64(item, DROP_PROGRESS) != 0
}

/// The subvolume's UUID; zero for trees that are none.
pub(super) fn uuid(item: &[u8]) -> Uuid {
    item[UUIDS..UUIDS + UUID_SIZE].try_into().expect("a slice of this size")
}

/// Puts in the new UUIDs of all subvolumes that are known, and the time where there is one.
pub(super) fn rewrite(item: &mut [u8], uuids: &BTreeMap<Uuid, Uuid>, time_s: u64) {
    for field in item[UUIDS..UUIDS + UUID_COUNT * UUID_SIZE].chunks_exact_mut(UUID_SIZE) {
        if let Some(new) = uuids.get(&*field) {
            field.copy_from_slice(new);
        }
    }
    for field in item[TIMES..TIMES + TIME_COUNT * TIME_SIZE].chunks_exact_mut(TIME_SIZE) {
        times::stamp(field, time_s);
    }
    times::stamp_inode(item, time_s);
}
