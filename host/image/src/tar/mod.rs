//! The tar archive format: reading what anyone wrote, writing one deterministic dialect.
//!
//! An archive is a sequence of 512-byte blocks: for each entry a header and then its data, padded to
//! whole blocks; at the end two blocks of zeroes. What the header is too small for precedes it, in the
//! form of further headers whose data is about the next entry: PAX records (type `x`), which are
//! POSIX's, or GNU's long names (types `L` and `K`).

mod error;
mod header;
mod pax;
mod read;
mod sparse;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use error::{ReadError, WriteError};
pub use read::{ArchiveEntry, Location, MAX_ENTRIES, MAX_EXTENSION, MAX_EXTENSIONS, MAX_SPARSE, Reader};
pub use sparse::SparseRun;
pub use write::Writer;
