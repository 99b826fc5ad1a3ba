//! Layers under way into the store.

use crate::compressed::{CompressedForm, PendingForm};
use crate::pending::Pending;
use crate::tar_file::TarFile;
use crate::{Error, Layer, Store};
use kiln_image::compress::Compression;
use kiln_image::digest::{Hashed, HashingWriter};
use std::fmt;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// A layer's tar while it is written: hashed, kept, and compressed in all the ways that will be asked for, all at once.
/// Dropped before [`finish`](Self::finish), it leaves nothing behind.
pub struct NewLayer {
    store: Store,
    tar: HashingWriter<TarFile>,
    forms: Vec<PendingForm>,
}

impl Store {
    /// A layer that is written now, and compressed meanwhile in each of these ways with so many threads.
    /// [`Store::compressed_layer`] then has them.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn new_layer(&self, compressions: &[Compression], threads: NonZeroUsize) -> Result<NewLayer, Error> {
        let tar = TarFile::new(Pending::create(&self.tmp())?);
        let mut wanted: Vec<Compression> = Vec::new();
        for compression in compressions {
            if *compression != Compression::None && !wanted.contains(compression) {
                wanted.push(*compression);
            }
        }
        let forms = wanted.into_iter().map(|compression| PendingForm::create(self, compression, threads));
        Ok(NewLayer {
            store: self.clone(),
            tar: HashingWriter::new(tar),
            forms: forms.collect::<Result<_, _>>()?,
        })
    }
}

impl NewLayer {
    /// Ends the layer, which is then in the store under its digest.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn finish(self) -> Result<Layer, Error> {
        self.publish(|_| Ok(()))
    }

    /// As [`finish`](Self::finish), of bytes that come from elsewhere: checks first that they are a tar.
    ///
    /// # Errors
    /// When they are none, or the files cannot be written.
    pub fn finish_tar(self) -> Result<Layer, Error> {
        self.publish(Layer::check_tar)
    }

    fn publish(self, check: impl FnOnce(&Layer) -> Result<(), Error>) -> Result<Layer, Error> {
        let Self { store, tar, forms } = self;
        let (tar, Hashed { digest: diff_id, size }) = tar.finish();
        let path = store.layer_path(&diff_id);
        let tar = tar.finish(&path)?;
        let file = Arc::new(tar.file(&store.tmp())?);
        check(&Layer { diff_id, file, length: size, blob: None })?;
        let file = tar.publish(&path)?;
        for form in forms {
            let _: CompressedForm = form.finish(&store, &diff_id)?;
        }
        Ok(Layer { diff_id, file: Arc::new(file), length: size, blob: None })
    }
}

impl Write for NewLayer {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tar.write_all(buffer)?;
        for form in &mut self.forms {
            form.write_all(buffer)?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for NewLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewLayer").field("forms", &self.forms.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use kiln_image::digest::Digest;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    const THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    #[test]
    fn a_new_layer_is_there_with_its_compressed_forms() {
        let sample = Sample::new(&[]);
        let store = sample.store();
        let compressions = [Compression::GZIP, Compression::None, Compression::ZSTD, Compression::GZIP];
        let mut new = store.new_layer(&compressions, THREADS).unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 1000) as u8).collect();
        bytes.chunks(70_001).for_each(|piece| new.write_all(piece).unwrap());
        let layer = new.finish().unwrap();
        assert_eq!((layer.diff_id, layer.length), (Digest::of(&bytes), 3_000_000));
        let found = store.layer(&layer.diff_id).unwrap().unwrap();
        let mut read = Vec::new();
        found.reader().read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        // Each once; what is made later has the same bytes.
        assert_eq!(std::fs::read_dir(store.place(crate::directory::Place::Blobs)).unwrap().count(), 2);
        let known = store.compressed_layer(&layer, Compression::GZIP, THREADS).unwrap();
        store.prune(crate::Prune::All).unwrap();
        drop(known.segment);
        store.prune(crate::Prune::All).unwrap();
        let made = store.compressed_layer(&layer, Compression::GZIP, NonZeroUsize::MIN).unwrap();
        assert_eq!(made.digest, known.digest);
    }

    #[test]
    fn an_unfinished_layer_leaves_nothing() {
        let sample = Sample::new(&[]);
        let store = sample.store();
        let mut new = store.new_layer(&[Compression::GZIP], THREADS).unwrap();
        new.write_all(&[1; 100_000]).unwrap();
        drop(new);
        assert!(store.du().unwrap().iter().all(|usage| usage.count == 0));
    }

    #[test]
    fn runs_of_zeroes_take_no_room() {
        let sample = Sample::new(&[]);
        let store = sample.store();
        let mut new = store.new_layer(&[], THREADS).unwrap();
        new.write_all(&[1; 5000]).unwrap();
        new.write_all(&vec![0; 64 << 20]).unwrap();
        let layer = new.finish().unwrap();
        assert_eq!(layer.file.metadata().unwrap().len(), 5000 + (64 << 20));
        assert!(layer.file.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
