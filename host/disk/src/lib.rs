//! File systems and disk formats as pure functions to bytes: no paths of the host, no clock, no
//! environment, no network.

pub mod btrfs;
pub mod erofs;
mod error;
pub mod ext4;
mod field;
pub mod formats;
pub mod package;
pub mod sparse;
pub mod table;
pub mod uki;

pub use error::Error;
