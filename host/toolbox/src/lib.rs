//! The toolbox: tools for file systems, partition tables and boot loaders as an image of the store, which a build attaches to its
//! VM. So the host's tools are never used, and every host has the same.
//!
//! # How it is made
//! Its [`Lock`] names Debian packages with version, size and digest. [`assemble`] has the system's own apt fetch them, as an ordinary
//! user and with a state of its own, and apt checks the archive's signatures; the lock then decides whether they are
//! the right ones. What they contain becomes one layer: no maintainer script runs, and the little that those would
//! have done is written in `finishing.rs`.
//!
//! # What is where
//! ```text
//! toolbox/lock                  flock(2) of whoever assembles
//! toolbox/archives/<hash>.deb   packages, verified; with all of them there, no network is needed
//! toolbox/images/<key>          the ID of the image assembled from a lock
//! toolbox/tmp.*                 apt's state and downloads while they last
//! ```

mod apt;
mod ar;
mod archives;
mod assemble;
mod deb;
mod error;
mod finishing;
mod lock;
mod sources;
mod usage;

pub use assemble::{Event, Observer, Settings, assemble};
pub use error::Error;
pub use lock::{Lock, Package};
pub use sources::renew;
pub use usage::{prune, usage};
