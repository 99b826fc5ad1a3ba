//! Telling how far a blob is.

use crate::{Event, Observer};
use kiln_image::digest::Digest;
use kiln_image::manifest::Descriptor;
use std::io::{self, Read};

/// Bytes between two events.
const STEP: u64 = 1 << 20;

/// Tells the observer what passes.
pub(crate) struct Progress<'a, R> {
    reader: R,
    digest: Digest,
    size: u64,
    done: u64,
    told: u64,
    observer: &'a dyn Observer,
}

impl<'a, R: Read> Progress<'a, R> {
    pub fn new(reader: R, blob: &Descriptor, observer: &'a dyn Observer) -> Self {
        Self { reader, digest: blob.digest, size: blob.size, done: 0, told: 0, observer }
    }

    fn tell(&mut self) {
        self.told = self.done;
        self.observer.event(Event::Blob { digest: &self.digest, done: self.done, size: self.size });
    }
}

impl<R: Read> Read for Progress<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.done += count as u64;
        if self.done >= self.told + STEP || count == 0 && self.told < self.done {
            self.tell();
        }
        Ok(count)
    }
}
