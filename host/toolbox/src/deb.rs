//! Debian's packages: an [ar](crate::ar) archive of `debian-binary`, `control.tar.*` and `data.tar.*`, in that order.
//! <https://man7.org/linux/man-pages/man5/deb.5.html>

use crate::ar::Archive;
use kiln_image::compress::Decompressor;
use lzma_rust2::XzReader;
use std::io::{self, BufReader, Read};

/// The only version of the format; a minor number may grow.
const VERSION: &str = "2.";
const VERSION_LIMIT: u64 = 64;

/// Unpacked bytes of one package at most: twenty times the largest here.
const UNPACKED_LIMIT: u64 = 512 << 20;

/// For xz's dictionary, whose greatest preset needs 65 MiB. <https://man7.org/linux/man-pages/man1/xz.1.html>
const XZ_MEMORY_LIMIT_KIB: u32 = 96 << 10;

/// A package's files as a tar, uncompressed.
pub(crate) fn data<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut archive = Archive::new(source)?;
    check_version(&mut archive)?;
    expect(&mut archive, "control.tar")?;
    let suffix = expect(&mut archive, "data.tar")?;
    let tar: Box<dyn Read + 'a> = match suffix.as_str() {
        ".xz" => Box::new(XzReader::new_mem_limit(BufReader::new(archive), false, XZ_MEMORY_LIMIT_KIB)),
        "" | ".gz" | ".zst" => Box::new(Decompressor::new(archive).map_err(io::Error::other)?),
        other => {
            return Err(corrupt(format!("its files are compressed in a way kiln does not know ({other})")));
        }
    };
    Ok(Box::new(Limited { source: tar, left: UNPACKED_LIMIT }))
}

fn check_version(archive: &mut Archive<impl Read>) -> io::Result<()> {
    expect(archive, "debian-binary")?;
    let mut version = String::new();
    archive.take(VERSION_LIMIT).read_to_string(&mut version)?;
    if !version.starts_with(VERSION) {
        return Err(corrupt(format!("its format is {:?}, not 2.0", version.trim_end())));
    }
    Ok(())
}

/// What follows `name` in the next member's.
fn expect(archive: &mut Archive<impl Read>, name: &str) -> io::Result<String> {
    let found = archive.next_member()?.ok_or_else(|| corrupt(format!("it has no {name}")))?;
    let suffix = found.name.strip_prefix(name).map(str::to_owned);
    suffix.ok_or_else(|| corrupt(format!("it has {} where {name} should be", found.name)))
}

/// Fails instead of giving more.
struct Limited<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| corrupt(format!("it unpacks to more than {UNPACKED_LIMIT} bytes")))?;
        Ok(count)
    }
}

fn corrupt(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ar::tests::archive;
    use kiln_image::compress::{Compression, piece};

    /// A package with these files' tar.
    pub(crate) fn package(tar: &[u8]) -> Vec<u8> {
        archive(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"?"), ("data.tar", tar)])
    }

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut unpacked = Vec::new();
        data(bytes)?.read_to_end(&mut unpacked)?;
        Ok(unpacked)
    }

    /// `printf 'a tar' | xz --check=crc32`, the header of its block, and where in it the dictionary's size is, with the
    /// block's checksum behind. <https://tukaani.org/xz/xz-file-format.txt>
    const XZ: &[u8] =
        b"\xfd7zXZ\0\0\x01\x69\x22\xde\x36\x02\0\x21\x01\x16\0\0\0\x74\x2f\xe5\xa3\x01\0\x04a tar\0\0\0\0\
        \xa4\x8c\x57\x53\0\x01\x19\x05\xbc\xe8\xec\xcb\x90\x42\x99\x0d\x01\0\0\0\0\x01YZ";
    const XZ_DICTIONARY: std::ops::Range<usize> = 16..24;
    /// The same with `--lzma2=dict=1536MiB`.
    const XZ_LARGE_DICTIONARY: &[u8] = b"\x25\0\0\0\x3b\x78\x7b\x41";

    fn with_xz(xz: &[u8]) -> Vec<u8> {
        archive(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"?"), ("data.tar.xz", xz)])
    }

    #[test]
    fn data_compressed_in_every_way() {
        let tar = b"a tar".repeat(1000);
        let (gzip, zstd) = (piece(Compression::GZIP, &tar), piece(Compression::ZSTD, &tar));
        for (suffix, bytes) in [("", &tar), (".gz", &gzip), (".zst", &zstd)] {
            let name = format!("data.tar{suffix}");
            let bytes = archive(&[("debian-binary", b"2.0\n"), ("control.tar.gz", b"?"), (&name, bytes)]);
            assert_eq!(unpack(&bytes).unwrap(), tar, "{suffix}");
        }
    }

    #[test]
    fn what_is_no_package_is_refused() {
        for (members, why) in [
            (&[][..], "it has no debian-binary"),
            (&[("control.tar", &b""[..])], "it has control.tar where debian-binary should be"),
            (&[("debian-binary", b"3.0\n")], "its format is \"3.0\", not 2.0"),
            (&[("debian-binary", b"2.0\n")], "it has no control.tar"),
            (
                &[("debian-binary", b"2.0\n"), ("data.tar", b"")],
                "it has data.tar where control.tar should be",
            ),
            (
                &[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar.lzma", b"")],
                "its files are compressed in a way kiln does not know (.lzma)",
            ),
        ] {
            assert_eq!(unpack(&archive(members)).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn xz_cut_or_damaged_is_an_error() {
        assert_eq!(unpack(&with_xz(XZ)).unwrap(), b"a tar");
        for length in 0..XZ.len() {
            assert!(unpack(&with_xz(&XZ[..length])).is_err(), "{length}");
        }
        for at in 0..XZ.len() {
            let mut damaged = XZ.to_vec();
            damaged[at] ^= 1;
            assert!(unpack(&with_xz(&damaged)).is_err(), "{at}");
        }
    }

    #[test]
    fn xz_that_wants_much_memory_is_refused() {
        let mut large = XZ.to_vec();
        large[XZ_DICTIONARY].copy_from_slice(XZ_LARGE_DICTIONARY);
        let error = unpack(&with_xz(&large)).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_data_or_an_error(xz in proptest::collection::vec(0_u8.., 0..200), at in 0..XZ.len()) {
            let _ = unpack(&xz);
            let _ = unpack(&with_xz(&[&XZ[..at], &xz].concat()));
        }
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let mut limited = Limited { source: io::repeat(0), left: 100 };
        let error = io::copy(&mut limited, &mut io::sink()).unwrap_err();
        assert_eq!(error.to_string(), format!("it unpacks to more than {UNPACKED_LIMIT} bytes"));
    }
}
