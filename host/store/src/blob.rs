//! Layers as registries and layouts have them: taken in while they are checked, and found again.

use crate::error::Kind;
use crate::held::{self, Layer, LayerBlob};
use crate::pending::Pending;
use crate::tar_file::TarFile;
use crate::{Error, Store, pending};
use kiln_image::compress::Decompressor;
use kiln_image::digest::{Digest, Hashed, Hasher, HashingWriter};
use kiln_image::manifest::Descriptor;
use kiln_image::reference::RegistryReference;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Bytes of the tar that go from one thread to the other at once.
const PIECE_SIZE: usize = 256 * 1024;
/// Bytes of a repository's name with tag and digest, and more.
const ORIGIN_LIMIT: u64 = 1024;
/// Pieces on their way at most.
const PIECES: usize = 8;

impl Store {
    /// A layer with the blob it came in, or `None` when either is not there. The blob of a layer that is not compressed is
    /// the layer.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn layer_with_blob(&self, diff_id: &Digest, descriptor: &Descriptor) -> Result<Option<Layer>, Error> {
        let Some(layer) = self.layer(diff_id)? else { return Ok(None) };
        let file = if descriptor.digest == *diff_id {
            (layer.length == descriptor.size).then(|| Arc::clone(&layer.file))
        } else {
            self.blob_file(diff_id, &descriptor.digest, descriptor.size)?
        };
        let blob = file.map(|file| LayerBlob { descriptor: Arc::new(descriptor.clone()), file });
        Ok(blob.map(|blob| Layer { blob: Some(blob), ..layer }))
    }

    /// Takes in a layer in the form a registry or layout has it: `reader` gives the bytes that `descriptor` describes, which
    /// unpack to a tar of the digest `diff_id`. Both are kept.
    ///
    /// # Errors
    /// When it cannot be read, or is not what descriptor and diff ID say, or no tar, or the store cannot be written. The
    /// store is then as it was.
    pub fn import_blob_layer(
        &self,
        descriptor: &Descriptor,
        diff_id: &Digest,
        reader: impl Read + Send,
    ) -> Result<Layer, Error> {
        let blob = HashingWriter::new(Pending::create(&self.tmp())?);
        let mut input = Tee { reader, blob, left: descriptor.size, failed: None };
        let tar = TarFile::new(Pending::create(&self.tmp())?);
        let unpacked = unpack(&mut input, tar);
        let (pending, hashed) = input.finish(descriptor, self)?;
        let (tar, unpacked) = unpacked.map_err(|source| {
            Error::writing(&self.tmp(), source, |source| Kind::Blob { digest: descriptor.digest, source })
        })?;
        check(Kind::BlobDigest, &descriptor.digest, &hashed.digest)?;
        check(Kind::LayerDigest, diff_id, &unpacked.digest)?;
        self.keep_blob_layer(descriptor, diff_id, tar, unpacked.size, pending)
    }

    /// Notes which repository a blob came from, so that pushing it to another of the same registry need not send it.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn note_origin(&self, blob: &Digest, repository: &RegistryReference) -> Result<(), Error> {
        pending::write_file(&self.tmp(), &self.origin_path(blob), repository.to_string().as_bytes())?;
        Ok(())
    }

    /// The repository a blob came from, as far as that was noted.
    ///
    /// # Errors
    /// When the note is there but cannot be read.
    pub fn origin(&self, blob: &Digest) -> Result<Option<RegistryReference>, Error> {
        let path = self.origin_path(blob);
        let Some(file) = held::hold(&path)? else { return Ok(None) };
        let mut text = String::new();
        // A damaged note is as good as none.
        let read = file.take(ORIGIN_LIMIT).read_to_string(&mut text);
        Ok(read.ok().and_then(|_| text.parse().ok()))
    }

    fn keep_blob_layer(
        &self,
        descriptor: &Descriptor,
        diff_id: &Digest,
        tar: TarFile,
        length: u64,
        blob: Pending,
    ) -> Result<Layer, Error> {
        let path = self.layer_path(diff_id);
        let tar = tar.finish(&path)?;
        let file = Arc::new(tar.file(&self.tmp())?);
        Layer { diff_id: *diff_id, file, length, blob: None }.check_tar()?;
        let file = Arc::new(self.publish_unless_known(tar, diff_id, length)?);
        let blob_file = if descriptor.digest == *diff_id {
            Arc::clone(&file)
        } else {
            Arc::new(blob.publish(&self.blob_path(diff_id, &descriptor.digest))?)
        };
        let blob = LayerBlob { descriptor: Arc::new(descriptor.clone()), file: blob_file };
        Ok(Layer { diff_id: *diff_id, file, length, blob: Some(blob) })
    }

    /// Gives a tar its name, unless a whole one has it.
    fn publish_unless_known(
        &self,
        tar: Pending,
        diff_id: &Digest,
        length: u64,
    ) -> Result<std::fs::File, Error> {
        let path = self.layer_path(diff_id);
        match held::hold(&path)? {
            Some(file) if held::length(&file, &path)? == length => Ok(file),
            _ => tar.publish(&path),
        }
    }
}

fn check(kind: fn(Digest, Digest) -> Kind, expected: &Digest, got: &Digest) -> Result<(), Error> {
    if expected == got { Ok(()) } else { Err(kind(*expected, *got).into()) }
}

/// Unpacks `input`, on this thread, into a file that another hashes and writes: both take about as long.
fn unpack(input: &mut (impl Read + Send), tar: TarFile) -> Result<(TarFile, Hashed), kiln_image::Error> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Vec<u8>>(PIECES);
        let writer = scope.spawn(move || write(tar, &receiver));
        let read = read_pieces(input, |piece| sender.send(piece).is_ok());
        drop(sender);
        let written = writer.join().expect("the writing thread does not panic");
        let writing = |e| kiln_image::Error::from_io(e, || "write the unpacked layer".to_owned());
        let written = written.map_err(writing)?;
        read.map(|()| written)
    })
}

fn read_pieces(input: impl Read, mut take: impl FnMut(Vec<u8>) -> bool) -> Result<(), kiln_image::Error> {
    let mut tar = Decompressor::new(input)?;
    loop {
        let mut piece = Vec::with_capacity(PIECE_SIZE);
        let read = (&mut tar).take(PIECE_SIZE as u64).read_to_end(&mut piece);
        let read = read.map_err(|e| kiln_image::Error::from_io(e, || "read it".to_owned()))?;
        // When the other side failed, it says why.
        if read == 0 || !take(piece) {
            return Ok(());
        }
    }
}

fn write(mut tar: TarFile, pieces: &Receiver<Vec<u8>>) -> io::Result<(TarFile, Hashed)> {
    let mut hasher = Hasher::new();
    for piece in pieces {
        hasher.update(&piece);
        tar.write_all(&piece)?;
    }
    Ok((tar, hasher.finish()))
}

/// Reads a blob of a known size and keeps what was read.
struct Tee<R> {
    reader: R,
    blob: HashingWriter<Pending>,
    /// Bytes that may still come.
    left: u64,
    /// What went wrong here rather than with what was read.
    failed: Option<Failure>,
}

/// What a [`Tee`] found.
enum Failure {
    Read(io::Error),
    Write(io::Error),
    TooLong,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.reader.read(buffer) {
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Err(e) => return Err(self.fail(Failure::Read(e))),
        };
        let Some(left) = self.left.checked_sub(count as u64) else {
            return Err(self.fail(Failure::TooLong));
        };
        self.left = left;
        self.blob.write_all(&buffer[..count]).map_err(|e| self.fail(Failure::Write(e)))?;
        Ok(count)
    }
}

impl<R: Read> Tee<R> {
    /// Keeps the reason, as what is between here and the caller may change it.
    fn fail(&mut self, failure: Failure) -> io::Error {
        self.failed = Some(failure);
        io::Error::other("see the blob")
    }

    /// The blob, once all of it came.
    fn finish(mut self, descriptor: &Descriptor, store: &Store) -> Result<(Pending, Hashed), Error> {
        if self.failed.is_none() {
            // What does not belong to the compressed stream still belongs to the blob; a source may tell only at its
            // end that it was cut.
            let _ = io::copy(&mut self, &mut io::sink());
        }
        let (digest, size) = (descriptor.digest, descriptor.size);
        match self.failed {
            Some(Failure::Read(source)) => Err(Kind::BlobRead { digest, source }.into()),
            Some(Failure::Write(source)) => Err(Error::io("write into", &store.tmp(), source)),
            Some(Failure::TooLong) => Err(Kind::BlobTooLong { digest, size }.into()),
            None if self.left > 0 => Err(Kind::BlobTruncated { digest, size, got: size - self.left }.into()),
            None => Ok(self.blob.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use kiln_image::compress::{Compression, piece};
    use kiln_image::reference::Choice;

    fn tar() -> Vec<u8> {
        let sample = Sample::new(&[&[("a", "some text")]]);
        let store = sample.store();
        let image = store.import_docker_archive(&sample.archive(), &Choice::Only, None).unwrap();
        let mut tar = Vec::new();
        image.layers[0].reader().read_to_end(&mut tar).unwrap();
        tar
    }

    fn descriptor(bytes: &[u8]) -> Descriptor {
        Descriptor::new("", Digest::of(bytes), bytes.len() as u64)
    }

    #[test]
    fn a_blob_is_kept_with_its_layer() {
        let tar = tar();
        for compression in [Compression::GZIP, Compression::ZSTD, Compression::None] {
            let sample = Sample::new(&[]);
            let store = sample.store();
            let blob = piece(compression, &tar);
            let (descriptor, diff_id) = (descriptor(&blob), Digest::of(&tar));
            assert!(store.layer_with_blob(&diff_id, &descriptor).unwrap().is_none());
            let layer = store.import_blob_layer(&descriptor, &diff_id, &blob[..]).unwrap();
            assert_eq!(layer.length, tar.len() as u64);
            let found = store.layer_with_blob(&diff_id, &descriptor).unwrap().unwrap();
            let held = found.blob.unwrap();
            assert_eq!(
                (held.file.metadata().unwrap().len(), &*held.descriptor),
                (blob.len() as u64, &descriptor)
            );
        }
    }

    #[test]
    fn what_is_wrong_leaves_nothing() {
        let tar = tar();
        let blob = piece(Compression::GZIP, &tar);
        let (right, diff_id) = (descriptor(&blob), Digest::of(&tar));
        let other = Digest::of(b"other");
        let text = piece(Compression::GZIP, &[b'x'; 2000]);
        type Case<'a> = (&'a [u8], Descriptor, Digest, fn(&Error) -> bool);
        let cases: [Case<'_>; 6] = [
            (&blob, Descriptor { digest: other, ..right.clone() }, diff_id, Error::is_digest_mismatch),
            (&blob, Descriptor { size: right.size - 1, ..right.clone() }, diff_id, Error::is_corrupt),
            (&blob, Descriptor { size: right.size + 1, ..right.clone() }, diff_id, Error::is_truncated),
            (&blob[..blob.len() - 3], right.clone(), diff_id, Error::is_truncated),
            (&blob, right.clone(), other, Error::is_digest_mismatch),
            (&text, descriptor(&text), Digest::of(&[b'x'; 2000]), Error::is_corrupt),
        ];
        for (number, (bytes, descriptor, diff_id, is_expected)) in cases.into_iter().enumerate() {
            let sample = Sample::new(&[]);
            let store = sample.store();
            let error = store.import_blob_layer(&descriptor, &diff_id, bytes).unwrap_err();
            assert!(is_expected(&error), "{number}: {error:?}");
            assert!(store.du().unwrap().iter().all(|usage| usage.count == 0), "{number}");
        }
    }
}
