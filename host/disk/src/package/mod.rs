//! What a disk is delivered in: OVA, XVA and other archives.
//!
//! Everything is written as a stream, and follows from its inputs alone: members have a fixed owner and mode, the time that
//! is given, and an order that the format or the caller sets. Zeroes of a disk cost nothing to compress, whether its
//! source knew them as holes or not: the bytes that come out are the same.

mod archive;
mod copy;
mod error;
mod gzip;
mod machine;
mod ova;
mod ovf;
mod tar;
mod vmx;
mod xml;
mod xva;
mod zip;

pub use archive::{ArchiveFormat, Delivery, Member};
pub use machine::{Adapter, Firmware, Machine, NetworkCard, check_file_name};
pub use ova::{Ova, OvaDisk};
pub use vmx::vmx;
pub use xva::{CHUNK_BYTES, Xva, XvaBoot};

pub(crate) use error::Problem;
