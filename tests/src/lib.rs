//! What the end-to-end tests are made of.
//!
//! A test gets a [`Room`]: a directory of its own with a cache, a place for temporary files and one for build contexts.
//! In it, it runs [`Kiln`], and looks at the [`Outcome`]: exit code, messages, and whether anything is left behind.
//! Images are read by tools that are not ours ([`Archive`]). The Debian base is made once, by `scripts/debian-base`.

mod archive;
mod bootable;
mod confinement;
mod debian;
mod engine;
mod image;
mod kiln;
mod leftovers;
mod repository;
mod room;
mod tool;

pub use archive::{Archive, Listed};
pub use bootable::{
    Firmware, KERNEL_OPTIONS, MARKER, System, boot, boot_machine, disk_cache, disk_context, disk_kiln,
};
pub use confinement::{Confinement, NOBODY};
pub use debian::Debian;
pub use engine::{Engine, run_on};
pub use image::{Image, podman_load};
pub use kiln::{Kiln, Outcome, Running};
pub use repository::repository;
pub use room::Room;
pub use tool::{is_root, tool, tool_output};
