//! Everything there is, found before anything is changed: nodes of all trees, chunks, subvolumes, addresses in use.

use super::Uuid;
use super::chunk::Chunks;
use super::fault::Fault;
use super::node::{Expected, Item, MAX_LEVEL, Node};
use super::root_item;
use super::superblock::{Root, Superblock};
use super::volume::Volume;
use crate::sparse::{Source, Target};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// Most nodes: 16 GiB of them by the usual size.
const MAX_NODES: usize = 1 << 20;

/// Most ranges of addresses in use.
const MAX_RANGES: usize = 1 << 22;

// Types of items (https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#item-types).
pub(super) const INODE_ITEM: u8 = 1;
pub(super) const ROOT_ITEM: u8 = 132;
const EXTENT_ITEM: u8 = 168;
const METADATA_ITEM: u8 = 169;
pub(super) const DEV_EXTENT: u8 = 204;
pub(super) const DEV_ITEM: u8 = 216;
pub(super) const CHUNK_ITEM: u8 = 228;

/// What a tree is for, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tree {
    Roots,
    Chunks,
    Extents,
    Devices,
    Uuids,
    /// A subvolume's files.
    Files,
    /// The one that the kernel moves data with: a directory that mkfs made.
    Relocation,
    Other,
}

impl Tree {
    /// The tree of an object id (<https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#reserved-objectids>).
    fn of_id(id: u64) -> Self {
        match id {
            1 => Self::Roots,
            2 => Self::Extents,
            3 => Self::Chunks,
            4 => Self::Devices,
            9 => Self::Uuids,
            _ if id == 9_u64.wrapping_neg() => Self::Relocation,
            _ if is_subvolume(id) => Self::Files,
            _ => Self::Other,
        }
    }
}

fn is_subvolume(id: u64) -> bool {
    id == 5 || (256..=256_u64.wrapping_neg()).contains(&id)
}

/// A node that was found right, and read again when it is changed.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub tree: Tree,
    pub address: u64,
    pub level: u8,
}

pub(super) struct Survey {
    pub chunks: Chunks,
    pub nodes: Vec<Place>,
    /// Ids of subvolumes by the UUIDs that they have.
    pub subvolumes: BTreeMap<Uuid, u64>,
    /// Addresses in use, rising and apart.
    pub used: Vec<Range<u64>>,
    roots: Vec<(Tree, Root)>,
    seen: HashSet<u64>,
}

impl Survey {
    pub(super) fn of<D: Source + Target + ?Sized>(
        volume: &Volume<'_, D>,
        superblock: &Superblock,
    ) -> Result<Self, Fault> {
        let mut survey = Self {
            chunks: superblock.system_chunks()?,
            nodes: Vec::new(),
            subvolumes: BTreeMap::new(),
            used: Vec::new(),
            roots: Vec::new(),
            seen: HashSet::new(),
        };
        survey.walk(volume, superblock, Tree::Chunks, superblock.chunk_tree())?;
        survey.walk(volume, superblock, Tree::Roots, superblock.root_tree())?;
        for (tree, root) in std::mem::take(&mut survey.roots) {
            survey.walk(volume, superblock, tree, root)?;
        }
        survey.check_used(u64::from(superblock.nodesize()))?;
        Ok(survey)
    }

    /// Snapshots share nodes: each is visited once.
    fn walk<D: Source + Target + ?Sized>(
        &mut self,
        volume: &Volume<'_, D>,
        superblock: &Superblock,
        tree: Tree,
        Root { address, level }: Root,
    ) -> Result<(), Fault> {
        if level > MAX_LEVEL {
            return Err(Fault::Node(address, "its tree has more levels than there are"));
        }
        let mut pending = vec![Place { tree, address, level }];
        while let Some(place) = pending.pop() {
            if !self.seen.insert(place.address) {
                continue;
            }
            if self.nodes.len() == MAX_NODES {
                return Err(Fault::Nodes(MAX_NODES));
            }
            self.nodes.push(place);
            let node = read(volume, superblock, &self.chunks, place)?;
            if node.is_leaf() {
                self.take_items(&node, tree, superblock.nodesize())?;
            } else {
                let below = place.level - 1;
                let children = node.children().map(|address| Place { tree, address, level: below });
                let first = pending.len();
                pending.extend(children);
                pending[first..].reverse();
            }
        }
        Ok(())
    }

    fn take_items(&mut self, node: &Node, tree: Tree, nodesize: u32) -> Result<(), Fault> {
        for (index, item) in node.items()?.iter().enumerate() {
            match (tree, item.key.kind) {
                (Tree::Chunks, CHUNK_ITEM) => {
                    self.chunks.insert(item.key.offset, &node.bytes[item.place.clone()])?;
                }
                (Tree::Roots, ROOT_ITEM) => self.take_root(node, index, item)?,
                (Tree::Extents, EXTENT_ITEM) => self.take_range(item.key.objectid, item.key.offset)?,
                (Tree::Extents, METADATA_ITEM) => self.take_range(item.key.objectid, u64::from(nodesize))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn take_root(&mut self, node: &Node, index: usize, item: &Item) -> Result<(), Fault> {
        let bytes = &node.bytes[node.sized(index, item, root_item::SIZE)?];
        if root_item::is_half_deleted(bytes) {
            return Err(Fault::Unsupported("a subvolume that is half deleted"));
        }
        let uuid = root_item::uuid(bytes);
        if uuid != Uuid::default() && self.subvolumes.insert(uuid, item.key.objectid).is_some() {
            return Err(Fault::Unsupported("two subvolumes of one UUID"));
        }
        let root = root_item::root(bytes);
        if root.address != 0 {
            self.roots.push((Tree::of_id(item.key.objectid), root));
        }
        Ok(())
    }

    /// The next range of the tree of extents, in which they rise.
    fn take_range(&mut self, address: u64, length: u64) -> Result<(), Fault> {
        let end = address.checked_add(length).ok_or(Fault::Unmapped(address, length))?;
        let count = self.used.len();
        match self.used.last_mut() {
            Some(last) if address < last.end => return Err(Fault::Node(address, "extents overlap")),
            Some(last) if address == last.end && self.chunks.copies(last.start, end - last.start).is_ok() => {
                last.end = end;
            }
            _ if count == MAX_RANGES => return Err(Fault::Ranges(MAX_RANGES)),
            _ => self.used.push(address..end),
        }
        Ok(())
    }

    /// What is not in use will be zero: no node may be there.
    fn check_used(&self, nodesize: u64) -> Result<(), Fault> {
        let stray = self.nodes.iter().find(|node| {
            let after = self.used.partition_point(|range| range.start <= node.address);
            let range = after.checked_sub(1).map(|index| &self.used[index]);
            range.is_none_or(|range| node.address + nodesize > range.end)
        });
        stray.map_or(Ok(()), |node| Err(Fault::Node(node.address, "the tree of extents does not have it")))
    }
}

/// Reads a node's first copy.
pub(super) fn read<D: Source + Target + ?Sized>(
    volume: &Volume<'_, D>,
    superblock: &Superblock,
    chunks: &Chunks,
    place: Place,
) -> Result<Node, Fault> {
    let nodesize = superblock.nodesize();
    let copies = chunks.copies(place.address, u64::from(nodesize))?;
    let mut bytes = vec![0; nodesize as usize];
    volume.read(copies[0], &mut bytes)?;
    let Place { address, level, .. } = place;
    Node::parse(
        bytes,
        &Expected { address, level, fsid: superblock.node_fsid(), checksum: superblock.checksum },
    )
}
