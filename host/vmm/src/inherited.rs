//! Descriptors that the process was started with, by their numbers.
#![allow(unsafe_code)] // A number becomes an owned descriptor.

use crate::channel::{DiskSpecification, Part, Specification};
use kiln_devices::{ComposedStorage, FileStorage, Segment, Storage};
use kvm_ioctls::Kvm;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// What a specification names, each descriptor once.
pub struct Inherited {
    pub kvm: Kvm,
    pub kernel: File,
    pub initramfs: File,
    pub disks: Vec<Arc<dyn Storage>>,
}

/// The channel: standard input.
pub fn control() -> io::Result<OwnedFd> {
    take(0)
}

/// `/dev/kvm`.
///
/// # Errors
/// When the number is not that of an open descriptor.
pub fn kvm(number: RawFd) -> io::Result<Kvm> {
    let owned = take(number)?;
    // SAFETY: the descriptor is open and owned; that it is KVM's shows in the first call.
    Ok(unsafe { Kvm::from_raw_fd(std::os::fd::IntoRawFd::into_raw_fd(owned)) })
}

impl Inherited {
    /// Takes all that `specification` names.
    ///
    /// # Errors
    /// When a number is not that of an open descriptor, or a disk cannot be put together.
    pub fn take(specification: &Specification) -> io::Result<Self> {
        let mut files = HashMap::new();
        let disks =
            specification.disks.iter().map(|disk| storage(disk, &mut files)).collect::<Result<_, _>>()?;
        Ok(Self {
            kvm: kvm(specification.kvm)?,
            kernel: take(specification.kernel)?.into(),
            initramfs: take(specification.initramfs)?.into(),
            disks,
        })
    }
}

impl Specification {
    /// All descriptors that it names.
    pub fn descriptors(&self) -> Vec<RawFd> {
        let parts = self.disks.iter().flat_map(|disk| &disk.parts);
        let of_disks = parts.filter_map(|part| match part {
            Part::File { descriptor, .. } => Some(*descriptor),
            Part::Zeroes(_) => None,
        });
        let mut all: Vec<_> = of_disks.chain([self.kvm, self.kernel, self.initramfs]).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Several disks may show parts of one file.
fn storage(disk: &DiskSpecification, files: &mut HashMap<RawFd, Arc<File>>) -> io::Result<Arc<dyn Storage>> {
    let segments = disk.parts.iter().map(|part| segment(part, files)).collect::<io::Result<Vec<_>>>()?;
    if disk.read_only {
        return Ok(Arc::new(ComposedStorage::new(segments)?));
    }
    match &segments[..] {
        [Segment::File { file, offset: 0, .. }] => Ok(Arc::new(FileStorage::writable(file.try_clone()?)?)),
        _ => Err(ErrorKind::InvalidInput.into()),
    }
}

fn segment(part: &Part, files: &mut HashMap<RawFd, Arc<File>>) -> io::Result<Segment> {
    Ok(match *part {
        Part::Zeroes(length) => Segment::Zeroes(length),
        Part::File { descriptor, offset, length } => {
            let file = match files.get(&descriptor) {
                Some(file) => file.clone(),
                None => {
                    let file = Arc::new(File::from(take(descriptor)?));
                    files.insert(descriptor, file.clone());
                    file
                }
            };
            Segment::File { file, offset, length }
        }
    })
}

fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: a number only.
    if number < 0 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and nobody else in this process has it: it was inherited, and kiln names every
    // descriptor once for each purpose (`Inherited` keeps those of disks apart).
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    fn file_of(bytes: u64) -> RawFd {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        file.into_raw_fd()
    }

    fn disk(read_only: bool, parts: Vec<Part>) -> DiskSpecification {
        DiskSpecification { serial: String::from("disk"), read_only, parts }
    }

    #[test]
    fn a_file_may_be_part_of_several_disks() {
        let descriptor = file_of(4096);
        let part = |offset, length| Part::File { descriptor, offset, length };
        let mut files = HashMap::new();
        let first = storage(&disk(true, vec![part(0, 1024), Part::Zeroes(512)]), &mut files).unwrap();
        let second = storage(&disk(true, vec![part(1024, 3072)]), &mut files).unwrap();
        assert_eq!((first.len(), second.len(), files.len()), (1536, 3072, 1));
    }

    #[test]
    fn only_a_whole_file_can_be_written_to() {
        let descriptor = file_of(4096);
        let whole = Part::File { descriptor, offset: 0, length: 4096 };
        let mut files = HashMap::new();
        assert!(storage(&disk(false, vec![whole.clone()]), &mut files).is_ok());
        for parts in [
            vec![],
            vec![whole, Part::Zeroes(512)],
            vec![Part::File { descriptor, offset: 512, length: 512 }],
        ] {
            let error = storage(&disk(false, parts), &mut files).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_refused() {
        for number in [-1, 1 << 20] {
            let disk = disk(true, vec![Part::File { descriptor: number, offset: 0, length: 512 }]);
            let error = storage(&disk, &mut HashMap::new()).err().unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    }
}
