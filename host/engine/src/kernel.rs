//! Which kind of kernel a file is.

use crate::Error;
use crate::error::Kind;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Enough of a file for both magic numbers.
const HEAD_BYTES: u64 = 1024;

/// A kernel that can be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KernelFormat {
    /// ELF for x86-64, as `vmlinux`.
    Elf,
    /// The boot protocol's image
    /// ([boot.rst](https://www.kernel.org/doc/html/latest/arch/x86/boot.html)).
    BzImage,
}

impl KernelFormat {
    /// Looks at the magic numbers of the file at `path`.
    ///
    /// # Errors
    /// When the file cannot be read or is something else.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let head = head(path).map_err(|error| Kind::KernelUnreadable(path.to_owned(), error))?;
        Ok(Self::recognise(&head).ok_or_else(|| Kind::NoKernel(path.to_owned()))?)
    }

    fn recognise(head: &[u8]) -> Option<Self> {
        /// Class 64 bits, little endian, version 1.
        const ELF: &[u8] = b"\x7fELF\x02\x01\x01";
        const ELF_MACHINE: std::ops::Range<usize> = 18..20;
        const EM_X86_64: [u8; 2] = 62_u16.to_le_bytes();
        const BOOT_HEADER: std::ops::Range<usize> = 0x202..0x206;
        if head.starts_with(ELF) && head.get(ELF_MACHINE) == Some(&EM_X86_64) {
            Some(Self::Elf)
        } else if head.get(BOOT_HEADER) == Some(b"HdrS") {
            Some(Self::BzImage)
        } else {
            None
        }
    }
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024];
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }

    fn elf(machine: u8) -> Vec<u8> {
        let mut image = image(0, b"\x7fELF\x02\x01\x01");
        image[18] = machine;
        image
    }

    #[test]
    fn kernels_are_told_by_their_magic_numbers() {
        let cases = [
            (elf(62), Some(KernelFormat::Elf)),
            (elf(183), None), // AArch64
            (image(0x202, b"HdrS"), Some(KernelFormat::BzImage)),
            (image(0x201, b"HdrS"), None),
            (b"\x7fELF".to_vec(), None),
            (Vec::new(), None),
        ];
        for (head, format) in cases {
            assert_eq!(KernelFormat::recognise(&head), format);
        }
    }

    #[test]
    fn a_file_that_is_no_kernel_is_named() {
        let error = KernelFormat::of(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.to_string(), "/dev/null is neither a vmlinux for x86-64 nor a bzImage");
    }
}
