//! Layers under way into the store: hashed, compressed on all cores and kept, all at once.

use crate::{Error, error::Kind, session::LayerReceiver};
use kiln_image::{
    compress::Compression,
    entry::{Entry, Kind as EntryKind, Metadata},
    layer::{LayerItem, LayerWriter},
};
use kiln_protocol::{LayerEntry, LayerRecord};
use kiln_store::{Layer, NewLayer, Store, StoredImage};
use std::{
    fs::File,
    num::NonZeroUsize,
    path::PathBuf,
    thread::{self, JoinHandle},
};

/// How much the threads that work ahead give way to the VM: the nicest
/// ([nice(2)](https://man7.org/linux/man-pages/man2/nice.2.html)).
const NICE: i32 = 19;

/// A layer on its way into the store, compressed in these ways.
pub(crate) fn new_layer(
    store: &Store,
    compressions: &[Compression],
    threads: NonZeroUsize,
) -> Result<NewLayer, Error> {
    let layer = store.new_layer(compressions, threads);
    Ok(layer.map_err(|source| Kind::Store { what: "cannot begin a layer".to_owned(), source })?)
}

/// Ends a layer.
pub(crate) fn finish(layer: NewLayer) -> Result<Layer, Error> {
    let layer = layer.finish();
    Ok(layer.map_err(|source| Kind::Store { what: "cannot keep the layer".to_owned(), source })?)
}

/// Whether nothing is in a layer.
pub(crate) fn is_empty(layer: &Layer) -> Result<bool, Error> {
    let first = layer.headers().map(|mut reader| reader.entries().next().is_none());
    let what = || format!("cannot read layer {}", layer.diff_id);
    Ok(first.map_err(|source| Kind::Image { what: what(), source })?)
}

/// Compresses an image's layers while the VM runs, those that came compressed in the `recompressions` only, unless the
/// store has them already. Whoever writes
/// the image waits for the thread first; a build that fails does not.
pub(crate) fn compress_ahead(
    image: Option<&StoredImage>,
    store: &Store,
    compressions: &[Compression],
    recompressions: &[Compression],
    threads: NonZeroUsize,
) -> Option<JoinHandle<()>> {
    let wanted = |layer: &Layer| {
        let compressions = if layer.blob.is_some() { recompressions } else { compressions };
        (layer.clone(), compressions.to_vec())
    };
    let layers: Vec<(Layer, Vec<Compression>)> = image?.layers.iter().map(wanted).collect();
    let store = store.clone();
    let work = move || {
        // Only a wish; it holds for this thread and those it starts.
        let _ = rustix::process::setpriority_process(None, NICE);
        for (layer, compression) in
            layers.iter().flat_map(|(layer, all)| all.iter().map(move |how| (layer, how)))
        {
            // Whoever needs it tries again, and reports.
            let _ = store.compressed_layer(layer, *compression, threads);
        }
    };
    Some(thread::spawn(work))
}

/// Packs the guest's records as they come.
pub(crate) struct GuestLayer {
    /// `None` once the guest said that the layer is complete.
    writer: Option<LayerWriter<NewLayer>>,
    layer: Option<Layer>,
    /// The store's, for messages.
    directory: PathBuf,
}

impl GuestLayer {
    /// A layer in which no time is later than `epoch`.
    pub fn create(
        store: &Store,
        compressions: &[Compression],
        threads: NonZeroUsize,
        epoch: i64,
    ) -> Result<Self, Error> {
        let layer = new_layer(store, compressions, threads)?;
        let directory = store.path().to_owned();
        Ok(Self { writer: Some(LayerWriter::new(layer, epoch)), layer: None, directory })
    }

    /// The layer, if it is complete.
    pub fn into_layer(self) -> Result<Layer, Error> {
        Ok(self.layer.ok_or(Kind::OutOfOrder("done, before the layer was complete"))?)
    }

    fn cannot_pack(&self, source: kiln_image::Error) -> Error {
        Kind::Layer { directory: self.directory.clone(), source }.into()
    }

    fn end(&mut self, announced: u64) -> Result<(), Error> {
        let writer = self.writer.take().ok_or(Kind::OutOfOrder("end of layer, twice"))?;
        if writer.entry_count() != announced {
            return Err(Kind::OutOfOrder("end of layer, with another number of entries than it sent").into());
        }
        let layer = writer.finish().map_err(|source| self.cannot_pack(source))?;
        self.layer = Some(finish(layer)?);
        Ok(())
    }
}

impl LayerReceiver for GuestLayer {
    fn receive(&mut self, record: LayerRecord) -> Result<(), Error> {
        if let LayerRecord::End { entries } = record {
            return self.end(entries);
        }
        let writer = self.writer.as_mut().ok_or(Kind::OutOfOrder("more of a complete layer"))?;
        let written = match record {
            LayerRecord::Entry(entry) => writer.begin(item(entry)),
            LayerRecord::Data(bytes) => writer.data(&bytes),
            LayerRecord::Zeroes(count) => writer.zeroes(count),
            LayerRecord::End { .. } => Ok(()),
        };
        written.map_err(|source| self.cannot_pack(source))
    }
}

/// A file without a name on the store's disk.
pub(crate) fn temporary_file(store: &Store) -> Result<File, Error> {
    let file = store.temporary_file();
    Ok(file.map_err(|source| Kind::Store { what: "cannot make a temporary file".to_owned(), source })?)
}

/// A run without result.
pub(crate) struct NoLayer;

impl LayerReceiver for NoLayer {
    fn receive(&mut self, _: LayerRecord) -> Result<(), Error> {
        Err(Kind::OutOfOrder("layer").into())
    }
}

/// The guest's words in the image's; [`LayerWriter`] checks them.
fn item(entry: LayerEntry) -> LayerItem {
    use kiln_protocol::EntryKind as Sent;
    let LayerEntry { path, kind, mode, uid, gid, mtime, xattrs } = entry;
    let xattrs = xattrs.into_iter().map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
    let metadata = Metadata { mode: mode & 0o7777, uid, gid, mtime, xattrs };
    let kind = match kind {
        Sent::Whiteout => return LayerItem::Whiteout { path },
        Sent::Directory { opaque: true } => return LayerItem::OpaqueDirectory { path, metadata },
        Sent::Directory { opaque: false } => EntryKind::Directory,
        Sent::File { size } => EntryKind::File { size },
        Sent::Symlink { target } => EntryKind::Symlink { target },
        Sent::HardLink { target } => EntryKind::HardLink { target },
        Sent::CharacterDevice { major, minor } => EntryKind::CharacterDevice { major, minor },
        Sent::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
        Sent::Fifo => EntryKind::Fifo,
    };
    LayerItem::Entry(Entry { path, metadata, kind })
}
