//! The disk's bytes and nothing else. What is zero becomes a hole of the file.

use super::{DiskFormat, output::Output, scan};
use crate::{Error, sparse::Source, sparse::Target};

/// Writes the bytes of `source` that are not zero, and makes the file as long as the disk.
///
/// # Errors
/// When the one cannot be read or the other not be written.
pub(super) fn write(source: &dyn Source, target: &mut dyn Target) -> Result<(), Error> {
    let mut output = Output::new(DiskFormat::Raw, target);
    scan::for_each_run(source, scan::HOLE_BYTES, |offset, bytes| output.write(bytes, offset))?;
    output.set_len(source.len())
}
