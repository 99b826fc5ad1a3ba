//! `rootfs:`, an image's files as one tar.

use super::file;
use crate::error::Context;
use crate::{Error, OutputImage, Transport};
use kiln_image::compress::{Compression, ParallelCompressor};
use kiln_image::flatten::write_root;
use kiln_image::tree::Tree;
use std::os::unix::fs::FileExt;

/// Writes the files of an image, compressed as a whole. Returns the bytes.
pub(crate) fn write(
    transport: &Transport<'_>,
    images: &[OutputImage],
    path: &str,
    compression: Compression,
) -> Result<u64, Error> {
    let [output] = images else {
        return Err(Error::usage(format!("rootfs:{path} takes one image")));
    };
    let layers = &output.image.layers;
    let mut tree = Tree::new();
    for (source, layer) in (0..).zip(layers) {
        let applied = layer.headers().and_then(|mut reader| tree.apply_layer(source, reader.entries()));
        applied.context(|| format!("cannot lay layer {} over those below", layer.diff_id))?;
    }
    tree.compact();
    let mut read = |source: u32, offset: u64, buffer: &mut [u8]| {
        layers[source as usize].file.read_exact_at(buffer, offset)
    };
    file::write(path, |out| {
        let what = || format!("cannot write rootfs:{path}");
        let out = ParallelCompressor::new(compression, transport.threads, out);
        let out = write_root(out, &tree, i64::MAX, &mut read).context(what)?;
        let (out, _) = out.finish().map_err(|e| Error::io(what, e))?;
        out.flush().map_err(|e| Error::io(what, e))
    })
}
