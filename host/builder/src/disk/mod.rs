//! Bootable disks: an image on partitions, with what boots it.
//!
//! ```text
//! plan         what is asked                 checks       what of it cannot be
//! layout       where partitions lie
//! make         from image to disk            room         how large they must be
//! survey       what is in the tree           edit         changes on the host
//! fstab        what is mounted where         system       what is declared of the system
//! initrd       initial RAM disks             loader       what boots it
//! file_system  making them, in the toolbox   identity     UUIDs that stay the same
//! output_keys  where disks go                output       writing them there
//! appliance    a machine with the disk       kernel       without a loader
//! chain        a file for each layer         debugfs      changing a file system in place
//! iso          a live system                  read_only    where some file systems end
//! ```

mod appliance;
mod btrfs;
mod chain;
mod checks;
mod debugfs;
mod edit;
mod file;
mod file_system;
mod fstab;
mod identity;
mod initrd;
mod iso;
mod kernel;
mod layout;
mod loader;
mod make;
mod output;
mod output_keys;
mod plan;
mod read_only;
mod room;
mod shell;
mod survey;
mod system;

pub(crate) use chain::write as write_chain;
pub(crate) use checks::{check_plan, complete};
pub use file::{FileSource, FileTarget};
pub(crate) use iso::{label as iso_label, plan as iso_plan};
pub(crate) use make::{DiskMaker, MadeDisk};
pub use output::{DiskBytes, write_disk};
pub(crate) use output::{check_stream, write};
pub(crate) use output_keys::disk_output;
pub use output_keys::{parse_disk_output, parse_disk_path};
pub use plan::{
    Appliance, ApplianceForm, DiskForm, DiskOutput, DiskPlan, DiskScript, DiskUser, FileSystem, Initrd,
    Loader, MachineId, PartitionPlan, PartitionSize, SystemPlan, Table, Vmware,
};
pub(crate) use read_only::plan as read_only_plan;
