//! Disks to files.

use super::{
    MadeDisk, appliance,
    file::{FileSource, FileTarget},
    plan::{DiskForm, DiskOutput, Vmware},
};
use crate::{Error, error::Kind, event::Event, guest::Surroundings};
use kiln_disk::{
    formats::{self, DiskFormat, Options, qcow2, vhd, vmdk},
    sparse::Source,
};
use kiln_image::compress::{Compression, ParallelCompressor};
use kiln_transport::PendingFile;
use std::{
    fs::File,
    io::{self, Write},
    num::NonZeroUsize,
    path::Path,
};

/// Seconds from 1970 to 2000, where VHD's time begins.
const VHD_EPOCH: u64 = 946_684_800;
/// Bytes that are compressed at once.
const PIECE_SIZE: usize = 1 << 20;

/// Writes a disk.
pub(crate) fn write(
    disk: &MadeDisk,
    output: &DiskOutput,
    threads: NonZeroUsize,
    surroundings: Surroundings,
) -> Result<(), Error> {
    surroundings.phase("writing the disk");
    let size = match &output.form {
        DiskForm::Kernel => super::kernel::write(disk, &output.dest, surroundings)?,
        _ => write_file(disk, output, threads)?,
    };
    let (dest, image_id) = (output.dest.display().to_string(), disk.image.image_id.to_string());
    surroundings.observer.event(Event::Written { dest: &dest, image_id: &image_id, size });
    Ok(())
}

fn write_file(disk: &MadeDisk, output: &DiskOutput, threads: NonZeroUsize) -> Result<u64, Error> {
    let failed = |source| Kind::Destination { dest: output.dest.clone(), source };
    let source = disk.file.try_clone().and_then(FileSource::new).map_err(failed)?;
    let bytes = DiskBytes { source: &source, identity: disk.uuid, epoch_s: disk.epoch.unix_seconds() };
    write_bytes(&bytes, output, threads)
}

/// A disk's bytes, with what some formats say besides.
#[derive(Clone, Copy)]
pub struct DiskBytes<'a> {
    /// The bytes.
    pub source: &'a dyn Source,
    /// What formats with a UUID get.
    pub identity: [u8; 16],
    /// What formats with a time get, in seconds since the Unix epoch.
    pub epoch_s: u64,
}

/// Writes a disk in the form of the output, and returns the file's size in bytes.
///
/// # Errors
/// When the disk cannot be read, the output not be written, or its form not hold the disk.
pub fn write_disk(disk: &DiskBytes, output: &DiskOutput, threads: NonZeroUsize) -> Result<u64, Error> {
    if matches!(output.form, DiskForm::Kernel | DiskForm::Chain | DiskForm::Iso | DiskForm::ReadOnly(_)) {
        return Err(Kind::Request("this is made of an image, not of a disk".to_owned()).into());
    }
    write_bytes(disk, output, threads)
}

fn write_bytes(disk: &DiskBytes, output: &DiskOutput, threads: NonZeroUsize) -> Result<u64, Error> {
    let failed = |source| Kind::Destination { dest: output.dest.clone(), source };
    if output.dest == Path::new("-") {
        let mut stdout = io::stdout();
        write_stream(disk, output, threads, &mut stdout)?;
        stdout.flush().map_err(Kind::Output)?;
        return Ok(disk.source.len());
    }
    let pending = PendingFile::create(&output.dest).map_err(failed)?;
    if pending.is_stream() {
        write_stream(disk, output, threads, pending.file())?;
        return Ok(disk.source.len());
    }
    write_into(disk, output, threads, pending.file())?;
    Ok(pending.commit().map_err(failed)?)
}

/// Refuses forms whose bytes do not come one after the other.
///
/// # Errors
/// With what to do instead.
pub(crate) fn check_stream(form: &DiskForm) -> Result<(), Error> {
    let is_streamed = match form {
        DiskForm::Raw(_) | DiskForm::Iso | DiskForm::ReadOnly(_) | DiskForm::Appliance(_) => true,
        DiskForm::Vmdk(vmware) => vmware.subformat == vmdk::Subformat::StreamOptimized,
        _ => false,
    };
    if is_streamed { Ok(()) } else { Err(not_streamed(form)) }
}

fn not_streamed(form: &DiskForm) -> Error {
    if matches!(form, DiskForm::Kernel | DiskForm::Chain) {
        return Kind::Request("several files need a directory, and not standard output".to_owned()).into();
    }
    let why =
        "is not written from its start to its end, so it needs a file; raw and streamOptimized VMDK do not";
    Kind::Request(format!("`{}` {why}", format_of(form))).into()
}

/// A form whose bytes come one after the other.
fn write_stream(
    disk: &DiskBytes,
    output: &DiskOutput,
    threads: NonZeroUsize,
    mut to: impl Write + Send,
) -> Result<(), Error> {
    let failed = |source| match output.dest == Path::new("-") {
        true => Kind::Output(source),
        false => Kind::Destination { dest: output.dest.clone(), source },
    };
    match &output.form {
        DiskForm::Raw(None) | DiskForm::Iso | DiskForm::ReadOnly(_) => {
            stream(disk.source, &mut to).map_err(failed)?
        }
        DiskForm::Raw(Some(compression)) => {
            compress(disk.source, *compression, threads, to).map_err(failed)?
        }
        DiskForm::Vmdk(vmware) if vmware.subformat == vmdk::Subformat::StreamOptimized => {
            let options = vmdk_options(disk, output, vmware, threads);
            vmdk::write_stream_optimized(disk.source, &options, &mut to)
                .map_err(|error| in_format(output, error))?;
        }
        DiskForm::Appliance(appliance) => appliance::write(disk, output, appliance, threads, &mut to)?,
        form => return Err(not_streamed(form)),
    }
    Ok(())
}

fn write_into(
    disk: &DiskBytes,
    output: &DiskOutput,
    threads: NonZeroUsize,
    file: &File,
) -> Result<(), Error> {
    if let DiskForm::Raw(Some(compression)) = output.form {
        let failed = |source| Kind::Destination { dest: output.dest.clone(), source };
        return Ok(compress(disk.source, compression, threads, file).map_err(failed)?);
    }
    if let DiskForm::Appliance(appliance) = &output.form {
        return appliance::write(disk, output, appliance, threads, &mut &*file);
    }
    let options = options(disk, output, threads);
    formats::write(disk.source, &options, &mut FileTarget(file)).map_err(|error| in_format(output, error))
}

pub(super) fn in_format(output: &DiskOutput, source: kiln_disk::Error) -> Error {
    Kind::Disk { what: format!("cannot write {}", output.dest.display()), source }.into()
}

fn format_of(form: &DiskForm) -> DiskFormat {
    match form {
        DiskForm::Raw(_) | DiskForm::Kernel | DiskForm::Iso | DiskForm::ReadOnly(_) => DiskFormat::Raw,
        DiskForm::Qcow2(_) | DiskForm::Chain => DiskFormat::Qcow2,
        DiskForm::Vmdk(_) | DiskForm::Appliance(_) => DiskFormat::Vmdk,
        DiskForm::Vhd(_) => DiskFormat::Vhd,
        DiskForm::Vhdx => DiskFormat::Vhdx,
        DiskForm::Vdi => DiskFormat::Vdi,
    }
}

fn options(disk: &DiskBytes, output: &DiskOutput, threads: NonZeroUsize) -> Options<'static> {
    let identity = disk.identity;
    match &output.form {
        DiskForm::Qcow2(compression) => {
            Options::Qcow2(qcow2::Options { compression: *compression, threads, ..qcow2::Options::default() })
        }
        DiskForm::Vmdk(vmware) => Options::Vmdk(vmdk_options(disk, output, vmware, threads)),
        DiskForm::Vhd(layout) => {
            let since = disk.epoch_s.saturating_sub(VHD_EPOCH);
            let timestamp = u32::try_from(since).unwrap_or(u32::MAX);
            Options::Vhd(vhd::Options { layout: *layout, timestamp, identity })
        }
        form => Options::new(format_of(form), identity),
    }
}

pub(super) fn vmdk_options(
    disk: &DiskBytes,
    output: &DiskOutput,
    vmware: &Vmware,
    threads: NonZeroUsize,
) -> vmdk::Options {
    let usual = vmdk::Options::new(disk.identity);
    let name = output.dest.file_name().and_then(|name| name.to_str());
    vmdk::Options {
        subformat: vmware.subformat,
        adapter: vmware.adapter,
        hardware_version: vmware.hardware_version.unwrap_or(usual.hardware_version),
        file_name: name.map_or_else(|| usual.file_name.clone(), str::to_owned),
        threads,
        ..usual
    }
}

/// All bytes, zeroes too.
fn stream(source: &dyn Source, to: &mut dyn Write) -> io::Result<()> {
    let (mut offset, mut buffer) = (0, vec![0; PIECE_SIZE]);
    let mut data = source.next_data(0)?;
    while offset < source.len() {
        let length = (PIECE_SIZE as u64).min(source.len() - offset);
        while data.as_ref().is_some_and(|data| data.end <= offset) {
            data = source.next_data(offset)?;
        }
        let piece = &mut buffer[..usize::try_from(length).expect("a piece")];
        if data.as_ref().is_some_and(|data| data.start < offset + length) {
            source.read_at(piece, offset)?;
        } else {
            piece.fill(0);
        }
        to.write_all(piece)?;
        offset += length;
    }
    Ok(())
}

fn compress(
    source: &dyn Source,
    compression: Compression,
    threads: NonZeroUsize,
    to: impl Write + Send,
) -> io::Result<()> {
    let mut compressor = ParallelCompressor::new(compression, threads, to);
    stream(source, &mut compressor)?;
    let (mut to, _) = compressor.finish()?;
    to.flush()
}
