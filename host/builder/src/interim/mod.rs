//! Until `kiln-transport` does it: docker-archives, as before.

mod pending;

use crate::{Error, error::Kind};
use kiln_image::{
    compress::Compression,
    digest::Digest,
    docker_archive::{self, LayerSource, StoredLayer},
    manifest::Platform,
    reference::{Choice, ImageReference, Location},
};
use kiln_store::{SegmentReader, Store};
use kiln_transport::{ImageAnnotations, Imported, OutputImage, OutputSpec, Written, WrittenImage};
use pending::PendingFile;
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    num::NonZeroUsize,
    os::fd::AsFd,
    path::Path,
};

/// Bytes written at once.
const BUFFER_SIZE: usize = 1024 * 1024;

/// An image of a docker-archive; `None` of any other place.
pub(crate) fn import(reference: &ImageReference, store: &Store) -> Option<Result<Imported, Error>> {
    let (path, choice) = match &reference.location {
        Location::DockerArchive { path, choice } => (path, choice.clone()),
        Location::Path { path } if Path::new(path).is_file() => (path, Choice::Only),
        _ => return None,
    };
    let image = store.import_docker_archive(Path::new(path), &choice, reference.digest.as_ref());
    let what = || format!("cannot use {path}");
    Some(match image {
        Ok(image) => Ok(Imported { image, names: Vec::new(), annotations: ImageAnnotations::default() }),
        Err(source) => Err(Kind::Store { what: what(), source }.into()),
    })
}

/// Writes one image to a docker-archive; `None` where that is not what was asked for.
pub(crate) fn write(
    images: &[OutputImage],
    spec: &OutputSpec,
    store: &Store,
    threads: NonZeroUsize,
) -> Option<Result<Written, Error>> {
    match (&spec.dest.location, images) {
        (Location::DockerArchive { path, .. }, [image]) => {
            Some(write_archive(image, path, spec, store, threads))
        }
        _ => None,
    }
}

fn write_archive(
    image: &OutputImage,
    path: &str,
    spec: &OutputSpec,
    store: &Store,
    threads: NonZeroUsize,
) -> Result<Written, Error> {
    let config_json = &image.image.config_json;
    let compression = spec.compression.unwrap_or(Compression::None);
    let mut layers = Layers { image, store, compression, threads };
    let failed = |source| Kind::Write { dest: path.to_owned(), source };
    let mut write_to = |out: &mut dyn Write| {
        let out = BufWriter::with_capacity(BUFFER_SIZE, out);
        let written = docker_archive::write(out, compression, config_json, &image.names, &mut layers);
        let what = format!("cannot write {path}");
        written.map_err(|source| Error::from(Kind::Image { what, source }))?.flush().map_err(failed)?;
        Ok::<_, Error>(())
    };
    let size = if path == "-" {
        // Not as `Stdout`, which takes a closed one for one that takes everything.
        let out = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        let mut counted = Counted { out: File::from(out), bytes: 0 };
        write_to(&mut counted)?;
        counted.bytes
    } else {
        let file = PendingFile::create(Path::new(path)).map_err(failed)?;
        let mut counted = Counted { out: file, bytes: 0 };
        write_to(&mut counted)?;
        counted.out.commit().map_err(failed)?;
        counted.bytes
    };
    let written = WrittenImage {
        image_id: Digest::of(config_json),
        manifest: None,
        names: image.names.clone(),
        platform: Platform::of(&image.image.config),
    };
    Ok(Written { dest: path.to_owned(), size, digest: None, images: vec![written] })
}

struct Layers<'a> {
    image: &'a OutputImage,
    store: &'a Store,
    compression: Compression,
    threads: NonZeroUsize,
}

impl LayerSource for Layers<'_> {
    type Reader = SegmentReader;

    fn open(&mut self, diff_id: &Digest) -> io::Result<StoredLayer<Self::Reader>> {
        let layer = self.image.image.layers.iter().find(|layer| layer.diff_id == *diff_id);
        let layer = layer.ok_or(io::ErrorKind::NotFound)?;
        let segment = self.store.compressed_layer(layer, self.compression, self.threads);
        Ok(StoredLayer { size: layer.length, bytes: segment.map_err(io::Error::other)?.segment.reader() })
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
