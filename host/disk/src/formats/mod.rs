//! Formats of virtual disks: raw, qcow2, VMDK, VHD, VHDX, VDI.
//!
//! Each module writes a [`Source`] into a [`Target`], and reads what such a file holds as a `Source` again. Written
//! files follow from the disk's bytes and the options alone: whatever a format wants to be random or a time is an
//! option. What is zero takes no space, whether the source knew it as a hole or not. Tables are written and read
//! piecewise, so that memory does not grow with the disk.
//!
//! Files that are read are foreign: every offset and length in them is checked when it is used, and what is not
//! supported is refused by name.

mod blocks;
mod bytes;
mod codec;
mod error;
mod input;
mod output;
pub mod qcow2;
mod raw;
mod scan;
#[cfg(test)]
mod tests;
pub mod vdi;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;

pub(crate) use error::FormatError;

use crate::{Error, sparse::Source, sparse::Target};
use std::{fmt, str::FromStr};

/// A format of virtual disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DiskFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's.
    Qcow2,
    /// VMware's.
    Vmdk,
    /// Virtual PC's, Azure's.
    Vhd,
    /// Hyper-V's.
    Vhdx,
    /// VirtualBox's.
    Vdi,
}

impl DiskFormat {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vhd, Self::Vhdx, Self::Vdi];

    /// Its name, which is a file name's usual extension as well.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
        }
    }

    /// The format of a file that starts with `head` (512 bytes are enough) and ends with `footer` (its last 512
    /// bytes, when known); `None` when it has no format's magic, and so is raw or nothing that is known here.
    pub fn detect(head: &[u8], footer: Option<&[u8]>) -> Option<Self> {
        let starts = |magic: &[u8]| head.starts_with(magic);
        if starts(&qcow2::MAGIC) {
            Some(Self::Qcow2)
        } else if vmdk::MAGICS.into_iter().any(starts) {
            Some(Self::Vmdk)
        } else if starts(vhdx::MAGIC) {
            Some(Self::Vhdx)
        } else if head.get(vdi::MAGIC_OFFSET..).is_some_and(|rest| rest.starts_with(&vdi::MAGIC)) {
            Some(Self::Vdi)
        } else if starts(vhd::COOKIE) || footer.is_some_and(|footer| footer.starts_with(vhd::COOKIE)) {
            Some(Self::Vhd)
        } else {
            None
        }
    }

    /// [`Self::detect`] on a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn detect_file(file: &dyn Source) -> Result<Option<Self>, Error> {
        let length = file.len().min(bytes::SECTOR_BYTES);
        let read = |offset| {
            let mut part = vec![0; length as usize];
            let failed = |source| FormatError::ReadDisk { offset, source };
            file.read_at(&mut part, offset).map_err(failed).map(|()| part)
        };
        Ok(Self::detect(&read(0)?, Some(&read(file.len() - length)?)))
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for DiskFormat {
    type Err = Error;

    /// A name, or `vpc`, which is what QEMU calls VHD.
    fn from_str(text: &str) -> Result<Self, Error> {
        let named = Self::ALL.into_iter().find(|format| format.name() == text);
        let named = named.or((text == "vpc").then_some(Self::Vhd));
        Ok(named.ok_or_else(|| FormatError::Name(text.to_owned()))?)
    }
}

/// What makes a file this one and no other, where a format wants a UUID. The same identity for the same disk gives the
/// same file.
pub type Identity = [u8; 16];

/// How a file is made.
#[derive(Clone)]
pub enum Options<'a> {
    /// Sparse.
    Raw,
    /// See [`qcow2::Options`].
    Qcow2(qcow2::Options<'a>),
    /// See [`vmdk::Options`].
    Vmdk(vmdk::Options),
    /// See [`vhd::Options`].
    Vhd(vhd::Options),
    /// See [`vhdx::Options`].
    Vhdx(vhdx::Options),
    /// See [`vdi::Options`].
    Vdi(vdi::Options),
}

impl Options<'_> {
    /// What a format's users expect, the file having this identity.
    pub fn new(format: DiskFormat, identity: Identity) -> Self {
        match format {
            DiskFormat::Raw => Self::Raw,
            DiskFormat::Qcow2 => Self::Qcow2(qcow2::Options::default()),
            DiskFormat::Vmdk => Self::Vmdk(vmdk::Options::new(identity)),
            DiskFormat::Vhd => Self::Vhd(vhd::Options::new(identity)),
            DiskFormat::Vhdx => Self::Vhdx(vhdx::Options::new(identity)),
            DiskFormat::Vdi => Self::Vdi(vdi::Options::new(identity)),
        }
    }

    /// The format these are for.
    pub fn format(&self) -> DiskFormat {
        match self {
            Self::Raw => DiskFormat::Raw,
            Self::Qcow2(_) => DiskFormat::Qcow2,
            Self::Vmdk(_) => DiskFormat::Vmdk,
            Self::Vhd(_) => DiskFormat::Vhd,
            Self::Vhdx(_) => DiskFormat::Vhdx,
            Self::Vdi(_) => DiskFormat::Vdi,
        }
    }
}

/// Writes the disk into an empty file. All formats but raw have whole sectors: 512 bytes, the last filled up.
///
/// # Errors
/// When the disk cannot be read, the file not be written, or the format not hold this disk with these options.
pub fn write(source: &dyn Source, options: &Options<'_>, target: &mut dyn Target) -> Result<(), Error> {
    match options {
        Options::Raw => raw::write(source, target),
        Options::Qcow2(options) => qcow2::write(source, options, target),
        Options::Vmdk(options) => vmdk::write(source, options, target),
        Options::Vhd(options) => vhd::write(source, options, target),
        Options::Vhdx(options) => vhdx::write(source, options, target),
        Options::Vdi(options) => vdi::write(source, options, target),
    }
}

/// The disk in a file of this format. A qcow2 file over a backing file is opened by [`qcow2::Image`] instead.
///
/// # Errors
/// When it is no such file, damaged, or uses something that is not supported. Damage may also come up later, when the
/// disk is read.
pub fn open(file: Box<dyn Source>, format: DiskFormat) -> Result<Box<dyn Source>, Error> {
    match format {
        DiskFormat::Raw => Ok(file),
        DiskFormat::Qcow2 => qcow2::Image::open(file)?.alone(),
        DiskFormat::Vmdk => vmdk::open(file),
        DiskFormat::Vhd => vhd::open(file),
        DiskFormat::Vhdx => vhdx::open(file),
        DiskFormat::Vdi => vdi::open(file),
    }
}
