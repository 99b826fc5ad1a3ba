//! The tree's inodes in the order they get on the disk: the root first, because the superblock has
//! only 16 bits for its place, then each directory's children together.

use crate::Error;
use crate::error::Kind;
use kiln_image::path;
use kiln_image::tree::{Content, Node, NodeId, Tree};
use std::collections::HashMap;

/// An inode and how it was first reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit<'t> {
    pub(super) node: &'t Node,
    /// Position in [`Walk::visits`] of the directory it was first found in; the root's is its own.
    pub(super) parent: usize,
    /// Name in that directory; the root's is empty.
    name: &'t [u8],
    /// Names it has, and for a directory `.` and its subdirectories' `..` too.
    pub(super) links: u32,
}

/// All nodes that have a name.
#[derive(Debug)]
pub(super) struct Walk<'t> {
    pub(super) visits: Vec<Visit<'t>>,
    positions: HashMap<NodeId, usize>,
}

impl<'t> Walk<'t> {
    pub(super) fn new(tree: &'t Tree) -> Result<Self, Error> {
        let root = Visit { node: tree.node(Tree::ROOT), parent: 0, name: b"", links: 2 };
        let mut walk = Self { visits: vec![root], positions: HashMap::from([(Tree::ROOT, 0)]) };
        let mut next = 0;
        while next < walk.visits.len() {
            if let Content::Directory(children) = &walk.visits[next].node.content {
                for (name, id) in children {
                    walk.visit(tree, next, name, *id)?;
                }
            }
            next += 1;
        }
        Ok(walk)
    }

    fn visit(&mut self, tree: &'t Tree, parent: usize, name: &'t [u8], id: NodeId) -> Result<(), Error> {
        let error = |walk: &Self, kind| Error::at(&walk.join(parent, name), kind);
        if !is_file_name(name) {
            return Err(error(self, Kind::FileName));
        }
        let node = tree.node(id);
        let is_directory = matches!(node.content, Content::Directory(_));
        match self.positions.get(&id) {
            Some(_) if is_directory => return Err(error(self, Kind::LinkedDirectory)),
            Some(known) => self.visits[*known].links += 1,
            None => {
                self.positions.insert(id, self.visits.len());
                let links = if is_directory { 2 } else { 1 };
                self.visits.push(Visit { node, parent, name, links });
                self.visits[parent].links += u32::from(is_directory);
            }
        }
        Ok(())
    }

    /// Position in [`Walk::visits`] of a node that has a name.
    pub(super) fn position(&self, id: NodeId) -> usize {
        self.positions[&id]
    }

    /// The path of an inode, by its first name.
    pub(super) fn path(&self, position: usize) -> Vec<u8> {
        let visit = self.visits[position];
        if position == 0 { Vec::new() } else { self.join(visit.parent, visit.name) }
    }

    fn join(&self, parent: usize, name: &[u8]) -> Vec<u8> {
        let (mut names, mut position) = (vec![name], parent);
        while position != 0 {
            names.push(self.visits[position].name);
            position = self.visits[position].parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

fn is_file_name(name: &[u8]) -> bool {
    let reserved = name.is_empty() || name == b"." || name == b"..";
    !reserved && name.len() <= path::MAX_NAME && !name.contains(&b'/') && !name.contains(&0)
}
