//! Writing the docker-archive.

use super::{Destination, OutputSpec, PendingFile};
use crate::{Error, error::Kind, packing::PackedLayer};
use kiln_image::{
    compress::Compression,
    config::ImageConfig,
    digest::Digest,
    docker_archive::{self, LayerSource, StoredLayer},
    reference::ImageName,
};
use kiln_store::{Segment, SegmentReader, Store, StoredImage};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    num::NonZeroUsize,
    os::fd::AsFd,
    thread::{self, JoinHandle},
};

/// Bytes written at once.
const BUFFER_SIZE: usize = 1024 * 1024;

/// How much the threads that work ahead give way to the VM: the nicest
/// ([nice(2)](https://man7.org/linux/man-pages/man2/nice.2.html)).
const NICE: i32 = 19;

/// An image on its way out.
pub(crate) struct Image<'a> {
    pub base: Option<&'a StoredImage>,
    /// The layer on top of the base, in the output's compression.
    pub layer: Option<PackedLayer>,
    pub config: &'a ImageConfig,
    pub name: Option<&'a ImageName>,
}

/// What was written.
pub(crate) struct Written {
    pub image_id: Digest,
    pub size: u64,
}

/// Writes the image to its destination.
pub(crate) fn write(
    image: Image,
    store: &Store,
    spec: &OutputSpec,
    threads: NonZeroUsize,
) -> Result<Written, Error> {
    let config_json = image.config.to_json();
    let names: Vec<_> = image.name.cloned().into_iter().collect();
    let mut layers = Layers { image, store, compression: spec.compression, threads };
    let failed = |source| Kind::Write { dest: spec.dest.to_string(), source };
    let mut write_to = |out: &mut dyn Write| {
        let out = BufWriter::with_capacity(BUFFER_SIZE, out);
        let written = docker_archive::write(out, spec.compression, &config_json, &names, &mut layers);
        let what = format!("cannot write {}", spec.dest);
        written.map_err(|source| Error::from(Kind::Image { what, source }))?.flush().map_err(failed)?;
        Ok::<_, Error>(())
    };
    let size = match &spec.dest {
        Destination::File(path) => {
            let file = PendingFile::create(path).map_err(failed)?;
            let mut counted = Counted { out: file, bytes: 0 };
            write_to(&mut counted)?;
            counted.out.commit().map_err(failed)?;
            counted.bytes
        }
        Destination::Stdout => {
            // Not as `Stdout`, which takes a closed one for one that takes everything.
            let out = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
            let mut counted = Counted { out: File::from(out), bytes: 0 };
            write_to(&mut counted)?;
            counted.bytes
        }
    };
    Ok(Written { image_id: Digest::of(&config_json), size })
}

/// Compresses the base's layers while the VM runs, unless the store has them already. Whoever writes
/// the image waits for the thread first; a build that fails does not.
pub(crate) fn compress_ahead(
    base: Option<&StoredImage>,
    store: &Store,
    compression: Compression,
    threads: NonZeroUsize,
) -> Option<JoinHandle<()>> {
    let base = base?;
    let (layers, store) = (base.layers.clone(), store.clone());
    let work = move || {
        // Only a wish; it holds for this thread and those it starts.
        let _ = rustix::process::setpriority_process(None, NICE);
        for layer in layers {
            // Whoever needs it tries again, and reports.
            let _ = store.compressed_layer(&layer, compression, threads);
        }
    };
    Some(thread::spawn(work))
}

/// The layers of an image: those of the base from the store, the new one from its file.
struct Layers<'a> {
    image: Image<'a>,
    store: &'a Store,
    compression: Compression,
    threads: NonZeroUsize,
}

impl LayerSource for Layers<'_> {
    type Reader = SegmentReader;

    fn open(&mut self, diff_id: &Digest) -> io::Result<StoredLayer<Self::Reader>> {
        if let Some(new) = self.image.layer.as_ref().filter(|layer| layer.diff_id == *diff_id) {
            return Ok(StoredLayer {
                size: new.size,
                bytes: Segment::whole(new.file.try_clone()?)?.reader(),
            });
        }
        let mut of_base = self.image.base.into_iter().flat_map(|base| &base.layers);
        let layer = of_base.find(|layer| layer.diff_id == *diff_id).ok_or(io::ErrorKind::NotFound)?;
        let segment = self.store.compressed_layer(layer, self.compression, self.threads);
        Ok(StoredLayer { size: layer.length, bytes: segment.map_err(io::Error::other)?.reader() })
    }
}

struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.out.write(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
