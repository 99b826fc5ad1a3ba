//! A disk and what goes with it, in one directory of an archive.

use super::copy::{Named, Sink};
use super::error::Problem;
use super::gzip::SparseGzip;
use super::machine::check_file_name;
use super::tar::Tar;
use super::zip::Zip;
use crate::Error;
use crate::sparse::Source;
use kiln_image::compress::Compression;
use std::collections::BTreeSet;
use std::io::Write;
use std::num::NonZeroUsize;

/// Files in one directory: a VMDK with its VMX, a raw disk with its kernel and initrd.
pub struct Delivery<'a> {
    /// The directory's name.
    pub directory: &'a str,
    /// In the order in which they are written.
    pub members: &'a [Member<'a>],
    /// Seconds since the Unix epoch, of every member.
    pub mtime: i64,
    /// How many threads compress, which changes no byte.
    pub threads: NonZeroUsize,
}

/// A file of a delivery.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// Its name within the directory.
    pub name: &'a str,
    /// What is in it.
    pub source: &'a dyn Source,
}

/// What a delivery is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// tar.
    Tar,
    /// tar, in gzip of a level from 1 to 9.
    TarGzip(u8),
    /// ZIP, deflated.
    Zip,
}

impl Delivery<'_> {
    /// Writes it as a stream.
    ///
    /// # Errors
    /// When a name cannot be or is there twice, a member cannot be read, or `out` cannot be written.
    pub fn write(&self, format: ArchiveFormat, out: &mut dyn Write) -> Result<(), Error> {
        self.check()?;
        match format {
            ArchiveFormat::Tar => self.tar(out).map(drop),
            ArchiveFormat::TarGzip(level) => {
                let failed = |error| Problem::Tar(self.directory.to_owned(), error);
                let compression = Compression::gzip(level).map_err(failed)?;
                let gzip = self.tar(SparseGzip::new(compression, self.threads, out))?;
                gzip.finish().map_err(|error| Problem::Write("the end of the archive".to_owned(), error))?;
                Ok(())
            }
            ArchiveFormat::Zip => self.zip(out),
        }
    }

    fn check(&self) -> Result<(), Error> {
        check_file_name(self.directory)?;
        let mut seen = BTreeSet::new();
        for member in self.members {
            check_file_name(member.name)?;
            if !seen.insert(member.name) {
                return Err(Problem::SameMember(member.name.to_owned()).into());
            }
        }
        Ok(())
    }

    fn tar<S: Sink>(&self, out: S) -> Result<S, Error> {
        let mut tar = Tar::new(out, self.mtime);
        for member in self.members {
            let path = self.path(member);
            let named = Named { name: &path, source: member.source };
            tar.member(&path, member.source.len(), |out| named.copy(out))?;
        }
        tar.finish()
    }

    fn zip(&self, out: &mut dyn Write) -> Result<(), Error> {
        let mut zip = Zip::new(out, self.mtime, self.threads);
        for member in self.members {
            let path = self.path(member);
            let named = Named { name: &path, source: member.source };
            zip.member(&path, member.source.len(), |out| named.copy(out))?;
        }
        zip.finish()
    }

    fn path(&self, member: &Member<'_>) -> String {
        format!("{}/{}", self.directory, member.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be() {
        let empty: &[u8] = &[];
        let error = |directory, names: &[&str]| {
            let members: Vec<_> = names.iter().map(|name| Member { name, source: &empty }).collect();
            let delivery = Delivery { directory, members: &members, mtime: 0, threads: NonZeroUsize::MIN };
            delivery.write(ArchiveFormat::Tar, &mut Vec::new()).unwrap_err().to_string()
        };
        assert_eq!(error("a/b", &[]), "the file name \"a/b\" has '/', which cannot be in it");
        assert_eq!(error("a", &["..", "b"]), "the file name \"..\" has '.', which cannot be in it");
        assert_eq!(error("a", &["b", "b"]), "two members of the archive are called \"b\"");
    }

    #[test]
    fn what_cannot_be_written() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let bytes: &[u8] = &[1; 100];
        let members = [Member { name: "disk", source: &bytes }];
        let delivery = Delivery { directory: "a", members: &members, mtime: 0, threads: NonZeroUsize::MIN };
        for format in [ArchiveFormat::Tar, ArchiveFormat::Zip] {
            assert_eq!(delivery.write(format, &mut Full).unwrap_err().to_string(), "cannot write a/disk");
        }
        let end = "cannot write the end of the archive";
        assert_eq!(delivery.write(ArchiveFormat::TarGzip(6), &mut Full).unwrap_err().to_string(), end);
    }
}
