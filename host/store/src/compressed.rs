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
