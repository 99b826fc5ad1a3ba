//! Container image formats as pure functions from readers to writers: no paths of the host, no
//! clock, no environment, no network.

pub mod compress;
pub mod config;
pub mod contents;
mod copy;
pub mod difference;
pub mod digest;
pub mod docker_archive;
pub mod entry;
mod error;
pub mod flatten;
pub mod id_map;
pub mod layer;
pub mod layered;
pub mod manifest;
mod merge;
pub mod password;
pub mod path;
pub mod reference;
mod resolve;
pub mod shadow;
pub mod system;
pub mod tar;
pub mod tree;
pub mod upper;
mod whiteout;
mod xattr;

pub use error::Error;
