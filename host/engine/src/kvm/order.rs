//! From a machine to be launched to what its process is told and inherits.

use crate::error::Kind;
use crate::{Disk, Error, MachineSpec, memory_file};
use kiln_devices::Segment;
use kiln_vmm::channel::{DiskSpecification, Part, Specification};
use rustix::fs::{OFlags, fcntl_getfl};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

/// For every kernel. Its output goes to the serial port, from its first line on, so that a kernel that
/// does not get far can be heard; a panic restarts at once, by way of the keyboard controller, which ends
/// the machine; no memory is set aside for bounce buffers, which no device here needs; and what protects
/// one program of the guest from another is not needed where all belong to one build (kiln's own kernel is
/// built without).
const COMMAND_LINE: &str =
    "earlycon=uart8250,io,0x3f8 console=ttyS0 panic=-1 reboot=k swiotlb=noforce mitigations=off";

/// What a process inherits, under the numbers that it is told.
pub(super) type Inherited = Vec<Box<dyn AsRawFd + Send>>;

/// Opens everything for `spec`, the device at the path `device` included.
pub(super) fn open(spec: &MachineSpec, device: &Path) -> Result<(Specification, Inherited), Error> {
    let kvm = super::device::open(device).map_err(|why| Kind::NoEngine(vec![(super::NAME, why)]))?;
    let kernel =
        File::open(&spec.kernel).map_err(|error| Kind::KernelUnreadable(spec.kernel.clone(), error))?;
    let initramfs = memory_file::sealed("initramfs", &spec.initramfs)
        .map_err(|error| Kind::Setup("the initramfs", error))?;
    let mut files = Files::default();
    let disks = spec.disks.iter().map(|disk| files.disk(disk)).collect::<Result<_, _>>()?;
    let specification = Specification {
        kvm: kvm.as_raw_fd(),
        kernel: kernel.as_raw_fd(),
        initramfs: initramfs.as_raw_fd(),
        command_line: command_line(spec),
        cpus: spec.cpus.get(),
        cpu_model: spec.cpu_model,
        memory_mib: spec.memory_mib,
        disks,
        ports: spec.ports.clone(),
    };
    let mut inherited = files.inherited;
    inherited.extend([kvm, kernel, initramfs].map(|file| Box::new(file) as _));
    Ok((specification, inherited))
}

/// `quiet` comes first: the early console says all there is so far as soon as the kernel reads of it, at two exits
/// per character.
fn command_line(spec: &MachineSpec) -> String {
    let mut words = Vec::from_iter(spec.console.is_none().then_some("quiet"));
    words.push(COMMAND_LINE);
    words.extend(spec.extra_command_line.iter().map(String::as_str));
    words.join(" ")
}

/// The files of disks, each inherited once.
#[derive(Default)]
struct Files {
    inherited: Inherited,
    /// From a file's number, and whether it is for reading only, to the number it is inherited under.
    numbers: HashMap<(RawFd, bool), RawFd>,
}

impl Files {
    fn disk(&mut self, disk: &Disk) -> Result<DiskSpecification, Error> {
        let segments = disk.storage.parts().ok_or_else(|| Kind::DiskWithoutFiles(disk.serial.clone()))?;
        let whole = matches!(&segments[..], [Segment::File { offset: 0, .. }]);
        if !disk.read_only && !whole {
            return Err(Kind::DiskInParts(disk.serial.clone()).into());
        }
        let parts =
            segments.iter().map(|segment| self.part(segment, disk.read_only)).collect::<io::Result<_>>();
        let parts = parts.map_err(|error| Kind::Setup("a disk's file", error))?;
        Ok(DiskSpecification { serial: disk.serial.clone(), read_only: disk.read_only, parts })
    }

    fn part(&mut self, segment: &Segment, read_only: bool) -> io::Result<Part> {
        Ok(match segment {
            Segment::Zeroes(length) => Part::Zeroes(*length),
            Segment::File { file, offset, length } => {
                let descriptor = self.number(file, read_only)?;
                Part::File { descriptor, offset: *offset, length: *length }
            }
        })
    }

    fn number(&mut self, file: &Arc<File>, read_only: bool) -> io::Result<RawFd> {
        let key = (file.as_raw_fd(), read_only);
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        let file = if read_only { without_writing(file)? } else { file.clone() };
        let number = file.as_raw_fd();
        self.numbers.insert(key, number);
        self.inherited.push(Box::new(file));
        Ok(number)
    }
}

/// So that a process that its guest has taken over cannot write where the guest must not.
fn without_writing(file: &Arc<File>) -> io::Result<Arc<File>> {
    if fcntl_getfl(file)? & OFlags::ACCMODE == OFlags::RDONLY {
        return Ok(file.clone());
    }
    Ok(Arc::new(File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?))
}
