//! Packages as others read them.
//!
//! Needs Debian's packages libxml2-utils, python3, qemu-utils, tar and unzip.

#[path = "package/programs.rs"]
mod programs;

#[path = "package/ova.rs"]
mod ova;

#[path = "package/sparse.rs"]
mod sparse;

#[path = "package/xva.rs"]
mod xva;

#[path = "package/archive.rs"]
mod archive;
