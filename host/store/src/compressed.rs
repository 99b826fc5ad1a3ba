//! Compressed forms of layers, kept so that nothing is compressed twice.

use crate::held::{self, Layer};
use crate::pending::Pending;
use crate::{Error, Segment, Store};
use kiln_image::compress::{Compression, ParallelCompressor};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

/// Bytes read or written at once.
const BUFFER_SIZE: usize = 256 * 1024;

impl Store {
    /// A layer's compressed form, made on the first call with so many threads. Its bytes do not
    /// depend on their number. [`Compression::None`] gives the layer itself.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn compressed_layer(
        &self,
        layer: &Layer,
        compression: Compression,
        threads: NonZeroUsize,
    ) -> Result<Segment, Error> {
        if compression == Compression::None {
            return Ok(layer.segment());
        }
        let path = self.compressed_path(&layer.diff_id, compression);
        let file = match held::hold(&path)? {
            Some(file) => file,
            None => self.compress(layer, compression, threads, &path)?,
        };
        let length = held::length(&file, &path)?;
        Ok(Segment { file: Arc::new(file), offset: 0, length })
    }

    fn compress(
        &self,
        layer: &Layer,
        compression: Compression,
        threads: NonZeroUsize,
        path: &Path,
    ) -> Result<File, Error> {
        let pending = Pending::create(&self.tmp())?;
        let out = BufWriter::with_capacity(BUFFER_SIZE, &pending);
        let mut compressor = ParallelCompressor::new(compression, threads, out);
        let copied = io::copy(&mut BufReader::with_capacity(BUFFER_SIZE, layer.reader()), &mut compressor)
            .and_then(|_| compressor.finish())
            .and_then(|(mut out, _)| out.flush());
        copied.map_err(|e| Error::io("compress into", path, e))?;
        pending.publish(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use kiln_image::compress::Decompressor;
    use kiln_image::digest::Digest;
    use kiln_image::reference::Choice;
    use std::io::Read;
    use std::os::unix::fs::{FileExt, MetadataExt};

    fn bytes(segment: &Segment) -> Vec<u8> {
        let mut bytes = vec![0; segment.length as usize];
        segment.file.read_exact_at(&mut bytes, segment.offset).unwrap();
        bytes
    }

    #[test]
    fn compressed_forms_are_made_once_and_hold_the_layer() {
        let sample = Sample::new(&[&[("a", "b")]]);
        let store = sample.store();
        let image = store.import_docker_archive(&sample.archive(), &Choice::Only, None).unwrap();
        let layer = &image.layers[0];
        for compression in [Compression::GZIP, Compression::ZSTD, Compression::None] {
            let form =
                |threads| store.compressed_layer(layer, compression, NonZeroUsize::new(threads).unwrap());
            let (made, found) = (form(2).unwrap(), form(1).unwrap());
            let inode = |segment: &Segment| segment.file.metadata().unwrap().ino();
            assert_eq!(inode(&made), inode(&found), "{compression}");
            let mut tar = Vec::new();
            Decompressor::new(&bytes(&made)[..]).unwrap().read_to_end(&mut tar).unwrap();
            assert_eq!(Digest::of(&tar), layer.diff_id, "{compression}");
        }
        let counts: Vec<u64> = store.du().unwrap().iter().map(|usage| usage.count).collect();
        assert_eq!(counts, [1, 2, 1, 0, 0]);
    }
}
