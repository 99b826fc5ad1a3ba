//! Leaves out of contents what the base image has already.

use super::{Files, Sources};
use crate::{Error, error::Kind};
use kiln_image::{
    difference::same_bytes,
    entry::Metadata,
    path,
    tree::{Content, NodeId, Tree},
};

/// Takes every file out of `tree` that the base has with the same contents and metadata, and the
/// directories in which nothing is left. The sources begin with the base's layers. A time counts only if it is before `epoch`: later ones say
/// when the build was, not what the file is.
pub(super) fn leave_out(tree: &mut Tree, sources: &Sources, base: &Files, epoch: i64) -> Result<(), Error> {
    let names: Vec<(Vec<u8>, NodeId)> = tree.walk().skip(1).collect();
    let link_counts = tree.link_counts();
    // Backwards, what is in a directory comes before the directory.
    for (path, id) in names.into_iter().rev() {
        let is_linked = !tree.is_directory(id) && link_counts[id.index()] > 1;
        if is_linked || !is_unchanged(tree, id, &path, sources, base, epoch)? {
            continue;
        }
        let (parent, name) = path::split_name(&path).expect("the root was skipped");
        let parent = tree.lookup(parent).expect("the walk came through it");
        tree.children_mut(parent).expect("it has children").remove(name);
    }
    Ok(())
}

fn is_unchanged(
    tree: &Tree,
    id: NodeId,
    path: &[u8],
    sources: &Sources,
    base: &Files,
    epoch: i64,
) -> Result<bool, Error> {
    let Some(base_id) = base.tree.lookup(path) else { return Ok(false) };
    let (new, old) = (tree.node(id), base.tree.node(base_id));
    match (&new.content, &old.content) {
        (Content::Directory(children), Content::Directory(_)) => {
            let old_time = Metadata { mtime: new.metadata.mtime, ..old.metadata.clone() };
            Ok(children.is_empty() && new.metadata == old_time)
        }
        (Content::File { .. }, Content::File { .. }) => {
            if !is_same_metadata(&new.metadata, &old.metadata, epoch) {
                return Ok(false);
            }
            let compared = sources.with_reader(|read| same_bytes(new, old, read));
            let what = || format!("cannot compare {} with the base's", String::from_utf8_lossy(path));
            Ok(compared.map_err(|source| Kind::Image { what: what(), source })?)
        }
        (new_content, old_content) => {
            Ok(new_content == old_content && is_same_metadata(&new.metadata, &old.metadata, epoch))
        }
    }
}

fn is_same_metadata(new: &Metadata, old: &Metadata, epoch: i64) -> bool {
    let mtime = if new.mtime >= epoch { old.mtime } else { new.mtime };
    Metadata { mtime, ..new.clone() } == *old
}
