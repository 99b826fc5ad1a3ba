//! Compressed forms of layers, kept so that nothing is compressed twice.
//!
//! The bytes are among the blobs; what is here says which blob a way of compressing gives.

use crate::held::{self, Layer};
use crate::pending::{self, Pending};
use crate::{Error, Segment, Store};
use kiln_image::compress::{Compression, ParallelCompressor};
use kiln_image::digest::{Digest, Hashed, HashingWriter};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

/// Bytes read or written at once.
const BUFFER_SIZE: usize = 256 * 1024;

/// A layer's bytes in one compression, and their digest.
#[derive(Debug, Clone)]
pub struct CompressedLayer {
    /// The bytes.
    pub segment: Segment,
    /// Their digest.
    pub digest: Digest,
}

/// What a way of compressing gives.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CompressedForm {
    digest: Digest,
    size: u64,
}

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
    ) -> Result<CompressedLayer, Error> {
        if compression == Compression::None {
            return Ok(CompressedLayer { segment: layer.segment(), digest: layer.diff_id });
        }
        if let Some(known) = self.known_form(&layer.diff_id, compression)? {
            return Ok(known);
        }
        let mut form = PendingForm::create(self, compression, threads)?;
        let copied = io::copy(&mut BufReader::with_capacity(BUFFER_SIZE, layer.reader()), &mut form);
        let path = self.compressed_path(&layer.diff_id, compression);
        copied.map_err(|e| Error::io("compress into", &path, e))?;
        let CompressedForm { digest, size } = form.finish(self, &layer.diff_id)?;
        let path = self.blob_path(&layer.diff_id, &digest);
        let file =
            held::hold(&path)?.ok_or_else(|| Error::io("open", &path, io::ErrorKind::NotFound.into()))?;
        Ok(CompressedLayer { segment: Segment { file: Arc::new(file), offset: 0, length: size }, digest })
    }

    /// A form that was made before and is whole.
    fn known_form(
        &self,
        diff_id: &Digest,
        compression: Compression,
    ) -> Result<Option<CompressedLayer>, Error> {
        let path = self.compressed_path(diff_id, compression);
        let Some(mut note) = held::hold(&path)? else { return Ok(None) };
        let mut json = Vec::new();
        note.read_to_end(&mut json).map_err(|e| Error::io("read", &path, e))?;
        let Ok(form) = serde_json::from_slice::<CompressedForm>(&json) else { return Ok(None) };
        let file = self.blob_file(diff_id, &form.digest, form.size)?;
        Ok(file.map(|file| CompressedLayer {
            segment: Segment { file, offset: 0, length: form.size },
            digest: form.digest,
        }))
    }

    /// A blob of the store that has this length.
    pub(crate) fn blob_file(
        &self,
        diff_id: &Digest,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<Arc<File>>, Error> {
        let path = self.blob_path(diff_id, digest);
        let Some(file) = held::hold(&path)? else { return Ok(None) };
        Ok((held::length(&file, &path)? == size).then(|| Arc::new(file)))
    }
}

/// A compressed form under way: compressed on threads, hashed by the one that writes.
pub(crate) struct PendingForm {
    compression: Compression,
    compressor: ParallelCompressor<BufWriter<HashingWriter<Pending>>>,
}

impl PendingForm {
    pub(crate) fn create(
        store: &Store,
        compression: Compression,
        threads: NonZeroUsize,
    ) -> Result<Self, Error> {
        let out = HashingWriter::new(Pending::create(&store.tmp())?);
        let out = BufWriter::with_capacity(BUFFER_SIZE, out);
        Ok(Self { compression, compressor: ParallelCompressor::new(compression, threads, out) })
    }

    /// Gives the form its name among the blobs, and notes it.
    pub(crate) fn finish(self, store: &Store, diff_id: &Digest) -> Result<CompressedForm, Error> {
        let note = store.compressed_path(diff_id, self.compression);
        let (pending, hashed) = self.end().map_err(|e| Error::io("compress into", &note, e))?;
        let form = CompressedForm { digest: hashed.digest, size: hashed.size };
        pending.publish(&store.blob_path(diff_id, &form.digest))?;
        write_note(store, &note, &form)?;
        Ok(form)
    }

    fn end(self) -> io::Result<(Pending, Hashed)> {
        let (out, _) = self.compressor.finish()?;
        Ok(out.into_inner().map_err(io::IntoInnerError::into_error)?.finish())
    }
}

fn write_note(store: &Store, path: &Path, form: &CompressedForm) -> Result<(), Error> {
    let json = serde_json::to_vec(form).expect("text and numbers only");
    pending::write_file(&store.tmp(), path, &json)?;
    Ok(())
}

impl Write for PendingForm {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.compressor.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use kiln_image::compress::Decompressor;
    use kiln_image::reference::Choice;
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
            assert_eq!(made.digest, Digest::of(&bytes(&made.segment)));
            let (made, found) = (made.segment, found.segment);
            let inode = |segment: &Segment| segment.file.metadata().unwrap().ino();
            assert_eq!(inode(&made), inode(&found), "{compression}");
            let mut tar = Vec::new();
            Decompressor::new(&bytes(&made)[..]).unwrap().read_to_end(&mut tar).unwrap();
            assert_eq!(Digest::of(&tar), layer.diff_id, "{compression}");
        }
        let counts: Vec<u64> = store.du().unwrap().iter().map(|usage| usage.count).collect();
        assert_eq!(counts, [1, 2, 2, 1, 0, 0, 0]);
    }
}
