//! Users in an image's files.

use super::source::Sources;
use crate::{Error, error::Kind};
use kiln_image::{
    entry::Metadata,
    password::{HashedPassword, set_in_passwd, set_in_shadow},
    tree::{Content, Extent, Node, NodeId, Tree},
};

/// Largest file of users that is read, in bytes.
const MAX_SIZE: u64 = 16 * 1024 * 1024;

const DIRECTORY: &[u8] = b"etc";
const SHADOW: &[u8] = b"shadow";
const PASSWD: &[u8] = b"passwd";

/// Sets root's password.
pub(crate) fn set_password(
    tree: &mut Tree,
    sources: &mut Sources,
    password: &HashedPassword,
) -> Result<(), Error> {
    let directory = directory(tree)?;
    let shadow = text(tree, sources, directory, SHADOW)?;
    let changed = set_in_shadow(&shadow.unwrap_or_default(), password);
    replace(tree, sources, directory, SHADOW, changed);
    if let Some(passwd) = text(tree, sources, directory, PASSWD)? {
        let changed = set_in_passwd(&passwd);
        if changed != passwd {
            replace(tree, sources, directory, PASSWD, changed);
        }
    }
    Ok(())
}

/// `/etc`, made where it is missing.
fn directory(tree: &mut Tree) -> Result<NodeId, Error> {
    if let Some(id) = tree.lookup(DIRECTORY) {
        let wrong = || Kind::Request("root's password cannot be set: /etc is no directory".to_owned());
        return tree.is_directory(id).then_some(id).ok_or_else(|| wrong().into());
    }
    let metadata = Metadata { mode: 0o755, ..Metadata::default() };
    let id = tree.insert(Node { metadata, content: Content::Directory(Default::default()) });
    tree.children_mut(Tree::ROOT).expect("the root is a directory").insert(DIRECTORY.to_vec(), id);
    Ok(id)
}

fn text(tree: &Tree, sources: &Sources, directory: NodeId, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let Some(id) = tree.child(directory, name) else { return Ok(None) };
    let shown = || format!("/etc/{}", String::from_utf8_lossy(name));
    let Content::File { size, extents } = &tree.node(id).content else {
        return Err(Kind::Request(format!("root's password cannot be set: {} is no file", shown())).into());
    };
    if *size > MAX_SIZE {
        return Err(Kind::Request(format!("root's password cannot be set: {} is too large", shown())).into());
    }
    let mut bytes = vec![0; usize::try_from(*size).expect("far below the limit of memory")];
    let read = sources.with_reader(|read| super::difference::read_range(extents, 0, &mut bytes, read));
    let what = || format!("cannot read {}", shown());
    read.map_err(|source| Kind::Compare { what: what(), source })?;
    Ok(Some(bytes))
}

/// Owner and mode stay; without a file before, only root reads it.
fn replace(tree: &mut Tree, sources: &mut Sources, directory: NodeId, name: &[u8], bytes: Vec<u8>) {
    let existing = tree.child(directory, name).map(|id| tree.node(id).metadata.clone());
    let mut metadata = existing.unwrap_or(Metadata { mode: 0o600, ..Metadata::default() });
    // Later than any epoch: the writer makes that of it.
    metadata.mtime = i64::MAX;
    let size = bytes.len() as u64;
    let source = sources.add_bytes(bytes);
    let extents = vec![Extent { file_offset: 0, length: size, source, source_offset: 0 }];
    let id = tree.insert(Node { metadata, content: Content::File { size, extents } });
    tree.children_mut(directory).expect("a directory").insert(name.to_vec(), id);
}
