//! Layers under way into the store.

use crate::{Error, Layer, Store};
use kiln_image::compress::Compression;
use std::io::{self, Write};
use std::num::NonZeroUsize;

/// A layer's tar while it is written: hashed, kept, and compressed in all the ways that will be asked for, all at once.
/// Dropped before [`finish`](Self::finish), it leaves nothing behind.
#[derive(Debug)]
pub struct NewLayer {}

impl Store {
    /// A layer that is written now.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn new_layer(
        &self,
        _compressions: &[Compression],
        _threads: NonZeroUsize,
    ) -> Result<NewLayer, Error> {
        todo!()
    }
}

impl NewLayer {
    /// Ends the layer, which is then in the store under its digest.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn finish(self) -> Result<Layer, Error> {
        todo!()
    }
}

impl Write for NewLayer {
    fn write(&mut self, _buffer: &[u8]) -> io::Result<usize> {
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
