//! What machine to run.

use crate::Error;
use crate::error::Kind;
use crate::kernel::KernelFormat;
use kiln_devices::{SERIAL_BYTES, Storage};
pub use kiln_vmm::channel::CpuModel;
use std::io::Write;
use std::num::NonZeroU8;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

/// A machine to be launched.
pub struct MachineSpec {
    /// A Linux kernel for x86-64, `vmlinux` with a PVH note or `bzImage`.
    pub kernel: PathBuf,
    /// The initial RAM file system, for example an [`Initramfs`](crate::Initramfs).
    pub initramfs: Vec<u8>,
    /// Added to the kernel's command line as they are.
    pub extra_command_line: Vec<String>,
    /// Virtual CPUs.
    pub cpus: NonZeroU8,
    /// What they look like.
    pub cpu_model: CpuModel,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// In the order in which the guest sees them; better go by the serial.
    pub disks: Vec<Disk>,
    /// vsock ports the guest may connect to.
    pub ports: Vec<u32>,
    /// Gets the console live. When it takes too long, parts of the console are left out.
    pub console: Option<Box<dyn Write + Send>>,
}

/// What an engine's machines can have.
pub(crate) struct Limits {
    /// Disks at most.
    pub disks: usize,
    pub memory_mib: RangeInclusive<u32>,
}

impl MachineSpec {
    /// What can be known to fail before anything is started.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), Error> {
        KernelFormat::of(&self.kernel)?;
        if self.disks.len() > limits.disks {
            return Err(Kind::TooManyDisks(self.disks.len(), limits.disks).into());
        }
        let (least, most) = (*limits.memory_mib.start(), *limits.memory_mib.end());
        if self.memory_mib < least {
            return Err(Kind::TooLittleMemory(self.memory_mib, least).into());
        }
        if self.memory_mib > most {
            return Err(Kind::TooMuchMemory(self.memory_mib, most).into());
        }
        match self.disks.iter().find(|disk| disk.serial.len() > SERIAL_BYTES) {
            Some(disk) => Err(Kind::LongSerial(disk.serial.clone()).into()),
            None => Ok(()),
        }
    }
}

/// A disk of the machine.
#[derive(Clone)]
pub struct Disk {
    /// What the guest knows it by (`/sys/block/*/serial`), at most
    /// [`kiln_devices::SERIAL_BYTES`] long.
    pub serial: String,
    /// Its bytes. After a failed run, ask [`Storage::host_error`] whether the host was to blame.
    pub storage: Arc<dyn Storage>,
    /// The guest cannot write to it.
    pub read_only: bool,
}
