//! Container image formats as pure functions from readers to writers: no paths of the host, no
//! clock, no environment, no network.

pub mod entry;
pub mod tree;
