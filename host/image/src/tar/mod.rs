//! The tar archive format.

mod error;

pub(crate) use error::ReadError;
