//! Files of the store in use: open, and locked against removal.

use crate::error::Kind;
use crate::{Error, Segment, SegmentReader, Store};
use kiln_image::digest::Digest;
use kiln_image::manifest::Descriptor;
use kiln_image::tar;
use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW};
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a layer read at once, when only its headers are wanted.
const HEADER_BUFFER_SIZE: usize = 4096;

/// A layer in use: nothing removes it until the last clone is gone.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Digest of its bytes.
    pub diff_id: Digest,
    /// The uncompressed tar. Shared: use positioned reads.
    pub file: Arc<File>,
    /// Its bytes.
    pub length: u64,
    /// The form it came in, where that was a blob; a sink that takes it passes it on as it is.
    pub blob: Option<LayerBlob>,
}

/// A layer as a registry or layout had it, verified: its bytes unpack to the layer's tar.
#[derive(Debug, Clone)]
pub struct LayerBlob {
    /// Media type, digest and size.
    pub descriptor: Arc<Descriptor>,
    /// The bytes; the tar itself when it is not compressed. Shared: use positioned reads.
    pub file: Arc<File>,
}

impl Store {
    /// A layer of the store, or `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>, Error> {
        let path = self.layer_path(diff_id);
        let Some(file) = hold(&path)? else { return Ok(None) };
        let length = length(&file, &path)?;
        Ok(Some(Layer { diff_id: *diff_id, file: Arc::new(file), length, blob: None }))
    }
}

/// Opens and locks a file, and notes that it is used; `None` when it is not there.
pub(crate) fn hold(path: &Path) -> Result<Option<File>, Error> {
    loop {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open", path, e)),
        };
        lock_shared(&file, path)?;
        // Between opening and locking it may have been removed, and even made again.
        if is_linked(&file, path)? {
            touch(&file, path)?;
            return Ok(Some(file));
        }
    }
}

impl Layer {
    /// The layer as a part of a disk.
    pub fn segment(&self) -> Segment {
        Segment { file: Arc::clone(&self.file), offset: 0, length: self.length }
    }

    /// That it is a tar from its first header to its last: what is under its digest can still be none.
    pub(crate) fn check_tar(&self) -> Result<(), Error> {
        let check = || self.headers()?.entries().try_for_each(|entry| entry.map(drop));
        check().map_err(|source| Kind::LayerTar { diff_id: self.diff_id, source }.into())
    }

    /// Reads the tar, seeking over the files' data.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn headers(&self) -> Result<tar::Reader<BufReader<SegmentReader>>, kiln_image::Error> {
        tar::Reader::seekable(BufReader::with_capacity(HEADER_BUFFER_SIZE, self.reader()))
    }

    pub(crate) fn error(&self, source: kiln_image::Error) -> Error {
        Kind::Layer { diff_id: self.diff_id, source }.into()
    }

    /// Reads the layer from its start.
    pub fn reader(&self) -> SegmentReader {
        self.segment().reader()
    }
}

pub(crate) fn lock_shared(file: &File, path: &Path) -> Result<(), Error> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::LockShared))
        .map_err(|e| Error::io("lock", path, e.into()))
}

/// Whether nobody uses the file; it is then locked until it is closed.
pub(crate) fn lock_exclusive(file: &File, path: &Path) -> Result<bool, Error> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(Error::io("lock", path, e.into())),
    }
}

/// Whether the file still has a name.
pub(crate) fn is_linked(file: &File, path: &Path) -> Result<bool, Error> {
    Ok(file.metadata().map_err(|e| Error::io("examine", path, e))?.nlink() > 0)
}

pub(crate) fn length(file: &File, path: &Path) -> Result<u64, Error> {
    Ok(file.metadata().map_err(|e| Error::io("examine", path, e))?.len())
}

fn touch(file: &File, path: &Path) -> Result<(), Error> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    match rustix::fs::futimens(file, &times) {
        // A store on a read-only disk can still be used.
        Ok(()) | Err(rustix::io::Errno::ROFS) => Ok(()),
        Err(e) => Err(Error::io("set the time of", path, e.into())),
    }
}
