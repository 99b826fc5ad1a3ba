//! The text that describes a disk.

use super::super::bytes::SECTOR_BYTES;
use super::{Adapter, Options, Subformat};
use std::fmt::Write;

/// `parentCID` of a disk without a parent.
pub(super) const NO_PARENT: &str = "ffffffff";

/// The descriptor of a new file.
pub(super) fn descriptor(options: &Options, disk_bytes: u64) -> String {
    let sectors = disk_bytes / SECTOR_BYTES;
    let create_type = match options.subformat {
        Subformat::MonolithicSparse => "monolithicSparse",
        Subformat::StreamOptimized => "streamOptimized",
    };
    let (heads, track) = geometry(options.adapter, disk_bytes);
    let mut cylinders = sectors / (heads * track);
    if options.adapter == Adapter::Ide {
        cylinders = cylinders.min(IDE_CYLINDERS_MAX);
    }
    let mut text = format!(
        "# Disk DescriptorFile\nversion=1\nCID={:08x}\nparentCID={NO_PARENT}\ncreateType=\"{create_type}\"\n\n\
         # Extent description\nRW {sectors} SPARSE \"{}\"\n\n\
         # The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"{}\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\nddb.geometry.sectors = \"{track}\"\nddb.adapterType = \"{}\"\n",
        options.content_id,
        options.file_name,
        options.hardware_version,
        options.adapter.name(),
    );
    if let Some(uuid) = options.uuid {
        append_uuid(&mut text, &uuid);
    }
    text
}

/// What ATA can express.
const IDE_CYLINDERS_MAX: u64 = 16383;

/// Heads, and sectors of a track, as VMware gives them to a disk of this size.
fn geometry(adapter: Adapter, disk_bytes: u64) -> (u64, u64) {
    const GIB: u64 = 1 << 30;
    match adapter {
        Adapter::Ide => (16, 63),
        _ if disk_bytes < GIB => (64, 32),
        _ if disk_bytes < 2 * GIB => (128, 32),
        _ => (255, 63),
    }
}

/// As VMware spells it: bytes in two groups of eight.
fn append_uuid(text: &mut String, uuid: &[u8; 16]) {
    let group = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let (first, second) = uuid.split_at(8);
    // Writing into a string cannot fail.
    let _ = writeln!(text, "ddb.uuid = \"{}-{}\"", group(first), group(second));
}

/// The value of `key` in a descriptor, without quotes.
pub(super) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case(key).then(|| value.trim().trim_matches('"'))
    })
}

/// How many extents a descriptor has.
pub(super) fn extents(text: &str) -> usize {
    let is_extent =
        |line: &&str| ["RW ", "RDONLY ", "NOACCESS "].iter().any(|access| line.starts_with(access));
    text.lines().filter(is_extent).count()
}
