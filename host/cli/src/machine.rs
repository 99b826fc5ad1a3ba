//! From arguments to the settings of a VM.

use crate::{arguments::MachineArguments, installation};
use anyhow::{Context, Result};
use kiln_builder::GuestSettings;
use std::{num::NonZeroUsize, thread};

/// Size of the scratch disk unless given; only what is used takes space.
const DEFAULT_DISK_SIZE: u64 = 64 << 30;

/// How the VM is run. `disk_size` is what the build file says, if anything.
pub fn settings(arguments: &MachineArguments, disk_size: Option<u64>) -> Result<GuestSettings> {
    let memory_mib = u32::try_from(arguments.memory >> 20).context("--memory is too large")?;
    Ok(GuestSettings {
        accel: arguments.accel.into(),
        kernel: arguments.kernel.clone(),
        lib_dir: installation::lib_dir()?,
        memory_mib,
        cpus: arguments.cpus,
        cpu_model: arguments.cpu.into(),
        scratch_size: arguments.disk_size.or(disk_size).unwrap_or(DEFAULT_DISK_SIZE),
        show_console: arguments.verbose > 1,
    })
}

/// Threads for work on the host.
pub fn threads() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
