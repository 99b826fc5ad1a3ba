//! Front ends to a plan, and the executor of plans.
//!
//! [`BuildFile::read`] checks everything that can be checked before anything runs; [`build`] carries
//! it out: for each image, its parent brought into the store, contents packed, scripts run in a VM, layers kept; then
//! everything written to all outputs. [`run_command`] is the same line without a result.

mod attestations;
mod build_file;
mod contents;
mod disk;
mod disks;
mod error;
mod event;
mod execute;
mod guest;
mod inputs;
mod interrupt;
mod output_spec;
mod packing;
mod password;
mod places;
mod run_command;
mod scratch;
mod session;
mod size;

pub use attestations::{Attestations, SbomFormat};
pub use build_file::{
    About, BuildFile, ContentSource, Finish, Hook, HookScript, IdRange, Image, Layer, Located, Origin,
    Output, Parent, Particular, RootPassword, Source, Squash,
};
pub use disk::{
    Appliance, ApplianceForm, DiskBytes, DiskForm, DiskOutput, DiskPlan, DiskScript, DiskUser, FileSource,
    FileSystem, FileTarget, Initrd, Loader, MachineId, PartitionPlan, PartitionSize, SystemPlan, Table,
    Vmware, parse_disk_output, parse_disk_path, write_disk,
};
pub use error::{Class, Error};
pub use event::{Event, Observer};
pub use execute::{BuildRequest, Built, BuiltImage, Toolbox, build};
pub use guest::GuestSettings;
pub use inputs::Input;
pub use interrupt::{Interrupt, Reason};
pub use kiln_protocol::Stream;
pub use output_spec::parse_output;
pub use places::{Places, Relay};
pub use run_command::{RunRequest, run_command};
pub use size::parse_size;
