//! Front ends to a plan, and the executor of plans.
//!
//! [`BuildFile::read`] checks everything that can be checked before anything runs; [`build`] carries
//! it out: base from the store, contents packed, scripts run in a VM, layer packed, image written.
//! [`run_command`] is the same line without a result.

mod build_file;
mod contents;
mod disks;
mod error;
mod event;
mod execute;
mod guest;
mod image_source;
mod interrupt;
mod output;
mod packing;
mod run_command;
mod scratch;
mod session;
mod size;

pub use build_file::{BuildFile, ContentSource, Hook, HookScript, Located};
pub use error::{Class, Error};
pub use event::{Event, Observer};
pub use execute::{BuildRequest, build};
pub use guest::GuestSettings;
pub use image_source::ImageSource;
pub use interrupt::{Interrupt, Reason};
pub use kiln_protocol::Stream;
pub use output::{Destination, OutputSpec};
pub use run_command::{RunRequest, run_command};
pub use size::parse_size;
