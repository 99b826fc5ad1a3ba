//! OVA: an OVF package in one tar file.
//!
//! DSP0243 1.1.0, section 5.3: the descriptor comes first, so that who reads a stream knows what follows; then the manifest, if there
//! is one; then the files in the order of the descriptor's references. The manifest has a digest of every file, so
//! the disk's must be known before the disk is written: it is read twice, unless who wrote it says what it was.

use super::copy::{Hashing, Named};
use super::error::Problem;
use super::machine::{Machine, check_file_name};
use super::ovf::{self, DiskFile};
use super::tar::Tar;
use crate::Error;
use crate::sparse::Source;
use kiln_image::digest::{Digest, Hasher};
use std::io::Write;

/// A machine and its disk.
pub struct Ova<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What the members are called: `NAME.ovf`, `NAME.mf`, `NAME-disk1.vmdk`.
    pub file_name: &'a str,
    /// Its disk.
    pub disk: OvaDisk<'a>,
    /// Seconds since the Unix epoch, of every member.
    pub mtime: i64,
}

/// A disk as a streamOptimized VMDK.
pub struct OvaDisk<'a> {
    /// The VMDK file.
    pub file: &'a dyn Source,
    /// Of the VMDK file; `None` to have it computed.
    pub digest: Option<Digest>,
    /// Bytes of the disk within.
    pub capacity: u64,
    /// Bytes of it that hold something, if known.
    pub populated: Option<u64>,
}

impl Ova<'_> {
    /// Writes it as a stream.
    ///
    /// # Errors
    /// When the machine or the file name cannot be, the disk cannot be read or has not the digest it was said to have, or `out`
    /// cannot be written.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), Error> {
        self.machine.check()?;
        check_file_name(self.file_name)?;
        if self.disk.file.is_empty() || self.disk.capacity == 0 {
            return Err(Problem::EmptyDisk.into());
        }
        let [descriptor_name, manifest_name, disk_name] =
            [".ovf", ".mf", "-disk1.vmdk"].map(|ending| format!("{}{ending}", self.file_name));
        let disk = Named { name: &disk_name, source: self.disk.file };
        let digest = self.disk.digest.map_or_else(|| disk.digest(), Ok)?;
        let descriptor = self.descriptor(&disk_name);
        let described = Digest::of(descriptor.as_bytes());
        let manifest = [(&*descriptor_name, described), (&*disk_name, digest)].map(line).concat();

        let mut tar = Tar::new(out, self.mtime);
        tar.bytes(&descriptor_name, descriptor.as_bytes())?;
        tar.bytes(&manifest_name, manifest.as_bytes())?;
        tar.member(&disk_name, self.disk.file.len(), |out| {
            let mut hashing = Hashing { out, hasher: Hasher::new() };
            disk.copy(&mut hashing)?;
            unchanged(&disk, digest, hashing.hasher.finish().digest)
        })?;
        tar.finish().map(drop)
    }

    fn descriptor(&self, disk_name: &str) -> String {
        let disk = DiskFile {
            href: disk_name,
            length: self.disk.file.len(),
            capacity: self.disk.capacity,
            populated: self.disk.populated,
        };
        ovf::descriptor(self.machine, &disk)
    }
}

/// A line of a manifest, as OpenSSL prints digests.
fn line((name, digest): (&str, Digest)) -> String {
    format!("SHA256({name})= {}\n", digest.hex())
}

fn unchanged(disk: &Named<'_>, expected: Digest, got: Digest) -> Result<(), Error> {
    if expected == got {
        return Ok(());
    }
    Err(Problem::Changed { name: disk.name.to_owned(), expected, got }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine::new("a <machine> & \"more\"")
    }

    fn ova<'a>(machine: &'a Machine, file: &'a dyn Source) -> Ova<'a> {
        let disk = OvaDisk { file, digest: None, capacity: 1 << 20, populated: Some(512) };
        Ova { machine, file_name: "debian", disk, mtime: 7 }
    }

    fn bytes(ova: &Ova<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        ova.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn members_and_manifest() {
        let machine = machine();
        let disk: &[u8] = &[1; 700];
        let archive = bytes(&ova(&machine, &disk));
        let blocks = (0..archive.len() / 512).map(|block| &archive[block * 512..block * 512 + 512]);
        let names: Vec<_> =
            blocks.filter(|block| &block[257..262] == b"ustar").map(|block| &block[..12]).collect();
        assert_eq!(names, [b"debian.ovf\0\0", b"debian.mf\0\0\0", b"debian-disk1"]);
        let descriptor_length =
            usize::from_str_radix(std::str::from_utf8(&archive[124..135]).unwrap(), 8).unwrap();
        let descriptor = &archive[512..512 + descriptor_length];
        let manifest = 512 + descriptor_length.next_multiple_of(512) + 512;
        let expected = format!(
            "SHA256(debian.ovf)= {}\nSHA256(debian-disk1.vmdk)= {}\n",
            Digest::of(descriptor).hex(),
            Digest::of(disk).hex()
        );
        assert!(archive[manifest..].starts_with(expected.as_bytes()));
        assert!(archive.ends_with(&[0; 1024]));
        assert_eq!(bytes(&ova(&machine, &disk)), archive);
    }

    #[test]
    fn a_disk_that_is_another() {
        let machine = machine();
        let disk: &[u8] = &[1; 700];
        let mut wrong = ova(&machine, &disk);
        wrong.disk.digest = Some(Digest::of(b""));
        let error = wrong.write(&mut Vec::new()).unwrap_err().to_string();
        assert!(
            error.starts_with("debian-disk1.vmdk changed while it was packed: its digest was sha256:e3b0c"),
            "{error}"
        );
        wrong.disk.digest = Some(Digest::of(disk));
        wrong.write(&mut Vec::new()).unwrap();
        let empty: &[u8] = &[];
        assert_eq!(ova(&machine, &empty).write(&mut Vec::new()).unwrap_err().to_string(), "an empty disk");
    }

    #[test]
    fn errors_have_places() {
        struct Broken;
        impl Source for Broken {
            fn len(&self) -> u64 {
                1 << 30
            }
            fn read_at(&self, _: &mut [u8], _: u64) -> std::io::Result<()> {
                Err(std::io::ErrorKind::UnexpectedEof.into())
            }
            fn next_data(&self, offset: u64) -> std::io::Result<Option<std::ops::Range<u64>>> {
                Ok(Some(offset.max(4096)..8192))
            }
        }
        let machine = machine();
        let error = ova(&machine, &Broken).write(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "cannot read debian-disk1.vmdk at byte 4096");
    }
}
