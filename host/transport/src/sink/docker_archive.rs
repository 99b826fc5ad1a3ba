//! `docker-archive:`, loadable by old and new daemons.

use super::file;
use crate::error::Context;
use crate::{Error, OutputImage, Transport};
use kiln_image::compress::Compression;
use kiln_image::digest::Digest;
use kiln_image::docker_archive::{self, ArchiveImage, LayerSource, StoredLayer};
use kiln_store::SegmentReader;
use std::io;

/// Writes images into an archive, compressed as a whole. Returns its bytes.
pub(crate) fn write(
    transport: &Transport<'_>,
    images: &[OutputImage],
    path: &str,
    compression: Compression,
) -> Result<u64, Error> {
    let what = || format!("cannot write docker-archive:{path}");
    let mut layers = Layers { transport, images, compression };
    file::write(path, |out| {
        let images: Vec<ArchiveImage> = images
            .iter()
            .map(|output| ArchiveImage { config_json: &output.image.config_json, names: &output.names })
            .collect();
        docker_archive::write_all(out, compression, &images, &mut layers).context(what)?;
        Ok(())
    })
}

/// The layers of the images, in the archive's compression.
struct Layers<'a> {
    transport: &'a Transport<'a>,
    images: &'a [OutputImage],
    compression: Compression,
}

impl LayerSource for Layers<'_> {
    type Reader = SegmentReader;

    fn open(&mut self, diff_id: &Digest) -> io::Result<StoredLayer<Self::Reader>> {
        let mut layers = self.images.iter().flat_map(|output| &output.image.layers);
        let layer = layers.find(|layer| layer.diff_id == *diff_id).ok_or(io::ErrorKind::NotFound)?;
        let Transport { store, threads, .. } = self.transport;
        let form = store.compressed_layer(layer, self.compression, *threads).map_err(io::Error::other)?;
        Ok(StoredLayer { size: layer.length, bytes: form.segment.reader() })
    }
}
