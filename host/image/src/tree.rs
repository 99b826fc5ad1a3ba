//! The merged file tree of an image: metadata in memory, contents by reference.

use crate::entry::Metadata;
use std::collections::BTreeMap;

/// Index of a node in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

/// A file: its metadata and what it is. Hard links are several names of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Owner, mode, times, attributes.
    pub metadata: Metadata,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory: names, sorted bytewise, to nodes.
    Directory(BTreeMap<Vec<u8>, NodeId>),
    /// A regular file.
    File {
        /// Bytes when read.
        size: u64,
        /// Where its bytes are: sorted, not overlapping, within `size`. What no extent covers is zero.
        extents: Vec<Extent>,
    },
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A run of a file's bytes in one of the tree's sources (the layers' tars, in the order they were
/// applied).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte in the file.
    pub file_offset: u64,
    /// Bytes.
    pub length: u64,
    /// Which source.
    pub source: u32,
    /// First byte in the source.
    pub source_offset: u64,
}

/// A file tree. There is always a root directory.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// The root directory.
    pub const ROOT: NodeId = NodeId(0);

    /// A tree of an empty root directory with mode 0755, owned by root.
    pub fn new() -> Self {
        let metadata = Metadata { mode: 0o755, ..Metadata::default() };
        Self { nodes: vec![Node { metadata, content: Content::Directory(BTreeMap::new()) }] }
    }

    /// The node of an id of this tree.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Adds a node that has no name yet.
    pub fn insert(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 files"));
        self.nodes.push(node);
        id
    }

    /// The node of an id of this tree, to change.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}
