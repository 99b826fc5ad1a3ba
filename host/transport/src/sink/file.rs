//! One file, or standard output.

use super::pending::PendingFile;
use crate::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Bytes written at once.
const BUFFER_SIZE: usize = 1024 * 1024;

/// Calls `fill` with a writer to the file at `path`, which gets its name when that succeeded; `-` is standard output.
/// Returns the bytes written.
pub(super) fn write(
    path: &str,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<u64, Error> {
    let failed = |e| Error::file("write", Path::new(path), e);
    if path == "-" {
        // Not as `Stdout`, which takes a closed one for one that takes everything.
        let out = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
        return fill_counted(File::from(out), path, fill).map(|(_, bytes)| bytes);
    }
    let pending = PendingFile::create(Path::new(path)).map_err(failed)?;
    let (pending, bytes) = fill_counted(pending, path, fill)?;
    pending.commit().map_err(failed)?;
    Ok(bytes)
}

fn fill_counted<W: Write>(
    out: W,
    path: &str,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<(W, u64), Error> {
    let failed = |e| Error::file("write", Path::new(path), e);
    let mut out = BufWriter::with_capacity(BUFFER_SIZE, Counted { out, bytes: 0 });
    fill(&mut out)?;
    let counted = out.into_inner().map_err(|e| failed(e.into_error()))?;
    Ok((counted.out, counted.bytes))
}

/// Counts what passes.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.out.write(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
