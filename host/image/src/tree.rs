//! The merged file tree of an image: metadata in memory, contents by reference.

use crate::Error;
use crate::entry::Metadata;
use crate::path;
use crate::resolve::{self, Resolved, View};
use std::collections::BTreeMap;

/// Index of a node in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// Less than [`Tree::node_count`] of its tree.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

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
    pub(crate) nodes: Vec<Node>,
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
        &self.nodes[id.index()]
    }

    /// How many nodes there are, with those that have lost their names.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Adds a node that has no name yet.
    pub fn insert(&mut self, node: Node) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 files"));
        self.nodes.push(node);
        id
    }

    /// The node of an id of this tree, to change.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }
}

/// Names.
impl Tree {
    /// A directory's names and nodes; `None` for anything else.
    pub fn children(&self, id: NodeId) -> Option<&BTreeMap<Vec<u8>, NodeId>> {
        match &self.node(id).content {
            Content::Directory(children) => Some(children),
            _ => None,
        }
    }

    /// A directory's names and nodes, to change; `None` for anything else.
    pub fn children_mut(&mut self, id: NodeId) -> Option<&mut BTreeMap<Vec<u8>, NodeId>> {
        match &mut self.node_mut(id).content {
            Content::Directory(children) => Some(children),
            _ => None,
        }
    }

    /// The node with a name in a directory.
    pub fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.children(directory)?.get(name).copied()
    }

    /// True of a directory.
    pub fn is_directory(&self, id: NodeId) -> bool {
        self.children(id).is_some()
    }

    /// The node of a path; symbolic links on the way are not followed.
    pub fn lookup(&self, path: &[u8]) -> Option<NodeId> {
        path::components(path).try_fold(Self::ROOT, |directory, name| self.child(directory, name))
    }

    /// Where a path leads when all symbolic links are followed, with this tree's root as `/`, as in a
    /// chroot: `..` stops at the root. What does not exist is appended as it is.
    ///
    /// # Errors
    /// When there are more than [`resolve::MAX_LINKS`] links on the way, or the path becomes too long.
    pub(crate) fn resolve(&self, path: &[u8]) -> Result<Resolved<NodeId>, Error> {
        resolve::resolve(self, path)
    }

    /// Where a path leads when the symbolic links on the way are followed, but not one at its end.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub(crate) fn resolve_parent(&self, path: &[u8]) -> Result<Resolved<NodeId>, Error> {
        let Some((parent, name)) = path::split_name(path) else {
            return self.resolve(path);
        };
        let parent = self.resolve(parent)?;
        let place = parent.place.and_then(|directory| self.child(directory, name));
        Ok(Resolved { path: path::join(&parent.path, name), place })
    }

    /// Every name with its node, a directory before what is in it, names sorted bytewise: first the
    /// root, whose path is empty. A file with several names comes several times.
    pub fn walk(&self) -> Walk<'_> {
        Walk { tree: self, pending: vec![(Vec::new(), Self::ROOT)] }
    }

    /// For each node, by [`NodeId::index`], what stat(2) calls `nlink`: how many names a file has, and
    /// of a directory two and how many directories are in it. Zero for a node without a name.
    pub fn link_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.nodes.len()];
        for (_, id) in self.walk() {
            let in_directory = self
                .children(id)
                .map(|children| 2 + children.values().filter(|child| self.is_directory(**child)).count());
            counts[id.index()] += u32::try_from(in_directory.unwrap_or(1)).expect("fewer than 2^32 files");
        }
        counts
    }
}

impl View for Tree {
    type Place = NodeId;

    fn root(&self) -> NodeId {
        Self::ROOT
    }

    fn child(&self, place: NodeId, name: &[u8]) -> Option<NodeId> {
        self.child(place, name)
    }

    fn symlink(&self, place: NodeId) -> Option<&[u8]> {
        match &self.node(place).content {
            Content::Symlink(target) => Some(target),
            _ => None,
        }
    }
}

/// The iterator of [`Tree::walk`].
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    /// What is still to visit, the next one last.
    pending: Vec<(Vec<u8>, NodeId)>,
}

impl Iterator for Walk<'_> {
    type Item = (Vec<u8>, NodeId);

    fn next(&mut self) -> Option<Self::Item> {
        let (directory, id) = self.pending.pop()?;
        for (name, child) in self.tree.children(id).into_iter().flatten().rev() {
            self.pending.push((path::join(&directory, name), *child));
        }
        Some((directory, id))
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

/// Small trees for tests, and their listing.
#[cfg(test)]
pub(crate) mod test_tree {
    use super::*;

    /// Files at paths: `-> TARGET` is a symbolic link, `dir` a directory, `= PATH` another name of an
    /// earlier file, and anything else a file that has this as its owner's number or is empty.
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, what) in files {
            place(&mut tree, path.as_bytes(), what);
        }
        tree
    }

    fn place(tree: &mut Tree, path: &[u8], what: &str) {
        let (parent, name) = path::split_name(path).expect("not the root");
        let parent = directory(tree, parent);
        let id = match what.split_once(' ') {
            Some(("=", target)) => tree.lookup(target.as_bytes()).expect("an earlier file"),
            _ => tree.insert(node(what)),
        };
        tree.children_mut(parent).expect("a directory").insert(name.to_vec(), id);
    }

    fn node(what: &str) -> Node {
        let content = match what.strip_prefix("-> ") {
            Some(target) => Content::Symlink(target.as_bytes().to_vec()),
            None if what == "dir" => Content::Directory(BTreeMap::new()),
            None => Content::File { size: 0, extents: Vec::new() },
        };
        let mode = if what == "dir" { 0o755 } else { 0o644 };
        let metadata = Metadata { mode, uid: what.parse().unwrap_or(0), ..Metadata::default() };
        Node { metadata, content }
    }

    fn directory(tree: &mut Tree, path: &[u8]) -> NodeId {
        let mut directory = Tree::ROOT;
        for name in path::components(path) {
            directory = tree.child(directory, name).unwrap_or_else(|| {
                let id = tree.insert(node("dir"));
                tree.children_mut(directory).expect("a directory").insert(name.to_vec(), id);
                id
            });
        }
        directory
    }

    /// Every path but the root's, with `/` for a directory, a link's target, or a file's owner.
    pub(crate) fn listing(tree: &Tree) -> Vec<String> {
        let line = |(path, id): (Vec<u8>, NodeId)| {
            let path = String::from_utf8(path).expect("tests have ASCII names");
            let uid = tree.node(id).metadata.uid;
            match &tree.node(id).content {
                Content::Directory(_) => format!("{path}/ {uid}"),
                Content::Symlink(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
                _ => format!("{path} {uid}"),
            }
        };
        tree.walk().skip(1).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_sorted_and_counts_links() {
        let tree = test_tree::of(&[("b/c", "1"), ("a.b", "2"), ("a/x", "3"), ("b/d/e", "4"), ("z", "= b/c")]);
        let lines = test_tree::listing(&tree);
        assert_eq!(lines, ["a/ 0", "a/x 3", "a.b 2", "b/ 0", "b/c 1", "b/d/ 0", "b/d/e 4", "z 1"]);
        let paths: Vec<_> = tree.walk().map(|(path, _)| path).collect();
        assert!(paths.is_sorted_by(|a, b| path::walk_order(a, b).is_lt()));
        let counts = tree.link_counts();
        for (path, count) in [("", 4), ("a", 2), ("b", 3), ("b/c", 2), ("a.b", 1)] {
            assert_eq!(counts[tree.lookup(path.as_bytes()).unwrap().index()], count, "{path}");
        }
    }

    #[test]
    fn lookup_follows_nothing() {
        let tree = test_tree::of(&[("a/b", "1"), ("l", "-> a")]);
        assert!(tree.lookup(b"a/b").is_some() && tree.lookup(b"").is_some() && tree.lookup(b"l").is_some());
        assert!(
            tree.lookup(b"l/b").is_none() && tree.lookup(b"a/b/c").is_none() && tree.lookup(b"x").is_none()
        );
    }
}
