//! A machine with the disk in it: OVA, XVA, and VMware's files in an archive.

use super::{
    file::FileSource,
    output::{DiskBytes, in_format, vmdk_options},
    plan::{Appliance, ApplianceForm, DiskOutput},
};
use crate::{Error, error::Kind};
use kiln_disk::{
    formats::vmdk::{self, write_stream_optimized},
    package::{Adapter, ArchiveFormat, Delivery, Firmware, Machine, Member, Ova, OvaDisk, Xva, XvaBoot, vmx},
};
use std::{
    io::{BufWriter, Write},
    num::NonZeroUsize,
};

const BUFFER_SIZE: usize = 1 << 20;
/// gzip's level of an XVA's chunks.
const CHUNK_LEVEL: u8 = 6;

/// Writes it.
pub(crate) fn write(
    disk: &DiskBytes,
    output: &DiskOutput,
    appliance: &Appliance,
    threads: NonZeroUsize,
    to: &mut dyn Write,
) -> Result<(), Error> {
    let base = file_name(output);
    let machine = machine(appliance, &base);
    let mtime = i64::try_from(disk.epoch_s).unwrap_or(i64::MAX);
    let in_format = |error| in_format(output, error);
    match appliance.form {
        ApplianceForm::Ova => {
            // Its manifest, which comes first, has the disk's digest.
            let vmdk = stream_optimized(disk, output, appliance, threads, &format!("{base}-disk1.vmdk"))?;
            let file = OvaDisk { file: &vmdk, digest: None, capacity: disk.source.len(), populated: None };
            Ova { machine: &machine, file_name: &base, disk: file, mtime }.write(to).map_err(in_format)
        }
        ApplianceForm::Xva => {
            let boot = XvaBoot::Hvm;
            let xva = Xva { machine: &machine, boot, disk: disk.source, level: CHUNK_LEVEL, threads, mtime };
            let mut spill = tempfile::tempfile().map_err(|source| Kind::DiskFile { source })?;
            xva.write(&mut spill, to).map_err(in_format)
        }
        ApplianceForm::Zip | ApplianceForm::TarGz => {
            let name = format!("{base}.vmdk");
            let vmdk = stream_optimized(disk, output, appliance, threads, &name)?;
            let description = vmx(&machine, &name).map_err(in_format)?;
            let vmx_name = format!("{base}.vmx");
            let members = [
                Member { name: &vmx_name, source: &description.as_bytes() },
                Member { name: &name, source: &vmdk },
            ];
            let format = match appliance.form {
                ApplianceForm::Zip => ArchiveFormat::Zip,
                _ => ArchiveFormat::TarGzip(CHUNK_LEVEL),
            };
            Delivery { directory: &base, members: &members, mtime, threads }
                .write(format, to)
                .map_err(in_format)
        }
    }
}

fn stream_optimized(
    disk: &DiskBytes,
    output: &DiskOutput,
    appliance: &Appliance,
    threads: NonZeroUsize,
    name: &str,
) -> Result<FileSource, Error> {
    let failed = |source| Kind::DiskFile { source };
    let file = tempfile::tempfile().map_err(failed)?;
    let options = vmdk::Options {
        file_name: name.to_owned(),
        ..vmdk_options(disk, output, &appliance.vmware, threads)
    };
    let mut buffered = BufWriter::with_capacity(BUFFER_SIZE, &file);
    write_stream_optimized(disk.source, &options, &mut buffered).map_err(|error| in_format(output, error))?;
    buffered.flush().map_err(failed)?;
    drop(buffered);
    Ok(FileSource::new(file).map_err(failed)?)
}

/// The file's name without its ending, of which the members' names are made.
fn file_name(output: &DiskOutput) -> String {
    let name = output.dest.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem =
        [".ova", ".xva", ".zip", ".tar.gz", ".tgz"].iter().find_map(|ending| name.strip_suffix(ending));
    let stem = stem.unwrap_or(&name).trim_matches('-');
    if stem.is_empty() { "disk".to_owned() } else { stem.to_owned() }
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
