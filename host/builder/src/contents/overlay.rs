//! Finished layers in overlayfs's dialect: archives of an upper directory.
//! <https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories>

use super::{Sources, cannot_pack};
use crate::{Error, error::Kind};
use kiln_image::{
    layer::LayerWriter,
    tree::{Content, Tree},
    upper,
};
use kiln_store::{Layer, Store};
use std::io::Write;

/// How overlayfs's own attributes begin.
const XATTRS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// The layer in the dialect of images; `None` where it is already.
pub(crate) fn of_overlay<W: Write>(
    layer: &Layer,
    store: &Store,
    out: impl FnOnce() -> Result<W, Error>,
) -> Result<Option<W>, Error> {
    let tree = layer.headers().and_then(|mut reader| Tree::from_layer_archive(0, reader.entries()));
    let what = || "it is no layer".to_owned();
    let tree = tree.map_err(|source| Kind::Image { what: what(), source })?;
    if !tree.walk().any(|(_, id)| is_of_overlay(&tree, id)) {
        return Ok(None);
    }
    let items = upper::items(&tree).map_err(|source| Kind::Image { what: what(), source })?;
    // Times are those of the archive: whoever made it has capped them, or not.
    let mut writer = LayerWriter::new(out()?, i64::MAX);
    let sources = Sources::new(store, std::slice::from_ref(layer));
    let written = sources.with_reader(|read| writer.write_items(items, read));
    written.and_then(|()| writer.finish()).map(Some).map_err(|source| cannot_pack(store, source))
}

fn is_of_overlay(tree: &Tree, id: kiln_image::tree::NodeId) -> bool {
    let node = tree.node(id);
    let has_xattr = |name: &Vec<u8>| XATTRS.iter().any(|prefix| name.starts_with(prefix));
    node.content == (Content::CharacterDevice { major: 0, minor: 0 })
        || node.metadata.xattrs.keys().any(has_xattr)
}
