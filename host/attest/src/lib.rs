//! What is in an image and what it was made of, as documents for programs: SBOM and provenance.
//!
//! A root file system, seen through [`Files`], has an [inventory](packages::installed) of packages; an
//! image and its inventory make a [bill of materials](sbom); a build makes a [provenance] statement.
//! The same input gives the same bytes: times and versions come from the caller.
//!
//! Everything read from an image is hostile: files are bounded before they are read, and what cannot be
//! understood is named in [`packages::Inventory::unread`] rather than guessed at.

mod error;
mod files;
mod license;
pub mod media_type;
mod os_release;
mod owners;
pub mod packages;
pub mod provenance;
mod purl;
mod reader;
pub mod sbom;
mod sqlite;
mod text;
mod uuid;

pub use error::Error;
pub use files::{Files, TreeFiles};
pub use os_release::Distribution;
pub use owners::owners;
