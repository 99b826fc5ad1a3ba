//! Layers under way to an archive: hashed, compressed on all cores and stored, all at once.

use crate::{Error, error::Kind, session::LayerReceiver};
use kiln_image::{
    compress::{Compression, ParallelCompressor},
    digest::{Digest, Hashed, HashingWriter},
    entry::{Entry, Kind as EntryKind, Metadata},
    layer::{LayerItem, LayerWriter},
};
use kiln_protocol::{LayerEntry, LayerRecord};
use kiln_store::Store;
use std::{
    fs::File,
    io::{self, Write},
    num::NonZeroUsize,
    path::PathBuf,
};

/// A layer's tar while it is written.
pub(crate) struct LayerFile(HashingWriter<ParallelCompressor<File>>);

/// A whole layer.
#[derive(Debug)]
pub(crate) struct PackedLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar.
    pub size: u64,
    /// The tar in the compression that was asked for; a file without a name.
    pub file: File,
}

impl LayerFile {
    /// A layer in a file without a name.
    pub fn create(store: &Store, compression: Compression, threads: NonZeroUsize) -> Result<Self, Error> {
        let file = temporary_file(store)?;
        Ok(Self(HashingWriter::new(ParallelCompressor::new(compression, threads, file))))
    }

    /// Ends the layer.
    pub fn finish(self) -> io::Result<PackedLayer> {
        let (compressor, Hashed { digest, size }) = self.0.finish();
        let (file, _) = compressor.finish()?;
        Ok(PackedLayer { diff_id: digest, size, file })
    }
}

impl Write for LayerFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Packs the guest's records as they come.
pub(crate) struct GuestLayer {
    /// `None` once the guest said that the layer is complete.
    writer: Option<LayerWriter<LayerFile>>,
    packed: Option<PackedLayer>,
    /// The store's, for messages.
    directory: PathBuf,
}

impl GuestLayer {
    /// A layer in a file without a name, in which no time is later than `epoch`.
    pub fn create(
        store: &Store,
        compression: Compression,
        threads: NonZeroUsize,
        epoch: i64,
    ) -> Result<Self, Error> {
        let file = LayerFile::create(store, compression, threads)?;
        let directory = store.path().to_owned();
        Ok(Self { writer: Some(LayerWriter::new(file, epoch)), packed: None, directory })
    }

    /// The layer, if it is complete.
    pub fn into_packed(self) -> Result<PackedLayer, Error> {
        Ok(self.packed.ok_or(Kind::OutOfOrder("done, before the layer was complete"))?)
    }

    fn cannot_pack(&self, source: kiln_image::Error) -> Error {
        Kind::Layer { directory: self.directory.clone(), source }.into()
    }

    fn end(&mut self, announced: u64) -> Result<(), Error> {
        let writer = self.writer.take().ok_or(Kind::OutOfOrder("end of layer, twice"))?;
        if writer.entry_count() != announced {
            return Err(Kind::OutOfOrder("end of layer, with another number of entries than it sent").into());
        }
        let file = writer.finish().map_err(|source| self.cannot_pack(source))?;
        let failed = |source| Kind::Temporary { directory: self.directory.clone(), source };
        self.packed = Some(file.finish().map_err(failed)?);
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
