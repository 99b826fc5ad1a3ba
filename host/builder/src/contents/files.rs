//! The files of layers, merged.

use crate::{Error, error::Kind};
use kiln_image::tree::{Content, NodeId, Tree};
use kiln_store::Layer;

/// An image's files.
pub(crate) struct Files {
    /// Merged; its sources are the layers.
    pub tree: Tree,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

impl Files {
    /// The files of these layers, lowest first.
    pub fn of(layers: &[Layer]) -> Result<Self, Error> {
        Ok(Self { tree: merged(layers, 0)?, layers: layers.to_vec() })
    }
}

/// Merges layers, which are sources from `first_source`.
pub(super) fn merged(layers: &[Layer], first_source: u32) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    for (source, layer) in (first_source..).zip(layers) {
        let applied = layer.headers().and_then(|mut reader| tree.apply_layer(source, reader.entries()));
        let what = || format!("cannot lay layer {} over those below", layer.diff_id);
        applied.map_err(|source| Kind::Image { what: what(), source })?;
    }
    tree.compact();
    Ok(tree)
}

/// What is at a path, as a tree of its own: of a directory what is in it, of anything else itself under its name.
pub(super) fn part(mut tree: Tree, path: &[u8]) -> Result<Tree, Error> {
    let shown = || String::from_utf8_lossy(path).into_owned();
    let id = tree.lookup(path).ok_or_else(|| Kind::NotInImage { path: shown() })?;
    let root = if tree.is_directory(id) {
        tree.node(id).clone()
    } else {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let mut root = tree.node(Tree::ROOT).clone();
        root.content = Content::Directory([(name.to_vec(), id)].into());
        root
    };
    *tree.node_mut(Tree::ROOT) = root;
    tree.compact();
    Ok(tree)
}

/// Lays the files of a tree over those of another: a directory over a directory keeps what is in it and takes the new
/// metadata, anything else replaces.
pub(super) fn lay_over(below: &mut Tree, over: &Tree) {
    below.node_mut(Tree::ROOT).metadata = over.node(Tree::ROOT).metadata.clone();
    // Ids of `over` in `below`: several names of one file stay one file.
    let mut known: Vec<Option<NodeId>> = vec![None; over.node_count()];
    // Not recursive: a tree can be deeper than a stack.
    let mut pending = vec![(Tree::ROOT, Tree::ROOT)];
    while let Some((from, to)) = pending.pop() {
        for (name, id) in over.children(from).into_iter().flatten() {
            let existing = below.child(to, name).filter(|existing| below.is_directory(*existing));
            let target = match existing {
                Some(existing) if over.is_directory(*id) => {
                    below.node_mut(existing).metadata = over.node(*id).metadata.clone();
                    existing
                }
                _ => *known[id.index()].get_or_insert_with(|| below.insert(childless(over, *id))),
            };
            below.children_mut(to).expect("a directory").insert(name.clone(), target);
            if over.is_directory(*id) {
                pending.push((*id, target));
            }
        }
    }
}

fn childless(tree: &Tree, id: NodeId) -> kiln_image::tree::Node {
    let mut node = tree.node(id).clone();
    if tree.is_directory(id) {
        node.content = Content::Directory(Default::default());
    }
    node
}

/// Removes a file or directory with all that is in it; whether it was there.
pub(super) fn remove(tree: &mut Tree, path: &[u8]) -> bool {
    let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    let parent = tree.lookup(parent);
    let children = parent.and_then(|parent| tree.children_mut(parent));
    children.and_then(|children| children.remove(name)).is_some()
}
