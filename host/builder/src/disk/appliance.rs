//! A machine with the disk in it.

use super::{
    file::FileSource,
    output::{DiskBytes, in_format, vmdk_options},
    plan::{Appliance, DiskOutput},
};
use crate::{Error, error::Kind};
use kiln_disk::{
    formats::vmdk::{self, write_stream_optimized},
    package::{Adapter, Firmware, Machine, Ova, OvaDisk},
};
use std::{
    io::{BufWriter, Write},
    num::NonZeroUsize,
};

const BUFFER_SIZE: usize = 1 << 20;

/// Writes an OVA.
pub(crate) fn write(
    disk: &DiskBytes,
    output: &DiskOutput,
    appliance: &Appliance,
    threads: NonZeroUsize,
    to: &mut dyn Write,
) -> Result<(), Error> {
    // Its manifest, which comes first, has the disk's digest.
    let failed = |source| Kind::DiskFile { source };
    let file = tempfile::tempfile().map_err(failed)?;
    let mut options = vmdk_options(disk, output, &appliance.vmware, threads);
    let base = file_name(output);
    options.file_name = format!("{base}-disk1.vmdk");
    let mut buffered = BufWriter::with_capacity(BUFFER_SIZE, &file);
    write_stream_optimized(disk.source, &options, &mut buffered).map_err(|error| in_format(output, error))?;
    buffered.flush().map_err(failed)?;
    drop(buffered);
    let vmdk = FileSource::new(file).map_err(failed)?;
    let ova = Ova {
        machine: &machine(appliance, &base),
        file_name: &base,
        disk: OvaDisk { file: &vmdk, digest: None, capacity: disk.source.len(), populated: None },
        mtime: i64::try_from(disk.epoch_s).unwrap_or(i64::MAX),
    };
    ova.write(to).map_err(|error| in_format(output, error))
}

/// The file's name without its ending, of which the members' names are made.
fn file_name(output: &DiskOutput) -> String {
    let stem = output.dest.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| stem != "-").unwrap_or_else(|| "disk".to_owned())
}

fn machine(appliance: &Appliance, base: &str) -> Machine {
    let mut machine = Machine::new(appliance.name.as_deref().unwrap_or(base));
    machine.memory = appliance.memory;
    machine.processors = appliance.cpus;
    machine.firmware = if appliance.is_efi { Firmware::Efi } else { Firmware::Bios };
    machine.adapter = match appliance.vmware.adapter {
        vmdk::Adapter::Ide => Adapter::Ide,
        vmdk::Adapter::BusLogic => Adapter::BusLogic,
        vmdk::Adapter::LsiLogic => Adapter::LsiLogic,
    };
    if let Some(version) = appliance.vmware.hardware_version {
        machine.hardware_version = version;
    }
    machine
}
