//! New UUIDs and times in the items of a leaf.

use super::fault::Fault;
use super::node::{Item, Key, Node};
use super::superblock::DEVICE_UUID;
use super::survey::{CHUNK_ITEM, DEV_EXTENT, DEV_ITEM, INODE_ITEM, ROOT_ITEM, Tree};
use super::{InodeTimes, UUID_SIZE, Uuid, chunk, root_item, times};
use std::collections::BTreeMap;

/// Bytes of a device item.
const DEV_ITEM_SIZE: usize = 98;

/// Bytes of a device extent, and where the UUID of the tree of chunks is in it
/// (<https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#dev-extent-cc>).
const DEV_EXTENT_SIZE: usize = 48;
const DEV_EXTENT_CHUNK_TREE_UUID: usize = 32;

/// The type of items of the tree of UUIDs that lead to a subvolume by its own UUID; those by the UUID that it was received
/// as stay.
const UUID_KEY_SUBVOL: u8 = 251;

/// Object id of a subvolume's root directory.
const ROOT_DIRECTORY: u64 = 256;

/// What comes in place of what mkfs drew or looked up.
pub(super) struct Identity {
    pub device: Uuid,
    pub chunk_tree: Uuid,
    /// The new UUIDs of subvolumes by the old ones.
    pub subvolumes: BTreeMap<Uuid, Uuid>,
    pub time_s: u64,
    pub inode_times: InodeTimes,
}

impl Identity {
    pub(super) fn rewrite(&self, node: &mut Node, tree: Tree) -> Result<(), Fault> {
        let items = node.items()?;
        if tree == Tree::Uuids {
            self.rewrite_keys(node, items);
            return Ok(());
        }
        for (index, item) in items.iter().enumerate() {
            self.rewrite_item(node, tree, index, item)?;
        }
        Ok(())
    }

    fn rewrite_item(&self, node: &mut Node, tree: Tree, index: usize, item: &Item) -> Result<(), Fault> {
        match (tree, item.key.kind) {
            (Tree::Chunks, DEV_ITEM) => {
                let at = node.sized(index, item, DEV_ITEM_SIZE)?.start + DEVICE_UUID;
                node.bytes[at..at + UUID_SIZE].copy_from_slice(&self.device);
            }
            (Tree::Chunks, CHUNK_ITEM) => {
                chunk::set_device(&mut node.bytes[item.place.clone()], &self.device)
            }
            (Tree::Devices, DEV_EXTENT) => {
                let at = node.sized(index, item, DEV_EXTENT_SIZE)?.start + DEV_EXTENT_CHUNK_TREE_UUID;
                node.bytes[at..at + UUID_SIZE].copy_from_slice(&self.chunk_tree);
            }
            (Tree::Roots, ROOT_ITEM) => {
                let place = node.sized(index, item, root_item::SIZE)?;
                root_item::rewrite(&mut node.bytes[place], &self.subvolumes, self.time_s);
            }
            (Tree::Roots | Tree::Relocation, INODE_ITEM) => {
                let place = node.sized(index, item, times::INODE_SIZE)?;
                times::stamp_inode(&mut node.bytes[place], self.time_s);
            }
            (Tree::Files, INODE_ITEM) => {
                let place = node.sized(index, item, times::INODE_SIZE)?;
                let is_root = item.key.objectid == ROOT_DIRECTORY;
                times::rewrite(&mut node.bytes[place], is_root, self.inode_times, self.time_s);
            }
            _ => {}
        }
        Ok(())
    }

    /// The tree of UUIDs has them in its keys, so that new ones mean a new order.
    fn rewrite_keys(&self, node: &mut Node, mut items: Vec<Item>) {
        for item in items.iter_mut().filter(|item| item.key.kind == UUID_KEY_SUBVOL) {
            if let Some(uuid) = self.subvolumes.get(&uuid_of(item.key)) {
                item.key = key_of(uuid);
            }
        }
        items.sort_by_key(|item| item.key);
        node.reorder(&items);
    }
}

fn uuid_of(key: Key) -> Uuid {
    let both = u128::from(key.objectid) | u128::from(key.offset) << u64::BITS;
    both.to_le_bytes()
}

fn key_of(uuid: &Uuid) -> Key {
    let both = u128::from_le_bytes(*uuid);
    let low = (both & u128::from(u64::MAX)) as u64;
    Key { objectid: low, kind: UUID_KEY_SUBVOL, offset: (both >> u64::BITS) as u64 }
}
