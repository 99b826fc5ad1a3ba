//! Layers that are the difference of two trees.

use super::{Content, Files, Packing, Surroundings, cannot_pack, files, source::Sources};
use crate::{Error, error::Kind};
use kiln_image::{
    difference::{Mtimes, difference, same_bytes},
    layer::{LayerWriter, TreeItem},
    tree::{Extent, Node, Tree},
};
use kiln_store::{Layer, Store};
use std::io::{self, Write};

/// What a layer is to make of the files below.
pub(crate) struct Difference<'a> {
    pub contents: &'a [Content],
    /// The contents are all that is to be there.
    pub is_all: bool,
    /// What is to be gone before contents come.
    pub delete: &'a [Vec<u8>],
    pub epoch: i64,
}

impl Difference<'_> {
    /// Writes the layer.
    pub fn write<W: Write>(
        &self,
        below: Option<&Files>,
        surroundings: Surroundings,
        out: impl FnOnce() -> Result<W, Error>,
    ) -> Result<W, Error> {
        let nothing = Files { tree: Tree::new(), layers: Vec::new() };
        let below = below.unwrap_or(&nothing);
        let mut left = Files { tree: below.tree.clone(), layers: below.layers.clone() };
        if self.is_all {
            left.tree = Tree::new();
        }
        for path in self.delete {
            if !files::remove(&mut left.tree, path) && !self.is_all {
                let path = String::from_utf8_lossy(path).into_owned();
                return Err(Kind::NotInImage { path }.into());
            }
        }
        let packing = Packing::collect(self.contents, Some(&left), self.epoch, surroundings)?;
        let mut upper = left.tree;
        files::lay_over(&mut upper, &packing.tree);
        // What a directory's files say of their times is not theirs.
        let no_times = self.contents.iter().any(Content::has_no_times);
        let mtimes = if no_times { Mtimes::Ignored } else { Mtimes::Capped(self.epoch) };
        write(&below.tree, &upper, &packing.sources, mtimes, self.epoch, out()?)
    }
}

/// Changes files.
pub(crate) type Change<'a> = &'a mut dyn FnMut(&mut Tree, &mut Sources) -> Result<(), Error>;

/// Writes as one layer what several, and then `change`, make of the files below.
pub(crate) fn joined<W: Write>(
    below: &[Layer],
    layers: &[Layer],
    change: Change,
    epoch: i64,
    store: &Store,
    out: W,
) -> Result<W, Error> {
    let all = [below, layers].concat();
    let (lower, mut upper) = (files::merged(below, 0)?, files::merged(&all, 0)?);
    let mut sources = Sources::new(store, &all);
    change(&mut upper, &mut sources)?;
    write(&lower, &upper, &sources, Mtimes::Capped(epoch), epoch, out)
}

/// What a layer has to hold to make the upper tree of the lower.
pub(super) fn changes<'t>(
    lower: &Tree,
    upper: &'t Tree,
    sources: &Sources,
    epoch: i64,
) -> Result<Vec<TreeItem<'t>>, Error> {
    items(lower, upper, sources, Mtimes::Capped(epoch))
}

fn items<'t>(
    lower: &Tree,
    upper: &'t Tree,
    sources: &Sources,
    mtimes: Mtimes,
) -> Result<Vec<TreeItem<'t>>, Error> {
    let mut same = |lower: &Node, upper: &Node| sources.with_reader(|read| same_bytes(lower, upper, read));
    difference(lower, upper, mtimes, &mut same).map_err(|source| cannot_pack(sources.store(), source))
}

fn write<W: Write>(
    lower: &Tree,
    upper: &Tree,
    sources: &Sources,
    mtimes: Mtimes,
    epoch: i64,
    out: W,
) -> Result<W, Error> {
    let failed = |source| cannot_pack(sources.store(), source);
    let items = items(lower, upper, sources, mtimes)?;
    let mut writer = LayerWriter::new(out, epoch);
    let written = sources.with_reader(|read| writer.write_items(items, read));
    written.and_then(|()| writer.finish()).map_err(failed)
}

/// Fills `buffer` from `position` of a file; what no extent covers is zero.
pub(super) fn read_range(
    extents: &[Extent],
    position: u64,
    buffer: &mut [u8],
    read: &mut kiln_image::layer::ReadAt,
) -> io::Result<()> {
    buffer.fill(0);
    let end = position + buffer.len() as u64;
    for extent in extents {
        let from = extent.file_offset.max(position);
        let to = (extent.file_offset + extent.length).min(end);
        if from < to {
            let part = (from - position) as usize..(to - position) as usize;
            read(extent.source, extent.source_offset + (from - extent.file_offset), &mut buffer[part])?;
        }
    }
    Ok(())
}

/// All of a file's bytes.
pub(crate) fn read_file(
    tree: &Tree,
    sources: &Sources,
    id: kiln_image::tree::NodeId,
    path: &str,
    max_size: u64,
) -> Result<Vec<u8>, Error> {
    let kiln_image::tree::Content::File { size, extents } = &tree.node(id).content else {
        return Err(
            Kind::Request(format!("/{} is no file in the image", path.trim_start_matches('/'))).into()
        );
    };
    if *size > max_size {
        let path = path.trim_start_matches('/');
        return Err(Kind::Request(format!("/{path} of {size} bytes is too large to be read")).into());
    }
    let mut bytes = vec![0; usize::try_from(*size).expect("far below the limit of memory")];
    let read = sources.with_reader(|read| read_range(extents, 0, &mut bytes, read));
    read.map_err(|source| Kind::Compare {
        what: format!("cannot read /{}", path.trim_start_matches('/')),
        source,
    })?;
    Ok(bytes)
}
