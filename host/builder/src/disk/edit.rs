//! Changes to the files of a tree, made on the host.

use super::survey;
use crate::{
    Error,
    contents::{Sources, read_file},
    error::Kind,
};
use kiln_image::{
    entry::Metadata,
    tree::{Content, Extent, Node, NodeId, Tree},
};

/// Largest file that is read to be changed, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// A change.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    /// A file, over what is there. Owner and mode of one that is there stay.
    File { path: String, mode: u16, bytes: Vec<u8> },
    /// Text at the end of a file, unless a line in it begins with the mark.
    Append { path: String, mark: &'static str, text: String },
    /// A file of another, larger one's bytes: both paths are of the tree.
    Copy { from: String, to: String },
    /// A symbolic link, over what is there.
    Symlink { path: String, target: String },
    /// A directory, unless it is there.
    Directory { path: String, mode: u16, uid: u32, gid: u32 },
    /// The owner of what is there.
    Owner { path: String, uid: u32, gid: u32 },
    /// Nothing there any more.
    Remove { path: String },
}

/// A tree with where its bytes are.
pub(crate) struct Editor<'t, 's, 'a> {
    pub tree: &'t mut Tree,
    pub sources: &'s mut Sources<'a>,
}

impl Editor<'_, '_, '_> {
    pub fn apply(&mut self, edits: &[Edit]) -> Result<(), Error> {
        edits.iter().try_for_each(|edit| self.apply_one(edit))
    }

    fn apply_one(&mut self, edit: &Edit) -> Result<(), Error> {
        match edit {
            Edit::File { path, mode, bytes } => self.put(path, *mode, bytes.clone()),
            Edit::Append { path, mark, text } => {
                let mut bytes = self.read(path)?.unwrap_or_default();
                if bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(mark.as_bytes())) {
                    return Ok(());
                }
                if bytes.last().is_some_and(|last| *last != b'\n') {
                    bytes.push(b'\n');
                }
                bytes.extend_from_slice(text.as_bytes());
                self.put(path, 0o644, bytes)
            }
            Edit::Copy { from, to } => self.copy(from, to),
            Edit::Symlink { path, target } => {
                let content = Content::Symlink(target.clone().into_bytes());
                self.place(path, Node { metadata: fresh(0o777), content })
            }
            Edit::Directory { path, mode, uid, gid } => {
                if survey::find(self.tree, path).is_some_and(|(_, id)| self.tree.is_directory(id)) {
                    return Ok(());
                }
                let metadata = Metadata { uid: *uid, gid: *gid, ..fresh(*mode) };
                self.place(path, Node { metadata, content: Content::Directory(Default::default()) })
            }
            Edit::Owner { path, uid, gid } => {
                if let Some((_, id)) = survey::find(self.tree, path) {
                    let metadata = &mut self.tree.node_mut(id).metadata;
                    (metadata.uid, metadata.gid) = (*uid, *gid);
                }
                Ok(())
            }
            Edit::Remove { path } => {
                let (parent, name) = split(path);
                if let Some((_, parent)) = survey::find(self.tree, parent)
                    && let Some(children) = self.tree.children_mut(parent)
                {
                    children.remove(name.as_bytes());
                }
                Ok(())
            }
        }
    }

    fn put(&mut self, path: &str, mode: u16, bytes: Vec<u8>) -> Result<(), Error> {
        let before = survey::find(self.tree, path).map(|(real, id)| (real, self.tree.node(id).clone()));
        let kept = before.filter(|(_, node)| matches!(node.content, Content::File { .. }));
        let (path, mut metadata) = match kept {
            Some((real, node)) => (real, node.metadata),
            None => (path.to_owned(), fresh(mode)),
        };
        // Later than any epoch: the writer makes that of it.
        metadata.mtime = i64::MAX;
        let size = bytes.len() as u64;
        let source = self.sources.add_bytes(bytes);
        let extents = vec![Extent { file_offset: 0, length: size, source, source_offset: 0 }];
        self.place(&path, Node { metadata, content: Content::File { size, extents } })
    }

    fn copy(&mut self, from: &str, to: &str) -> Result<(), Error> {
        let found = survey::find(self.tree, from).map(|(_, id)| self.tree.node(id).clone());
        let node = found.ok_or_else(|| Kind::NotInImage { path: from.to_owned() })?;
        self.place(to, Node { metadata: fresh(0o644), content: node.content })
    }

    /// Puts a node at a path, making directories above it.
    fn place(&mut self, path: &str, node: Node) -> Result<(), Error> {
        let (parent, name) = split(path);
        let directory = self.directory(parent)?;
        let id = self.tree.insert(node);
        self.tree.children_mut(directory).expect("a directory").insert(name.as_bytes().to_vec(), id);
        Ok(())
    }

    fn directory(&mut self, path: &str) -> Result<NodeId, Error> {
        let path = path.trim_matches('/');
        if let Some((_, id)) = survey::find(self.tree, path) {
            let message = || format!("/{path} is no directory in the image");
            return if self.tree.is_directory(id) { Ok(id) } else { Err(Kind::Request(message()).into()) };
        }
        let (parent, name) = split(path);
        let parent = self.directory(parent)?;
        let content = Content::Directory(Default::default());
        let id = self.tree.insert(Node { metadata: fresh(0o755), content });
        self.tree.children_mut(parent).expect("a directory").insert(name.as_bytes().to_vec(), id);
        Ok(id)
    }

    /// Copies what is in a directory, if there is one, for another owner.
    pub fn copy_tree(&mut self, from: &str, to: &str, uid: u32, gid: u32) -> Result<(), Error> {
        let Some((_, id)) = survey::find(self.tree, from) else { return Ok(()) };
        let children: Vec<(Vec<u8>, NodeId)> =
            self.tree.children(id).into_iter().flatten().map(|(name, id)| (name.clone(), *id)).collect();
        for (name, child) in children {
            let Ok(name) = String::from_utf8(name) else { continue };
            let mut node = self.tree.node(child).clone();
            (node.metadata.uid, node.metadata.gid) = (uid, gid);
            let is_directory = self.tree.is_directory(child);
            if is_directory {
                node.content = Content::Directory(Default::default());
            }
            let target = format!("{to}/{name}");
            self.place(&target, node)?;
            if is_directory {
                self.copy_tree(&format!("{from}/{name}"), &target, uid, gid)?;
            }
        }
        Ok(())
    }

    /// A file's bytes, if there is one.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some((_, id)) = survey::find(self.tree, path) else { return Ok(None) };
        read_file(self.tree, self.sources, id, path, MAX_SIZE).map(Some)
    }
}

fn fresh(mode: u16) -> Metadata {
    Metadata { mode, mtime: i64::MAX, ..Metadata::default() }
}

fn split(path: &str) -> (&str, &str) {
    path.trim_matches('/').rsplit_once('/').unwrap_or(("", path.trim_matches('/')))
}
