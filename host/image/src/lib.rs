//! Container image formats as pure functions from readers to writers: no paths of the host, no
//! clock, no environment, no network.

pub mod compress;
pub mod config;
pub mod contents;
pub mod digest;
pub mod docker_archive;
pub mod entry;
mod error;
pub mod layer;
pub mod merge;
pub mod path;
pub mod reference;
pub mod resolve;
pub mod tar;
pub mod tree;
pub mod whiteout;
pub mod xattr;

pub use error::Error;
