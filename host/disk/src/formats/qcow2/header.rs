//! The header, and the extensions behind it.

use super::{super::bytes::*, super::input::Input, CLUSTER_BITS, L1_BYTES_MAX};
use crate::{Error, formats::DiskFormat};

/// `QFI\xfb`.
pub(in super::super) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Bytes of version 3's header with a compression type.
pub(super) const HEADER_BYTES: usize = 112;
/// Bytes of version 2's header.
const HEADER_BYTES_2: usize = 72;
/// Bytes of version 3's header, at least.
const HEADER_BYTES_3: u32 = 104;
/// Header extension: the backing file's format.
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
/// Bytes of a backing file's name, at most.
pub(super) const BACKING_NAME_MAX: usize = 1023;
/// Incompatible features.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA_FILE: u64 = 1 << 2;
pub(super) const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
/// Compression types.
const TYPE_ZLIB: u8 = 0;
pub(super) const TYPE_ZSTD: u8 = 1;

/// What the header says of the disk below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackingFile {
    /// As it is in the file, which is not to be trusted: a path as seen from the file's directory, or a QEMU pseudo-protocol.
    pub file_name: String,
    /// As it is in the file: a name of QEMU's, if any.
    pub format: Option<String>,
}

/// What is written.
pub(super) struct NewHeader<'a> {
    pub(super) cluster_bits: u32,
    pub(super) disk_bytes: u64,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u32,
    pub(super) zstd: bool,
    pub(super) backing: Option<(&'a str, DiskFormat)>,
}

impl NewHeader<'_> {
    /// The header with everything that follows it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        put(&mut bytes, 0, &MAGIC);
        put_u32_be(&mut bytes, 4, 3);
        put_u32_be(&mut bytes, 20, self.cluster_bits);
        put_u64_be(&mut bytes, 24, self.disk_bytes);
        put_u32_be(&mut bytes, 36, self.l1_entries);
        put_u64_be(&mut bytes, 40, self.l1_offset);
        put_u64_be(&mut bytes, 48, self.refcount_table_offset);
        put_u32_be(&mut bytes, 56, self.refcount_table_clusters);
        put_u64_be(&mut bytes, 72, if self.zstd { COMPRESSION_TYPE } else { 0 });
        // Refcounts of 16 bits.
        put_u32_be(&mut bytes, 96, 4);
        put_u32_be(&mut bytes, 100, HEADER_BYTES as u32);
        bytes[104] = if self.zstd { TYPE_ZSTD } else { TYPE_ZLIB };
        self.append_backing(&mut bytes);
        bytes
    }

    fn append_backing(&self, bytes: &mut Vec<u8>) {
        let Some((name, format)) = self.backing else {
            bytes.extend([0; 8]);
            return;
        };
        let format = qemu_name(format).as_bytes();
        bytes.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
        bytes.extend((format.len() as u32).to_be_bytes());
        bytes.extend(format);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend([0; 8]);
        let start = bytes.len() as u64;
        put_u64_be(bytes, 8, start);
        put_u32_be(bytes, 16, name.len() as u32);
        bytes.extend(name.as_bytes());
    }
}

/// QEMU's driver for a format.
fn qemu_name(format: DiskFormat) -> &'static str {
    if format == DiskFormat::Vhd { "vpc" } else { format.name() }
}

/// What is read, checked as far as it can be without the tables.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) disk_bytes: u64,
    pub(super) l1_entries: u64,
    pub(super) l1_offset: u64,
    pub(super) zstd: bool,
    pub(super) backing: Option<BackingFile>,
}

impl Header {
    pub(super) fn read(file: &Input) -> Result<Self, Error> {
        let first: [u8; HEADER_BYTES_2] = file.read_array("the header", 0)?;
        if first[..4] != MAGIC {
            return Err(file.corrupt("the header", 0, "it does not start with QFI and 0xfb"));
        }
        let version = get_u32_be(&first, 4);
        let (features, header_length) = match version {
            2 => (0, HEADER_BYTES_2 as u32),
            3 => read_version_3(file)?,
            _ => return Err(file.unsupported(format!("version {version}"))),
        };
        check_features(file, features)?;
        let header = Self {
            version,
            cluster_bits: get_u32_be(&first, 20),
            disk_bytes: get_u64_be(&first, 24),
            l1_entries: u64::from(get_u32_be(&first, 36)),
            l1_offset: get_u64_be(&first, 40),
            zstd: read_compression_type(file, features)?,
            backing: read_backing(file, &first, header_length)?,
        };
        if get_u32_be(&first, 32) != 0 {
            return Err(file.unsupported("encryption"));
        }
        header.check(file)?;
        Ok(header)
    }

    /// Bytes of a cluster.
    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    fn check(&self, file: &Input) -> Result<(), Error> {
        if !CLUSTER_BITS.contains(&self.cluster_bits) {
            let why = format!("clusters of 2^{} bytes, not 2^9 to 2^21", self.cluster_bits);
            return Err(file.corrupt("the header", 20, why));
        }
        let clusters = self.disk_bytes.div_ceil(self.cluster_bytes());
        let needed = clusters.div_ceil(self.cluster_bytes() / super::ENTRY_BYTES);
        if self.l1_entries < needed || self.l1_entries * super::ENTRY_BYTES > L1_BYTES_MAX {
            let why = format!(
                "an L1 table of {} entries, not the {needed} that a disk of {} bytes needs, or too many",
                self.l1_entries, self.disk_bytes
            );
            return Err(file.corrupt("the header", 36, why));
        }
        if !self.l1_offset.is_multiple_of(self.cluster_bytes()) {
            return Err(file.corrupt("the header", 40, "the L1 table is not at the start of a cluster"));
        }
        Ok(())
    }
}

/// The incompatible features, and the header's length in bytes.
fn read_version_3(file: &Input) -> Result<(u64, u32), Error> {
    let header: [u8; HEADER_BYTES_3 as usize] = file.read_array("the header", 0)?;
    let length = get_u32_be(&header, 100);
    if length < HEADER_BYTES_3 || !length.is_multiple_of(8) {
        return Err(file.corrupt("the header", 100, format!("it says that it is {length} bytes long")));
    }
    Ok((get_u64_be(&header, 72), length))
}

fn check_features(file: &Input, features: u64) -> Result<(), Error> {
    if features & CORRUPT != 0 {
        let why = "it says so itself (qemu-img check -r all may repair it)";
        return Err(file.corrupt("the header", 72, why));
    }
    let refused =
        [(EXTERNAL_DATA_FILE, "an external data file"), (EXTENDED_L2, "extended L2 entries (subclusters)")];
    if let Some((_, what)) = refused.iter().find(|(bit, _)| features & bit != 0) {
        return Err(file.unsupported(*what));
    }
    // A dirty file's refcounts are not to be trusted; reading needs none.
    let unknown = features & !(DIRTY | COMPRESSION_TYPE);
    if unknown != 0 {
        return Err(file.unsupported(format!("unknown incompatible features {unknown:#x}")));
    }
    Ok(())
}

/// True for zstd.
fn read_compression_type(file: &Input, features: u64) -> Result<bool, Error> {
    if features & COMPRESSION_TYPE == 0 {
        return Ok(false);
    }
    match file.read_array::<1>("the compression type", u64::from(HEADER_BYTES_3))? {
        [TYPE_ZLIB] => Ok(false),
        [TYPE_ZSTD] => Ok(true),
        [other] => Err(file.unsupported(format!("compression type {other}"))),
    }
}

fn read_backing(file: &Input, first: &[u8], header_length: u32) -> Result<Option<BackingFile>, Error> {
    let (offset, length) = (get_u64_be(first, 8), get_u32_be(first, 16) as usize);
    if offset == 0 {
        return Ok(None);
    }
    if length == 0 || length > BACKING_NAME_MAX {
        let why = format!("a backing file's name of {length} bytes, not 1 to {BACKING_NAME_MAX}");
        return Err(file.corrupt("the header", 16, why));
    }
    let mut name = vec![0; length];
    file.read("the backing file's name", &mut name, offset)?;
    let Ok(file_name) = String::from_utf8(name) else {
        return Err(file.corrupt("the backing file's name", offset, "it is not UTF-8"));
    };
    let format = read_backing_format(file, u64::from(header_length), offset)?;
    Ok(Some(BackingFile { file_name, format }))
}

/// Looks through the header extensions, which end before the backing file's name.
fn read_backing_format(file: &Input, mut offset: u64, end: u64) -> Result<Option<String>, Error> {
    while offset.saturating_add(8) <= end {
        let extension: [u8; 8] = file.read_array("a header extension", offset)?;
        let (kind, length) = (get_u32_be(&extension, 0), u64::from(get_u32_be(&extension, 4)));
        if kind == 0 {
            break;
        }
        if offset + 8 + length > end {
            return Err(file.corrupt(
                "a header extension",
                offset,
                "it reaches into the backing file's name",
            ));
        }
        if kind == EXTENSION_BACKING_FORMAT {
            return read_format_name(file, offset, length).map(Some);
        }
        offset += 8 + length.next_multiple_of(8);
    }
    Ok(None)
}

fn read_format_name(file: &Input, offset: u64, length: u64) -> Result<String, Error> {
    let mut name = [0; 16];
    let Some(name) = name.get_mut(..length as usize) else {
        return Err(file.corrupt("the backing file's format", offset, "a name of more than 16 bytes"));
    };
    file.read("the backing file's format", name, offset + 8)?;
    Ok(String::from_utf8_lossy(name).into_owned())
}
