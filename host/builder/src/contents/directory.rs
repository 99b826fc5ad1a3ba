//! A directory of the host as a tree.

use super::Sources;
use crate::{Error, error::Kind};
use kiln_image::{
    entry::Metadata,
    tree::{Content, Extent, Node, NodeId, Tree},
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// Permission bits of `st_mode`.
const MODE_BITS: u32 = 0o7777;

/// Reads what is in `root`: names, kinds, modes, owners. Contents stay where they are.
///
/// Times are left out, and so are extended attributes and which names are hard links of one file:
/// they say more about the host than about the files. Sockets are skipped.
pub(super) fn read(root: &Path, sources: &mut Sources) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    let root_metadata = fs::metadata(root).map_err(|error| unreadable(root, error))?;
    tree.node_mut(Tree::ROOT).metadata = metadata(&root_metadata);
    // Not recursive: a directory can be deeper than a stack.
    let mut pending = vec![(root.to_owned(), Tree::ROOT)];
    while let Some((path, directory)) = pending.pop() {
        for (name, path) in list(&path).map_err(|error| unreadable(&path, error))? {
            let Some(node) = node(&path, sources).map_err(|error| unreadable(&path, error))? else {
                continue;
            };
            let id = tree.insert(node);
            insert_name(&mut tree, directory, name, id);
            if tree.is_directory(id) {
                pending.push((path, id));
            }
        }
    }
    Ok(tree)
}

/// Sorted, so that what is read does not depend on the file system.
fn list(path: &Path) -> io::Result<BTreeMap<Vec<u8>, PathBuf>> {
    let entries = fs::read_dir(path)?;
    entries.map(|entry| entry.map(|entry| (entry.file_name().into_vec(), entry.path()))).collect()
}

fn insert_name(tree: &mut Tree, directory: NodeId, name: Vec<u8>, id: NodeId) {
    tree.children_mut(directory).expect("only directories are listed").insert(name, id);
}

fn node(path: &Path, sources: &mut Sources) -> io::Result<Option<Node>> {
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    let content = if kind.is_dir() {
        Content::Directory(BTreeMap::new())
    } else if kind.is_symlink() {
        Content::Symlink(fs::read_link(path)?.as_os_str().as_bytes().to_vec())
    } else if kind.is_fifo() {
        Content::Fifo
    } else if kind.is_char_device() {
        Content::CharacterDevice { major: major(&found), minor: minor(&found) }
    } else if kind.is_block_device() {
        Content::BlockDevice { major: major(&found), minor: minor(&found) }
    } else if kind.is_file() {
        file(path, found.size(), sources)
    } else {
        return Ok(None);
    };
    Ok(Some(Node { metadata: metadata(&found), content }))
}

fn file(path: &Path, size: u64, sources: &mut Sources) -> Content {
    let source = sources.add_file(path.to_owned());
    let whole = Extent { file_offset: 0, length: size, source, source_offset: 0 };
    Content::File { size, extents: Vec::from_iter((size > 0).then_some(whole)) }
}

fn metadata(found: &fs::Metadata) -> Metadata {
    let mode = if found.file_type().is_symlink() { 0o777 } else { found.mode() & MODE_BITS };
    Metadata {
        mode: u16::try_from(mode).expect("12 bits"),
        uid: found.uid(),
        gid: found.gid(),
        ..Metadata::default()
    }
}

fn major(found: &fs::Metadata) -> u32 {
    rustix::fs::major(found.rdev())
}

fn minor(found: &fs::Metadata) -> u32 {
    rustix::fs::minor(found.rdev())
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Kind::Read { path: path.to_owned(), source }.into()
}
