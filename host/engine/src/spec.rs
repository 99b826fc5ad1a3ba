//! What machine to run.

use kiln_devices::Storage;
use std::io::Write;
use std::num::NonZeroU8;
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
    /// Memory in MiB.
    pub memory_mib: u32,
    /// In the order in which the guest sees them; better go by the serial.
    pub disks: Vec<Disk>,
    /// vsock ports the guest may connect to.
    pub ports: Vec<u32>,
    /// Gets the console live. When it takes too long, parts of the console are left out.
    pub console: Option<Box<dyn Write + Send>>,
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
