//! What goes into the image from the host: directories and tars, packed once into one tar.
//!
//! That tar is a snapshot: nothing that happens to the files later changes the build. It is the new
//! layer itself when nothing is run, and what the guest mounts otherwise.

mod directory;
mod source;
mod unchanged;

pub(crate) use unchanged::BaseFiles;

use source::Sources;

use crate::{
    ContentSource, Error,
    error::Kind,
    packing::{LayerFile, PackedLayer},
};
use kiln_image::{
    compress::Compression,
    contents::{Contents, Owner, Placement},
    layer::LayerWriter,
    tree::Tree,
};
use kiln_store::Store;
use std::num::NonZeroUsize;

/// Parses `"UID:GID"` or `"keep"`.
pub(crate) fn parse_owner(text: &str) -> Result<Owner, String> {
    let ids = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    match (text, ids) {
        ("keep", _) => Ok(Owner::Keep),
        (_, Some((uid, gid))) => Ok(Owner::Set { uid, gid }),
        _ => Err(format!("`{text}` is no owner; write it like 0:0 or keep")),
    }
}

/// Packs all `contents` into one uncompressed layer on top of the base image, if there is one. No time
/// in it is later than `epoch`. What the base has already is left out of a `finished` layer; otherwise
/// scripts find all of the contents in the layer, and the agent compares at the end.
pub(crate) fn pack(
    contents: &[ContentSource],
    base: Option<&BaseFiles>,
    epoch: i64,
    finished: bool,
    store: &Store,
) -> Result<PackedLayer, Error> {
    let mut sources = Sources::new(store);
    let nothing = Tree::new();
    let mut collected = Contents::new(base.map_or(&nothing, |base| &base.tree));
    for content in contents {
        let (tree, mtime) = read(content, &mut sources, epoch)?;
        let placement = Placement {
            destination: content.dest.clone(),
            owner: content.owner,
            mtime,
            // A tar whose owners are kept says how its directories are to be.
            replaces_directories: content.owner == Owner::Keep,
        };
        let failed =
            |source| Kind::Image { what: format!("cannot place {}", content.path.display()), source };
        collected.place(&tree, &placement).map_err(failed)?;
    }
    let mut tree = collected.into_tree();
    if let Some(base) = base.filter(|_| finished) {
        unchanged::leave_out(&mut tree, &sources, base, epoch)?;
    }
    write(&tree, &sources, epoch, store)
}

/// A content's tree, and the time its files get.
fn read(content: &ContentSource, sources: &mut Sources, epoch: i64) -> Result<(Tree, Option<i64>), Error> {
    if content.path.is_dir() {
        // Their own times say only when they were checked out.
        Ok((directory::read(&content.path, sources)?, Some(epoch)))
    } else {
        Ok((sources.add_archive(&content.path)?, None))
    }
}

fn write(tree: &Tree, sources: &Sources, epoch: i64, store: &Store) -> Result<PackedLayer, Error> {
    let failed = |source| Kind::Temporary { directory: store.path().to_owned(), source };
    let file = LayerFile::create(store, Compression::None, NonZeroUsize::MIN)?;
    let mut writer = LayerWriter::new(file, epoch);
    let packed = sources.with_reader(|read| writer.write_tree(tree, read));
    packed
        .and_then(|()| writer.finish())
        .map_err(|source| Kind::Layer { directory: store.path().to_owned(), source })?
        .finish()
        .map_err(|e| failed(e).into())
}
